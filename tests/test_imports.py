"""Code by import path: what is found, what is refused, and what is shipped."""

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from study import imports
from study.errors import ConfigError
from tests.support import own_code


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder from which modules are imported."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_path_gives_the_object_and_the_object_its_path() -> None:
    path = "tests.support.own_code:Coupling"
    assert imports.imported(path) is own_code.Coupling
    assert imports.path_of(own_code.Coupling) == path
    assert imports.imported(f"{path}.bounds") is own_code.Coupling.bounds


@pytest.mark.parametrize(
    "text", ["", "a", "a.b", "a:", ":b", "a:b:c", "a b:c", "a.:b", "1a:b", "a:b()", "../a:b"]
)
def test_what_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^must be package.module:object, but got"):
        imports.check_path(text)


def test_mistakes_name_what_is_missing(folder: Path) -> None:
    (folder / "broken_one.py").write_text("x = 1\n\n\nx / 0\n")
    (folder / "needs_other.py").write_text("import not_installed_at_all\n")
    (folder / "fine_one.py").write_text("measure = len\nnumber = 3\n")
    mistakes = {
        "nowhere.at_all:f": "there must be a module nowhere.at_all .*, but there is no nowhere",
        "fine_one.deeper:f": "importing fine_one.deeper must work|there is no fine_one.deeper",
        "broken_one:f": r"raises ZeroDivisionError: division by zero \(broken_one.py, line 4\)",
        "needs_other:f": "raises ModuleNotFoundError: No module named 'not_installed_at_all'",
        "fine_one:mesure": "there is no object 'mesure'; did you mean 'measure'",
    }
    for path, message in mistakes.items():
        with pytest.raises(ConfigError, match=message) as error:
            imports.called(path)
        assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match="must be a function or class, but fine_one:number is a"):
        imports.called("fine_one:number")
    assert imports.called("fine_one:measure") is len


def test_what_no_other_process_can_import_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def local() -> None:
        pass

    in_notebook = type("InNotebook", (), {"__module__": "__main__"})
    for given in (local, lambda: 0, in_notebook):
        with pytest.raises(ConfigError, match=r"put it at the top level of a file, mine.py"):
            imports.path_of(given)
    with pytest.raises(ConfigError, match="or a function or class"):
        imports.path_of(3)
    monkeypatch.setattr(own_code, "margin", own_code.undefined)
    monkeypatch.setattr(own_code.undefined, "__qualname__", "raises")
    with pytest.raises(ConfigError, match="but is another object"):
        imports.path_of(own_code.undefined)


def test_the_digest_is_that_of_the_source_file(folder: Path) -> None:
    file = folder / "digested.py"
    file.write_text("def f(): pass\n")
    assert imports.digests(["digested:f"]) == {
        "digested": hashlib.sha256(file.read_bytes()).hexdigest()
    }


def test_whole_packages_and_single_files_are_shipped_but_nothing_installed(folder: Path) -> None:
    inner = folder / "a_package" / "inner"
    inner.mkdir(parents=True)
    (folder / "a_package" / "__init__.py").touch()
    (inner / "__init__.py").touch()
    (inner / "code.py").write_text("def f(): pass\n")
    (folder / "a_file.py").write_text("def f(): pass\n")
    paths = ["a_package.inner.code:f", "a_file:f", "numpy.linalg:norm", "models:IResNet"]
    assert imports.to_ship(paths) == [str(folder / "a_file.py"), str(folder / "a_package")]
