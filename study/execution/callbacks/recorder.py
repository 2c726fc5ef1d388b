"""Writes every event of a trial to MLflow exactly once.

A report goes from `on_trial_result`, collected for a moment with others of its trial, to the
outbox, whose thread calls `Tracker.log_reports`.

Tune's storage is the source of truth, and MLflow is brought in line with it. A restored trial sends
all reports up to its checkpoint again, and MLflow gets those that it lacks, such as those held up
by an outage and lost in a crash. A trial whose end is not in Tune's snapshot goes on from its last
checkpoint in the same MLflow run. Runs of trials that are in no snapshot are deleted at the end.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ray.tune.experiment import Trial

from study.errors import escaped
from study.execution import trials as tune_trials
from study.execution.callback import ReportCallback
from study.execution.callbacks.outbox import Outbox
from study.execution.provenance import provenance
from study.execution.trials import EndedTrials, TrialView, suggestion
from study.metrics.artifacts import OUTCOME
from study.metrics.reports import EpochReport, TrialReport, TrialStatus
from study.search.stopping import Stopping
from study.search.suggestion import trial_id
from study.tracking import studies
from study.tracking.server.client import Client
from study.tracking.study_record import StudyRecord
from study.tracking.tracker import Tracker

_AT_END = (TrialStatus.COMPLETED, TrialStatus.STOPPED_EARLY, TrialStatus.FAILED)
# Reports of a trial within this time share a request.
_COLLECT_SECONDS = 1.0
# Time between messages on pending writes at the end of a study.
_MESSAGE_SECONDS = 60.0


@dataclass
class _Reports:
    """Reports of a trial to be sent in one request. `since`: when the first was collected, by the
    monotonic clock; `node`: address of the node that measured the last."""

    since: float
    epochs: list[EpochReport] = field(default_factory=list)
    node: str | None = None


@dataclass(eq=False)
class Recorder(ReportCallback):
    """Writes every trial of one study to MLflow.

    Attributes:
        messages: receives a line when MLflow stops answering and when it answers again.
        stopping: the searcher's stopping criterion, to record why a study ended early.
    """

    study: StudyRecord
    tracking_uri: str
    messages: deque[str]
    stopping: Stopping

    def setup(self, *args: Any, **info: Any) -> None:
        # The searcher starts the clock too, but a resumed study may need no sample for hours.
        self.stopping.start_clock()
        # The outbox retries after reading what arrived; retries by MLflow's client could create a
        # run twice.
        self._client = Client(self.tracking_uri, max_retries=0)
        self._tracker = Tracker(self._client, self.study, provenance())
        self._outbox = Outbox(self.messages.append)
        self._ended = EndedTrials()
        self._collected: dict[str, _Reports] = {}
        # Trial -> its writes that the outbox has not begun to send. Both threads use it.
        self._queued: dict[str, list[Callable[[], None]]] = {}
        self._lock = threading.Lock()

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        view = tune_trials.view(trial)
        self._put(view.suggestion.trial_id, partial(self._start, view))

    def on_report(self, trial: Trial, report: TrialReport, node: str | None) -> None:
        if report.epochs:
            new = _Reports(time.monotonic())
            collected = self._collected.setdefault(suggestion(trial).trial_id, new)
            collected.epochs += report.epochs
            collected.node = node

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        # Trials that ended under an earlier driver are written when the study ends.
        self._ended.begin_step(trials)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        self._outbox.check()
        for view in map(tune_trials.view, self._ended.update(trials)):
            self._put(view.suggestion.trial_id, partial(self._end, view))
        old = time.monotonic() - _COLLECT_SECONDS
        for trial in [trial for trial, reports in self._collected.items() if reports.since < old]:
            self._put(trial)

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        # Tune ends all trials of an interrupted study before it calls this. Trials that had ended
        # by the last step ended by themselves; without any step, all had ended before.
        for trial in trials:
            by_itself = not self._ended.is_begun or trial in self._ended
            end = self._end if by_itself else self._interrupt
            view = tune_trials.view(trial)
            self._put(view.suggestion.trial_id, partial(end, view))
        # Trials unknown to Tune were proposed after the last snapshot that survived a crash; their
        # numbers may never be used again.
        known = {suggestion(trial).trial_id for trial in trials}
        self._outbox.put(partial(self._close, known), before_retry=self._tracker.reread)
        try:
            self._wait()
        finally:
            self.leave()

    def _wait(self) -> None:
        """Wait until MLflow has everything; prints messages, since the live view has stopped."""
        last_message, n_left = time.monotonic(), 1
        while n_left:
            n_left = self._outbox.wait(1.0)
            while self.messages:
                print(escaped(self.messages.popleft()), flush=True)
            if n_left and time.monotonic() > last_message + _MESSAGE_SECONDS:
                last_message = time.monotonic()
                print(
                    f"{n_left} writes wait for MLflow at {self.tracking_uri}; Ctrl-C leaves; they "
                    "are sent when the study is resumed",
                    flush=True,
                )

    def leave(self) -> None:
        """Stop sending. After a second Ctrl-C the study is closed without the recorder."""
        self._outbox.leave()

    def _put(self, trial: str, then: Callable[[], None] | None = None) -> None:
        """Queue the collected reports of a trial, then the call `then`. Both are added to writes of
        the trial that are still queued: an outbox that lags behind sends all of them together."""
        writes: list[Callable[[], None]] = []
        collected = self._collected.pop(trial, None)
        if collected is not None:
            log = self._tracker.log_reports
            writes.append(partial(log, trial, collected.epochs, collected.node))
        if then is not None:
            writes.append(then)
        with self._lock:
            if trial in self._queued:
                self._queued[trial] += writes
                return
            self._queued[trial] = writes
        before_retry = partial(self._tracker.reread, trial)
        self._outbox.put(partial(self._send, trial, writes), before_retry)

    # Called in the outbox's thread

    def _send(self, trial: str, writes: list[Callable[[], None]]) -> None:
        with self._lock:
            # On a retry, newer writes of the trial may be queued under its name.
            if self._queued.get(trial) is writes:
                del self._queued[trial]
        with self._tracker.together():
            for write in writes:
                write()

    def _start(self, view: TrialView) -> None:
        made_of = view.suggestion
        self._tracker.start_trial(
            made_of.trial_id,
            made_of.sample,
            self.study.config.resolve(made_of.sample, made_of.seed),
            repeat_of=trial_id(made_of.repeat_of),
            is_given=made_of.is_given,
        )

    def _end(self, view: TrialView) -> None:
        """Write the end of a trial and its networks, unless MLflow has them already."""
        trial, report, status = view.suggestion.trial_id, view.report, view.status
        state = self._tracker.trial_state(trial, view.suggestion.sample)
        if state in _AT_END:
            return
        if state is None:
            # The worker failed before it started, MLflow is new, or there was a crash in between.
            self._start(view)
        if view.checkpoint is not None:
            self._tracker.log_reports(trial, tune_trials.reports_in(view.checkpoint))
        if status is TrialStatus.COMPLETED:
            assert report is not None
            assert view.checkpoint is not None
            with view.checkpoint.as_directory() as folder:
                self._tracker.log_networks(trial, Path(folder) / OUTCOME, report.projections)
        reason = view.error or (None if report is None else report.reason)
        self._tracker.end_trial(trial, status, reason)

    def _interrupt(self, view: TrialView) -> None:
        trial = view.suggestion.trial_id
        state = self._tracker.trial_state(trial, view.suggestion.sample)
        if state not in (None, *_AT_END):
            self._tracker.end_trial(trial, TrialStatus.INTERRUPTED)

    def _close(self, known: set[str]) -> None:
        self._tracker.keep_only(known)
        if self.stopping.end_of_search is not None:
            studies.note_end_of_search(self._client, self.study, self.stopping.end_of_search)
