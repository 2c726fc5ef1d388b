"""Points of a front into MLflow's Model Registry: verified, then registered under aliases."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from study.errors import FailedError, UserError, quoted
from study.metrics import INVERSE_STEPS, LIPSCHITZ_UPPER_BOUND, TEST_ACCURACY, VAL_ACCURACY
from study.pareto import dominance, points
from study.results.front import Point, Results
from study.tracking import proof, stored_model
from study.tracking.records import Records

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Registered:
    """A point in the registry, and the aliases that it has there."""

    point: Point
    aliases: tuple[str, ...]
    version: str


class UnverifiedError(FailedError):
    """A point's proof does not hold; the message names the run, and what fails in it."""


def chosen(results: Results) -> Mapping[str, Point]:
    """Alias -> the point of the front that it stands for.

    most-accurate: the largest val_accuracy. most-invertible: the smallest proven bound, then the
    fewest steps of the inverse. knee: the closest to the best of each objective, all scaled to
    their range over the front.

    For a sample that was trained repeatedly the first network is taken. The front must not be
    empty.
    """
    front = results.front
    losses = points.losses([point.metrics for point in front], results.objectives)
    return {
        "most-accurate": max(front, key=lambda p: p.metrics[VAL_ACCURACY]),
        "most-invertible": min(
            front, key=lambda p: (p.metrics[LIPSCHITZ_UPPER_BOUND], p.metrics[INVERSE_STEPS])
        ),
        "knee": front[dominance.knee(losses)],
    }


def check(results: Results, name: str) -> None:
    """Whether there is something to register, and a name to do it under.

    Raises:
        UserError: if not.
    """
    if not _NAME.fullmatch(name):
        raise UserError(
            "--register: a name must be 1 to 100 letters, digits, '.', '_' or '-', not first a "
            f"sign, but got {quoted(name)}"
        )
    if not results.front:
        raise UserError(f"--register: {results.study.name} must have a front, but it is empty")


def register(records: Records, results: Results, name: str) -> list[Registered]:
    """Register the chosen points of a study as versions of the model `name`.

    All are verified before any is registered. A model that is registered already keeps its
    version. An alias that another version had moves.

    Raises:
        UserError: as `check`.
        UnverifiedError: if a proof does not hold; nothing is registered then.
    """
    check(results, name)
    aliases: dict[str, list[str]] = {}
    by_run: dict[str, Point] = {}
    for alias, point in chosen(results).items():
        aliases.setdefault(point.first.run_id, []).append(alias)
        by_run[point.first.run_id] = point
    for run_id, point in by_run.items():
        for problem in proof.verify(records, run_id).problems:
            raise UnverifiedError(f"{point.label} (run {run_id}) is not registered: {problem}")
    registered = []
    for run_id, point in by_run.items():
        names = (VAL_ACCURACY, TEST_ACCURACY, LIPSCHITZ_UPPER_BOUND, INVERSE_STEPS)
        own = point.first.metrics  # of the network itself, not the mean over its repeats
        tags = {key: f"{own[key]:.6g}" for key in names if key in own}
        version = stored_model.register(
            records.client,
            name,
            run_id,
            aliases[run_id],
            {"study": results.study.name, "point": point.label, **tags},
        )
        registered.append(Registered(point, tuple(aliases[run_id]), version))
    return registered
