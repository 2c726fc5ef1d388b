"""The base classes of this project's Tune callbacks."""

from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial

from study.metrics.reports import TrialReport


class StudyCallback(Callback):
    """Observes a study. A subclass is a dataclass of its arguments; all other state is created by
    `setup`, which Tune calls before the first step.

    Tune pickles its callbacks, but a resumed study gets new ones: each is pickled as an empty one.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return Callback, ()


class ReportCallback(StudyCallback):
    """A StudyCallback that also observes the reports of trials, by `on_report`."""

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        report = TrialReport.from_result(result)
        if report is not None:
            self.on_report(trial, report, result.get("node_ip"))

    def on_report(self, trial: Trial, report: TrialReport, node: str | None) -> None:
        """Called when a trial has reported; `node` is the address of the node that measured."""
        raise NotImplementedError(f"{type(self).__name__} must define on_report")
