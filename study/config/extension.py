"""What is asked of a study beyond what it was begun with."""

from dataclasses import dataclass

from study.errors import LaunchError, quoted


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
    """All that has been asked of a study since it was begun.

    Attributes:
        n_searches: how often more samples or hours were asked for. An end that the search had come
            to before holds no longer.
        more_epochs: the trainings that go on, in the order in which they were asked for.
    """

    n_searches: int = 0
    more_epochs: tuple[MoreEpochs, ...] = ()


NOTHING_MORE = Extension()
"""Of a study that was not extended."""


@dataclass(frozen=True)
class Wanted:
    """What is asked of a study that goes on, beyond what it was begun with.

    Attributes:
        n_trials: samples in all, more than before; None for as many as before.
        max_hours: of search in all, more than before; None for as many as before.
        networks: handles or run ids of networks whose trainings go on, each as a new trial.
        max_epochs: that those are to have in the end; None without any.

    Raises:
        LaunchError: for epochs without networks, or networks without epochs.
    """

    n_trials: int | None = None
    max_hours: float | None = None
    networks: tuple[str, ...] = ()
    max_epochs: int | None = None

    def __post_init__(self) -> None:
        if self.max_epochs is not None and not self.networks:
            raise LaunchError(
                "--epochs: a study that goes on must say with --train which trainings have more, "
                f"but got {self.max_epochs} alone"
            )
        if self.networks and self.max_epochs is None:
            raise LaunchError(
                "--train: a training that goes on must have its epochs in all with --epochs, but "
                f"got {quoted(self.networks[0])} alone"
            )

    @property
    def study(self) -> str | None:
        """The name of the study that the networks are of, where a handle says it."""
        for network in self.networks:
            name, sign, _ = network.replace("@", "/").partition("/")
            if sign:
                return name
        return None

    @property
    def is_something(self) -> bool:
        """Whether anything is asked for."""
        return self != Wanted()
