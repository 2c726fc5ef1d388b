"""The surroundings of a driver: MLflow, the storage, a Ray cluster, and the user's terminal."""

import os
import shlex
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from study.errors import LaunchError, escaped, printable, quoted, reason
from study.tracking.records import Records
from study.tracking.server.client import Client

_ANSWER_SECONDS = 3.0
# `ray start` writes the cluster's address there; it stays if the cluster is killed.
_CURRENT_CLUSTER = "ray/ray_current_cluster"


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
        address: of Ray. None takes the cluster that was started on this host, or starts Ray here.
        say: receives lines for the user.
        resume_line: (study name, `elsewhere`) -> what to type to resume the study.
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
            Records(Client(tracking_uri or _tracking_uri())),
            _absolute(str(storage_path)) if storage_path else _storage_path(),
            address or _address(),
        )

    @property
    def client(self) -> Client:
        """Client of the MLflow server or database that has the records."""
        return self.records.client

    def folder(self, study: str) -> str:
        """The folder in the storage of the study with this name."""
        return f"{self.storage_path.rstrip('/')}/{study}"

    def check_kept_here(self, study: str, storage: str) -> None:
        """Raise LaunchError unless `storage`, the study's folder according to MLflow, is its folder
        here: MLflow's word alone must not decide what is unpickled or deleted."""
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

    def check_ray(self) -> None:
        """Raise LaunchError unless the Ray cluster to be used, if any, answers within seconds. Done
        without Ray, which is slow to import and would try for a minute. An address without a
        port, such as "auto", is not checked."""
        address, rule, hint = self.address, "a Ray cluster must answer", ""
        if address is None:
            # Like Ray, which reads TMPDIR only on Linux.
            own = os.environ.get("TMPDIR") if sys.platform == "linux" else None
            path = Path(os.environ.get("RAY_TMPDIR") or own or "/tmp") / _CURRENT_CLUSTER
            if not path.is_file():
                return
            address = path.read_text().strip()
            rule = "the Ray cluster that was started on this host must answer"
            hint = "; 'ray stop --force' forgets it, and the address 'local' starts Ray here"
        elif ":" not in address:
            return
        try:
            parts = urlsplit(address if "://" in address else f"ray://{address}")
            place = parts.hostname, parts.port
        except ValueError:
            place = None, None
        if None in place:
            raise LaunchError("it must be HOST:PORT", "address", address)
        try:
            socket.create_connection(place, timeout=_ANSWER_SECONDS).close()
        except OSError as error:
            raise LaunchError(
                f"{rule} at {quoted(address)}, but: {reason(error)}{hint}", "address"
            ) from error

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
        """Name -> value of each argument that `Driver.of` needs to make this driver again, since it
        is not what the environment or else the defaults say."""
        places = {
            "tracking_uri": (self.client.tracking_uri, _tracking_uri()),
            "storage_path": (self.storage_path, _storage_path()),
            "address": (self.address, _address()),
        }
        return {name: own for name, (own, usual) in places.items() if own and own != usual}


def _address() -> str | None:
    return os.environ.get("RAY_ADDRESS") or None


def _tracking_uri() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path('mlflow.db').resolve()}"


def _storage_path() -> str:
    return _absolute(os.environ.get("STUDY_STORAGE_PATH") or "ray_results")


def _absolute(path: str) -> str:
    """The absolute path of a folder; the address of a bucket stays as it is."""
    return path if "://" in path else str(Path(path).resolve())
