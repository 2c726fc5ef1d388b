"""What travels from the searcher to a worker, by `asdict` as the config of a Tune trial."""

from collections.abc import Mapping
from dataclasses import dataclass

from study.config.space import Value


def trial_id(number: int) -> str:
    """A trial's number in the study, as text that sorts."""
    return f"{number:04d}"


@dataclass(frozen=True)
class Suggestion:
    """A sample to train, and which trial of the study that is.

    Attributes:
        number: of the trial, from 0. It identifies the trial across restarts; Tune's id need not.
        repeat_of: number of the first trial of this sample; its own for the first.
        sample: parameter of the space -> value.
        is_given: whether the sample is one of search.first.
        n_errors: how often the trial failed by an error of its own.
        failed: why it was given up, which its next worker reports instead of training; else None.
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
        """The number as text."""
        return trial_id(self.number)
