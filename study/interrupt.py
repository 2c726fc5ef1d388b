"""Ctrl-C: once, and a study finishes what its trials are about to report; twice, and it leaves."""

import signal
import threading
from collections import deque
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt(Callback):
    """Ends a study at the first SIGINT or SIGTERM once every trial that runs has reported and
    checkpointed its epoch; raises KeyboardInterrupt at the second."""

    def __init__(self, news: deque[str], at_once: Sequence[Callable[[], None]] = ()) -> None:
        """
        Args:
            news: gets a line for whoever watches at the first signal.
            at_once: called at the second, which Tune's callbacks do not hear of.
        """
        self._news = news
        self._at_once = tuple(at_once)

    def __getstate__(self) -> dict[str, Any]:
        return {"_news": self._news, "_at_once": self._at_once}

    def setup(self, *args: Any, **info: Any) -> None:
        self._is_wanted = False
        # Tune's id of a trial that is waited for -> its last checkpoint when that began.
        self._waits_for: dict[str, str | None] | None = None
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            # Tune has put its own handler in place by now: to call it is to end the study.
            self._before = {number: signal.getsignal(number) for number in _SIGNALS}
            for number in _SIGNALS:
                signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._is_wanted:
            self._restore()
            for leave in self._at_once:
                leave()
            raise KeyboardInterrupt
        self._is_wanted = True
        self._news.append(
            "interrupted: the epochs that run are finished and checkpointed first; once more "
            "leaves now"
        )

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        if not self._is_wanted:
            return
        running = {t.trial_id: _checkpoint(t) for t in trials if t.status == Trial.RUNNING}
        if self._waits_for is None:
            self._waits_for = running
        self._waits_for = {
            trial: checkpoint
            for trial, checkpoint in self._waits_for.items()
            if trial in running and running[trial] == checkpoint
        }
        if not self._waits_for:
            self._before[signal.SIGINT](signal.SIGINT, None)

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            # Tune's handler ends a study, and none is left that it could end.
            signal.signal(
                number, signal.default_int_handler if number == signal.SIGINT else handler
            )


def _checkpoint(trial: Trial) -> str | None:
    return None if trial.checkpoint is None else trial.checkpoint.path
