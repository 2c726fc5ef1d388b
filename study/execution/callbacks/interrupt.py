"""Ctrl-C. Once: finish the running epochs, then end the study; code of the user's own that hangs on
the driver ends too. Twice: end at once."""

import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from ray.tune.experiment import Trial

from study.execution.callback import StudyCallback

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# A call of the user's own that has run for longer may hang.
_HANGING_SECONDS = 2.0


class OwnCodeInterruptedError(KeyboardInterrupt):
    """The first signal came while code of the user's own had run for seconds on the driver."""


@dataclass(eq=False)
class Interrupt(StudyCallback):
    """Ends a study at the first SIGINT or SIGTERM, once every running trial has reported and
    checkpointed its epoch; raises KeyboardInterrupt at the second.

    Attributes:
        study: name of the study.
        at_once: functions to call at the second signal, which Tune does not pass to its callbacks.
    """

    study: str
    messages: deque[str]
    at_once: Sequence[Callable[[], None]] = ()

    def setup(self, *args: Any, **info: Any) -> None:
        self._is_wanted = False
        self._own_code_began: float | None = None  # while it runs
        # Tune id of each trial being waited for -> its last checkpoint when the wait began.
        self._waits_for: dict[str, str | None] | None = None
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            # By now Tune has installed its own handler, which ends the study.
            self._before = {number: signal.getsignal(number) for number in _SIGNALS}
            for number in _SIGNALS:
                signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._is_wanted:
            self._restore()
            for leave in self.at_once:
                leave()
            raise KeyboardInterrupt
        self._is_wanted = True
        self.messages.append(
            "interrupted: the epochs that run are finished and checkpointed first; once more "
            f"leaves now; {self.study} can be resumed, even if all of it is killed first"
        )
        began = self._own_code_began
        if began is not None and time.monotonic() > began + _HANGING_SECONDS:
            raise OwnCodeInterruptedError

    @contextmanager
    def own_code(self) -> Iterator[None]:
        """Context for the user's own code. If the first signal comes once the code has run for more
        than two seconds, and so may hang, OwnCodeInterruptedError is raised in it."""
        self._own_code_began = time.monotonic()
        try:
            yield
        finally:
            self._own_code_began = None

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
            # For SIGINT not Tune's handler: there is no study left for it to end.
            signal.signal(
                number, signal.default_int_handler if number == signal.SIGINT else handler
            )


def _checkpoint(trial: Trial) -> str | None:
    return None if trial.checkpoint is None else trial.checkpoint.path
