import json
from dataclasses import replace

import pytest

from study.metrics.reports import TrialStatus
from study.results.costs import costs
from study.results.front import Results, collect
from study.results.page import page
from study.results.publish import figures
from study.results.tables import as_json
from study.tracking.records import TrialRecord
from tests.results.test_page import NoArtifacts, parts
from tests.support.records import STUDY, projection, trial


def costing(record: TrialRecord, **of_trial: float) -> TrialRecord:
    return replace(record, metrics={**record.metrics, **of_trial})


def on_gpus(gpus: float, *records: TrialRecord) -> Results:
    resources = replace(STUDY.config.resources, cpus=4, gpus=gpus)
    return collect(replace(STUDY, config=replace(STUDY.config, resources=resources)), records)


def test_hours_of_a_study_are_of_its_trials() -> None:
    first = replace(trial(0), started=0.0, ended=3600.0)
    beside = replace(trial(1), started=1800.0, ended=5400.0)
    later = replace(trial(2), started=9000.0, ended=10800.0)
    cut = replace(projection(0, 0.3), started=3600.0, ended=99_000.0)
    running = replace(trial(3), started=10800.0, ended=None)
    results = collect(STUDY, [first, cut, beside, later, running])
    found = figures(results)
    assert found["hours"] == pytest.approx(2.0)
    assert found["device_hours"] == pytest.approx(2.5)  # one core a trial
    assert found["n_front"] == len(results.front)
    assert found["hypervolume"] == results.hypervolume
    assert costs(on_gpus(0.5, first))["device_hours"] == pytest.approx(0.5)


def test_sums_are_of_all_trials_and_of_no_projection() -> None:
    """Repeats of a sample, trials that were stopped, failed or interrupted are paid for too."""
    whole = {"cpu_hours": 1.0, "gpu_hours": 0.5}
    half = {name: value / 2 for name, value in whole.items()}
    results = on_gpus(
        1,
        costing(trial(0), **whole),
        replace(costing(trial(1), **whole), repeat_of="0000"),
        costing(trial(2, TrialStatus.STOPPED_EARLY), **half),
        costing(trial(3, TrialStatus.FAILED), **half),
        costing(trial(4, TrialStatus.INTERRUPTED), **half),
        costing(trial(5, lipschitz_upper_bound=2.0), **whole),
        costing(projection(0, 0.3), **whole),  # no version writes that
        replace(trial(6, TrialStatus.FAILED), metrics={}, n_epochs=0),  # before its first report
    )
    found = costs(results)
    sums = {"cpu_hours": 4.5, "gpu_hours": 2.25}
    assert {name: found[name] for name in sums} == pytest.approx(sums)
    assert costs(results).items() <= figures(results).items()
    written = json.loads(as_json(results, every=False))["costs"]
    assert written == found
    facts = parts(page(NoArtifacts(), results))[1]["facts"]
    assert {"2.2 h of GPU time", "4.5 h of CPU time"} <= set(facts)


def test_a_sum_of_which_a_part_is_not_known_is_not_said() -> None:
    """A trial of an earlier version."""
    results = collect(
        STUDY,
        [costing(trial(0), cpu_hours=1.0, gpu_hours=5.0), costing(trial(1), cpu_hours=2.0)],
    )
    assert costs(results).keys() == {"hours", "device_hours", "cpu_hours"}
    written = json.loads(as_json(results, every=True))
    assert written["costs"]["cpu_hours"] == 3.0
    assert written["costs"]["gpu_hours"] is None
    of_points = [point["metrics"] for point in written["points"]]
    assert sorted(metrics["cpu_hours"] for metrics in of_points) == [1.0, 2.0]


def test_a_study_without_reports_has_no_sums() -> None:
    failed = replace(trial(0, TrialStatus.FAILED), metrics={}, n_epochs=0)
    for records in ([], [failed]):
        assert costs(collect(STUDY, records)).keys() == {"hours", "device_hours"}
