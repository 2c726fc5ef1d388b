"""What the commands share: options, one-line errors, exit codes.

0    done
1    a study or a check began, and failed
2    bad input: one line, nothing started, nothing written
130  interrupted
"""

import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from typer.core import TyperCommand

from study.errors import FailedError, UserError

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130

TrackingUri = Annotated[
    str | None, typer.Option(help="Else MLFLOW_TRACKING_URI, else sqlite:///mlflow.db.")
]
"""The option --tracking-uri."""


# Options that commands had once -> what to do instead.
_REMOVED = {
    "--train": "train longer in a new study, with the sample in search.first and a higher "
    "training.max_epochs",
    "--register": "register a network with MLflow, by its page or by "
    "mlflow.register_model('runs:/RUN_ID/model', NAME)",
}


class Command(TyperCommand):
    """A command that refuses options that were removed, and says what to do instead."""

    # The context that typer overrides is of its own copy of click, under a private name.
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
        typer.echo(f"error: {error.line(name)}", err=True)
        raise typer.Exit(BAD_INPUT if isinstance(error, UserError) else FAILED) from None


def refuse(rule: str) -> NoReturn:
    """End the command, whose options are in conflict, with this line and exit code 2."""
    raise UserError(rule)


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
