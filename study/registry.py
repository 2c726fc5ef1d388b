"""Points of a front into the MLflow Model Registry: verified, then registered, under aliases."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from study import pareto, points
from study.errors import UserError, shown
from study.front import Point, Report
from study.metrics import INVERSE_STEPS, LIPSCHITZ_UPPER_BOUND, TEST_ACCURACY, VAL_ACCURACY
from study.tracking import Tracker

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
Verify = Callable[[Tracker, str], list[str]]


@dataclass(frozen=True)
class Registered:
    """A point in the registry, and the aliases that it has there."""

    point: Point
    aliases: tuple[str, ...]
    version: str


class UnverifiedError(Exception):
    """A point's proof does not hold; the message names the run, and what fails in it."""


def chosen(report: Report) -> Mapping[str, Point]:
    """Alias -> the point of the front that it stands for.

    most-accurate: the largest val_accuracy. most-invertible: the smallest proven bound, then the
    fewest steps of the inverse. knee: the closest to the best of each objective, all scaled to
    their range over the front.

    Of a sample that was trained repeatedly the first network stands for all. There must be a front.
    """
    front = report.front
    losses = points.losses([point.metrics for point in front], report.objectives)
    return {
        "most-accurate": max(front, key=lambda p: p.metrics[VAL_ACCURACY]),
        "most-invertible": min(
            front, key=lambda p: (p.metrics[LIPSCHITZ_UPPER_BOUND], p.metrics[INVERSE_STEPS])
        ),
        "knee": front[pareto.knee(losses)],
    }


def check(report: Report, name: str) -> None:
    """Whether there is something to register, and a name to do it under.

    Raises:
        UserError: if not.
    """
    if not _NAME.fullmatch(name):
        raise UserError(
            "--register: a name must be 1 to 100 letters, digits, '.', '_' or '-', not first a "
            f"sign, but got {shown(name)}"
        )
    if not report.front:
        raise UserError(f"--register: {report.study.name} must have a front, but it is empty")


def register(tracker: Tracker, report: Report, name: str, verify: Verify) -> list[Registered]:
    """Register the chosen points of a report as versions of the model `name`.

    All are verified before any is registered. A model that is registered already keeps its
    version, and the aliases go to where they belong now.

    Raises:
        UserError: as `check`.
        UnverifiedError: if a proof does not hold; nothing is registered then.
    """
    check(report, name)
    aliases: dict[str, list[str]] = {}
    by_run: dict[str, Point] = {}
    for alias, point in chosen(report).items():
        aliases.setdefault(point.first.run_id, []).append(alias)
        by_run[point.first.run_id] = point
    for run_id, point in by_run.items():
        found = verify(tracker, run_id)
        if found:
            raise UnverifiedError(f"{point.label} (run {run_id}) is not registered: {found[0]}")
    registered = []
    for run_id, point in by_run.items():
        shown = (VAL_ACCURACY, TEST_ACCURACY, LIPSCHITZ_UPPER_BOUND, INVERSE_STEPS)
        own = point.first.metrics  # of the network itself, not the mean over its repeats
        tags = {key: f"{own[key]:.6g}" for key in shown if key in own}
        version = tracker.register(
            name,
            run_id,
            aliases[run_id],
            {"study": report.study.name, "point": point.label, **tags},
        )
        registered.append(Registered(point, tuple(aliases[run_id]), version))
    return registered
