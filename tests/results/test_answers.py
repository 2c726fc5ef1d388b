import json
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from study.errors import TrackingError
from study.metrics.artifacts import packed
from study.metrics.definitions import Direction
from study.metrics.goals import Objective
from study.results import answers
from study.results.report import Report, collect
from study.tracking.study_record import TrialRecord
from tests.support.records import STUDY, Kept, measured, sought, trial

N_IMAGES = 400


def content(n_right: int, seed: int) -> bytes:
    bits = [index < n_right for index in range(N_IMAGES)]
    random.Random(seed).shuffle(bits)
    return json.dumps(packed(bits, bits, 0.5)).encode()


def kept(n_right: Sequence[int]) -> Kept:
    """What networks left of which so many images are right."""
    return Kept({f"run{k}": {"val_right.json": content(n, k)} for k, n in enumerate(n_right)})


def study(*n_right: int) -> tuple[list[TrialRecord], Kept]:
    """Trials with falling bounds, of which so many images are right."""
    records = [measured(k, n / N_IMAGES, 0.9 - 0.1 * k, 3.0) for k, n in enumerate(n_right)]
    return records, kept(n_right)


def test_each_point_of_the_front_is_told_how_sure_it_is() -> None:
    # The second is better than the third by one image, the last is the best in its bound.
    records, files = study(380, 340, 339, 300)
    report = collect(STUDY, records, records=files)
    assert (report.n_val_images, report.unsure) == (N_IMAGES, None)
    shares = {point.label: point.front_share for point in report.points}
    first, second, third, last = (shares[f"{k:04d}"] for k in range(4))
    assert last == 1.0
    assert first > 0.9
    assert second < third  # it needs to be more accurate than those with smaller bounds
    for point in report.front:
        ends = point.interval
        assert ends[0] < point.metrics["val_accuracy"] < ends[1]


@pytest.mark.parametrize(("steps", "share"), [(2.01, 0.0), (2.2, 1.0)])
def test_a_hundredth_of_a_step_keeps_no_network_on_the_front(steps: float, share: float) -> None:
    """What the second classifies right the first does too: in no draw it is more accurate."""
    records = [measured(0, 1.0, 0.5, steps), measured(1, 0.975, 0.5, 2.0)]
    report = collect(STUDY, records, records=kept([400, 390]))
    assert [(p.label, p.front_share) for p in report.front] == [("0000", 1.0), ("0001", share)]


def certified_study() -> tuple[list[TrialRecord], Kept]:
    """Two networks: one has two images more right, the other four images more certified."""
    records, files = [], {}
    for number, (n_right, n_certified) in enumerate([(382, 200), (380, 204)]):
        right = [k < n_right for k in range(N_IMAGES)]
        # Certified on images of which the two have half in common.
        certified = [k % 2 == number and k < 2 * n_certified for k in range(N_IMAGES)]
        for k in range(N_IMAGES):
            if sum(certified) < n_certified and right[k]:
                certified[k] = True
        counted = {"val_accuracy": n_right / N_IMAGES, "certified_accuracy": sum(certified) / 400}
        records.append(trial(number, **counted))
        files[f"run{number}"] = {
            "val_right.json": json.dumps(packed(right, certified, 0.5)).encode()
        }
    return records, Kept(files)


CERTIFIED_GOALS = sought(val_accuracy=0.0, certified_accuracy=0.0)


def test_certified_accuracy_is_drawn_with_the_images_too() -> None:
    """Held fixed, the second would be on every front, as the most certified."""
    records, files = certified_study()
    report = collect(STUDY, records, CERTIFIED_GOALS, records=files)
    assert report.unsure is None
    by_label = {point.label: point for point in report.points}
    assert by_label["0001"].metrics["certified_accuracy"] > 0.505
    assert 0.5 < by_label["0001"].front_share < 0.95
    assert by_label["0001"].counted["certified_accuracy"].sum() == 204


def unsure(report: Report) -> str:
    assert "\n" not in report.unsure
    assert all(point.front_share is None for point in report.points)
    return report.unsure


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (None, "run run0: val_right.json is not there"),
        (b"{", "run run0: val_right.json cannot be read"),
        (b'{"n_images": 0, "right": ""}', "a bit for each of its images"),
        # 19 of 20, which is the accuracy.
        (b'{"n_images": 20, "right": "///g"}', "their splits differ in size"),
        (b'{"n_images": 8, "right": "AA=="}', "has 0 of 8 images right, 0.0, but the run's"),
    ],
)
def test_what_cannot_be_read_is_said_and_the_report_goes_on(
    bad: bytes | None, problem: str
) -> None:
    records, files = study(380, 340)
    if bad is None:
        del files.files["run0"]
    else:
        files.files["run0"]["val_right.json"] = bad
    report = collect(STUDY, records, records=files)
    assert problem in unsure(report)
    assert [point.label for point in report.front] == ["0000", "0001"]


def test_a_store_that_does_not_answer_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    records, files = study(380, 340)

    def refuse(run_id: str) -> set[str]:
        raise TrackingError("MLflow at s3://bucket: no credentials")

    monkeypatch.setattr(files, "artifacts", refuse)
    assert "no credentials" in unsure(collect(STUDY, records, records=files))


def test_too_many_rivals_are_said_and_intervals_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "_MOST_RIVALS", 2)
    records, files = study(380, 379, 378)
    report = collect(STUDY, records, records=files)
    assert unsure(report).endswith("3 are too near to it")
    assert report.n_val_images == N_IMAGES


@pytest.mark.parametrize("goal", [("val_accuracy", "minimize"), ("val_loss", "minimize")])
def test_where_accuracy_is_not_sought_nothing_is_said_of_the_front(goal: tuple[str, str]) -> None:
    records, files = study(380, 340)
    goals = (Objective(goal[0], Direction(goal[1]), 1.0), *sought(block_lipschitz_upper_bound=1.0))
    report = collect(STUDY, records, goals, records=files)
    assert all(point.front_share is None for point in report.points)
    assert report.unsure is None


def test_repeats_keep_the_spread_that_they_have() -> None:
    records, files = study(380, 378)
    records[1] = replace(records[1], repeat_of="0000")
    assert collect(STUDY, records, records=files).points == collect(STUDY, records).points
