"""How certain a front is, judged by which validation images its networks classify right."""

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from study.errors import LocationError, TrackingError
from study.metrics.artifacts import VAL_RIGHT, read_right
from study.metrics.definitions import VAL_ACCURACY, Direction
from study.metrics.goals import Objective
from study.pareto import certainty, points
from study.results.front import Mark, Point
from study.tracking.records import Records, TrialRecord

_N_THREADS = 8  # files fetched at a time: a server may be far away
# Networks that may be on the front; to read and draw more would take minutes.
_MOST_RIVALS = 600


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
        answers = parts_right(records, front)
        right = dict(zip((point.label for point in front), answers, strict=True))
        n_images = answers.shape[1]
        known = tuple(replace(p, right=right.get(p.label), n_val_images=n_images) for p in listed)
        shares = _shares(known, objectives, records, n_images)
    except UnsureError as error:
        return known, str(error)
    return tuple(replace(p, front_share=shares.get(p.label)) for p in known), None


def _shares(
    listed: Sequence[Point], objectives: Sequence[Objective], records: Records, n_images: int
) -> Mapping[str, float]:
    """Label of each point of the front -> its probability; empty if no objective is accuracy."""
    column = accuracy_column(objectives)
    if column is None:
        return {}
    admitted = [point for point in listed if point.is_admitted]
    losses = points.losses([point.metrics for point in admitted], objectives)
    rows = certainty.contenders(losses, n_images, column)
    if len(rows) > _MOST_RIVALS:
        raise UnsureError(
            f"how likely a network is on the front is not said: {len(rows)} are too near to it"
        )
    rivals = [admitted[row] for row in rows]
    shares = certainty.front_probabilities(
        parts_right(records, rivals), losses[rows], column, points.indifference(objectives)
    )
    return {p.label: s for p, s in zip(rivals, shares, strict=True) if p.mark is Mark.FRONT}


def accuracy_column(objectives: Sequence[Objective]) -> int | None:
    """Index of the objective to maximize the validation accuracy; None if there is none."""
    goals = [(objective.metric, objective.direction) for objective in objectives]
    accuracy = (VAL_ACCURACY, Direction.MAXIMIZE)
    return goals.index(accuracy) if accuracy in goals else None


def parts_right(records: Records, wanted: Sequence[Point]) -> NDArray[Any]:
    """Which images of the validation split each point classifies right, bool (number of points,
    number of images); of points with several trainings, the fraction of these, in [0, 1].

    Raises:
        UnsureError: if files cannot be read, were not kept, or are of splits that differ in size.
    """

    def part(point: Point) -> NDArray[Any]:
        if point.right is not None:
            return point.right
        answers = [_fetched(records, run) for run in point.records]
        return answers[0] if len(answers) == 1 else np.mean(answers, axis=0)

    with ThreadPoolExecutor(_N_THREADS) as pool:
        parts = list(pool.map(part, wanted))
    if len(set(map(len, parts))) > 1:
        raise UnsureError("how sure accuracies are is not said: their splits differ in size")
    return np.array(parts)


def _fetched(records: Records, run: TrialRecord) -> NDArray[np.bool_]:
    """Which images the network of a run classifies right."""
    try:
        if VAL_RIGHT not in records.artifacts(run.run_id):
            raise ValueError(f"{VAL_RIGHT} is not there")
        content = records.artifact(run.run_id, VAL_RIGHT)
        bits = read_right(content, run.metrics.get(VAL_ACCURACY, math.nan))
    except LocationError:
        raise
    except (TrackingError, ValueError) as error:
        raise UnsureError(
            f"how sure accuracies are is not said: run {run.run_id}: {error}"
        ) from error
    return np.array(bits, dtype=np.bool_)
