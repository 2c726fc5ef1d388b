"""The live view of a running study: a table on a terminal, plain lines where there is none."""

import time
from collections import deque
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from study import pareto, points
from study.ended import Ended
from study.metrics import TrialReport, TrialStatus
from study.recorder import trial_id
from study.stopping import Stopping
from study.study_config import StudyConfig

_REFRESH_SECONDS = 0.5
# So much of the time may go into the table, which takes longer the more trials there are.
_SHARE = 1 / 20


class Progress(Callback):
    """Shows trials, the current front and the time left.

    Ray pickles it with the experiment, so what belongs to this process, the console and the
    clock, is made when the experiment is set up.
    """

    def __init__(self, study: StudyConfig, stopping: Stopping, news: deque[str]) -> None:
        """
        Args:
            stopping: the searcher's, which knows how the hypervolume grew.
            news: lines of other parts for whoever watches; each is said once.
        """
        self._study = study
        self._stopping = stopping
        self._news = news
        self._live: Live | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {
            "_study": self._study,
            "_stopping": self._stopping,
            "_news": self._news,
            "_live": None,
        }

    def setup(self, *args: Any, **info: Any) -> None:
        self._console = Console(highlight=False)
        self._start = time.monotonic()
        self._next_refresh = 0.0
        self._ended = Ended()
        self._n_epochs_ended = 0  # of those trials
        self._n_epochs_before: int | None = None
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        self._say_news()
        just_ended = self._ended.look(trials)
        self._n_epochs_ended += _epochs(just_ended)
        if self._n_epochs_before is None:
            self._n_epochs_before = _epochs(trials)  # those of an earlier run, on --resume
        elif self._live is None:
            for trial in just_ended:
                self._say_what_ended(trial)
        if self._live is not None and time.monotonic() >= self._next_refresh:
            start = time.monotonic()
            self._live.update(self._view(trials), refresh=True)
            took = time.monotonic() - start
            self._next_refresh = start + max(_REFRESH_SECONDS, took / _SHARE)

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        self.leave()
        self._say_news()

    def leave(self) -> None:
        """Give the terminal back."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _say_news(self) -> None:
        while self._news:
            self._console.print(self._news.popleft(), soft_wrap=True, markup=False)

    def _say_what_ended(self, trial: Trial) -> None:
        status, figures = _describe(trial, self._study)
        self._console.print(
            f"trial {trial_id(trial)} {status}: {figures}  [{self._pace()}]",
            soft_wrap=True,
            markup=False,
        )

    def _pace(self) -> str:
        n_ended = len(self._ended)
        elapsed = time.monotonic() - self._start
        n_trained = self._n_epochs_ended + _epochs(self._ended.running)
        n_epochs = n_trained - (self._n_epochs_before or 0)
        max_epochs = self._study.training.max_epochs
        # Trials that ended early leave epochs that nobody will train.
        n_saved = n_ended * max_epochs - self._n_epochs_ended
        n_left = self._study.n_trainings * max_epochs - n_saved - n_trained
        seconds_left = elapsed / n_epochs * n_left if n_epochs > 0 else None
        max_hours = self._study.search.max_hours
        if seconds_left is not None and max_hours is not None:
            # Then no trial starts any more, and those that run are trained to their end.
            seconds_left = min(seconds_left, max(0.0, 3600 * max_hours - self._stopping.seconds))
        left = "" if seconds_left is None else f", about {_clock(seconds_left)} left"
        pace = f"{n_ended}/{self._study.n_trainings} trials, {_clock(elapsed)}{left}"
        gain = self._stopping.gain()
        if gain is None:
            return pace
        return f"{pace}; the last {gain[1]} added {gain[0]:.1%} of the hypervolume"

    def _view(self, trials: list[Trial]) -> Group:
        front = self._front(trials)
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        for column in ("trial", "state", "epoch", *(o.metric for o in self._study.objectives)):
            table.add_column(column)
        for column, _ in self._study.space:
            table.add_column(column, style="dim")
        room = max(3, self._console.height - 6)
        # Where there is no room for all: what runs, the front, then the latest.
        by_interest = sorted(
            trials,
            key=lambda t: (
                t.is_finished(),
                t.trial_id not in front,
                -t.config["number"],
            ),
        )
        for trial in sorted(by_interest[:room], key=lambda t: int(t.config["number"])):
            report = TrialReport.from_result(trial.last_result or {})
            metrics = report.epoch.metrics() if report and report.epoch else {}
            mark = "front" if trial.trial_id in front else _status(trial).value
            table.add_row(
                trial_id(trial),
                Text(mark, style="bold green" if mark == "front" else ""),
                f"{_epochs([trial])}/{self._study.training.max_epochs}",
                *(f"{metrics[o.metric]:.4g}" if metrics else "" for o in self._study.objectives),
                *(_short(trial.config["sample"][key]) for key, _ in self._study.space),
            )
        hidden = f"  ({len(trials) - room} more)" if len(trials) > room else ""
        head = Text(f"{self._study.name}: {self._pace()}, {len(front)} on the front{hidden}")
        return Group(head, table)

    def _front(self, trials: list[Trial]) -> set[str]:
        """Tune ids of the trials that are on the front now, by themselves or projected."""
        ids, found = [], []
        for trial in trials:
            report = TrialReport.from_result(trial.last_result or {})
            own = points.of_report(report, self._study.objectives, self._study.constraints)
            ids += [trial.trial_id] * len(own)
            found += list(own.values())
        losses = points.losses(found, self._study.objectives)
        return {i for i, kept in zip(ids, pareto.nondominated(losses), strict=True) if kept}


def _epochs(trials: list[Trial]) -> int:
    reports = (TrialReport.from_result(trial.last_result or {}) for trial in trials)
    return sum(report.epoch.epoch for report in reports if report and report.epoch)


def _status(trial: Trial) -> TrialStatus:
    report = TrialReport.from_result(trial.last_result or {})
    if trial.status == Trial.ERROR:
        return TrialStatus.FAILED
    if not trial.is_finished():
        return TrialStatus.RUNNING
    if report is None or report.status is TrialStatus.RUNNING:
        return TrialStatus.STOPPED_EARLY
    return report.status


def _describe(trial: Trial, study: StudyConfig) -> tuple[str, str]:
    report = TrialReport.from_result(trial.last_result or {})
    if report is not None and report.epoch is not None:
        metrics = report.epoch.metrics()
        figures = ", ".join(f"{o.metric} {metrics[o.metric]:.4g}" for o in study.objectives)
    else:
        figures = (report.reason if report else None) or "see its errors in MLflow"
    return _status(trial).value, figures


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
