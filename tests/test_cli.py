import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from study import cli, launch, report
from study.errors import FailedError, LaunchError
from tests.support.launched import ROOT


@pytest.mark.parametrize(
    ("error", "exit_code"), [(LaunchError("no such option"), 2), (FailedError("it failed"), 1)]
)
def test_errors_of_a_user_are_a_line_and_an_exit_code(
    error: Exception, exit_code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as left, cli.one_line_errors():
        raise error
    assert left.value.exit_code == exit_code
    assert capsys.readouterr() == ("", f"error: {error}\n")


@pytest.mark.parametrize(
    ("key", "typed"),
    [("tracking_uri", "--tracking-uri"), ("study", "STUDY"), ("search.seed", "search.seed")],
)
def test_what_an_error_is_about_has_its_name_of_the_command_line(
    key: str, typed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit), cli.one_line_errors(study="STUDY"):
        raise LaunchError("must be free", key, "--x")
    assert capsys.readouterr().err == f"error: {typed}: must be free, but got '--x'\n"


@pytest.mark.parametrize(
    ("app", "arguments", "instead"),
    [
        (launch.app, ["--train", "x/0001"], "train longer in a new study, with the sample in "),
        (launch.app, ["--resume", "--train=x/0001"], "train longer in a new study, "),
        (report.app, ["x", "--register", "net"], "register a network with MLflow, by its page "),
    ],
)
def test_an_option_that_was_removed_is_refused_with_what_to_do_instead(
    app: typer.Typer, arguments: list[str], instead: str
) -> None:
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    assert " was removed: " + instead in done.output
    assert done.output.count("\n") == 1


@pytest.mark.slow
def test_a_folder_named_models_is_in_nobody_s_way(tmp_path: Path) -> None:
    """verify imports `models`; what it refuses here is a study that does not exist."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text("raise RuntimeError('theirs')\n")
    done = subprocess.run(
        [sys.executable, "-m", "study.verify", "digits/0000"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "there is no study 'digits'" in done.stderr
    assert done.stderr.count("\n") == 1
