"""A dry run of a new study: everything is checked, one trial is measured, and nothing is run."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

from study.config.data import DataConfig
from study.config.file import Asked, to_yaml
from study.config.study import StudyConfig
from study.execution.driver.environment import Driver
from study.execution.driver.planning import plan_new
from study.execution.driver.preflight import longest_trial
from study.execution.driver.starting import connected
from study.execution.files import storage
from study.execution.files.checkpoints import N_KEPT
from study.execution.worker import longest_wait
from study.trial.rehearsal import Rehearsal, measured

# CPU seconds of the driver, with MLflow on a server: for each message with reports, each report in
# it, each trial, and, per trial, each trial that there is already. Measured up to 4,000 trials by
# tests.benchmarks.scale on an Intel Xeon; other processors differ.
_OF_A_MESSAGE, _OF_A_REPORT, _OF_A_TRIAL, _OF_A_TRIAL_BEFORE = 0.0033, 0.0004, 0.021, 8e-7
# Above this share of a core, reports come late and trials wait to be started.
_MOST = 0.8


@dataclass(frozen=True)
class Rehearsed:
    """A study, its measured trial, and estimates that follow from them, which hold while as many
    trials run at once as can.

    Attributes:
        n_at_once: how many trials run in parallel.
    """

    config: StudyConfig
    trial: Rehearsal
    n_at_once: int

    @property
    def seconds(self) -> float:
        """Wall-clock seconds that the study takes."""
        return math.ceil(self.config.n_trainings / self.n_at_once) * self.trial.seconds

    @property
    def reports_a_second(self) -> float:
        """Reports per second, of all trials together."""
        return self.n_at_once / self.trial.seconds * self.trial.n_reports

    @property
    def messages_a_second(self) -> float:
        """Messages per second to the driver, each with one or more reports of a trial."""
        return self.n_at_once / self.trial.seconds * self._n_messages

    @property
    def _n_messages(self) -> int:
        n_reports = self.trial.n_reports
        between = self.trial.seconds / n_reports
        return -(-n_reports // min(1 + int(longest_wait(self.n_at_once) / between), n_reports))

    @property
    def share(self) -> float:
        """Share of a core that the driver needs near the end, with all trials already recorded."""
        of_a_trial = (
            _OF_A_TRIAL
            + _OF_A_TRIAL_BEFORE * self.config.n_trainings
            + _OF_A_MESSAGE * self._n_messages
            + _OF_A_REPORT * self.trial.n_reports
        )
        return self.n_at_once / self.trial.seconds * of_a_trial

    @property
    def is_too_large(self) -> bool:
        """Whether the driver will be the bottleneck."""
        return self.share > _MOST

    @property
    def storage_bytes(self) -> float:
        """Size of the checkpoints at the end: one per trial, N_KEPT for each of the last to run."""
        n_checkpoints = self.config.n_trainings + (N_KEPT - 1) * self.n_at_once
        return n_checkpoints * self.trial.checkpoint_bytes

    def as_file(self, every: bool) -> str:
        """The study as YAML; `every` includes settings that equal the defaults."""
        config, default = self.config, DataConfig().root
        if config.data.root == str(Path(default).resolve()):
            config = replace(config, data=replace(config.data, root=default))
        return to_yaml(config, is_short=not every)


def rehearse(driver: Driver, asked: Asked) -> Rehearsed:
    """Check a new study, its storage and Ray, and measure a trial, without running the study.
    Raises UserError if the study could not begin."""
    study = plan_new(driver, asked).config
    storage.check(driver.folder(study.name))
    with connected(driver, study) as n_at_once:
        pass  # it was reached or started, and is left again
    n_threads, on_gpu = max(1, int(study.resources.cpus)), study.resources.gpus > 0
    trial = measured(longest_trial(study), n_threads, on_gpu)
    return Rehearsed(study, trial, min(n_at_once, study.n_trainings))
