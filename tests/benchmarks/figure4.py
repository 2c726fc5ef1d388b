"""The paper's Figure 4 of a study's trained networks, as a table.

    python -m tests.benchmarks.figure4 URI [STUDY]

For each completed trial: the mean reconstruction error after 1, 2, 5, 10 and 20 steps in every
block, ||x - x_hat||_2 / ||x||_2 on the validation sample, and the first number of steps, up to 20,
after which it is below 1e-2 and below 1e-6. Both come from the run's stored inverse.json. The paper
says (section 4.1, appendix B) that 5 to 20 steps are enough for the eye, and that 0.2 less in the
coefficient about halves the steps to full convergence.
"""

import argparse
import json
from typing import Any

from study.metrics.artifacts import INVERSE
from study.metrics.definitions import RECONSTRUCTION_ERROR
from study.metrics.reports import TrialStatus
from study.results.front import Point
from study.results.report import read
from study.tracking.records import Records
from study.tracking.server.client import Client

_STEPS = (1, 2, 5, 10, 20)
_THRESHOLDS = (1e-2, 1e-6)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("uri")
    parser.add_argument("study", nargs="?")
    arguments = parser.parse_args()
    records = Records(Client(arguments.uri))
    for point in read(records, arguments.study).points:
        if point.is_trial and point.first.state is TrialStatus.COMPLETED:
            print(_line(point, json.loads(records.artifact(point.first.run_id, INVERSE))))


def _line(point: Point, curve: dict[str, list[Any]]) -> str:
    # None where the error was not finite.
    of_steps = dict(zip(curve["n_steps"], curve[RECONSTRUCTION_ERROR], strict=True))
    sample = ", ".join(f"{key} {value}" for key, value in point.first.sample.items())
    errors = ", ".join(f"{k}: {_form(of_steps[k])}" for k in _STEPS)
    below = ", ".join(f"< {limit:g} after {_first(of_steps, limit)}" for limit in _THRESHOLDS)
    return f"{point.first.trial_id} ({sample}): {errors}; {below}"


def _form(error: float | None) -> str:
    return "not finite" if error is None else f"{error:.1e}"


def _first(of_steps: dict[int, float | None], limit: float) -> str:
    """The first number of steps with an error below limit."""
    below = [k for k, error in of_steps.items() if error is not None and error < limit]
    return str(min(below)) if below else f"more than {max(of_steps)}"


if __name__ == "__main__":
    main()
