"""Which networks of a front to take, and why, in a sentence each."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from study.metrics.definitions import (
    INVERSE_STEPS,
    LIPSCHITZ_UPPER_BOUND,
    METRICS,
    VAL_ACCURACY,
    Direction,
)
from study.pareto import points
from study.pareto.certainty import difference_p_value, wilson_interval
from study.pareto.dominance import distinct_front
from study.pareto.knee import knee
from study.pareto.repeats import N_STANDARD_ERRORS
from study.results.front import Point, Results

MOST_ACCURATE, KNEE, MOST_INVERTIBLE = "most-accurate", "knee", "most-invertible"
# Differences that would be seen as often by chance are within the noise.
_SIGNIFICANCE = 0.05
# What networks are compared by; a run that somebody else logged may lack it.
_NEEDED = {VAL_ACCURACY, LIPSCHITZ_UPPER_BOUND, INVERSE_STEPS}


@dataclass(frozen=True)
class Recommendation:
    """A network of the front to take.

    Attributes:
        aliases: what it is recommended as: of MOST_ACCURATE, KNEE and MOST_INVERTIBLE one or more.
        sentence: why, beside the most accurate one.
    """

    aliases: tuple[str, ...]
    point: Point
    sentence: str


def recommendations(results: Results) -> list[Recommendation]:
    """The networks to take, the most accurate first; none if the front is empty.

    most-accurate: the largest validation accuracy; of equals the smallest bound, then the fewest
    steps of the inverse. most-invertible: the smallest proven bound, then the fewest steps, then
    the largest accuracy. knee: the one that costs the most to leave, see study.pareto.knee; a range
    of accuracies counts at least as its noise. Differences of bounds, steps and other metrics that
    are within their `indifference` count as none, except where most-accurate breaks a tie.
    """
    front = [point for point in results.front if point.metrics.keys() >= _NEEDED]
    if not front:
        return []
    chosen = _chosen(results, front)
    best = chosen[MOST_ACCURATE]
    aliases: dict[str, list[str]] = {}
    for alias, point in chosen.items():
        aliases.setdefault(point.label, []).append(alias)
    by_label = {point.label: point for point in chosen.values()}
    return [
        Recommendation(tuple(names), by_label[label], _sentence(results, by_label[label], best))
        for label, names in aliases.items()
    ]


def handles(results: Results) -> dict[str, str]:
    """Alias -> the handle of the network that is recommended as it."""
    return {
        alias: results.handle(one.point)
        for one in recommendations(results)
        for alias in one.aliases
    }


def aliases_of(results: Results) -> dict[str, str]:
    """Label of a recommended network -> its aliases, with commas."""
    return {one.point.label: ",".join(one.aliases) for one in recommendations(results)}


def _chosen(results: Results, front: Sequence[Point]) -> Mapping[str, Point]:
    """Alias -> the point of the front that it stands for."""
    losses = points.losses([point.metrics for point in front], results.objectives)

    def bound_and_steps(point: Point) -> tuple[float, float]:
        return point.metrics[LIPSCHITZ_UPPER_BOUND], point.metrics[INVERSE_STEPS]

    def accuracy(point: Point) -> float:
        return point.metrics[VAL_ACCURACY]

    best = min(front, key=lambda p: (-accuracy(p), *bound_and_steps(p)))
    least = [
        _noise(results, best) if objective.metric == VAL_ACCURACY else 0.0
        for objective in results.objectives
    ]
    distinct = np.flatnonzero(distinct_front(losses, points.indifference(results.objectives)))
    return {
        MOST_ACCURATE: best,
        KNEE: front[distinct[knee(losses[distinct], np.array(least))]],
        MOST_INVERTIBLE: _most_invertible(front),
    }


def _most_invertible(front: Sequence[Point]) -> Point:
    for metric in (LIPSCHITZ_UPPER_BOUND, INVERSE_STEPS):
        # What is not known is as bad as can be.
        known = [math.inf if math.isnan(p.metrics[metric]) else p.metrics[metric] for p in front]
        is_same = METRICS[metric].is_same
        front = [p for p, value in zip(front, known, strict=True) if is_same(value, min(known))]
    return min(
        front,
        key=lambda p: (
            -p.metrics[VAL_ACCURACY],
            p.metrics[LIPSCHITZ_UPPER_BOUND],
            p.metrics[INVERSE_STEPS],
        ),
    )


def interval(results: Results, point: Point) -> tuple[float, float] | None:
    """95 % confidence interval of a point's validation accuracy, an estimate; None where the number
    of images is not known, or repeats say how sure it is."""
    if results.n_val_images is None or point.standard_error is not None:
        return None
    if VAL_ACCURACY not in point.metrics:
        return None
    return wilson_interval(point.metrics[VAL_ACCURACY], results.n_val_images)


def _noise(results: Results, point: Point) -> float:
    """Width of the 95 % interval of a point's validation accuracy; 0 where it is not known."""
    if point.standard_error is not None:
        return 2 * N_STANDARD_ERRORS * point.standard_error.get(VAL_ACCURACY, 0.0)
    ends = interval(results, point)
    return 0.0 if ends is None else ends[1] - ends[0]


