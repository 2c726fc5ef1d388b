"""How certain a front is, judged by the validation images that its accuracies are counted on."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from study.errors import LocationError, TrackingError
from study.metrics.artifacts import VAL_RIGHT, read_certified, read_right
from study.metrics.definitions import CERTIFIED_ACCURACY, VAL_ACCURACY, Direction
from study.metrics.goals import Objective
from study.pareto import certainty, points
from study.results.front import Mark, Point
from study.tracking.records import Records, TrialRecord

_N_THREADS = 8  # files fetched at a time: a server may be far away
# Networks that may be on the front; to read and draw more would take minutes.
_MOST_RIVALS = 600
# Metric -> how the images that it counts are read from VAL_RIGHT.
_COUNTED: Mapping[str, Callable[[bytes, float], list[bool] | None]] = {
    VAL_ACCURACY: read_right,
    CERTIFIED_ACCURACY: read_certified,
}


class UnsureError(Exception):
    """Why the certainty of accuracies is unknown; a sentence."""


def with_answers(
    listed: tuple[Point, ...], objectives: Sequence[Objective], records: Records
) -> tuple[tuple[Point, ...], str | None]:
    """Add to the points of the front which images they classify right, and how likely each would be
    on the front if the validation split were drawn anew.

    Points of a study with repeats stay as they are: the spread of the repeats says more.

    Returns:
        The points; and why something is missing, such as files that were not kept, else None.
    """
    front = [point for point in listed if point.mark is Mark.FRONT]
    if not front or any(len(point.records) > 1 for point in listed):
        return listed, None
    known = listed
    try:
        wanted = dict.fromkeys([VAL_ACCURACY, *counted_columns(objectives)])
        found = counted_images(records, front, [*wanted])
        n_images = found[VAL_ACCURACY].shape[1]
        place = {point.label: row for row, point in enumerate(front)}

        def images(point: Point, metric: str) -> NDArray[Any] | None:
            is_known = metric in found and point.label in place
            return found[metric][place[point.label]] if is_known else None

        known = tuple(
            replace(
                point,
                right=images(point, VAL_ACCURACY),
                certified=images(point, CERTIFIED_ACCURACY),
                n_val_images=n_images,
            )
            for point in listed
        )
        shares, fixed = _shares(known, objectives, records, n_images)
    except UnsureError as error:
        return known, str(error)
    return tuple(replace(p, front_share=shares.get(p.label)) for p in known), fixed


def _shares(
    listed: Sequence[Point], objectives: Sequence[Objective], records: Records, n_images: int
) -> tuple[Mapping[str, float], str | None]:
    """(label of each point of the front -> its probability; empty if no objective is counted on
    the images; why an objective that is counted on them stays as measured, else None)."""
    columns = counted_columns(objectives)
    if not columns:
        return {}, None
    admitted = [point for point in listed if point.is_admitted]
    losses = points.losses([point.metrics for point in admitted], objectives)
    rows = certainty.contenders(losses, n_images, columns.values())
    if len(rows) > _MOST_RIVALS:
        raise UnsureError(
            f"how likely a network is on the front is not said: {len(rows)} are too near to it"
        )
    rivals = [admitted[row] for row in rows]
    found = counted_images(records, rivals, [*columns])
    if not found:
        return {}, fixed_note(columns, found)
    shares = certainty.front_probabilities(
        {columns[metric]: images for metric, images in found.items()},
        losses[rows],
        points.indifference(objectives),
    )
    by_label = {p.label: s for p, s in zip(rivals, shares, strict=True) if p.mark is Mark.FRONT}
    return by_label, fixed_note(columns, found)


def counted_columns(objectives: Sequence[Objective]) -> dict[str, int]:
    """Index of each objective to maximize a fraction that is counted on the validation images."""
    return {
        objective.metric: column
        for column, objective in enumerate(objectives)
        if objective.metric in _COUNTED and objective.direction is Direction.MAXIMIZE
    }


def fixed_note(sought: Iterable[str], found: Iterable[str]) -> str | None:
    """Why fractions that were sought and not found stay as measured while images are drawn anew, a
    sentence; None if all were found."""
    missing = sorted(set(sought) - set(found))
    if not missing:
        return None
    return (
        f"where validation images are drawn anew, {' and '.join(missing)} stays as measured: a "
        "network of an earlier version does not say for which images it holds"
    )


def counted_images(
    records: Records, wanted: Sequence[Point], metrics: Sequence[str]
) -> dict[str, NDArray[Any]]:
    """On which images of the validation split each point counts, for VAL_ACCURACY and
    CERTIFIED_ACCURACY if they are among `metrics`: bool (number of points, number of images); of
    points with several trainings, the fraction of these, in [0, 1]. CERTIFIED_ACCURACY is absent if
    a network of an earlier version did not keep it.

    Raises:
        UnsureError: if files cannot be read, were not kept, or are of splits that differ in size.
    """

    def parts(point: Point) -> dict[str, NDArray[Any]]:
        own = {VAL_ACCURACY: point.right, CERTIFIED_ACCURACY: point.certified}
        known = {k: images for k, images in own.items() if images is not None and k in metrics}
        if len(known) == len(metrics):
            return known
        runs = [_fetched(records, run, metrics) for run in point.records]
        return {
            name: runs[0][name] if len(runs) == 1 else np.mean([run[name] for run in runs], axis=0)
            for name in metrics
            if all(name in run for run in runs)
        }

    with ThreadPoolExecutor(_N_THREADS) as pool:
        by_point = list(pool.map(parts, wanted))
    shared = [name for name in metrics if all(name in of_point for of_point in by_point)]
    if len({len(of_point[name]) for of_point in by_point for name in shared}) > 1:
        raise UnsureError("how sure accuracies are is not said: their splits differ in size")
    return {name: np.array([of_point[name] for of_point in by_point]) for name in shared}


def _fetched(
    records: Records, run: TrialRecord, metrics: Sequence[str]
) -> dict[str, NDArray[np.bool_]]:
    """For each metric the images on which the network of a run counts, without those that an
    earlier version did not keep."""
    try:
        if VAL_RIGHT not in records.artifacts(run.run_id):
            raise ValueError(f"{VAL_RIGHT} is not there")
        content = records.artifact(run.run_id, VAL_RIGHT)
        bits = {name: _COUNTED[name](content, run.metrics.get(name, math.nan)) for name in metrics}
    except LocationError:
        raise
    except (TrackingError, ValueError) as error:
        raise UnsureError(
            f"how sure accuracies are is not said: run {run.run_id}: {error}"
        ) from error
    return {name: np.array(one, np.bool_) for name, one in bits.items() if one is not None}
