"""The live view counts as the report counts. What it looks like: tests/test_launch.py."""

import random
import re
import time
from collections import deque
from typing import Any

import pytest
from ray.tune.experiment import Trial

from study.config.parser import parse
from study.execution import trials as tune_trials
from study.execution.callbacks.progress import Progress
from study.metrics.reports import ProjectionReport, TrialReport, TrialStatus
from study.results.report import collect
from study.search.stopping import Stopping
from tests.support.records import STUDY, projection
from tests.support.records import trial as record
from tests.support.studies import RAW, epoch_report, projection_report, running
from tests.support.tune import SAMPLE, fake_trial


def test_the_front_of_the_view_is_that_of_the_report() -> None:
    generator = random.Random(0)

    def metrics(bound: float) -> dict[str, float]:
        # Many are equal as they are reported.
        return {
            "val_accuracy": generator.randint(80, 84) / 100,
            "block_lipschitz_upper_bound": bound * (1 - generator.uniform(0, 1e-5)),
            "inverse_steps": generator.choice([3.0, 3.001, 3.5]),
        }

    for _ in range(30):
        trials, records = [], []
        for number in range(8):
            own = metrics(generator.choice([0.4, 0.6]))
            cut: dict[float, dict[str, float]] = {c: metrics(c**3) for c in (0.5, 0.3)}
            rungs: tuple[ProjectionReport, ...] = tuple(
                projection_report(coeff, **of_rung) for coeff, of_rung in cut.items()
            )
            report = TrialReport(TrialStatus.COMPLETED, epoch_report(3, **own), projections=rungs)
            trials.append(fake_trial(number, Trial.TERMINATED, report.to_result()))
            records.append(record(number, **own))
            records += [projection(number, coeff, **of_rung) for coeff, of_rung in cut.items()]
        view = Progress(STUDY.config, Stopping(STUDY.config), deque[str]())
        generator.shuffle(trials)  # Tune's order is not that of the trials' numbers
        expected = [f"tune{int(p.first.trial_id)}" for p in collect(STUDY, records).front]
        assert sorted(view._front(trials)) == sorted(expected)


