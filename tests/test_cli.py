import gc
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from ray._private.utils import write_ray_address
from typer.testing import CliRunner

from study import cli, launch
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


@pytest.mark.parametrize("arguments", [["--train", "x/0001"], ["--resume", "--train=x/0001"]])
def test_an_option_that_was_removed_is_refused_with_what_to_do_instead(
    arguments: list[str],
) -> None:
    done = CliRunner().invoke(launch.app, arguments)
    assert done.exit_code == 2
    assert done.output == (
        "error: --train was removed: train longer in a new study, with the sample in search.first "
        "and a higher training.max_epochs\n"
    )


def test_errors_of_ours_are_loud() -> None:
    with pytest.raises(ZeroDivisionError), cli.one_line_errors():
        raise ZeroDivisionError


def test_the_garbage_collector_is_back_though_an_import_failed() -> None:
    def failing() -> None:
        assert not gc.isenabled()
        raise ImportError

    with pytest.raises(ImportError), cli.importing():
        failing()
    assert gc.isenabled()


@pytest.mark.parametrize(
    ("read", "variable", "default"),
    [
        (cli.storage_path, "STUDY_STORAGE_PATH", "{folder}/ray_results"),
        (cli.ray_address, "RAY_ADDRESS", None),
        (cli.tracking_uri, "MLFLOW_TRACKING_URI", "sqlite:///{folder}/mlflow.db"),
    ],
)
def test_an_option_comes_before_the_environment_and_that_before_the_default(
    read: Callable[[str | None], str | None],
    variable: str,
    default: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, "s3://environment")
    assert read("s3://option") == "s3://option"
    assert read(None) == "s3://environment"
    monkeypatch.delenv(variable)
    assert read(None) == (default and default.format(folder=tmp_path))


def test_retries_are_few_unless_the_environment_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    assert cli.max_retries() == 2
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "5")
    assert cli.max_retries() == 5
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "many")
    with pytest.raises(ValueError, match="must be a number >= 0, but got 'many'"):
        cli.max_retries()


@pytest.mark.slow
def test_python_m_study_names_the_commands() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "study"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    named = set(re.findall(r"^python -m study\.(\w+)", done.stdout, re.MULTILINE))
    with_main = {
        path.stem for path in (ROOT / "study").glob("*.py") if "app(prog_name" in path.read_text()
    }
    assert named == with_main - {"head_services"}  # that one is for the head of a cluster


def test_a_cluster_of_this_host_that_was_killed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray would ask it for a minute, and then start nothing."""
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    cli.check_answers(None)  # none was started
    (tmp_path / "ray").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"127.0.0.1:{head.getsockname()[1]}"
        (tmp_path / "ray" / "ray_current_cluster").write_text(address)
        cli.check_answers(None)  # it answers
    with pytest.raises(LaunchError, match=f"must answer at '{address}', but: .*ray stop --force"):
        cli.check_answers(None)
    cli.check_answers("local")
    cli.check_answers("auto")


def test_the_file_that_names_a_cluster_is_the_one_of_ray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir()
    write_ray_address("127.0.0.1:1")  # as `ray start` does; nothing can listen there
    with pytest.raises(LaunchError, match=r"'127\.0\.0\.1:1'"):
        cli.check_answers(None)


@pytest.mark.slow
def test_another_package_named_models_is_refused_in_one_line(tmp_path: Path) -> None:
    folder = tmp_path / ("a-long-name-" * 10)
    (folder / "models").mkdir(parents=True)
    (folder / "models" / "__init__.py").touch()
    done = subprocess.run(
        [sys.executable, "-m", "study.report", "digits"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: models: it must be the package in {ROOT}, but")
    assert repr(str(folder / "models")) in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (folder / "mlflow.db").exists()
