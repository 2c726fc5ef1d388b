"""Where a command or call runs its studies, and what it tells its user."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from study.execution.address import check_answers
from study.tracking.client import Client
from study.tracking.records import Records

_print = partial(print, flush=True)


def _call_to_resume(study: str, elsewhere: Mapping[str, str]) -> str:
    arguments = [repr(study), *(f"{name}={value!r}" for name, value in elsewhere.items())]
    return f"study.open({', '.join(arguments)}).resume()"


@dataclass(frozen=True)
class Driver:
    """The process that runs studies: its surroundings, and its voice.

    Attributes:
        records: what MLflow has of all studies.
        storage_path: absolute path of the folder, or address of the bucket, below which each study
            has a folder for its checkpoints and its state.
        address: of Ray; None for a cluster on this host, or a start here.
        say: is given lines for the user.
        resume_line: the name of a study, and `elsewhere` -> what a user types to go on with it.
    """

    records: Records
    storage_path: str
    address: str | None = None
    say: Callable[[str], None] = _print
    resume_line: Callable[[str, Mapping[str, str]], str] = _call_to_resume

    @classmethod
    def of(
        cls,
        tracking_uri: str | None = None,
        storage_path: str | Path | None = None,
        address: str | None = None,
    ) -> "Driver":
        """A driver with what the environment, or else the default, says for what is None.

        Raises:
            UserError: if the address of MLflow, or what the environment says, cannot be used.
        """
        return cls(
            Records(Client(_tracking_uri(tracking_uri))),
            _storage_path(None if storage_path is None else str(storage_path)),
            address or _address(),
        )

    def check_ray(self) -> None:
        """Raise LaunchError if a cluster that the driver is to use does not answer in seconds."""
        check_answers(self.address)

    @property
    def client(self) -> Client:
        """Of the MLflow that has the records."""
        return self.records.client

    def folder(self, study: str) -> str:
        """Where a study of that name is kept."""
        return f"{self.storage_path.rstrip('/')}/{study}"

    def say_unfinished(self, study: str) -> None:
        """Say how to go on with a study that was left before its end."""
        self.say(f"{study} is unfinished; go on with it: {self.how_to_resume(study)}")

    def how_to_resume(self, study: str) -> str:
        """What a user types to go on with a study."""
        return self.resume_line(study, self.elsewhere())

    def elsewhere(self) -> dict[str, str]:
        """What is neither as the environment says nor the default: argument of `of` -> value."""
        places = {
            "tracking_uri": (self.client.tracking_uri, _tracking_uri(None)),
            "storage_path": (self.storage_path, _storage_path(None)),
            "address": (self.address, _address()),
        }
        return {name: own for name, (own, usual) in places.items() if own and own != usual}


def _address() -> str | None:
    return os.environ.get("RAY_ADDRESS") or None


def _tracking_uri(given: str | None) -> str:
    """Where MLflow keeps the records: what is given, MLFLOW_TRACKING_URI, or a SQLite file in the
    working directory."""
    own = f"sqlite:///{Path('mlflow.db').resolve()}"
    return given or os.environ.get("MLFLOW_TRACKING_URI") or own


def _storage_path(given: str | None) -> str:
    """Where checkpoints and the state of studies are kept: what is given, STUDY_STORAGE_PATH, or a
    folder in the working directory; an absolute path, or the address of a bucket."""
    path = given or os.environ.get("STUDY_STORAGE_PATH") or "ray_results"
    return path if "://" in path else str(Path(path).resolve())
