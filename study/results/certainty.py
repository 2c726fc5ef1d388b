"""How sure a front is, as far as the images say that its accuracies were counted on."""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from study.artifacts import VAL_RIGHT, unpacked
from study.errors import TrackingError
from study.metrics import VAL_ACCURACY
from study.pareto import certainty, points
from study.results.front import Mark, Point, Results
from study.tracking.records import Records

# How many files are fetched at a time; a server may be far away.
_N_THREADS = 8


def with_certainty(results: Results, records: Records) -> Results:
    """The results, with what each point of the front classifies right, and with how likely each is
    on it if the validation split were drawn anew.

    Where samples were trained repeatedly the results stay: they have the spread of the repeats. So
    they do where a network was logged before its answers were kept.
    """
    front = [point for point in results.points if point.mark is Mark.FRONT]
    if not front or any(len(point.records) > 1 for point in results.points):
        return results
    right = _fetched(records, front)
    lengths = {len(answers) for answers in right.values()}
    if len(right) < len(front) or len(lengths) > 1:
        return results
    shares = _shares(results, records, right)
    return replace(
        results,
        n_val_images=lengths.pop(),
        points=tuple(
            replace(point, right=right.get(point.label), front_share=shares.get(point.label))
            for point in results.points
        ),
    )


def _shares(
    results: Results, records: Records, of_front: Mapping[str, NDArray[np.bool_]]
) -> Mapping[str, float]:
    """Label of a point -> how likely it is on the front; of those that are on it now."""
    names = [objective.metric for objective in results.objectives]
    if VAL_ACCURACY not in names:
        return {}
    column = names.index(VAL_ACCURACY)
    admitted = [p for p in results.points if p.mark in (Mark.FRONT, Mark.DOMINATED)]
    losses = points.losses([point.metrics for point in admitted], results.objectives)
    (n_images,) = {len(answers) for answers in of_front.values()}
    rows = certainty.contenders(losses, n_images, column)
    rivals = [admitted[row] for row in rows]
    right = {**_fetched(records, [p for p in rivals if p.label not in of_front]), **of_front}
    if any(len(right.get(p.label, ())) != n_images for p in rivals):
        return {}
    answers = np.array([right[point.label] for point in rivals])
    shares = certainty.front_probabilities(answers, losses[rows], column)
    return {p.label: share for p, share in zip(rivals, shares, strict=True) if p.label in of_front}


def _fetched(records: Records, wanted: Sequence[Point]) -> dict[str, NDArray[np.bool_]]:
    """Label of a point -> which images of the validation split it classifies right; a point whose
    run does not have that is left out."""

    def fetch(point: Point) -> NDArray[np.bool_] | None:
        run_id = point.first.run_id
        if VAL_RIGHT not in records.artifacts(run_id):
            return None
        try:
            bits = unpacked(json.loads(records.artifact(run_id, VAL_RIGHT)))
        except (ValueError, RecursionError) as error:
            raise TrackingError(f"run {run_id}: {VAL_RIGHT} cannot be read: {error}") from error
        return np.array(bits, dtype=np.bool_)

    with ThreadPoolExecutor(_N_THREADS) as pool:
        fetched = zip(wanted, pool.map(fetch, wanted), strict=True)
        return {point.label: answers for point, answers in fetched if answers is not None}
