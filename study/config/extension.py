"""What is asked of a study beyond what it was begun with."""

from dataclasses import dataclass


@dataclass(frozen=True)
class MoreEpochs:
    """A trial whose training is to go on, as a new trial.

    Attributes:
        trial: its number.
        n_epochs: the epochs that its network has been trained for.
        max_epochs: those that it is to have in the end, more than n_epochs.
    """

    trial: int
    n_epochs: int
    max_epochs: int


@dataclass(frozen=True)
class Extension:
    """One time that a study was extended.

    Attributes:
        n_started: trials that had been started by then. An end of the search that the study had
            come to by then holds no longer.
        is_searched: whether further samples were asked for; if not, only `more_epochs`.
    """

    n_started: int
    is_searched: bool = True
    more_epochs: tuple[MoreEpochs, ...] = ()
