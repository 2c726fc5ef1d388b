"""Every command of the README, run, in the order in which they stand, in one folder, on a small
data set of the kind that they ask for.

A command is run as it stands, but for the placeholders (DIR, RUN_ID, ...), and for fewer epochs and
trials where it would train for minutes. The two that install are the CI's own first step; what
they run then is run here. Those below tests.benchmarks and tests.faults take up to hours: of them
the arguments are checked. The Python is run too.
"""

import importlib.util
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from study import delete, launch, report, verify
from study.tracking.client import Client
from study.tracking.records import Records
from tests.support.launched import ROOT
from tests.trial.test_sources import write_idx

README = (ROOT / "README.md").read_text()
# Blocks between fences: (language, text).
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
COMMANDS = [
    line.split("  #")[0].strip()
    for language, block in BLOCKS
    if not language
    for line in block.splitlines()
    if line.startswith(("python ", "python3 ", "mlflow "))
]
INSTALLING = [command for command in COMMANDS if command.startswith("python3 -m venv")]
BY_HAND = ("tests.benchmarks", "tests.faults")
BENCHMARKS = [command for command in COMMANDS if any(module in command for module in BY_HAND)]
SERVING = [command for command in COMMANDS if command.startswith("mlflow server")]
RUN = [c for c in COMMANDS if c not in (*INSTALLING, *BENCHMARKS, *SERVING)]
PYTHON = [block for language, block in BLOCKS if language == "python"]
# What is cut short, and to what.
SHORTER = (
    (r"^python -m study\.launch$", r"\g<0> --epochs 1 --trials 2"),
    (r"table1_digits$", r"\g<0> --epochs 1 --trials 1"),
    # Its 55 blocks with a ladder; those of table1_digits are trained.
    (r"table1_mnist --data-root \S+$", r"\g<0> --dry-run"),
    (r"( mnist .*)--trials 2", r"\1--trials 1"),
    (r"(--train .*)--epochs \d+", r"\1--epochs 2"),
)


def test_the_readme_has_commands_of_every_kind() -> None:
    for kind in (INSTALLING, BENCHMARKS, SERVING, RUN, PYTHON):
        assert kind
    for module in ("study.launch", "study.report", "study.verify"):
        assert any(module in command for command in RUN), module


