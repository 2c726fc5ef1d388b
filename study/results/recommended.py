"""Which networks of a front to take, and why, in a sentence each."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from study.metrics.definitions import (
    BLOCK_LIPSCHITZ_UPPER_BOUND,
    CERTIFIED_ACCURACY,
    INVERSE_LIPSCHITZ_UPPER_BOUND,
    INVERSE_STEPS,
    METRICS,
    PROVEN_METRICS,
    VAL_ACCURACY,
    Direction,
    Metric,
    meaning,
)
from study.metrics.goals import Objective
from study.pareto import points
from study.pareto.certainty import difference_p_value
from study.pareto.dominance import distinct_front
from study.pareto.knee import knee
from study.pareto.repeats import N_STANDARD_ERRORS
from study.results.front import Point
from study.results.numbers import Numbers
from study.tracking.pages import on_the_word_of

MOST_ACCURATE, KNEE, MOST_INVERTIBLE = "most-accurate", "knee", "most-invertible"
MOST_CERTIFIED = "most-certified"
_SIGNIFICANCE = 0.05  # differences with a larger p-value are within the noise
# Metrics that networks are compared by; runs logged by other programs may lack them.
_NEEDED = {VAL_ACCURACY, BLOCK_LIPSCHITZ_UPPER_BOUND, INVERSE_STEPS}


@dataclass(frozen=True)
class Recommendation:
    """A network of the front that is recommended.

    Attributes:
        aliases: one or more of MOST_ACCURATE, MOST_CERTIFIED, KNEE and MOST_INVERTIBLE.
        sentence: why to take it, compared with the most accurate network.
    """

    aliases: tuple[str, ...]
    point: Point
    sentence: str

    def beside(self, control: Point | None) -> "Recommendation":
        """The same, with a first sentence that names the control, if one is no worse."""
        if control is None:
            return self
        first = f"{control.handle}, a classifier alone, is no worse in any objective."
        return replace(self, sentence=f"{first} {self.sentence}")


def recommendations(
    whole_front: Sequence[Point],
    objectives: Sequence[Objective],
    metrics: Mapping[str, Metric] = METRICS,
    authors: Sequence[str] = (),
) -> list[Recommendation]:
    """The networks of a front to take, the most accurate first; none if the front is empty.

    most-accurate: the largest validation accuracy, then the largest certified accuracy, if that is
    an objective, then the smallest bound, then the fewest steps of the inverse. most-certified, if
    certified accuracy is an objective: the largest one, then the largest validation accuracy.
    most-invertible: the smallest proven bound of the inverse, if that is an objective, else of
    Lip(g); then the fewest steps, then the largest accuracy. knee: costs the most to leave, see
    study.pareto.knee; accuracies are scaled by at least their noise, and bounds of the inverse
    count by their logarithms. Differences within a metric's `indifference` count as none, except in
    ties of most-accurate.

    Args:
        metrics: those of the study.
        authors: of blocks whose bounds nothing here checks; sentences about proofs name them.
    """
    front = [point for point in whole_front if point.metrics.keys() >= _NEEDED]
    if not front:
        return []
    chosen = _chosen(front, objectives)
    best = chosen[MOST_ACCURATE]
    aliases: dict[str, list[str]] = {}
    for alias, point in chosen.items():
        aliases.setdefault(point.label, []).append(alias)
    by_label = {point.label: point for point in chosen.values()}
    word = on_the_word_of(authors)
    why = {
        label: _beside(point, best, objectives, metrics, word) for label, point in by_label.items()
    }
    rank = f"the best of {len(whole_front)} networks on the front"
    if len(whole_front) == 1:
        rank = "the only network on the front: no other that it admits is better in any objective"
    why[best.label] = f"{_accuracy(best)}, {rank}."
    return [
        Recommendation(tuple(names), by_label[label], why[label])
        for label, names in aliases.items()
    ]


def _chosen(front: Sequence[Point], objectives: Sequence[Objective]) -> Mapping[str, Point]:
    """Alias -> the point that is recommended as it."""
    losses = points.losses([point.metrics for point in front], objectives)
    is_certified = any(objective.metric == CERTIFIED_ACCURACY for objective in objectives)
    by_certified = sorted(front, key=_by_accuracy)
    if is_certified:
        by_certified.sort(key=lambda point: -point.metrics[CERTIFIED_ACCURACY])
    # The first of equal ones.
    best = min(by_certified, key=lambda point: -point.metrics[VAL_ACCURACY])
    least = [_noise(best) if objective.metric == VAL_ACCURACY else 0.0 for objective in objectives]
    distinct = np.flatnonzero(distinct_front(losses, points.indifference(objectives)))
    scaled = points.scaled_losses([point.metrics for point in front], objectives)
    return {
        MOST_ACCURATE: best,
        **({MOST_CERTIFIED: by_certified[0]} if is_certified else {}),
        KNEE: front[distinct[knee(scaled[distinct], np.array(least))]],
        MOST_INVERTIBLE: _most_invertible(front, objectives),
    }


def _by_accuracy(point: Point) -> tuple[float, float, float]:
    """Sort key: the most accurate first, then by bound and steps."""
    metrics = point.metrics
    return -metrics[VAL_ACCURACY], metrics[BLOCK_LIPSCHITZ_UPPER_BOUND], metrics[INVERSE_STEPS]


def _most_invertible(front: Sequence[Point], objectives: Sequence[Objective]) -> Point:
    of_inverse = {objective.metric for objective in objectives} & {INVERSE_LIPSCHITZ_UPPER_BOUND}
    for metric in (*(of_inverse or {BLOCK_LIPSCHITZ_UPPER_BOUND}), INVERSE_STEPS):
        # NaN counts as the worst value.
        known = [math.inf if math.isnan(p.metrics[metric]) else p.metrics[metric] for p in front]
        is_same = meaning(metric).is_same
        front = [p for p, value in zip(front, known, strict=True) if is_same(value, min(known))]
    return min(front, key=_by_accuracy)


def _noise(point: Point) -> float:
    """Width of the 95 % interval of a point's validation accuracy; 0 if it is unknown."""
    if point.standard_error is not None:
        return 2 * N_STANDARD_ERRORS * point.standard_error.get(VAL_ACCURACY, 0.0)
    ends = point.interval
    return 0.0 if ends is None else ends[1] - ends[0]


