"""What the searcher sends to a worker: a Suggestion, as the config (`asdict`) of a Tune trial."""

from collections.abc import Mapping
from dataclasses import dataclass

from study.config.space import Value


def trial_id(number: int) -> str:
    """A trial's number in the study as text that sorts, such as "0004"."""
    return f"{number:04d}"


@dataclass(frozen=True)
class Suggestion:
    """A sample to train, and the trial that trains it.

    Attributes:
        number: of the trial, from 0. It identifies the trial across restarts; Tune's id need not.
        repeat_of: number of the first trial of this sample, which may be this trial.
        sample: parameter of the space -> value.
        is_given: whether the sample is one of search.first.
        n_errors: how often the trial failed by an error of its own.
        failed: why the trial was given up, else None. Its next worker only reports the reason.
    """

    number: int
    seed: int
    repeat_of: int
    sample: Mapping[str, Value]
    is_given: bool = False
    n_errors: int = 0
    failed: str | None = None

    @property
    def trial_id(self) -> str:
        """The trial's number as text, as `trial_id` gives it."""
        return trial_id(self.number)
