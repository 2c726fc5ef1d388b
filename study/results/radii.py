"""Certified accuracy of the test images within any radius, counted in what trials left."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from study.errors import TrackingError, UserError
from study.metrics.artifacts import TEST_RADII, read_radii
from study.metrics.definitions import TEST_CERTIFIED_ACCURACY, as_reported
from study.results.answers import N_THREADS
from study.results.front import Point
from study.tracking.records import Records
from study.tracking.study_record import TrialRecord


def checked(radii: Sequence[float | str]) -> tuple[float, ...]:
    """Radii, each once, from numbers or texts such as "36/255". Raises UserError for one that is
    not a number of 0 or more."""
    found = []
    for given in radii:
        try:
            found.append(float(Fraction(given)))
        except (ArithmeticError, ValueError):
            found.append(-1.0)
        if found[-1] < 0:
            raise UserError("must be numbers of 0 or more, such as 0.5 or 36/255", "radii", given)
    return tuple(dict.fromkeys(found))


def name_within(radius: float) -> str:
    """The name of the certified accuracy of the test images within a radius."""
    return f"{TEST_CERTIFIED_ACCURACY}@{radius:.16g}"


def with_radii(
    listed: Sequence[Point], radii: Sequence[float], records: Records
) -> tuple[Point, ...]:
    """Add to points the certified accuracies of the test images within radii, l2, in the
    unit of the data, by `name_within`: means over the trainings. Points of which a training left no
    TEST_RADII stay as they are. Raises TrackingError if such a file cannot be read, or contradicts
    its run."""

    def extended(point: Point) -> Point:
        runs = point.records
        if any(TEST_RADII not in records.artifacts(run.run_id) for run in runs):
            return point
        proven = [_proven(records, run) for run in runs]
        added = {name_within(r): fmean(float(np.mean(of > r)) for of in proven) for r in radii}
        return replace(point, metrics={**point.metrics, **as_reported(added)})

    with ThreadPoolExecutor(N_THREADS) as pool:
        return tuple(pool.map(extended, listed))


def _proven(records: Records, run: TrialRecord) -> NDArray[np.float64]:
    """The proven radii (n_images,) of the test images of a run's network."""
    content = records.artifact(run.run_id, TEST_RADII)
    try:
        return read_radii(content, run.metrics.get(TEST_CERTIFIED_ACCURACY, math.nan))
    except ValueError as error:
        raise TrackingError(f"run {run.run_id}: {error}") from error
