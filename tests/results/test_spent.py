import json
import random
from dataclasses import replace

import pytest

from study.metrics.reports import CONTROL, TrialStatus
from study.results.objectives import parse_objectives
from study.results.report import Report, collect
from study.results.spent import covered
from study.results.views.published import figures
from study.results.views.report_view import view
from study.tracking.study_record import TrialRecord
from tests.support.records import STUDY, Kept, projection, trial, unread

BEST = {"val_accuracy": 1.0, "block_lipschitz_upper_bound": 0.01, "inverse_steps": 1.0}


def costing(record: TrialRecord, **of_trial: float) -> TrialRecord:
    return replace(record, metrics={**record.metrics, **of_trial})


def on_gpus(gpus: float, *records: TrialRecord) -> Report:
    resources = replace(STUDY.config.resources, cpus=4, gpus=gpus)
    return unread(records, replace(STUDY, config=replace(STUDY.config, resources=resources)))


@pytest.mark.parametrize("seed", range(20))
def test_each_second_is_counted_once(seed: int) -> None:
    generator = random.Random(seed)
    times = []
    for _ in range(generator.randint(0, 12)):
        start = generator.randint(0, 60)
        times.append((start, start + generator.randint(0, 15)))
    seconds = {second for start, end in times for second in range(start, end)}
    expected = [sum(s < end for s in seconds) for end in sorted(end for _, end in times)]
    assert list(covered(times)) == expected


def test_hours_of_a_study_are_of_its_trials() -> None:
    first = replace(trial(0), started=0.0, ended=3600.0)
    beside = replace(trial(1), started=1800.0, ended=5400.0)
    later = replace(trial(2), started=9000.0, ended=10800.0)
    cut = replace(projection(0, 0.3), started=3600.0, ended=99_000.0)
    running = replace(trial(3), started=10800.0, ended=None)
    report = collect(STUDY, [first, cut, beside, later, running])
    found = figures(report)
    assert found["hours"] == pytest.approx(2.0)
    assert found["device_hours"] == pytest.approx(2.5)  # one core a trial
    assert found["n_front"] == len(report.front)
    assert found["hypervolume"] == report.hypervolume
    assert on_gpus(0.5, first).costs["device_hours"] == pytest.approx(0.5)


def test_sums_are_of_all_trials_and_of_no_projection() -> None:
    """Repeats of a sample, trials that were stopped, failed or interrupted are paid for too."""
    whole = {"cpu_hours": 1.0, "gpu_hours": 0.5}
    half = {name: value / 2 for name, value in whole.items()}
    report = on_gpus(
        1,
        costing(trial(0), **whole),
        replace(costing(trial(1), **whole), repeat_of="0000"),
        costing(trial(2, TrialStatus.STOPPED_EARLY), **half),
        costing(trial(3, TrialStatus.FAILED), **half),
        costing(trial(4, TrialStatus.INTERRUPTED), **half),
        costing(trial(5, block_lipschitz_upper_bound=2.0), **whole),
        costing(projection(0, 0.3), **whole),  # no version writes that
        replace(trial(6, TrialStatus.FAILED), metrics={}, n_epochs=0),  # before its first report
    )
    sums = {"cpu_hours": 4.5, "gpu_hours": 2.25}
    assert {name: report.costs[name] for name in sums} == pytest.approx(sums)
    assert report.costs.items() <= figures(report).items()
    assert report.content(every=False)["costs"] == report.costs
    facts = json.loads(view(replace(report, records=Kept())).content())["facts"]
    assert {"2.2 h of GPU time", "4.5 h of CPU time"} <= set(facts)


def test_a_sum_of_which_a_part_is_not_known_is_not_said() -> None:
    """One of the trials ran where there is no GPU."""
    one = costing(trial(0), cpu_hours=1.0, gpu_hours=5.0)
    report = collect(STUDY, [one, costing(trial(1), cpu_hours=2.0)])
    assert report.costs.keys() == {"hours", "device_hours", "cpu_hours"}
    written = report.content(every=True)["costs"]
    assert written["cpu_hours"] == 3.0
    assert written["gpu_hours"] is None
    failed = replace(trial(0, TrialStatus.FAILED), metrics={}, n_epochs=0)
    for without in ([], [failed]):
        assert collect(STUDY, without).costs.keys() == {"hours", "device_hours"}


def test_the_volume_grows_to_that_of_a_report_of_what_had_ended_by_then() -> None:
    records = [
        trial(0, val_accuracy=0.5, block_lipschitz_upper_bound=0.5),
        trial(1, val_accuracy=0.4, block_lipschitz_upper_bound=0.6),  # adds nothing
        trial(2, TrialStatus.STOPPED_EARLY, **BEST),
        trial(3, val_accuracy=0.9, block_lipschitz_upper_bound=0.8),
        projection(3, 0.3, val_accuracy=0.7, block_lipschitz_upper_bound=0.1),
        projection(3, CONTROL, val_accuracy=0.95, block_lipschitz_upper_bound=0.0),
        trial(4, **{**BEST, "block_lipschitz_upper_bound": 1.0}),  # breaks the constraint
    ]
    # In whatever order they are found.
    found = collect(STUDY, records[::-1]).growth
    expected = [collect(STUDY, records[:n]).hypervolume for n in (1, 2, 3, 6, 7)]
    assert found.hypervolume == pytest.approx(expected)
    assert found.epochs == [3, 6, 9, 12, 15]
    # Each ran for 900 s, the next began 100 s later.
    assert found.hours == pytest.approx([900 * (n + 1) / 3600 for n in range(5)])
    assert collect(STUDY, []).growth is None
    objectives = parse_objectives(["val_loss:minimize"], STUDY)  # without a reference value
    assert collect(STUDY, [trial(0)], objectives).growth is None
