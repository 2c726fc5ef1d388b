"""What a study asks of its driver and of its storage, by a formula with measured figures."""

from dataclasses import dataclass

from study.config.study import StudyConfig
from study.execution.files.checkpoints import N_KEPT
from study.execution.worker.batching import longest_wait
from study.trial.rehearsal import Rehearsal

# CPU seconds of the driver for each message with reports, each report in it, and each trial, with
# MLflow on a server; and what each trial costs more for each that there is already, up to the 4,000
# that were measured, by tests.benchmarks.scale on an Intel Xeon. Other processors differ.
_OF_A_MESSAGE, _OF_A_REPORT, _OF_A_TRIAL, _OF_A_TRIAL_BEFORE = 0.0033, 0.0004, 0.021, 8e-7
# Beyond that part of a core, reports come late and trials wait to be started.
_MOST = 0.8


@dataclass(frozen=True)
class Size:
    """An estimate; what it says of time is of the time when the most trials run at once.

    Attributes:
        reports_a_second: of all trials together.
        messages_a_second: in which they come.
        share: of a core of the driver, with the trials of the whole study behind it.
        storage_bytes: at the end of the study, in Tune's storage.
    """

    reports_a_second: float
    messages_a_second: float
    share: float
    storage_bytes: float

    @property
    def is_too_large(self) -> bool:
        """Whether the driver will be the bottleneck."""
        return self.share > _MOST


def size(study: StudyConfig, trial: Rehearsal, n_at_once: int) -> Size:
    """The size of a study whose trials are like this one, with at most so many at once."""
    trials_a_second = n_at_once / trial.seconds
    between = trial.seconds / trial.n_reports
    in_a_message = min(1 + int(longest_wait(n_at_once) / between), trial.n_reports)
    messages = -(-trial.n_reports // in_a_message)
    of_a_trial = (
        _OF_A_TRIAL
        + _OF_A_TRIAL_BEFORE * study.n_trainings
        + messages * _OF_A_MESSAGE
        + trial.n_reports * _OF_A_REPORT
    )
    # One of each trial that has ended.
    kept = study.n_trainings + (N_KEPT - 1) * n_at_once
    return Size(
        trials_a_second * trial.n_reports,
        trials_a_second * messages,
        trials_a_second * of_a_trial,
        kept * trial.checkpoint_bytes,
    )
