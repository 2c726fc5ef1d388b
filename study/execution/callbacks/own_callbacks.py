"""The user's own callbacks, such as loggers, which the driver tells what happens in a study."""

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ray.tune.experiment import Trial

from study.config.imports import awaited, imported, where
from study.config.space import Value
from study.config.study import StudyConfig
from study.errors import ConfigError
from study.execution import trials as tune_trials
from study.execution.callback import ReportCallback
from study.execution.callbacks.interrupt import Interrupt, OwnCodeInterruptedError
from study.execution.trials import EndedTrials, suggestion
from study.metrics.definitions import as_reported
from study.metrics.reports import TrialReport


class Callback:
    """Base class of the user's own callbacks: observes, on the driver, a study that names it in
    `callbacks`. A subclass is made without arguments, anew when a study is resumed, and overrides
    the methods of the events that it needs. Trials are named by handles, such as "digits/0004"."""

    def on_study_start(self, name: str, settings: Mapping[str, Any]) -> None:
        """A study begins or goes on; `settings` is the content of its file, with all defaults."""

    def on_trial_start(self, trial: str, sample: Mapping[str, Value]) -> None:
        """A trial begins or goes on; `sample` has the value of each parameter of the space."""

    def on_report(self, trial: str, epoch: int, metrics: Mapping[str, float]) -> None:
        """A trial has measured its network after an epoch, from 1. An epoch that is trained again
        after a crash is reported again."""

    def on_trial_end(self, trial: str, status: str, metrics: Mapping[str, float]) -> None:
        """A trial is "completed", "stopped_early" or "failed", with its last metrics, if any."""

    def on_study_end(self, name: str) -> None:
        """A study has ended, or is interrupted."""


def callback_class(path: str) -> type[Callback]:
    """The class at an import path. Raises ConfigError if it is no subclass of Callback."""
    found = imported(path)
    if not isinstance(found, type) or not issubclass(found, Callback):
        raise ConfigError(f"must be a subclass of study.Callback, but {path} is {found!r:.60}")
    return found


@dataclass(eq=False)
class OwnCallbacks(ReportCallback):
    """Calls the user's own callbacks. One that raises is dropped with a message, and the study goes
    on; one that hangs is dropped at the first Ctrl-C, which ends the study too. In Tune's list this
    must come after `interrupt`."""

    study: StudyConfig
    messages: deque[str]
    interrupt: Interrupt

    def setup(self, *args: Any, **info: Any) -> None:
        self._callbacks: dict[str, Callback] = {}
        self._ended = EndedTrials()
        for path in self.study.callbacks:
            with self._dropped_if_it_fails(path):
                self._callbacks[path] = callback_class(path)()
        self._tell("on_study_start", self.study.name, self.study.to_dict())

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        self._tell("on_trial_start", self._handle(trial), dict(suggestion(trial).sample))

    def on_report(self, trial: Trial, report: TrialReport, node: str | None) -> None:
        for epoch in () if report.is_repeated else report.epochs:
            metrics = as_reported(epoch.metrics())
            self._tell("on_report", self._handle(trial), epoch.epoch, metrics)

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        # Callbacks of an earlier driver were told of the trials that ended under it.
        self._ended.begin_step(trials)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        for trial in self._ended.update(trials):
            report = tune_trials.report(trial)
            epoch = None if report is None else report.epoch
            metrics = {} if epoch is None else as_reported(epoch.metrics())
            status = tune_trials.status(trial).value
            self._tell("on_trial_end", self._handle(trial), status, metrics)

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        self._tell("on_study_end", self.study.name)

    def _handle(self, trial: Trial) -> str:
        return f"{self.study.name}/{suggestion(trial).trial_id}"

    def _tell(self, event: str, *arguments: Any) -> None:
        for path, callback in list(self._callbacks.items()):
            with self._dropped_if_it_fails(path):
                getattr(callback, event)(*arguments)

    @contextmanager
    def _dropped_if_it_fails(self, path: str) -> Iterator[None]:
        try:
            with self.interrupt.own_code(), awaited(f"the callback {path}"):
                yield
        except OwnCodeInterruptedError:
            self._drop(path, "was interrupted")
        # Whatever the user's code raises.
        except Exception as error:
            self._drop(path, f"raises {where(error)}")

    def _drop(self, path: str, why: str) -> None:
        self._callbacks.pop(path, None)
        self.messages.append(f"the callback {path} {why}; it is told no more")
