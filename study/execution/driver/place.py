"""Where studies run and are stored, and where messages to the user go."""

import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from study.errors import LaunchError, escaped, printable, quoted
from study.execution.driver.address import check_answers
from study.tracking.client import Client
from study.tracking.records import Records


def _print(line: str) -> None:
    print(escaped(line), flush=True)


def _call_to_resume(study: str, elsewhere: Mapping[str, str]) -> str:
    arguments = [repr(study), *(f"{name}={value!r}" for name, value in elsewhere.items())]
    return f"study.open({', '.join(arguments)}).resume()"


@dataclass(frozen=True)
class Driver:
    """The process that runs studies.

    Attributes:
        records: of all studies, in MLflow.
        storage_path: absolute path of a folder, or address of a bucket, with one folder per study
            for its checkpoints and state.
        address: of Ray; None for a cluster on this host, else Ray is started here.
        say: receives lines for the user.
        resume_line: study name, `elsewhere` -> what to type to resume the study.
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
        """Fill missing values from the environment, then from the defaults. Raises UserError if the
        tracking URI cannot be used."""
        return cls(
            Records(Client(_tracking_uri(tracking_uri))),
            _storage_path(None if storage_path is None else str(storage_path)),
            address or _address(),
        )

    def check_ray(self) -> None:
        """Raise LaunchError if the Ray cluster to be used does not answer within seconds."""
        check_answers(self.address)

    @property
    def client(self) -> Client:
        """Client of the MLflow that has the records."""
        return self.records.client

    def folder(self, study: str) -> str:
        """Folder of a study in the storage, by its name."""
        return f"{self.storage_path.rstrip('/')}/{study}"

    def check_kept_here(self, study: str, storage: str) -> None:
        """Raise LaunchError unless a study is kept in its folder here; `storage` is the folder that
        MLflow says, from which alone nothing may be unpickled or deleted."""
        if storage == self.folder(study):
            return
        place, _, name = storage.rpartition("/")
        if place == self.storage_path.rstrip("/"):
            rule = "the experiment must have the name that its study began with, but was renamed"
            raise LaunchError(f"{rule} from {quoted(name)} to {quoted(study)}; rename it in MLflow")
        raise LaunchError(
            f"it must be where {study} is kept, which MLflow says is in {printable(place)}, but "
            f"got {self.storage_path}",
            "storage_path",
        )

    def say_unfinished(self, study: str) -> None:
        """Tell the user how to resume an unfinished study."""
        self.say(f"{study} is unfinished; go on with it: {self.how_to_resume(study)}")

    def how_to_resume(self, study: str) -> str:
        """What to type to resume a study."""
        return self.resume_line(study, self.elsewhere())

    def how_to_show(self, study: str) -> str:
        """The command that prints the report of a study."""
        uri = self.elsewhere().get("tracking_uri")
        options = ["--tracking-uri", uri] if uri else []
        return shlex.join(["python", "-m", "study.report", study, *options])

    def elsewhere(self) -> dict[str, str]:
        """Arguments of `of` that differ from the environment and the defaults: name -> value."""
        places = {
            "tracking_uri": (self.client.tracking_uri, _tracking_uri(None)),
            "storage_path": (self.storage_path, _storage_path(None)),
            "address": (self.address, _address()),
        }
        return {name: own for name, (own, usual) in places.items() if own and own != usual}


def _address() -> str | None:
    return os.environ.get("RAY_ADDRESS") or None


def _tracking_uri(given: str | None) -> str:
    """`given`, else MLFLOW_TRACKING_URI, else a SQLite file in the working directory."""
    own = f"sqlite:///{Path('mlflow.db').resolve()}"
    return given or os.environ.get("MLFLOW_TRACKING_URI") or own


def _storage_path(given: str | None) -> str:
    """`given`, else STUDY_STORAGE_PATH, else ./ray_results; as absolute path or bucket address."""
    path = given or os.environ.get("STUDY_STORAGE_PATH") or "ray_results"
    return path if "://" in path else str(Path(path).resolve())
