import os
import signal
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.experiment import Trial

from study.execution.callbacks import interrupt
from study.execution.callbacks.interrupt import Interrupt
from study.execution.callbacks.own_callbacks import Callback, OwnCallbacks
from tests.support.studies import tiny


class Study:
    """A study whose end by Tune's own handler is noted."""

    def __init__(self) -> None:
        self.messages = deque[str]()
        self.n_left = 0
        self.is_ended = False
        self.interrupt = Interrupt("tiny", self.messages, at_once=(self._leave,))
        self.trials: list[Any] = []

    def _leave(self) -> None:
        self.n_left += 1

    def end(self, *_: object) -> None:
        self.is_ended = True

    def add(self, checkpoint: int | None, status: str = Trial.RUNNING) -> Any:
        number = len(self.trials)
        trial = SimpleNamespace(trial_id=str(number), status=status)
        self.trials.append(trial)
        self.store(trial, checkpoint)
        return trial

    def store(self, trial: Any, number: int | None) -> None:
        trial.checkpoint = None if number is None else SimpleNamespace(path=f"checkpoint_{number}")

    def step(self) -> None:
        self.interrupt.on_step_end(1, self.trials)


@pytest.fixture
def study() -> Iterator[Study]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    made = Study()
    signal.signal(signal.SIGINT, made.end)
    made.interrupt.setup()
    yield made
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_once_every_trial_that_ran_has_stored_its_epoch(
    study: Study, number: signal.Signals
) -> None:
    at_three, new, waiting = study.add(3), study.add(None), study.add(None, Trial.PENDING)
    study.step()
    os.kill(os.getpid(), number)
    # At once: whoever sent it may kill the process soon.
    assert "tiny can be resumed" in study.messages[0]
    study.step()
    study.store(at_three, 4)
    study.step()
    assert not study.is_ended
    waiting.status = Trial.RUNNING  # started since: nobody waits for it
    study.step()
    assert not study.is_ended
    study.store(new, 0)
    study.step()
    assert study.is_ended
    assert len(study.messages) == 1
    assert study.n_left == 0


@pytest.mark.parametrize("ended", [Trial.TERMINATED, Trial.ERROR, Trial.PENDING])
def test_a_trial_that_ends_or_loses_its_worker_is_not_waited_for(study: Study, ended: str) -> None:
    trial = study.add(3)
    os.kill(os.getpid(), signal.SIGINT)
    study.step()
    assert not study.is_ended
    trial.status = ended
    study.step()
    assert study.is_ended


def test_the_second_signal_leaves_at_once(study: Study) -> None:
    study.add(3)
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    assert study.n_left == 1
    assert not study.is_ended
    with pytest.raises(KeyboardInterrupt):  # of Python itself: nothing of ours is in its way now
        os.kill(os.getpid(), signal.SIGINT)
    assert study.n_left == 1


def test_a_study_that_ended_gives_the_signals_back(study: Study) -> None:
    study.interrupt.on_experiment_end(study.trials)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    assert not study.messages


def test_code_of_the_user_s_own_that_hangs_ends_at_the_first(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    with study.interrupt.own_code():
        os.kill(os.getpid(), signal.SIGINT)  # it has just begun
    assert len(study.messages) == 1
    again = Study()
    again.interrupt.setup()
    monkeypatch.setattr(interrupt, "_HANGING_SECONDS", -1.0)
    with pytest.raises(interrupt.OwnCodeInterruptedError), again.interrupt.own_code():
        os.kill(os.getpid(), signal.SIGINT)
    assert "tiny can be resumed" in again.messages[0]
    assert again.n_left == 0


class Hangs(Callback):
    """Waits for a server, until somebody presses Ctrl-C."""

    def on_study_start(self, name: str, settings: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
        raise AssertionError("it was not interrupted")


def test_a_callback_that_hangs_is_told_no_more(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interrupt, "_HANGING_SECONDS", -1.0)
    path = f"{__name__}:Hangs"
    callbacks = OwnCallbacks(replace(tiny(), callbacks=(path,)), study.messages, study.interrupt)
    callbacks.setup()
    assert study.messages[1] == f"the callback {path} was interrupted; it is told no more"
    study.step()
    assert study.is_ended
