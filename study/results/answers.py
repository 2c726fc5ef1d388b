"""How certain a front is, judged by which validation images its networks classify right."""

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from study.errors import TrackingError
from study.metrics.artifacts import VAL_RIGHT, read_right
from study.metrics.definitions import VAL_ACCURACY, Direction
from study.metrics.goals import Objective
from study.pareto import certainty, points
from study.results.front import Mark, Point
from study.tracking.records import Records, TrialRecord

# How many files are fetched at a time; a server may be far away.
_N_THREADS = 8
# Beyond so many networks that may be on the front, how likely each is would take minutes to read
# and to draw.
_MOST_RIVALS = 600

_Answers = Mapping[str, NDArray[np.bool_]]
"""Label of a point -> which images of the validation split it classifies right."""


class UnsureError(Exception):
    """Why nothing can be said of how sure accuracies are; a sentence."""


def with_answers(
    listed: tuple[Point, ...], objectives: Sequence[Objective], records: Records
) -> tuple[tuple[Point, ...], str | None]:
    """Add to the points of the front which images they classify right, and how likely each would
    be on the front if the validation split were drawn anew.

    Points of a study with repeats stay as they are: the spread of the repeats says more.

    Args:
        records: where the files of the networks are read.

    Returns:
        The points; and why nothing was added, a sentence, if files cannot be read or were not kept,
        else None.
    """
    front = [point for point in listed if point.mark is Mark.FRONT]
    if not front or any(len(point.records) > 1 for point in listed):
        return listed, None
    known = listed
    try:
        right = _fetched(records, front)
        n_images = _n_images(right)
        known = tuple(replace(p, right=right.get(p.label), n_val_images=n_images) for p in listed)
        shares = _shares(known, objectives, records, right)
    except UnsureError as error:
        return known, str(error)
    return tuple(replace(p, front_share=shares.get(p.label)) for p in known), None


def _shares(
    listed: Sequence[Point],
    objectives: Sequence[Objective],
    records: Records,
    of_front: _Answers,
) -> Mapping[str, float]:
    """Label of each point of the front -> how likely it is there. Empty if accuracy is not an
    objective."""
    column = accuracy_column(objectives)
    if column is None:
        return {}
    admitted = [point for point in listed if point.is_admitted]
    losses = points.losses([point.metrics for point in admitted], objectives)
    rows = certainty.contenders(losses, _n_images(of_front), column)
    if len(rows) > _MOST_RIVALS:
        raise UnsureError(
            f"how likely a network is on the front is not said: {len(rows)} are too near to it"
        )
    rivals = [admitted[row] for row in rows]
    right = {**_fetched(records, [p for p in rivals if p.label not in of_front]), **of_front}
    _n_images(right)
    answers = np.array([right[point.label] for point in rivals])
    shares = certainty.front_probabilities(
        answers, losses[rows], column, points.indifference(objectives)
    )
    return {p.label: share for p, share in zip(rivals, shares, strict=True) if p.label in of_front}


def accuracy_column(objectives: Sequence[Objective]) -> int | None:
    """Which of the objectives is to maximize the validation accuracy; None if none is."""
    goals = [(objective.metric, objective.direction) for objective in objectives]
    accuracy = (VAL_ACCURACY, Direction.MAXIMIZE)
    return goals.index(accuracy) if accuracy in goals else None


def _n_images(right: Mapping[str, NDArray[Any]]) -> int:
    """Size of the split, which must be the same for all."""
    lengths = {len(answers) for answers in right.values()}
    if len(lengths) > 1:
        raise UnsureError("how sure accuracies are is not said: their splits differ in size")
    return lengths.pop()


def _fetched(records: Records, wanted: Sequence[Point]) -> _Answers:
    """What each of some points classifies right."""
    fetched = _fetched_of_runs(records, [point.first for point in wanted])
    return {point.label: answers for point, answers in zip(wanted, fetched, strict=True)}


def parts_right(records: Records, wanted: Sequence[Point]) -> NDArray[np.float64]:
    """Fraction of each point's trainings, in [0, 1], that classify each image of the validation
    split right: (number of points, number of images).

    Raises:
        UnsureError: if files cannot be read, or were not kept.
    """
    right = {
        point.label: np.mean(_fetched_of_runs(records, point.records), axis=0)
        if point.right is None
        else point.right.astype(np.float64)
        for point in wanted
    }
    _n_images(right)
    return np.array([right[point.label] for point in wanted])


def _fetched_of_runs(records: Records, runs: Sequence[TrialRecord]) -> list[NDArray[np.bool_]]:
    """What the network of each run classifies right."""

    def fetch(run: TrialRecord) -> NDArray[np.bool_]:
        try:
            if VAL_RIGHT not in records.artifacts(run.run_id):
                raise ValueError(f"{VAL_RIGHT} is not there")
            content = records.artifact(run.run_id, VAL_RIGHT)
            bits = read_right(content, run.metrics.get(VAL_ACCURACY, math.nan))
        except (TrackingError, ValueError) as error:
            raise UnsureError(
                f"how sure accuracies are is not said: run {run.run_id}: {error}"
            ) from error
        return np.array(bits, dtype=np.bool_)

    with ThreadPoolExecutor(_N_THREADS) as pool:
        return list(pool.map(fetch, runs))
