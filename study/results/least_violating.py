"""Where no network meets the constraints of a study: those that violate them least."""

from collections.abc import Mapping, Sequence

from study.metrics.goals import Constraint, relative_violations
from study.results.front import Mark, Point

_N_SHOWN = 3


def least(
    listed: Sequence[Point], constraints: Sequence[Constraint]
) -> list[tuple[Point, dict[Constraint, float]]]:
    """The networks that violate the constraints least, by the sum of relative violations, each with
    the constraints that it breaks and its values; empty if a network meets them all."""
    infeasible = [point for point in listed if point.mark is Mark.INFEASIBLE]
    found = [(point, point.broken(constraints)) for point in infeasible]
    if not all(broken for _, broken in found):
        return []
    found.sort(key=lambda one: sum(relative_violations(one[1]).values()))
    return found[:_N_SHOWN]


def sentences(
    found: Sequence[tuple[Point, Mapping[Constraint, float]]], is_filtered: bool
) -> list[str]:
    """What is said of the networks that `least` found, a line for all and one for each; empty
    without any. `is_filtered`: whether the study may have others."""
    lines = [
        f"{point.handle}: {'; '.join(c.broken_by(c.metric, v) for c, v in broken.items())}"
        for point, broken in found
    ]
    which = "none of these networks" if is_filtered else "no network"
    return [f"{which} meets the constraints; these violate them least:", *lines] if lines else []