def is_within_noise(point: Point, best: Point) -> bool | None:
    """Whether two points' validation accuracies may well differ by chance; None if unknown."""
    errors = [(p.standard_error or {}).get(VAL_ACCURACY) for p in (point, best)]
    if errors[0] is not None and errors[1] is not None:
        apart = abs(best.metrics[VAL_ACCURACY] - point.metrics[VAL_ACCURACY])
        return apart < N_STANDARD_ERRORS * math.hypot(errors[0], errors[1])
    right = [p.counted.get(VAL_ACCURACY) for p in (point, best)]
    if right[0] is None or right[1] is None:
        return None
    return difference_p_value(right[0], right[1]) > _SIGNIFICANCE


def _accuracy(point: Point) -> str:
    text = f"Validation accuracy {point.metrics[VAL_ACCURACY]:.4f}"
    if point.interval is not None:
        low, high = point.interval
        return f"{text} ({low:.3f} to {high:.3f} with 95 % confidence, {point.n_val_images} images)"
    error = (point.standard_error or {}).get(VAL_ACCURACY)
    return text if error is None else f"{text} +-{error:.2g}"


def _beside(
    point: Point,
    best: Point,
    objectives: Sequence[Objective],
    metrics: Mapping[str, Metric],
    word: str,
) -> str:
    """What a network gives up and gains compared with the most accurate one, as a sentence, which
    ends with `word`, from `on_the_word_of`, if a proven metric is compared."""
    numbers = Numbers([point, best])
    apart = 100 * (best.metrics[VAL_ACCURACY] - point.metrics[VAL_ACCURACY])
    amount = f"{apart:.1f}" if apart >= 0.095 else f"{apart:.2g}"
    noise = ", which is within the noise" if is_within_noise(point, best) else ""
    sentence = f"{amount} percentage points less accurate than the best{noise}"
    if apart == 0:
        sentence = "As accurate as the best"
    is_proven = False
    phrases = {True: list[str](), False: list[str]()}  # by whether it is better
    for objective in objectives:
        name = objective.metric
        ours, theirs = point.metrics[name], best.metrics[name]
        if name != VAL_ACCURACY and not meaning(name).is_same(ours, theirs):
            is_better = (ours < theirs) == (objective.direction is Direction.MINIMIZE)
            title = (metrics.get(name) or meaning(name)).title
            phrases[is_better].append(_difference(name, title, ours, theirs, numbers))
            is_proven |= name in PROVEN_METRICS or name == CERTIFIED_ACCURACY
    for words, listed in ((", for ", phrases[True]), (", with ", phrases[False])):
        if listed:
            sentence += words + " and ".join([*filter(None, [", ".join(listed[:-1])]), listed[-1]])
    return f"{sentence}{word if is_proven else ''}."


def _difference(name: str, title: str, ours: float, theirs: float, numbers: Numbers) -> str:
    """How two values of a metric with this title differ, as a phrase."""
    if name == BLOCK_LIPSCHITZ_UPPER_BOUND:
        ratio = max(ours, theirs) / max(min(ours, theirs), np.finfo(np.float64).tiny)
        amount = f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.1f}"
        return f"a proven bound {amount} times {'smaller' if ours < theirs else 'larger'}"
    if name == INVERSE_STEPS:
        amount = f"{abs(ours - theirs):.2g}"
        what = "inverse step" if amount == "1" else "inverse steps"
        return f"{amount} {what} {'more' if ours > theirs else 'fewer'}"
    return f"a {title} of {numbers.text(name, ours)} instead of {numbers.text(name, theirs)}"
