import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from study import cli
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


@pytest.mark.slow
def test_a_folder_named_models_is_in_nobody_s_way(tmp_path: Path) -> None:
    """Python looks for modules in the working directory first, as with `python -m study.verify`."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text("raise RuntimeError('theirs')\n")
    done = subprocess.run(
        [sys.executable, "-c", "import study, sys, models; print(sys.path[0], models.__file__)"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f" {ROOT / 'models' / '__init__.py'}\n"


@pytest.fixture
def python_s_own_ctrl_c() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.signal(signal.SIGINT, before) is signal.default_int_handler


def test_ctrl_c_is_a_line_and_an_exit_code(
    python_s_own_ctrl_c: None, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as left, cli.one_line_errors():
        signal.raise_signal(signal.SIGINT)
    assert left.value.exit_code == 130
    assert capsys.readouterr() == ("", "interrupted\n")


def test_a_shell_that_ignores_ctrl_c_for_the_command_has_it_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with cli.one_line_errors():
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


RETRIES = """
import time
from study import cli

with cli.one_line_errors():
    while True:
        try:
            print("tries", flush=True)
            time.sleep(60)
        except:
            pass
"""


@pytest.mark.slow
def test_code_that_catches_ctrl_c_is_ended_by_the_next() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", RETRIES], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        for _ in range(2):
            assert process.stdout.readline() == "tries\n"
            process.send_signal(signal.SIGINT)
        try:
            assert process.wait(30) == -signal.SIGINT
        finally:
            process.kill()


def test_no_control_character_of_an_error_reaches_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    controls = "".join(map(chr, [*range(32), *range(127, 160), 0x2028, 0x202E]))
    for error in (
        LaunchError(controls),
        LaunchError("must be short", f"data.{controls}", controls, f"mine{controls}.yaml"),
        FailedError("it failed", value=controls),
    ):
        with pytest.raises(typer.Exit), cli.one_line_errors():
            raise error
    cli.say(f"digits/0000 failed: {controls}")
    said = capsys.readouterr()
    assert said.err.count("\n") == 3
    assert said.out.count("\n") == 1
    assert all(line.isprintable() for line in (*said.err.splitlines(), *said.out.splitlines()))
