"""What Ray Tune says of trials, written to the tracker, each thing once.

Reports are written before Tune takes its snapshot; what the snapshot trains again after a crash
is recognized by the trial's number and the epoch. Ends of trials are written after it; those that
were cut off, and runs that no snapshot knows, are settled when the study ends.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial

from models import IResNet
from study.metrics import TrialReport, TrialStatus
from study.stopping import Stopping
from study.tracking import StudyRecord, Tracker, default_tracking_uri
from study.trainable import OUTCOME_FOLDER, projection_folder

LoadModel = Callable[[Path], IResNet]

_ENDED = (TrialStatus.COMPLETED, TrialStatus.STOPPED_EARLY, TrialStatus.FAILED)


class Recorder(Callback):
    """Writes every trial of one study to MLflow.

    Ray pickles it into its own record of the experiment, from which --resume brings it back,
    so it holds plain values, and connects to MLFLOW_TRACKING_URI when the experiment is set
    up: a study may be resumed with its records at another address.
    """

    def __init__(
        self, study_name: str, load_model: LoadModel, stopping: Stopping | None = None
    ) -> None:
        """
        Args:
            study_name: of the study, which stands in MLflow.
            load_model: the network that a folder of an outcome holds.
            stopping: the searcher's, to write down why a study ended before its last trial.
        """
        self._study_name = study_name
        self._load_model = load_model
        self._stopping = stopping
        self._tracker: Tracker | None = None
        self._just_ended: list[Trial] = []
        self._last_status: dict[str, str] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_tracker": None, "_just_ended": [], "_last_status": {}}

    @property
    def tracker(self) -> Tracker:
        assert self._tracker is not None
        return self._tracker

    def setup(self, *args: Any, **info: Any) -> None:
        if self._stopping is not None:
            # Not with the first suggestion, which a resumed study may not ask for in hours.
            self._stopping.start_clock()
        self._tracker = Tracker(default_tracking_uri())
        study = self._tracker.find_study(self._study_name)
        assert study is not None
        self._study: StudyRecord = study
        self._tracker.open_study(study)

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        self._start(trial)

    def _start(self, trial: Trial) -> None:
        sample, seed = trial.config["sample"], trial.config["seed"]
        self.tracker.start_trial(
            self._study,
            trial_id(trial),
            sample,
            self._study.config.settle(sample, seed),
            repeat_of=_as_id(trial.config["repeat_of"]),
        )

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        report = TrialReport.from_result(result)
        if report is not None and report.epoch is not None:
            self.tracker.log_report(trial_id(trial), report.epoch)

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        # Tune takes an exception here for the trial's; on_step_end lets ours be heard.
        self._just_ended.append(trial)

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        self._just_ended.append(trial)

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        self._last_status = {trial.trial_id: trial.status for trial in trials}

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        while self._just_ended:
            self._settle(self._just_ended.pop())
        self._last_status = {trial.trial_id: trial.status for trial in trials}

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        # When the study is interrupted Tune ends all trials before it comes here: whether one
        # had ended by itself is what was seen at the last step. Where there was no step, since
        # all had ended before, nothing was interrupted.
        for trial in trials:
            if self.tracker.trial_state(trial_id(trial)) in _ENDED:
                continue
            status = self._last_status.get(trial.trial_id, trial.status)
            if status in (Trial.TERMINATED, Trial.ERROR):
                self._settle(trial)
            elif self.tracker.trial_state(trial_id(trial)) is not None:
                self.tracker.end_trial(trial_id(trial), TrialStatus.INTERRUPTED)
        # What Tune does not know was proposed after the last snapshot that survived a crash, and
        # its number may never be given out again.
        self.tracker.keep_only({trial_id(trial) for trial in trials})
        if self._stopping is not None and self._stopping.ended is not None:
            self.tracker.note_end_of_search(self._study, self._stopping.ended)

    def _settle(self, trial: Trial) -> None:
        """Write how a trial ended, and what it leaves."""
        if self.tracker.trial_state(trial_id(trial)) is None:
            self._start(trial)  # its worker failed before it could start
        report = TrialReport.from_result(trial.last_result)
        if trial.status == Trial.ERROR:
            self.tracker.end_trial(trial_id(trial), TrialStatus.FAILED, _last_line(trial))
        elif report is None or report.status is TrialStatus.RUNNING:
            self.tracker.end_trial(trial_id(trial), TrialStatus.STOPPED_EARLY)
        else:
            if report.status is TrialStatus.COMPLETED:
                assert trial.checkpoint is not None
                with trial.checkpoint.as_directory() as folder:
                    outcome = Path(folder) / OUTCOME_FOLDER
                    self.tracker.log_outcome(trial_id(trial), outcome, self._load_model(outcome))
                    rungs = [
                        (projection, projection_folder(outcome, index))
                        for index, projection in enumerate(report.projections)
                    ]
                    networks = [(p, rung, self._load_model(rung)) for p, rung in rungs]
                    self.tracker.log_projections(trial_id(trial), networks)
            self.tracker.end_trial(trial_id(trial), report.status, report.reason)


def trial_id(trial: Trial) -> str:
    """The trial's number in the study, as text that sorts: it survives restarts, Tune's id
    need not."""
    return _as_id(trial.config["number"])


def _as_id(number: int) -> str:
    return f"{number:04d}"


def _last_line(trial: Trial) -> str:
    """Why Ray gave a trial up: the last line of its error."""
    error = trial.get_error()
    lines = str(error).strip().splitlines() or ["unknown error"]
    return lines[-1].strip()
