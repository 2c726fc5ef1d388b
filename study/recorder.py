"""What Ray Tune says of trials, brought to MLflow, each thing once.

Tune's storage is the record of a study; MLflow is brought in line with it. Reports are put into the
outbox as they come. A trial that starts again has all of its reports in its checkpoint, and what
MLflow lacks of them is sent then; so what an outage kept back, and a crash then took from the
outbox, still arrives. A trial whose end Tune's snapshot does not know yet is run again from its
last checkpoint, in the same run; runs that no snapshot knows go when the study ends.
"""

import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from ray.tune import Callback, Checkpoint
from ray.tune.experiment import Trial

from models import IResNet
from study.ended import Ended
from study.errors import StorageError
from study.metrics import EpochReport, TrialReport, TrialStatus
from study.outbox import Outbox
from study.records import StudyRecord, default_tracking_uri
from study.stopping import Stopping
from study.tracking import Tracker
from study.trainable import OUTCOME_FOLDER, REPORTS_FILE, projection_folder, read_reports

LoadModel = Callable[[Path], IResNet]

_ENDED = (TrialStatus.COMPLETED, TrialStatus.STOPPED_EARLY, TrialStatus.FAILED)
# Reports of a trial that come so close together are sent together, and with its end.
_COLLECT_SECONDS = 1.0
_MAX_RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
# Between two words on what is still to be sent at the end of a study, seconds.
_PATIENCE = 60.0


@dataclass
class _Reports:
    """Reports of a trial that are to be sent in one request.

    Attributes:
        since: when the first was collected, by the monotonic clock.
        node: address of the node on which the last was measured, where it is known.
    """

    since: float
    epochs: list[EpochReport] = field(default_factory=list)
    node: str | None = None


@dataclass(frozen=True)
class _Seen:
    """A trial as it stood when it was looked at; the outbox may come to it later.

    Attributes:
        status: Tune's.
        error: why Tune gave it up, if it did.
    """

    trial_id: str
    config: dict[str, Any]
    status: str
    report: TrialReport | None
    checkpoint: Checkpoint | None
    error: str | None