def is_within_noise(point: Point, best: Point) -> bool | None:
    """Whether the difference of two points' validation accuracies may well be chance; None where
    nothing says so."""
    errors = [(p.standard_error or {}).get(VAL_ACCURACY) for p in (point, best)]
    if errors[0] is not None and errors[1] is not None:
        apart = abs(best.metrics[VAL_ACCURACY] - point.metrics[VAL_ACCURACY])
        return apart < N_STANDARD_ERRORS * math.hypot(errors[0], errors[1])
    if point.right is None or best.right is None:
        return None
    return difference_p_value(point.right, best.right) > _SIGNIFICANCE


def _sentence(results: Results, point: Point, best: Point) -> str:
    if point is best:
        return f"{_accuracy(results, point)}, {_rank(results)}."
    better, worse = _differences(results, point, best)
    gains = f", for {_listed(better)}" if better else ""
    losses = f", with {_listed(worse)}" if worse else ""
    return f"{_less_accurate(point, best)}{gains}{losses}."


def _rank(results: Results) -> str:
    n = len(results.front)
    if n > 1:
        return f"the best of {n} networks on the front"
    return "the only network on the front: none is better in any objective"


def _accuracy(results: Results, point: Point) -> str:
    text = f"Validation accuracy {point.metrics[VAL_ACCURACY]:.4f}"
    ends = interval(results, point)
    if ends is not None:
        n = results.n_val_images
        return f"{text} ({ends[0]:.3f} to {ends[1]:.3f} with 95 % confidence, {n} images)"
    error = (point.standard_error or {}).get(VAL_ACCURACY)
    return text if error is None else f"{text} +-{error:.2g}"


def _less_accurate(point: Point, best: Point) -> str:
    apart = 100 * (best.metrics[VAL_ACCURACY] - point.metrics[VAL_ACCURACY])
    if apart == 0:
        return "As accurate as the best"
    amount = f"{apart:.1f}" if apart >= 0.095 else f"{apart:.2g}"
    noise = {True: ", which is within the noise", False: "", None: ""}[is_within_noise(point, best)]
    return f"{amount} percentage points less accurate than the best{noise}"


def _differences(results: Results, point: Point, best: Point) -> tuple[list[str], list[str]]:
    """(what is better than of the best, what is worse) in the other objectives, a phrase each."""
    better, worse = list[str](), list[str]()
    for objective in results.objectives:
        name = objective.metric
        ours, theirs = point.metrics[name], best.metrics[name]
        if name == VAL_ACCURACY or METRICS[name].is_same(ours, theirs):
            continue
        if name == LIPSCHITZ_UPPER_BOUND:
            phrase = _ratio(ours, theirs)
        elif name == INVERSE_STEPS:
            phrase = _steps(ours - theirs)
        else:
            phrase = f"a {METRICS[name].title} of {ours:.4g} instead of {theirs:.4g}"
        is_better = (ours < theirs) == (objective.direction is Direction.MINIMIZE)
        (better if is_better else worse).append(phrase)
    return better, worse


def _ratio(ours: float, theirs: float) -> str:
    ratio = max(ours, theirs) / max(min(ours, theirs), np.finfo(np.float64).tiny)
    amount = f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.1f}"
    return f"a proven bound {amount} times {'smaller' if ours < theirs else 'larger'}"


def _steps(more: float) -> str:
    amount = f"{abs(more):.2g}"
    what = "inverse step" if amount == "1" else "inverse steps"
    return f"{amount} {what} {'more' if more > 0 else 'fewer'}"


def _listed(phrases: list[str]) -> str:
    *first, last = phrases
    return f"{', '.join(first)} and {last}" if first else last
