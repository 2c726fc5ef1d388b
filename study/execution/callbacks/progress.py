"""Live view of a running study: a table in a terminal or notebook, else plain lines."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from statistics import fmean
from typing import Any

from ray.tune.experiment import Trial
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from study.config.study import StudyConfig
from study.errors import escaped
from study.execution import trials as tune_trials
from study.execution.callback import ReportCallback
from study.execution.trials import EndedTrials, suggestion
from study.metrics.definitions import as_reported
from study.metrics.reports import TrialReport
from study.metrics.rounding import number_text
from study.search import observation
from study.search.stopping import Stopping

_REFRESH_SECONDS = 0.5
# Largest share of the time to spend on drawing the table, which takes longer with more trials.
_SHARE = 1 / 20
# With plain lines: print one at least this often, to show that the study is alive.
_MOST_SILENCE_SECONDS = 60.0


@dataclass(eq=False)
class Progress(ReportCallback):
    """Shows trials, the current front and the time left.

    Attributes:
        stopping: the searcher's stopping criterion, for the growth of the hypervolume.
        messages: lines from other callbacks, removed as they are printed.
    """

    study: StudyConfig
    stopping: Stopping
    messages: deque[str]

    def setup(self, *args: Any, **info: Any) -> None:
        self._live: Live | None = None
        self._draw: Callable[[Table], object] | None = None  # None for plain lines
        self._console = Console(highlight=False)
        self._start = time.monotonic()
        self._next_refresh = 0.0
        self._last_shown = self._start
        self._ended = EndedTrials()
        # Tune's id -> epochs of a trial by its last report: with hundreds of trials, reading all
        # results for each line would take too long.
        self._n_epochs: dict[str, int] = {}
        self._n_trained = 0  # epochs reported since this driver started
        self._last_report = self._start  # when the last of them was
        self._budget: dict[str, int] = {}  # Tune's id -> max_epochs of a trial
        if self._console.is_jupyter:
            # `Live` needs ipywidgets there. IPython is installed only for notebooks.
            from IPython.display import display

            self._draw = display(Text(), display_id=True).update
        elif self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
            self._draw = partial(self._live.update, refresh=True)

    def on_report(self, trial: Trial, report: TrialReport, node: str | None) -> None:
        if report.epoch is None:
            return
        # Zero or less after a repeated report, which may be of an earlier checkpoint.
        n_more = report.epoch.epoch - self._n_epochs.get(trial.trial_id, 0)
        self._n_epochs[trial.trial_id] = report.epoch.epoch
        if n_more > 0:
            self._n_trained += n_more
            self._last_report = time.monotonic()

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        if not self._ended.is_begun:
            # Trials from before a resume.
            self._ended.begin_step(trials)
            self._n_epochs = {trial.trial_id: tune_trials.n_epochs(trial) for trial in trials}

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        self._show_messages()
        just_ended = self._ended.update(trials)
        if len(self._budget) < len(trials):
            new = [trial for trial in trials if trial.trial_id not in self._budget]
            self._budget.update((trial.trial_id, self._max_epochs(trial)) for trial in new)
        if self._draw is None:
            for trial in just_ended:
                self._show_end(trial)
            silence = time.monotonic() - self._last_shown
            if self._ended.running and silence > _MOST_SILENCE_SECONDS:
                n_epochs = sum(self._n_epochs.values())
                self._show(f"{self.study.name}: {n_epochs} epochs trained  [{self._pace()}]")
        # The view after the last end may be the final one, which a notebook keeps.
        is_due = time.monotonic() >= self._next_refresh or not self._ended.running
        if self._draw is not None and is_due:
            start = time.monotonic()
            self._draw(self._view(trials))
            took = time.monotonic() - start
            self._next_refresh = start + max(_REFRESH_SECONDS, took / _SHARE)

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        self.leave()
        self._show_messages()

    def leave(self) -> None:
        """Release the terminal."""
        if self._live is not None:
            self._live.stop()
        self._live = self._draw = None

    def _show_messages(self) -> None:
        while self.messages:
            self._show(self.messages.popleft())

    def _show_end(self, trial: Trial) -> None:
        report = tune_trials.report(trial)
        if report is not None and report.epoch is not None:
            metrics = as_reported(report.epoch.metrics())
            objectives = self.study.objectives
            figures = ", ".join(f"{o.metric} {number_text(metrics[o.metric])}" for o in objectives)
        else:
            figures = (report.reason if report else None) or "see its errors in MLflow"
        name = f"{self.study.name}/{suggestion(trial).trial_id}"
        self._show(f"{name} {tune_trials.status(trial).value}: {figures}  [{self._pace()}]")

    def _show(self, line: str) -> None:
        self._console.print(escaped(line), soft_wrap=True, markup=False)
        self._last_shown = time.monotonic()

    def _max_epochs(self, trial: Trial) -> int:
        made_of = suggestion(trial)
        return self.study.resolve(made_of.sample, made_of.seed).training.max_epochs

    def _seconds_left(self, now: float) -> float | None:
        """Estimate of the seconds until all epochs are trained, at the mean pace up to the last
        report; None before the first report. Between reports it counts down by at most the time
        that the epochs in progress take."""
        if self._n_trained == 0 or not self._budget:
            return None
        running = self._ended.running
        # Trials that ended early have no epochs left. Trials to come are taken to have as many as
        # the mean of those so far, for max_epochs may be searched.
        n_to_come = self.study.n_trainings - len(self._ended) - len(running)
        n_left = n_to_come * fmean(self._budget.values())
        n_left += sum(self._budget[t.trial_id] - self._n_epochs.get(t.trial_id, 0) for t in running)
        n_at_once = sum(trial.status == Trial.RUNNING for trial in running)
        n_in_progress = min(n_left, n_at_once * self.study.training.report_every)
        each = (self._last_report - self._start) / self._n_trained
        in_progress = max(0.0, each * n_in_progress - (now - self._last_report))
        return each * (n_left - n_in_progress) + in_progress

    def _pace(self) -> str:
        now = time.monotonic()
        n_ended, n_trials = len(self._ended), self.study.n_trainings
        elapsed = now - self._start
        seconds_left = self._seconds_left(now)
        max_hours = self.study.search.max_hours
        if seconds_left is not None and max_hours is not None:
            # After max_hours no trial starts, but running ones are trained to their end.
            seconds_left = min(seconds_left, max(0.0, 3600 * max_hours - self.stopping.seconds))
        # 0 where the last reports are overdue: how much longer they take is not known.
        left = f", about {_clock(seconds_left)} left" if seconds_left else ""
        pace = f"{n_ended}/{n_trials} trials, {_clock(elapsed)}{left}"
        gain = self.stopping.gain()
        if gain is None:
            return pace
        return f"{pace}; {gain[0]:.1%} of the hypervolume came with the last {gain[1]}"

    def _view(self, trials: list[Trial]) -> Table:
        front = self._front(trials)
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        for column in ("trial", "state", "epoch", *(o.metric for o in self.study.objectives)):
            table.add_column(column)
        for column, _ in self.study.space:
            table.add_column(column, style="dim")
        room = max(3, self._console.height - 6)
        # If there is no room for all, running trials come first, then the front, then the latest.
        by_interest = sorted(
            trials,
            key=lambda t: (t.is_finished(), t.trial_id not in front, -suggestion(t).number),
        )
        for trial in sorted(by_interest[:room], key=lambda t: suggestion(t).number):
            report = tune_trials.report(trial)
            metrics = as_reported(report.epoch.metrics()) if report and report.epoch else {}
            is_on_front = trial.trial_id in front
            max_epochs = self._max_epochs(trial)
            table.add_row(
                suggestion(trial).trial_id,
                Text("front", style="bold green")
                if is_on_front
                else Text(tune_trials.status(trial).value),
                f"{tune_trials.n_epochs(trial)}/{max_epochs}",
                *(number_text(metrics[o.metric]) if metrics else "" for o in self.study.objectives),
                *(_short(suggestion(trial).sample.get(key, "")) for key, _ in self.study.space),
            )
        hidden = f"  ({len(trials) - room} more)" if len(trials) > room else ""
        head = Text(f"{self.study.name}: {self._pace()}, {len(front)} on the front{hidden}")
        view = Table.grid()
        view.add_row(head)
        view.add_row(table)
        return view

    def _front(self, trials: list[Trial]) -> list[str]:
        """For each network on the current front, Tune's id of its trial."""
        # In order of number: the first of equal networks is on the front, as in the report.
        ordered = sorted(trials, key=lambda t: suggestion(t).number)
        reports = [tune_trials.report(trial) for trial in ordered]
        return [ordered[index].trial_id for index in observation.front(reports, self.study)]


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _clock(seconds: float) -> timedelta:
    return timedelta(seconds=round(seconds))
