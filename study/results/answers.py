"""How certain a front is, judged by the validation images that its accuracies are counted on."""

import math
from collections.abc import Callable, Mapping, Sequence
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
from study.tracking.records import Records
from study.tracking.study_record import TrialRecord

N_THREADS = 8  # files fetched at a time: a server may be far away
# The most networks near the front for which shares are estimated: more would take minutes.
_MOST_RIVALS = 600
# Metric -> the function that reads from VAL_RIGHT which images it counts.
_COUNTED: Mapping[str, Callable[[bytes, float], list[bool] | None]] = {
    VAL_ACCURACY: read_right,
    CERTIFIED_ACCURACY: read_certified,
}


class UnsureError(Exception):
    """The certainty of accuracies is unknown; the message says why, in a sentence."""


def with_answers(
    listed: tuple[Point, ...], objectives: Sequence[Objective], records: Records
) -> tuple[tuple[Point, ...], str | None]:
    """Add to the points of the front which images they classify right, and the probability of being
    on the front if the validation split were drawn anew, an estimate.

    Points of a study with repeats stay as they are: the spread of the repeats says more.

    Returns:
        The points; and why anything is missing, such as files that were not kept, or None.
    """
    front = [point for point in listed if point.mark is Mark.FRONT]
    if not front or any(len(point.records) > 1 for point in listed):
        return listed, None
    known = listed
    try:
        wanted = [*dict.fromkeys([VAL_ACCURACY, *counted_columns(objectives)])]
        found = counted_images(records, front, wanted)
        n_images = found[VAL_ACCURACY].shape[1]
        counted = {
            point.label: {metric: images[row] for metric, images in found.items()}
            for row, point in enumerate(front)
        }
        known = tuple(
            replace(point, counted=counted.get(point.label, {}), n_val_images=n_images)
            for point in listed
        )
        shares = _shares(known, objectives, records, n_images)
    except UnsureError as error:
        return known, str(error)
    return tuple(replace(p, front_share=shares.get(p.label)) for p in known), None


def _shares(
    listed: Sequence[Point], objectives: Sequence[Objective], records: Records, n_images: int
) -> Mapping[str, float]:
    """Label of each point of the front -> its probability of being there if the split were drawn
    anew, an estimate; empty if no objective is counted on the images."""
    columns = counted_columns(objectives)
    if not columns:
        return {}
    admitted = [point for point in listed if point.is_admitted]
    losses = points.losses([point.metrics for point in admitted], objectives)
    rows = certainty.contenders(losses, n_images, columns.values())
    if len(rows) > _MOST_RIVALS:
        raise UnsureError(
            f"how likely a network is on the front is not said: {len(rows)} are too near to it"
        )
    rivals = [admitted[row] for row in rows]
    found = counted_images(records, rivals, [*columns])
    shares = certainty.front_probabilities(
        {columns[metric]: images for metric, images in found.items()},
        losses[rows],
        points.indifference(objectives),
    )
    return {p.label: s for p, s in zip(rivals, shares, strict=True) if p.mark is Mark.FRONT}


def counted_columns(objectives: Sequence[Objective]) -> dict[str, int]:
    """Metric -> its index, of each objective that maximizes a fraction of the validation images."""
    return {
        objective.metric: column
        for column, objective in enumerate(objectives)
        if objective.metric in _COUNTED and objective.direction is Direction.MAXIMIZE
    }


def counted_images(
    records: Records, wanted: Sequence[Point], metrics: Sequence[str]
) -> dict[str, NDArray[Any]]:
    """Metric, VAL_ACCURACY or CERTIFIED_ACCURACY -> which images of the validation split it counts
    for each point: bool (n_points, n_images); for a point with several trainings, the fraction of
    trainings, in [0, 1].

    Raises:
        UnsureError: if files cannot be read, were not kept, or are of splits that differ in size.
    """

    def images(point: Point) -> Mapping[str, NDArray[Any]]:
        if point.counted.keys() >= set(metrics):
            return point.counted
        runs = [_fetched(records, run, metrics) for run in point.records]
        if len(runs) == 1:
            return runs[0]
        return {name: np.mean([run[name] for run in runs], axis=0) for name in metrics}

    with ThreadPoolExecutor(N_THREADS) as pool:
        by_point = list(pool.map(images, wanted))
    if len({len(one[name]) for one in by_point for name in metrics}) > 1:
        raise UnsureError("how sure accuracies are is not said: their splits differ in size")
    return {name: np.array([one[name] for one in by_point]) for name in metrics}


def _fetched(
    records: Records, run: TrialRecord, metrics: Sequence[str]
) -> dict[str, NDArray[np.bool_]]:
    """Metric -> which images it counts for the network of a run, bool (n_images,)."""
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
    return {name: np.array(one, np.bool_) for name, one in bits.items()}
