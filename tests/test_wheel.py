"""The project as a wheel, in an environment of its own, from a folder that is no clone."""

import os
import shutil
import site
import subprocess
import sys
import venv
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.launched import ROOT

DIGITS = ROOT / "search_spaces" / "digits.yaml"
PACKAGES = ("models", "study", "search_spaces")
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input")


def run(*command: str, cwd: Path) -> str:
    """What a command prints, without this clone in sight."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Installation(NamedTuple):
    """An environment that has the wheel, and the libraries of this one."""

    packages: Path
    python: str
    elsewhere: Path

    def runs(self, *arguments: str) -> str:
        """What Python prints, from a folder that is no clone."""
        return run(self.python, *arguments, cwd=self.elsewhere)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    build = ("wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(folder))
    run(*PIP, *build, str(source), cwd=folder)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "environment", symlinks=True)
    (packages,) = folder.glob("environment/lib/python*/site-packages")
    # A path in such a file is searched, and the files like it that lie there are not read: the
    # libraries are seen, and the editable installation of this clone is not.
    (packages / "libraries.pth").write_text("\n".join(site.getsitepackages()))
    python = str(folder / "environment" / "bin" / "python")
    run(*PIP, "--python", python, "install", "--no-deps", "--no-index", str(wheel), cwd=folder)
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    return Installation(packages, python, elsewhere)


def files(folder: Path) -> set[str]:
    """But for the READMEs, which are for whoever has the clone."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {
        str(path) for path in paths if "__pycache__" not in path.parts and path.name != "README.md"
    }


@pytest.mark.parametrize("package", PACKAGES)
def test_every_file_of_the_clone_is_in_the_wheel(package: str, installed: Installation) -> None:
    assert files(installed.packages / package) == files(ROOT / package)


@pytest.mark.parametrize("command", ["launch", "report", "verify", "head"])
def test_each_command_answers(command: str, installed: Installation) -> None:
    assert f"python -m study.{command}" in installed.runs("-m", f"study.{command}", "--help")


def test_the_script_has_every_command(installed: Installation) -> None:
    script = Path(installed.python).with_name("iresnet-study")
    for command in ("launch", "report", "verify", "delete"):
        assert f"iresnet-study {command}" in installed.runs(str(script), command, "--help")


def test_a_study_is_shipped_and_another_reported(
    installed: Installation, finished: Path, tmp_path: Path
) -> None:
    uri, page = f"sqlite:///{finished}/mlflow.db", tmp_path / "page.html"
    report = ("-m", "study.report", "tiny", "--html", str(page), "--tracking-uri", uri)
    installed.runs(*report)
    assert page.read_text().endswith("</html>\n")
    code = "from study.config.file import locate; print(locate('digits').read_text())"
    assert installed.runs("-c", code).rstrip() == DIGITS.read_text().rstrip()
