"""The live view counts as the report counts. What it looks like: tests/test_launch.py."""

import random
import time
from collections import deque

import pytest
from ray.tune.experiment import Trial

from study.execution.progress import Progress
from study.metrics.reports import ProjectionReport, TrialReport, TrialStatus
from study.results.report import collect
from study.search.stopping import Stopping
from tests.support.records import STUDY, projection
from tests.support.records import trial as record
from tests.support.studies import epoch_report, projection_report, running
from tests.support.tune import fake_trial


def test_the_front_of_the_view_is_that_of_the_report() -> None:
    generator = random.Random(0)

    def metrics(bound: float) -> dict[str, float]:
        # Many are equal as they are reported.
        return {
            "val_accuracy": generator.randint(80, 84) / 100,
            "lipschitz_upper_bound": bound * (1 - generator.uniform(0, 1e-5)),
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
