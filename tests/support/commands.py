"""Run the commands in this process."""

from typer import Typer
from typer.testing import CliRunner


def printed(app: Typer, *arguments: str, exit_code: int = 0, given: str = "") -> str:
    """What a command prints on stdout, for this input."""
    done = CliRunner().invoke(app, arguments, input=given)
    assert done.exit_code == exit_code, (done.output, done.exception)
    return done.stdout


def refused(app: Typer, *arguments: str) -> str:
    """The one line that a command says of bad input."""
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert "\x1b" not in done.stderr
    assert len(done.stderr) < 1000
    return done.stderr
