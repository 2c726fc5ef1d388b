"""The commands in a folder of somebody else: none of its code is run, and nobody else is asked."""

import os
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.launched import write_space
from tests.support.studies import RAW

# What a stranger may leave in a folder: modules of the names that the commands import.
MODULES = (
    "click", "json", "mlflow", "models", "numpy", "optuna", "pandas", "pydantic", "ray", "rich",
    "search_spaces", "sitecustomize", "study", "torch", "torchvision", "typer", "usercustomize",
    "yaml",
)  # fmt: skip
# As the script `iresnet-study`, but for several commands: each process imports torch and MLflow for
# seconds.
SCRIPT = """
import sys
from study.console import app

for line in sys.argv[1:]:
    assert app(line.split(), standalone_mode=False) in (None, 0), line
"""
# Run by every Python process as it starts, since its folder is on PYTHONPATH.
WATCH = """
import os, socket, sys

def note(event, arguments):
    if event == "socket.connect":
        connection, address = arguments
        # A datagram's socket sends nothing as it connects: Ray so learns its own address.
        if connection.family == socket.AF_UNIX or connection.type != socket.SOCK_STREAM:
            return
        host = address[0]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
    else:
        return
    file = os.open(os.environ["ASKED"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, f"{host}\\n".encode())
    os.close(file)

sys.addaudithook(note)
"""
# MLflow takes these for signs of a test, and sends nothing then.
SIGNS_OF_A_TEST = ("CI", "PYTEST_CURRENT_TEST", "GITHUB_ACTIONS", "MLFLOW_DISABLE_TELEMETRY")


def is_of_this_host(host: str) -> bool:
    if host in ("None", "", "localhost", socket.gethostname()):
        return True
    address = host.removeprefix("::ffff:")
    with closing(socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


class Folder:
    """A stranger's folder, and commands typed in it."""

    def __init__(self, path: Path, mine: Path) -> None:
        """mine: a folder of the user's own."""
        self.path, self.ran, self.asked = path, mine / "ran.txt", mine / "asked.txt"
        for name in MODULES:
            text = f"open({str(self.ran)!r}, 'a').write({name!r} + '\\n')\n"
            (path / f"{name}.py").write_text(text)
        self.script, watch = mine / "bin" / "iresnet-study", mine / "watch" / "sitecustomize.py"
        for file, content in ((self.script, SCRIPT), (watch, WATCH)):
            file.parent.mkdir()
            file.write_text(content)
        kept = {name: v for name, v in os.environ.items() if name not in SIGNS_OF_A_TEST}
        # Ray would send its first report within this many seconds.
        often = {"RAY_USAGE_STATS_REPORT_INTERVAL_S": "1"}
        self.environment = {
            **kept, **often, "PYTHONPATH": str(watch.parent), "ASKED": str(self.asked),
        }  # fmt: skip

    def types(self, *arguments: str) -> tuple[int, str]:
        """The exit code of a command, and what it prints."""
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.path,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def lines(self, file: Path) -> set[str]:
        return set(file.read_text().splitlines()) if file.exists() else set()


@pytest.fixture
def folder(laid_out: None, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return Folder(tmp_path, tmp_path_factory.mktemp("mine"))


@pytest.mark.slow
def test_the_script_runs_no_module_of_the_folder_and_asks_nobody(folder: Folder) -> None:
    raw = {**RAW, "training": {**RAW["training"], "max_epochs": 1}}
    space = write_space(folder.path, raw, n_trials=1)
    exit_code, out = folder.types(
        str(folder.script), f"launch {space}", "report tiny", "verify tiny/0000",
        "delete tiny --yes",
    )  # fmt: skip
    assert exit_code == 0, out
    assert folder.lines(folder.ran) == set()
    asked = folder.lines(folder.asked)
    assert [host for host in asked if not is_of_this_host(host)] == []
    assert asked  # Ray's processes talk with each other
    assert "deleted: tiny" in out


@pytest.mark.slow
@pytest.mark.parametrize("command", ["launch", "report", "verify", "delete"])
def test_python_m_looks_in_the_folder_first_unless_it_is_told_not_to(
    command: str, folder: Folder
) -> None:
    exit_code, out = folder.types("-P", "-m", f"study.{command}", "--help")
    assert (exit_code, folder.lines(folder.ran)) == (0, set()), out
    folder.types("-m", f"study.{command}", "--help")
    assert folder.lines(folder.ran) == {"study"}