def shell(command: str, folder: Path, *, exit_code: int = 0) -> str:
    """Run a line in a shell, with `python` and `mlflow` of this environment."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", command],
        cwd=folder,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == exit_code, (command, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a clone has, and a folder `data` with a small MNIST."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("models", "study", "search_spaces", "tests"):
        (folder / name).symlink_to(ROOT / name)
    generator = np.random.default_rng(0)
    raw = folder / "data" / "MNIST" / "raw"
    for part, n in (("train", 30), ("t10k", 10)):
        write_idx(raw / f"{part}-images-idx3-ubyte", generator.integers(0, 256, (n, 28, 28)))
        write_idx(raw / f"{part}-labels-idx1-ubyte", generator.integers(0, 10, n))
    return folder


def filled(command: str, clone: Path) -> str:
    """A command with its placeholders."""
    values = {"DIR": "data"}
    if "RUN_ID" in command:
        records = Records(Client(f"sqlite:///{clone}/mlflow.db"))
        study = records.find_study("digits")
        assert study is not None
        values["RUN_ID"] = records.trials_and_projections(study)[0].run_id
    for name, value in values.items():
        command = re.sub(rf"\b{name}\b", value, command)
    for long, short in SHORTER:
        command = re.sub(long, short, command)
    return command


# Once as a process is enough to know that it is one: the next import for seconds what is here. What
# runs a study is a process each time.
APPS = {"study.launch": launch.app, "study.report": report.app, "study.verify": verify.app}
FIRST = {next(c for c in RUN if module in c) for module in APPS}
RUNS_A_STUDY = re.compile(r"study\.launch(?!.*--dry-run)(?!.*--resume(?!.*--(trials|train)))")
# The study that would be resumed is done here, which it says.
IS_DONE = re.compile(r"--resume(?!.*--(trials|train))")


@pytest.mark.parametrize("command", ["python -m study.launch", *RUN])
def test_a_command_does_what_the_readme_says(
    command: str, clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = filled(command, clone)
    module, *arguments = shlex.split(line)[2:]
    exit_code = 2 if IS_DONE.search(command) else 0
    if command in FIRST or ">" in arguments or RUNS_A_STUDY.search(command):
        out = shell(line, clone, exit_code=exit_code)
    else:
        monkeypatch.chdir(clone)
        done = CliRunner().invoke(APPS[module], arguments)
        assert done.exit_code == exit_code, done.output
        assert exit_code == 0 or done.stderr.count("\n") == 1
        out = done.stdout
    if "study.report" in command and ">" not in command.split("--where")[0]:
        assert out
    for name in re.findall(r"> (\S+)$|--html (\S+)", command):
        assert (clone / "".join(name)).stat().st_size > 100


def test_the_server_of_the_readme_shows_the_study(clone: Path) -> None:
    (command,) = SERVING
    # Small: by itself it starts a dozen processes, each of which imports MLflow.
    arguments = [sys.executable, "-m", *shlex.split(command), "--port", "5099", "--workers", "1"]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (clone / "server.log").open("w") as log:
        process = subprocess.Popen(
            arguments, cwd=clone, stdout=log, stderr=log, env=environment, start_new_session=True
        )
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    urllib.request.urlopen("http://127.0.0.1:5099/health", timeout=5).close()
                    break
                except OSError:
                    assert time.monotonic() < deadline, (clone / "server.log").read_text()
                    time.sleep(0.2)  # between two looks at a server that starts
            assert Records(Client("http://127.0.0.1:5099")).find_study("digits") is not None
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()


@pytest.mark.parametrize("index", range(len(PYTHON)))
def test_the_python_of_the_readme_runs(index: int, clone: Path) -> None:
    path = clone / f"example{index}.py"
    path.write_text(PYTHON[index])
    shell(f"python {path.name}", clone)


@pytest.mark.parametrize("command", BENCHMARKS)
def test_a_benchmark_of_the_readme_takes_its_arguments(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its module is there, and its usage has the options, and as many arguments at least."""
    module, *arguments = shlex.split(command)[2:]
    monkeypatch.setattr(sys, "argv", [module, "--help"])
    # In this process, which has imported already what each would import for seconds.
    found = importlib.util.find_spec(module)
    assert found is not None
    is_package = found.submodule_search_locations is not None
    with pytest.raises(SystemExit) as end:
        importlib.import_module(f"{module}.__main__" if is_package else module).main()
    assert end.value.code == 0
    usage = " ".join(capsys.readouterr().out.split())
    for argument in arguments:
        option = argument.partition("=")[0]
        assert option in usage or not option.startswith("-"), (command, usage)
    n_given = sum(a.isupper() or "." in a for a in arguments)
    positional = usage.partition("positional arguments:")[2].partition("options:")[0]
    assert n_given == 0 or len(positional.split()) >= n_given, (command, usage)


def test_every_option_of_the_commands_is_a_real_one() -> None:
    """Of all that the README names in passing, not only in its blocks."""
    apps = (launch.app, report.app, verify.app, delete.app)
    wide = {"COLUMNS": "200", "NO_COLOR": "1"}
    known = " ".join(CliRunner().invoke(app, ["--help"], env=wide).output for app in apps)
    own = {"--backend-store-uri", "--working-dir", "--generate"}  # of MLflow and Ray
    lines = (line for line in README.splitlines() if not any(name in line for name in BY_HAND))
    prose = "\n".join(lines)
    for option in set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", prose)) - own:
        assert re.search(rf"{option}\b", known), option
