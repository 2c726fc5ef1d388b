"""What the commands share: options, one-line errors, exit codes.

0    done
1    a study or a check began, and failed
2    bad input: one line, nothing started, nothing written
130  interrupted
"""

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, NoReturn

import typer

from study.errors import FailedError, UserError, escaped
from study.importing import importing as importing

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130

TrackingUri = Annotated[
    str | None,
    typer.Option(help="Address of MLflow. Default: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db."),
]
"""The option --tracking-uri."""


@contextmanager
def one_line_errors(**names: str) -> Iterator[None]:
    """End the command at a user's error or at Ctrl-C, with one line and an exit code. Any other
    error is a bug, and keeps its traceback.

    Args:
        names: an error's key -> its name on the command line, if the option is not named after it.
    """
    before = signal.getsignal(signal.SIGINT)
    # A shell lets a command in the background ignore Ctrl-C; that stays so.
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        raise typer.Exit(INTERRUPTED) from None
    except (UserError, FailedError) as error:
        # A key of a file is not an option.
        name = error.key if error.source else _on_command_line(error.key, names)
        typer.echo(f"error: {error.line(name)}", err=True)
        raise typer.Exit(BAD_INPUT if isinstance(error, UserError) else FAILED) from None
    finally:
        if before is signal.default_int_handler:
            signal.signal(signal.SIGINT, before)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """Raise KeyboardInterrupt, but only once: the user's own code may catch it and go on, so a
    second Ctrl-C ends the process."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    raise KeyboardInterrupt


def say(line: str, on_stderr: bool = False) -> None:
    """Print a line that may have text from elsewhere: control characters are escaped."""
    typer.echo(escaped(line), err=on_stderr)


def refuse(rule: str) -> NoReturn:
    """End the command with this line and exit code 2, because its options conflict."""
    raise UserError(rule)


def _on_command_line(key: str | None, names: Mapping[str, str]) -> str | None:
    """The name of an error's key on the command line; a key of the study file stays as it is."""
    if key is None or "." in key:
        return key
    return names.get(key, f"--{key.replace('_', '-')}")
