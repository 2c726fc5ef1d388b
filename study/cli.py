"""What the commands share: options, what they take from the environment, one-line errors, exit
codes.

    0    done
    1    a study or a check began, and failed
    2    bad input: one line, nothing started, nothing written
    130  interrupted
"""

import gc
import importlib.util
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer
from typer.core import TyperCommand

from study.errors import FailedError, LaunchError, UserError, quoted, reason

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130

# How long a cluster has to accept a connection.
_ANSWER_SECONDS = 3.0
# `ray start` leaves the address of its cluster there, and a cluster that was killed leaves it too.
_CURRENT_CLUSTER = "ray/ray_current_cluster"
_MAX_RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"

TrackingUri = Annotated[
    str | None, typer.Option(help="Else MLFLOW_TRACKING_URI, else sqlite:///mlflow.db.")
]
"""The option --tracking-uri."""


# Options that commands had once -> what to do instead.
_REMOVED = {
    "--train": "train longer in a new study, with the sample in search.first and a higher "
    "training.max_epochs",
}


class Command(TyperCommand):
    """A command that answers an option that it had once with the line that says what to do
    instead."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        for arg in args[: args.index("--") if "--" in args else None]:
            option = arg.partition("=")[0]
            if option in _REMOVED:
                typer.echo(f"error: {option} was removed: {_REMOVED[option]}", err=True)
                raise typer.Exit(BAD_INPUT)
        return super().parse_args(ctx, args)


@contextmanager
def one_line_errors(**names: str) -> Iterator[None]:
    """End the command with one line and an exit code at an error that a user can mend. Any other
    error is a bug, and passes with its trace.

    Args:
        names: key of an error -> what it is called on the command line, where that is no option of
            the same name.
    """
    try:
        _check_models()
        yield
    except (UserError, FailedError) as error:
        # What a file has is no option.
        name = error.key if error.source else _on_command_line(error.key, names)
        line = error.for_command or error.line(name)
        typer.echo(f"error: {line}", err=True)
        raise typer.Exit(BAD_INPUT if isinstance(error, UserError) else FAILED) from None


def _on_command_line(key: str | None, names: Mapping[str, str]) -> str | None:
    """What a command calls that which an error is about; a key of the study file keeps its name."""
    if key is None or "." in key:
        return key
    return names.get(key, f"--{key.replace('_', '-')}")


def _check_models() -> None:
    """Whether `models` is the package beside this one. Many a repository has a folder of that name,
    and Python takes the one in the working directory.

    Raises:
        UserError: if it is another.
    """
    own = Path(__file__).parents[1] / "models"
    found = importlib.util.find_spec("models")
    places = list(found.submodule_search_locations or ()) if found else []
    if not any(Path(place).resolve() == own.resolve() for place in places):
        # Whole, however long it is: a path that is cut cannot be found.
        other = repr(places[0]) if places else "another"
        raise UserError(
            f"models: it must be the package in {own.parent}, but Python finds {other} first: "
            "run this in another folder"
        )


@contextmanager
def importing() -> Iterator[None]:
    """For imports that take seconds: a sixth of that is the garbage collector's, which looks in
    vain through all that they make and that stays."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def tracking_uri(given: str | None) -> str:
    """Where MLflow keeps the records: the option, MLFLOW_TRACKING_URI, or a SQLite file in the
    working directory."""
    own = f"sqlite:///{Path('mlflow.db').resolve()}"
    return given or os.environ.get("MLFLOW_TRACKING_URI") or own


def max_retries() -> int:
    """How often MLflow repeats a request that its server does not answer. The environment may set
    it; the default is 2, so that a server that is down is reported in seconds."""
    text = os.environ.get(_MAX_RETRIES, "2")
    if not text.isdecimal():
        raise UserError(f"{_MAX_RETRIES}: it must be a number >= 0, but got {text!r}")
    return int(text)


def storage_path(given: str | None) -> str:
    """Where checkpoints and the state of studies are kept: the option, STUDY_STORAGE_PATH, or a
    folder in the working directory; an absolute path, or the address of a bucket."""
    path = given or os.environ.get("STUDY_STORAGE_PATH") or "ray_results"
    return path if "://" in path else str(Path(path).resolve())


def ray_address(given: str | None) -> str | None:
    """Address of Ray: the option, or RAY_ADDRESS; None for a cluster on this host, or a start
    here."""
    return given or os.environ.get("RAY_ADDRESS") or None


def check_answers(address: str | None) -> None:
    """Whether something answers at an address of Ray; Ray itself asks for a minute.

    Args:
        address: None for the cluster that was started on this host last, if there is one. An
            address without a port, such as "auto", is left to Ray.

    Raises:
        LaunchError: if not.
    """
    if address is None:
        _check_current_cluster()
    elif ":" in address:
        try:
            _connect(address)
        except OSError as error:
            raise LaunchError(
                f"--address: a Ray cluster must answer at {quoted(address)}, but: {reason(error)}"
            ) from error


def _check_current_cluster() -> None:
    # As Ray does it: only on Linux it heeds TMPDIR.
    own = os.environ.get("TMPDIR") if sys.platform == "linux" else None
    path = Path(os.environ.get("RAY_TMPDIR") or own or "/tmp") / _CURRENT_CLUSTER
    if not path.is_file():
        return
    address = path.read_text().strip()
    try:
        _connect(address)
    except OSError as error:
        raise LaunchError(
            f"--address: the Ray cluster that was started on this host must answer at "
            f"{quoted(address)}, but: {reason(error)}; 'ray stop --force' forgets it, and "
            "--address local starts Ray here"
        ) from error


def _connect(address: str) -> None:
    """Connect to an address, and leave again.

    Raises:
        LaunchError: if it is none.
        OSError: if nothing answers.
    """
    parts = urlsplit(address if "://" in address else f"ray://{address}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if host is None or port is None:
        raise LaunchError(f"--address: it must be HOST:PORT, but got {quoted(address)}")
    socket.create_connection((host, port), timeout=_ANSWER_SECONDS).close()
