"""Stand-ins for Tune's trials."""

from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

from ray.tune.experiment import Trial

from study.search.suggestion import Suggestion

SAMPLE = {"coeff": 0.5, "n_power_iterations": 3, "dropout": 0.1}


class FakeTrial(SimpleNamespace):
    def is_finished(self) -> bool:
        return self.status in (Trial.TERMINATED, Trial.ERROR)


def fake_trial(number: int, status: str, result: dict[str, Any], error: str = "") -> Any:
    """A trial with all that the callbacks read; `result` is its last result."""
    return FakeTrial(
        trial_id=f"tune{number}",
        status=status,
        config=asdict(Suggestion(number, number, number, SAMPLE)),
        last_result=result,
        checkpoint=None,
        error_file=None,
        get_error=lambda: error,
    )
