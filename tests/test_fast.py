"""`pytest -m fast` keeps its promise: no test of it starts a process, and the extra `fast` has all
that its files import."""

import ast
import os
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import is_slow_file
from tests.support.launched import ROOT


@pytest.mark.parametrize(
    "start",
    [
        lambda: subprocess.run([sys.executable, "-c", ""], check=True),
        lambda: os.system("true"),
        os.fork,
        lambda: os.posix_spawn("/bin/true", ["true"], {}),
    ],
    ids=["subprocess", "system", "fork", "spawn"],
)
def test_a_fast_test_that_starts_a_process_fails(start: object) -> None:
    assert callable(start)
    with pytest.raises(pytest.fail.Exception, match=r"is fast, but starts a process \("):
        start()


def libraries_of_the_fast_files() -> set[str]:
    """The top-level libraries that fast test files, and the test files they import, import."""
    files = [ROOT / "tests" / "conftest.py"]
    files += [path for path in (ROOT / "tests").rglob("test_*.py") if not is_slow_file(path)]
    found = set[str]()
    for path in files:  # which grows
        names = set[str]()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                names.update({node.module, *(f"{node.module}.{a.name}" for a in node.names)})
        for name in names:
            ours = ROOT.joinpath(*name.split(".")).with_suffix(".py")
            if name.startswith("tests.") and ours.exists() and ours not in files:
                files.append(ours)
        found.update(name.split(".")[0] for name in names)
    return found - {"tests", "study", "models", "search_spaces"} - set(sys.stdlib_module_names)


def test_the_fast_files_import_nothing_that_only_other_extras_bring() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]

    def named(lines: list[str]) -> set[str]:
        return {canonicalize_name(Requirement(line).name) for line in lines}

    has = named([*project["dependencies"], *extras["fast"]])
    others = set[str]().union(*map(named, extras.values())) - has
    assert {"boto3", "playwright", "psycopg"} <= others
    distributions = packages_distributions()
    for library in libraries_of_the_fast_files():
        of = {canonicalize_name(name) for name in distributions[library]}
        assert not of <= others, f"{library} is of {of}, which the extra fast does not install"
