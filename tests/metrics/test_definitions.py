import math
import random
from dataclasses import fields, replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from study.metrics.definitions import (
    FEATURES,
    FORMER_NAMES,
    METRICS,
    diverged,
    with_current_names,
)
from study.metrics.reports import EpochReport, TrialReport, TrialStatus
from study.metrics.rounding import number_text, radius_text
from tests.support.studies import epoch_report, projection_report

REPORT = epoch_report(3)


def test_every_reported_number_but_when_is_a_metric() -> None:
    no_metrics = {"epoch", "timestamp", "device", "device_use", "own"}
    assert {field.name for field in fields(EpochReport)} == {*METRICS, *no_metrics}
    optional: dict[str, Any] = {
        "test_accuracy": 0.5,
        "test_certified_accuracy": 0.125,
        "attacked_accuracy": 0.25,
        "peak_memory_bytes": 7,
        "cpu_hours": 0.25,
        "gpu_hours": 0.125,
    }
    assert set(REPORT.metrics()) == set(METRICS) - optional.keys()
    assert replace(REPORT, **optional).metrics() == {**REPORT.metrics(), **optional}


def test_a_report_survives_the_way_through_a_result() -> None:
    for report in (
        TrialReport(TrialStatus.RUNNING, REPORT),
        TrialReport(TrialStatus.COMPLETED, replace(REPORT, test_accuracy=0.5)),
        TrialReport(TrialStatus.FAILED, reason="diverged"),
        TrialReport(
            TrialStatus.RUNNING,
            REPORT,
            is_repeated=True,
            earlier=(replace(REPORT, epoch=1), REPORT),
        ),
        TrialReport(
            TrialStatus.COMPLETED,
            replace(REPORT, test_accuracy=0.5),
            projections=(projection_report(0.7), projection_report(0.5)),
        ),
    ):
        result = {**report.to_result(), "training_iteration": 3, "trial_id": "x"}
        assert TrialReport.from_result(result) == report


def test_a_result_that_is_no_report_is_none() -> None:
    assert TrialReport.from_result({"training_iteration": 1}) is None


def test_the_first_metric_that_is_not_finite_is_named() -> None:
    assert diverged(REPORT.metrics(), ("val_accuracy", "inverse_steps")) is None
    broken = replace(REPORT, inverse_steps=math.nan, reconstruction_error=math.inf).metrics()
    assert diverged(broken, ("val_accuracy", "inverse_steps")) == "inverse_steps is nan"
    assert diverged(broken, ("reconstruction_error",)) == "reconstruction_error is inf"
    assert diverged(broken, ("val_accuracy",)) is None
    assert diverged(replace(REPORT, val_loss=math.inf).metrics(), ()) == "val_loss is inf"
    unproven = replace(REPORT, inverse_lipschitz_upper_bound=math.inf).metrics()
    assert diverged(unproven, ("inverse_lipschitz_upper_bound",)) is None


@settings(max_examples=300)
@given(value=st.floats(0, 1e9) | st.floats(0, 1e-6))
def test_a_bound_is_reported_rounded_up_to_four_digits(value: float) -> None:
    reported = METRICS["block_lipschitz_upper_bound"].resolution.round(value)
    assert value <= reported <= value * (1 + 1e-3)
    assert float(f"{reported:.4g}") == reported
    assert METRICS["block_lipschitz_upper_bound"].resolution.round(reported) == reported


@pytest.mark.parametrize(
    ("metric", "values", "reported"),
    [
        # What reads as four digits stays, and what is above it goes up.
        (
            "block_lipschitz_upper_bound",
            [0.1, 0.064, 0.729, 1.0, 0.0, math.inf, 0.0639998107, 0.0639998090, 0.12500001],
            [0.1, 0.064, 0.729, 1.0, 0.0, math.inf, 0.064, 0.064, 0.1251],
        ),
        ("inverse_steps", [3.14159, math.nan], [3.14, math.nan]),
    ],
)
def test_values_are_reported_with_their_digits(
    metric: str, values: list[float], reported: list[float]
) -> None:
    rounded = [METRICS[metric].resolution.round(value) for value in values]
    assert rounded == pytest.approx(reported, rel=0, abs=0, nan_ok=True)


def test_counts_of_up_to_100_000_images_are_told_apart() -> None:
    round_ = METRICS["val_accuracy"].resolution.round
    for n in (288, 6000, 99_999):
        assert len({round_(k / n) for k in range(n + 1)}) == n + 1


@pytest.mark.parametrize(
    ("radius", "text"),
    [
        *((0.5, "0.5"), (1.58, "1.58"), (4, "4"), (36 / 255, "36/255"), (0.14119, "0.1411")),
        *((1e308, "1e+308"), (1.23456e308, "1.234e+308")),
    ],
)
def test_a_radius_is_written_exactly_or_rounded_down(radius: float, text: str) -> None:
    assert radius_text(radius) == text


def test_no_radius_is_written_as_a_larger_one() -> None:
    generator = random.Random(0)
    for _ in range(500):
        radius = 10 ** generator.uniform(-6, 3)
        written = float(Fraction(radius_text(radius)))
        assert radius * (1 - 1e-3) <= written <= radius


def test_what_counts_within_a_radius_names_it() -> None:
    for name, metric in METRICS.items():
        known = metric.at(0.75)
        texts = (known.short, known.title, known.description)
        depends = name in ("certified_accuracy", "test_certified_accuracy", "attacked_accuracy")
        assert [("0.75" in text) for text in texts] == [depends] * 3
        assert "evaluation." not in known.description
        assert metric.at(None) == metric


@given(st.floats(1e-9, 1e9))
@settings(max_examples=200, deadline=None)
def test_a_number_has_four_digits_and_mostly_no_exponent(value: float) -> None:
    text = number_text(value)
    assert float(text) == float(f"{value:.4g}")
    assert ("e" in text) is not (1e-4 <= float(f"{value:.4g}") < 1e6)


@given(values=st.dictionaries(st.sampled_from([*METRICS, *FORMER_NAMES]), st.integers()))
def test_former_names_become_todays_whose_own_values_count(values: dict[str, int]) -> None:
    renamed = with_current_names(values)
    assert not renamed.keys() & FORMER_NAMES.keys()
    assert list(renamed) == list(dict.fromkeys(FORMER_NAMES.get(n, n) for n in values))
    for name, value in renamed.items():
        formers = [
            values[f] for f, current in FORMER_NAMES.items() if current == name and f in values
        ]
        assert value == values.get(name, *formers)


def test_radii_of_a_table_are_not_in_pixels() -> None:
    for name, metric in METRICS.items():
        of_images, of_table = metric.at(0.5), metric.at(0.5, FEATURES)
        assert of_images.unit == metric.unit
        assert of_table.unit == (FEATURES if name == "median_radius" else metric.unit)
        for text in (of_table.description, of_table.title, of_table.unit):
            assert "pixels" not in text
