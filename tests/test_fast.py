"""`pytest -m fast` keeps its promise: no test of it starts a process, and the extra `fast` has all
that its files import."""

import ast
import os
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, packages_distributions, requires

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
    """What they, and the files of tests that they import, import of neither this project nor
    Python, by the first part of its name."""
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


def packages_of(extra: str) -> set[str]:
    """The names of the packages that this project with an extra installs, by what is here."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted, found = [("iresnet-study", extra)], set[str]()
    for name, of_extra in wanted:  # which grows
        found.add(name)
        if name == "iresnet-study":
            lines = [*project["dependencies"], *extras.get(of_extra, ())]
        else:
            try:
                lines = requires(name) or []
            except PackageNotFoundError:
                continue
        for requirement in map(Requirement, lines):
            if requirement.marker is None or requirement.marker.evaluate({"extra": of_extra}):
                package = canonicalize_name(requirement.name)
                more = {(package, needed) for needed in requirement.extras or {""}}
                wanted += more - set(wanted)
    return found


def test_the_extra_fast_has_what_the_fast_files_import() -> None:
    has, distributions = packages_of("fast"), packages_distributions()
    assert {"boto3", "playwright"} <= packages_of("test") - has
    for library in libraries_of_the_fast_files():
        of = {canonicalize_name(name) for name in distributions[library]}
        assert of & has, f"{library} is of {of}, which the extra fast does not install"