def test_lines_never_pause_for_more_than_a_minute_or_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter(range(0, 10_000, 5))  # five seconds between two looks at it
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    view = Progress(STUDY.config, Stopping(STUDY.config), deque[str]())
    view.setup()
    trial = fake_trial(0, Trial.RUNNING, running())
    for step in range(40):
        report = TrialReport(TrialStatus.RUNNING, epoch_report(1 + step // 20))
        trial.last_result = report.to_result()
        view.on_trial_result(step, [trial], trial, trial.last_result)
        view.on_step_end(step, [trial])
    lines = capsys.readouterr().out.splitlines()
    assert 3 <= len(lines) < 40
    assert lines[0].startswith(f"{STUDY.config.name}: 1 epochs trained")
    assert lines[-1].startswith(f"{STUDY.config.name}: 2 epochs trained")
    assert "left]" in lines[-1]


class Study:
    """A study on a clock of its own, in which `n_at_once` trials train side by side, and what is
    printed of its time. `budgets`: max_epochs of each trial, which is searched."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        budgets: list[int],
        n_at_once: int = 1,
    ) -> None:
        self.now, self.budgets, self.n_at_once, self.capsys = 0, budgets, n_at_once, capsys
        self.trials: list[Any] = []
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        of_epochs = {"type": "int", "low": min(budgets), "high": max(budgets)}
        training = {key: v for key, v in RAW["training"].items() if key != "max_epochs"}
        space = {**RAW["space"], "max_epochs": of_epochs}
        search = {**RAW["search"], "n_trials": len(budgets)}
        config = parse({**RAW, "training": training, "space": space, "search": search}, "x.yaml")
        self.view = Progress(config, Stopping(config), deque[str]())
        self.view.setup()

    def shown(self, until: int, epoch_seconds: int | None) -> list[tuple[int, int | None]]:
        """(seconds since the start, seconds left or None) of each line up to a time. Without
        `epoch_seconds` no epoch ends."""
        while self.now <= until:
            if epoch_seconds is not None and self.now % epoch_seconds == 0:
                for trial in self._running():
                    self._report(trial)
            for number in range(len(self.trials), len(self.budgets)):
                if len(self._running()) < self.n_at_once:
                    self.trials.append(fake_trial(number, Trial.RUNNING, {}))
                    sample = {**SAMPLE, "max_epochs": self.budgets[number]}
                    self.trials[-1].config["sample"] = sample
            self.view.on_step_end(0, self.trials)
            self.now += 20
        lines = self.capsys.readouterr().out.splitlines()
        found = [re.search(r" trials, ([\d:]+)(?:, about ([\d:]+) left)?\]", one) for one in lines]
        return [(_seconds(m[1]), _seconds(m[2]) if m[2] else None) for m in found if m]

    def _running(self) -> list[Any]:
        return [trial for trial in self.trials if not trial.is_finished()]

    def _report(self, trial: Any) -> None:
        epoch = tune_trials.n_epochs(trial) + 1
        is_last = epoch == trial.config["sample"]["max_epochs"]
        status = TrialStatus.COMPLETED if is_last else TrialStatus.RUNNING
        trial.last_result = TrialReport(status, epoch_report(epoch)).to_result()
        self.view.on_trial_result(0, self.trials, trial, trial.last_result)
        trial.status = Trial.TERMINATED if is_last else Trial.RUNNING


def _seconds(clock: str) -> int:
    hours, minutes, seconds = map(int, clock.split(":"))
    return 3600 * hours + 60 * minutes + seconds


@pytest.mark.parametrize("n_at_once", [1, 2, 4])
def test_time_gone_and_time_left_add_up_to_the_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], n_at_once: int
) -> None:
    """8 trials of 3 epochs of 20 minutes take 8 hours, one at a time: said between reports too, and
    before the first trial ends."""
    whole = 8 * 3 * 1200 // n_at_once
    lines = Study(monkeypatch, capsys, [3] * 8, n_at_once).shown(whole, epoch_seconds=1200)
    before = [left for now, left in lines if now < 1200]
    after = [(now, left) for now, left in lines if 1200 <= now < whole]
    assert len(before) > 10
    assert set(before) == {None}
    assert after[0][0] < 3600
    assert after == [(now, whole - now) for now, _ in after]


def test_time_left_counts_the_epochs_of_each_trial(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = Study(monkeypatch, capsys, [2, 4, 3]).shown(9 * 600, epoch_seconds=600)
    # In the last trial, the epochs of all are known.
    last = [(now, left) for now, left in lines if 6 * 600 < now < 9 * 600]
    assert last == [(now, 9 * 600 - now) for now, _ in last] != []


def test_time_left_does_not_grow_while_nothing_reports(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = Study(monkeypatch, capsys, [3, 3])
    study.shown(600, epoch_seconds=600)
    lefts = [left for _, left in study.shown(9000, epoch_seconds=None)]
    assert len(lefts) > 100
    assert lefts == sorted(lefts, reverse=True)
    # 50 minutes were left; 10 of them for the epoch that does not end.
    assert lefts[0] <= 3000
    assert lefts[-1] == 2400


def test_no_time_is_said_to_be_left_once_the_last_report_is_overdue(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = Study(monkeypatch, capsys, [2])
    study.shown(600, epoch_seconds=600)
    overdue = [left for now, left in study.shown(9000, epoch_seconds=None) if now >= 1200]
    assert len(overdue) > 50
    assert set(overdue) == {None}


def test_no_control_character_of_a_message_reaches_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    messages = deque(["the callback mine:Log raises OSError: \x1b]0;owned\x07"])
    view = Progress(STUDY.config, Stopping(STUDY.config), messages)
    view.setup()
    view.on_step_end(0, [])
    assert capsys.readouterr().out == ("the callback mine:Log raises OSError: \\x1b]0;owned\\x07\n")
