"""Certified accuracies of the test images within radii that were not the study's."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from study.errors import TrackingError, UserError
from study.metrics.artifacts import packed_radii
from study.results.front import Point
from study.results.radii import checked
from study.results.report import Report, collect
from study.results.views.report_view import view
from study.results.views.sections import as_csv, as_json
from tests.support.records import STUDY, Kept, printed, projection, trial

N_IMAGES, OWN = 50, 4.0
NAME = "test_certified_accuracy@"


def radii_of(seed: int) -> list[float]:
    """Of test images; a fifth is classified wrong, and nothing is known of one."""
    generator = np.random.default_rng(seed)
    radii = generator.exponential(2.0, N_IMAGES) * generator.choice([1, 1, 1, 1, -1], N_IMAGES)
    return [-math.inf, *radii[1:].tolist()]


def report_of(radii: Mapping[str, Sequence[float]]) -> Report:
    """Two trials and a projection, with the files of these runs."""
    files = {
        run: {"test_radii.json": json.dumps(packed_radii(np.array(of), OWN)).encode()}
        for run, of in radii.items()
    }
    records = [
        replace(
            record,
            metrics={
                **record.metrics,
                "test_certified_accuracy": fraction(radii.get(record.run_id, [0.0]), OWN),
            },
        )
        for record in (
            trial(0, val_accuracy=0.9, attacked_accuracy=0.75),
            projection(0, 0.1, val_accuracy=0.8),
            trial(1, val_accuracy=0.85),
        )
    ]
    return replace(collect(STUDY, records), records=Kept(files))


def fraction(radii: Sequence[float], radius: float) -> float:
    return sum(one > radius for one in radii) / len(radii)


RADII = {"run0": radii_of(0), "run0-0.1": radii_of(1)}


def test_what_is_shown_is_what_is_counted_within_any_radius() -> None:
    report, wanted = report_of(RADII), [0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, OWN, 100.0]
    frame = report.within(wanted).by_radius()
    assert list(frame.columns) == ["network", "radius", "certified", "attacked"]
    assert list(frame["network"].unique()) == list(report.frame["network"])
    by_label = {"tiny/0000": RADII["run0"], "tiny/0000@0.1": RADII["run0-0.1"]}
    for row in frame.itertuples():
        if row.network in by_label:
            assert row.certified == round(fraction(by_label[row.network], row.radius), 5)
        else:  # of an earlier version
            assert math.isnan(row.certified)
    # The attack was within the study's radius, and of a trial's own network.
    attacked = frame.dropna(subset="attacked")
    assert list(zip(attacked["network"], attacked["radius"], strict=True)) == [("tiny/0000", OWN)]
    assert attacked["attacked"].item() == 0.75
    assert set(frame["certified"][frame["radius"] == 100.0].dropna()) == {0.0}


def test_tables_have_a_column_for_each_radius() -> None:
    report = report_of(RADII).within(["0.25", "36/255", 0.25, OWN])
    assert report.radii == (0.25, 36 / 255, OWN)
    csv = as_csv(report.selected(every=True)).splitlines()
    places = [csv[0].split(",").index(f"{NAME}{x}") for x in ("0.25", f"{36 / 255:.16g}", "4")]
    cells = {row.split(",")[0]: [row.split(",")[place] for place in places] for row in csv[1:]}
    points = json.loads(as_json(report.content(every=True)))["points"]
    for point in points:
        of_json = [point["metrics"].get(csv[0].split(",")[place]) for place in places]
        assert ["" if x is None else str(x) for x in of_json] == cells[point["network"]]
    assert cells["tiny/0001"] == ["", "", ""]
    assert cells["tiny/0000"][0] == str(round(fraction(RADII["run0"], 0.25), 5))
    head, *rows = printed(report, every=True, width=300).splitlines()[1:5]
    # The study's own radius has its column already.
    for name, n in (("test cert@0.25", 1), ("test cert@36/255", 1), ("test cert@4", 1)):
        assert head.count(name) == n
    end = head.index("test cert@0.25") + len("test cert@0.25")
    found = {row.split()[0]: row[end - 6 : end].strip() for row in rows}
    assert found["tiny/0000"] == f"{fraction(RADII['run0'], 0.25):.4f}"
    assert found["tiny/0001"] == ""


def test_radii_steer_nothing() -> None:
    """Not even where they would put another network first."""
    report = report_of(RADII)
    within = report.within([0.25, 1.0])

    assert [p.handle for p in within.front] == [p.handle for p in report.front]
    assert within.hypervolume == report.hypervolume
    assert within.handles == report.handles
    assert [one.sentence for one in within.recommended] == [
        one.sentence for one in report.recommended
    ]
    assert [point.mark for point in within.points] == [point.mark for point in report.points]
    page, before = (json.loads(view(one).content()) for one in (within, report))
    assert page["points"]["mark"] == before["points"]["mark"]
    assert page["points"][f"{NAME}1"][0] == round(fraction(RADII["run0"], 1.0), 5)


def test_of_repeats_it_is_the_mean_and_none_where_one_is_missing() -> None:
    report = report_of({**RADII, "run1": radii_of(2)})
    first, second = (p for p in report.points if p.is_trial)
    both = Point("tiny", (*first.records, *second.records), first.mark, first.metrics)
    joined = replace(report, points=(both,)).within([0.5])
    mean = (fraction(RADII["run0"], 0.5) + fraction(radii_of(2), 0.5)) / 2
    assert joined.by_radius()["certified"].item() == round(mean, 5)
    joined.records.files["run1"].clear()  # type: ignore[union-attr]
    alone = replace(joined, points=(both,)).within([0.5])
    assert math.isnan(alone.by_radius()["certified"].item())


def test_a_file_that_contradicts_its_run_is_named() -> None:
    report = report_of(RADII)
    for content in (b"{", json.dumps(packed_radii(np.ones(N_IMAGES), 0.5)).encode()):
        report.records.files["run0-0.1"]["test_radii.json"] = content  # type: ignore[union-attr]
        with pytest.raises(TrackingError, match=r"^run run0-0\.1: test_radii\.json "):
            report.within([0.5])


@pytest.mark.parametrize("bad", [-0.1, math.nan, math.inf, "", "x", "1/0", "0.5 1", "-1"])
def test_what_is_no_radius_is_refused(bad: float | str) -> None:
    with pytest.raises(UserError, match=r"^radii: must be numbers of 0 or more, .*, but got "):
        checked([0.5, bad])
