"""Points of a front into MLflow's Model Registry: verified, then registered under aliases."""

import re
from dataclasses import dataclass

from study.errors import FailedError, UserError, quoted
from study.metrics.definitions import (
    INVERSE_STEPS,
    LIPSCHITZ_UPPER_BOUND,
    TEST_ACCURACY,
    VAL_ACCURACY,
    as_reported,
)
from study.results.front import Point, Results
from study.results.recommended import recommendations
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
    """Register the recommended networks of a study as versions of the model `name`, each under its
    aliases. For a sample that was trained repeatedly the first network is taken.

    All are verified before any is registered. A model that is registered already keeps its
    version. An alias that another version had moves.

    Raises:
        UserError: as `check`.
        UnverifiedError: if a proof does not hold, or a model's code is not that at hand; nothing is
            registered then.
    """
    check(results, name)
    recommended = recommendations(results)
    for one in recommended:
        run_id = one.point.first.run_id
        found = proof.verify(records, run_id)
        problems = found.problems
        if not problems and not found.is_same_code:
            # Whoever loads a registered model runs its code.
            problems = (f"code: it must be this version of models/, but is {found.code}",)
        for problem in problems:
            handle = results.handle(one.point)
            raise UnverifiedError(f"{handle} (run {run_id}) is not registered: {problem}")
    return [
        Registered(
            one.point,
            one.aliases,
            stored_model.register(
                records.client,
                name,
                one.point.first.run_id,
                one.aliases,
                {
                    "study": results.study.name,
                    "point": one.point.label,
                    "why": one.sentence,
                    **_own_figures(one.point),
                },
            ),
        )
        for one in recommended
    ]


def _own_figures(point: Point) -> dict[str, str]:
    """Of the network itself, not the mean over its repeats, as they are reported."""
    own = as_reported(point.first.metrics)
    names = (VAL_ACCURACY, TEST_ACCURACY, LIPSCHITZ_UPPER_BOUND, INVERSE_STEPS)
    return {name: f"{own[name]:.6g}" for name in names if name in own}
