"""How far studies lie apart, with intervals by the images and by the seeds."""

import math
import random
from dataclasses import replace

import pytest

from study.results.comparison import compare
from study.tracking.study_record import TrialRecord
from tests.results.test_comparison import N_IMAGES, compared, report, trials
from tests.support.records import projection, sought, trial
from tests.support.studies import tiny


def test_differences_are_the_others_minus_the_first_with_intervals_by_the_images() -> None:
    found = compared(a=trials(0.8, 0.7), b=trials(0.9, 0.6), c=trials(0.8, 0.7))
    apart = found.differences
    assert apart.noise == "images"
    volumes = [one.hypervolume or 0 for one in found.reports.values()]
    for estimate, volume in zip(apart.hypervolume, volumes[1:], strict=True):
        assert estimate.value == pytest.approx(volume - volumes[0])
    better, same = apart.best_accuracy
    # 40 of the images are right for b alone, and none for a alone: paired, that is no chance.
    assert better.value == pytest.approx(0.1)
    assert 0.05 < better.interval[0] < 0.1 < better.interval[1] < 0.16
    assert better.is_within_noise is False
    assert same.is_within_noise is True
    assert "cover the choice of the validation images" in found.differences.note


def repeated(*accuracies: float, seed: int) -> list[TrialRecord]:
    """Three trainings of each sample, and a projection of each."""
    rng = random.Random(seed)
    records = []
    for k, accuracy in enumerate(accuracies):
        for n in range(3):
            n_right = round((accuracy + rng.gauss(0, 0.01)) * N_IMAGES)
            own = {"val_accuracy": n_right / N_IMAGES, "inverse_steps": 3.0}
            one = trial(3 * k + n, block_lipschitz_upper_bound=0.8 - 0.1 * k, **own)
            cut = projection(3 * k + n, 0.3, block_lipschitz_upper_bound=0.027, **own)
            records += [replace(r, repeat_of=f"{3 * k:04d}") for r in (one, cut)]
    return records


def test_where_every_study_has_repeats_intervals_are_by_the_seeds() -> None:
    found = compared(a=repeated(0.8, 0.7, seed=0), b=repeated(0.9, 0.6, seed=1))
    apart = found.differences
    assert apart.noise == "seeds"
    assert "cover the training seeds" in found.differences.note
    (volume,), (accuracy,) = apart.hypervolume, apart.best_accuracy
    low, high = accuracy.interval
    assert low < accuracy.value < high
    # Pooled over 8 degrees of freedom: about 2.3 * 0.01 * sqrt(2 / 3).
    assert 0.01 < (high - low) / 2 < 0.04
    # One loss of accuracy moves the whole volume below the smallest bound.
    assert (volume.interval[1] - volume.interval[0]) / (high - low) == pytest.approx(97, rel=0.1)


def test_an_interval_by_the_seeds_lies_around_the_difference_of_bounds_over_decades() -> None:
    """The mean over trainings is that of the bounds, and its logarithm is compared."""
    goals = sought(val_accuracy=0.1, inverse_lipschitz_upper_bound=1e7)
    reports = []
    for name, bounds in (("a", (10.0, 1000.0)), ("b", (3.0, 5.0))):
        records = [
            replace(trial(k, val_accuracy=0.9, inverse_lipschitz_upper_bound=b), repeat_of="0000")
            for k, b in enumerate(bounds)
        ]
        reports.append(report(name, records, goals))
    (volume,) = compare(reports).differences.hypervolume
    # By hand: 0.8 wide, from log10 of the mean 505 down to that of 4.
    assert volume.value == pytest.approx(0.8 * (math.log10(505) - math.log10(4)), abs=1e-3)
    low, high = volume.interval
    assert (low + high) / 2 == pytest.approx(volume.value)


def test_where_one_study_has_no_repeats_intervals_are_by_the_images_of_all_trainings() -> None:
    once = trials(0.8, 0.7, name="once")
    thrice = repeated(0.9, seed=1)
    found = compared(a=once, b=thrice)
    assert found.differences.noise == "images"
    (accuracy,) = found.differences.best_accuracy
    assert accuracy.interval[0] < accuracy.value < accuracy.interval[1]
    assert "Where every study has repeats" in found.differences.note


def test_a_volume_that_no_image_changes_has_no_interval_by_images() -> None:
    goals = tiny().objectives[1:]
    records = trials(0.8, 0.7), trials(0.9, 0.6)
    found = compare([report(name, of, goals) for name, of in zip("ab", records, strict=True)])
    (volume,), (accuracy,) = found.differences.hypervolume, found.differences.best_accuracy
    assert volume.interval is None
    assert accuracy.interval is not None


def test_the_noise_of_certified_accuracies_is_in_the_interval_too() -> None:
    """As accurate as each other, so that the difference is that of the certified accuracies."""
    goals = sought(val_accuracy=0.0, certified_accuracy=0.0)
    reports = [
        report(
            name,
            [replace(trial(0, val_accuracy=0.9, certified_accuracy=certified), run_id=name)],
            goals,
        )
        for name, certified in (("a", 0.5), ("b", 0.6))
    ]
    low, high = compare(reports).differences.hypervolume[0].interval
    # 0.9 times the interval of a difference of 40 in 400, alike on all other images.
    apart = 1.96 * math.sqrt(1.5 * 42 * (1 - 0.1**2)) / 402
    assert (high - low) / 2 == pytest.approx(0.9 * apart, rel=0.15)