class Recorder(Callback):
    """Writes every trial of one study to MLflow.

    Ray pickles it into its own record of the experiment, from which --resume brings it back,
    so it holds plain values, and connects to MLFLOW_TRACKING_URI when the experiment is set
    up: a study may be resumed with its records at another address.
    """

    def __init__(
        self,
        study_name: str,
        load_model: LoadModel,
        news: deque[str],
        stopping: Stopping | None = None,
    ) -> None:
        """
        Args:
            study_name: of the study, which stands in MLflow.
            load_model: the network that a folder of an outcome holds.
            news: gets a line for whoever watches when MLflow goes or comes back.
            stopping: the searcher's, to write down why a study ended before its last trial.
        """
        self._study_name = study_name
        self._load_model = load_model
        self._news = news
        self._stopping = stopping

    def __getstate__(self) -> dict[str, Any]:
        kept = ("_study_name", "_load_model", "_news", "_stopping")
        return {name: self.__dict__[name] for name in kept}

    def setup(self, *args: Any, **info: Any) -> None:
        if self._stopping is not None:
            # Not with the first suggestion, which a resumed study may not ask for in hours.
            self._stopping.start_clock()
        # The outbox tries again, and looks first what arrived; a request that MLflow's client
        # repeats by itself could make a run twice.
        self._max_retries = os.environ.get(_MAX_RETRIES)
        os.environ[_MAX_RETRIES] = "0"
        self.tracker = Tracker(default_tracking_uri())
        study = self.tracker.find_study(self._study_name)
        assert study is not None
        self._study: StudyRecord = study
        self.tracker.open_study(study)
        self._outbox = Outbox(self._news)
        self._just_ended: list[Trial] = []
        self._ended: Ended | None = None
        self._collected: dict[str, _Reports] = {}
        self._unreadable: StorageError | None = None

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        seen = _look_at(trial)
        self._put(seen.trial_id, partial(self._start, seen))
        if seen.checkpoint is not None:
            # Read now: the checkpoint may have made room for later ones before it is sent.
            try:
                self._collect(seen.trial_id).epochs += _checkpointed(seen.checkpoint)
            except StorageError as error:
                self._unreadable = error

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        report = TrialReport.from_result(result)
        if report is None or report.epoch is None:
            return
        collected = self._collect(trial_id(trial))
        collected.epochs.append(report.epoch)
        collected.node = result["node_ip"]

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        self._just_ended.append(trial)

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        self._just_ended.append(trial)

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        if self._ended is None:
            self._ended = Ended()
        self._ended.look(trials)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        self._outbox.check()
        # Where it was found Tune would take it for an error of ours.
        if self._unreadable is not None:
            raise self._unreadable
        while self._just_ended:
            seen = _look_at(self._just_ended.pop())
            self._put(seen.trial_id, partial(self._settle, seen))
        old = time.monotonic() - _COLLECT_SECONDS
        for trial in [trial for trial, reports in self._collected.items() if reports.since < old]:
            self._put(trial)
        assert self._ended is not None
        self._ended.look(trials)

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        # When the study is interrupted Tune ends all trials before it comes here: whether one
        # had ended by itself is what was seen at the last step. Where there was no step, since
        # all had ended before, nothing was interrupted.
        for trial in trials:
            by_itself = self._ended is None or trial in self._ended
            end = self._settle if by_itself else self._interrupt
            seen = _look_at(trial)
            self._put(seen.trial_id, partial(end, seen))
        # What Tune does not know was proposed after the last snapshot that survived a crash, and
        # its number may never be given out again.
        known = {trial_id(trial) for trial in trials}
        self._outbox.put(
            partial(self._close, known), before_retry=partial(self.tracker.open_study, self._study)
        )
        try:
            self._wait()
        finally:
            self.leave()

    def _wait(self) -> None:
        """Until MLflow has everything."""
        said = time.monotonic()
        while n_left := self._outbox.wait(1.0):
            self._say_news()
            if time.monotonic() > said + _PATIENCE:
                said = time.monotonic()
                print(
                    f"{n_left} writes wait for MLflow at {self.tracker.tracking_uri}; Ctrl-C "
                    "leaves, and --resume sends them",
                    flush=True,
                )
        self._say_news()

    def leave(self) -> None:
        """Send nothing more: whoever leaves at once closes the books without it."""
        self._outbox.leave()
        if self._max_retries is None:
            os.environ.pop(_MAX_RETRIES, None)
        else:
            os.environ[_MAX_RETRIES] = self._max_retries

    def _say_news(self) -> None:
        """Nobody else does, now that no trial runs."""
        while self._news:
            print(self._news.popleft(), flush=True)

    def _collect(self, trial: str) -> _Reports:
        return self._collected.setdefault(trial, _Reports(time.monotonic()))

    def _put(self, trial: str, then: Callable[[], None] | None = None) -> None:
        """Let the reports that were collected of a trial be sent, and then this."""
        send = partial(self._send, trial, self._collected.pop(trial, None), then)
        self._outbox.put(send, before_retry=partial(self.tracker.reread, trial))

    # What the outbox does, in its thread

    def _send(self, trial: str, reports: _Reports | None, then: Callable[[], None] | None) -> None:
        with self.tracker.together(trial):
            if reports is not None:
                self.tracker.log_reports(trial, reports.epochs, reports.node)
            if then is not None:
                then()

    def _start(self, seen: _Seen) -> None:
        sample, seed = seen.config["sample"], seen.config["seed"]
        self.tracker.start_trial(
            self._study,
            seen.trial_id,
            sample,
            self._study.config.settle(sample, seed),
            repeat_of=_as_id(seen.config["repeat_of"]),
        )

    def _settle(self, seen: _Seen) -> None:
        """Write how a trial ended, and what it leaves, unless it stands there."""
        state = self.tracker.trial_state(seen.trial_id, seen.config["sample"])
        if state in _ENDED:
            return
        if state is None:
            # Its worker failed before it could start, MLflow is a new one, or a crash came between.
            self._start(seen)
        if seen.checkpoint is not None:
            self.tracker.log_reports(seen.trial_id, _checkpointed(seen.checkpoint))
        report = seen.report
        if seen.status == Trial.ERROR:
            self.tracker.end_trial(seen.trial_id, TrialStatus.FAILED, seen.error)
        elif report is None or report.status is TrialStatus.RUNNING:
            self.tracker.end_trial(seen.trial_id, TrialStatus.STOPPED_EARLY)
        else:
            if report.status is TrialStatus.COMPLETED:
                assert seen.checkpoint is not None
                with seen.checkpoint.as_directory() as folder:
                    self._log_networks(seen.trial_id, report, Path(folder) / OUTCOME_FOLDER)
            self.tracker.end_trial(seen.trial_id, report.status, report.reason)

    def _log_networks(self, trial: str, report: TrialReport, outcome: Path) -> None:
        self.tracker.log_outcome(trial, outcome, self._load_model(outcome))
        rungs = [
            (projection, projection_folder(outcome, index))
            for index, projection in enumerate(report.projections)
        ]
        networks = [(p, rung, self._load_model(rung)) for p, rung in rungs]
        self.tracker.log_projections(trial, networks)

    def _interrupt(self, seen: _Seen) -> None:
        state = self.tracker.trial_state(seen.trial_id, seen.config["sample"])
        if state not in (None, *_ENDED):
            self.tracker.end_trial(seen.trial_id, TrialStatus.INTERRUPTED)

    def _close(self, known: set[str]) -> None:
        self.tracker.keep_only(known)
        if self._stopping is not None and self._stopping.ended is not None:
            self.tracker.note_end_of_search(self._study, self._stopping.ended)


def _checkpointed(checkpoint: Checkpoint) -> list[EpochReport]:
    """All reports up to a checkpoint."""
    path = PurePosixPath(checkpoint.path) / REPORTS_FILE
    assert checkpoint.filesystem is not None
    try:
        with checkpoint.filesystem.open_input_stream(str(path)) as file:
            return read_reports(file.readall())
    except OSError as error:
        raise StorageError(f"a checkpoint cannot be read: {error}") from error


def _look_at(trial: Trial) -> _Seen:
    return _Seen(
        trial_id(trial),
        dict(trial.config),
        trial.status,
        TrialReport.from_result(trial.last_result or {}),
        trial.checkpoint,
        _last_line(trial) if trial.status == Trial.ERROR else None,
    )


def trial_id(trial: Trial) -> str:
    """The trial's number in the study, as text that sorts: it survives restarts, Tune's id
    need not."""
    return _as_id(trial.config["number"])


def folder_name(trial: Trial) -> str:
    """Of the folder of a trial in the storage. Here, since what belongs to the command itself would
    travel with its code in the state of every trial."""
    # Tune's id as well: a number may be given out again after a crash.
    return f"{trial_id(trial)}_{trial.trial_id}"


def _as_id(number: int) -> str:
    return f"{number:04d}"


def _last_line(trial: Trial) -> str:
    """Why Ray gave a trial up: the last line of its error."""
    # The driver's own file while there is one: that in the storage may be half written.
    if trial.error_file is not None and Path(trial.error_file).exists():
        text = Path(trial.error_file).read_text()
    else:
        text = str(trial.get_error() or "")
    lines = text.strip().splitlines() or ["unknown error"]
    return lines[-1].strip()
