"""Code by import path: what is found, what is refused, and what is shipped."""

import hashlib
import importlib.machinery
import importlib.util
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import study
from study.config import imports
from study.errors import ConfigError, OwnCodeError
from tests.support import own_code
from tests.support.launched import ROOT


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
        "fine_one:mesure": r"^must be an object of fine_one, but there .* mean 'measure'\?$",
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


def write_models(folder: Path) -> None:
    """A package as many repositories have one."""
    (folder / "models").mkdir(parents=True)
    (folder / "models" / "__init__.py").write_text("resnet18 = len\n")


def found_first(name: str) -> str | None:
    """The file that a new process would import under a name, by its finders in their order."""
    specs = (finder.find_spec(name, None) for finder in sys.meta_path)
    return next(spec.origin for spec in specs if spec is not None)


def test_models_is_the_package_beside_study_whatever_python_s_path_has(folder: Path) -> None:
    write_models(folder)
    assert found_first("models") == str(ROOT / "models" / "__init__.py")
    (folder / "mine").mkdir()
    write_models(folder / "mine")
    (folder / "mine" / "code.py").write_text("from .models import resnet18 as measure\n")
    assert imports.called("mine.code:measure") is len


def test_where_ray_ships_each_package_to_a_folder_of_its_own_models_is_the_shipped_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("working_directory", "node/package_a"):
        write_models(folder / place)
    monkeypatch.setattr(study, "_HOME", folder / "node" / "package_b")
    for place in ("node/package_b", "node/package_a", "working_directory"):
        monkeypatch.syspath_prepend(folder / place)
    assert found_first("models") == str(folder / "node/package_a/models/__init__.py")


WANTS_ITS_MODELS = {
    "from_import": "from models import resnet18\n",
    "import_of_a_part": "import models.resnet\n",
    "by_attribute": "import models\nf = models.resnet18\n",
}


@pytest.mark.parametrize("code", WANTS_ITS_MODELS.values(), ids=WANTS_ITS_MODELS)
def test_own_code_that_imports_its_models_by_that_name_is_told_both_ways_out(
    folder: Path, code: str
) -> None:
    (folder / "wants_models.py").write_text(f"{code}")
    (folder / "calls_models.py").write_text(f"def f():\n    {code.replace(chr(10), ';')}\n")
    ways_out = "import that as part of a package, or under another name"

    def messages() -> Iterator[str]:
        with pytest.raises(ConfigError) as error:
            imports.imported("wants_models:f")
        yield str(error.value)
        with (
            pytest.raises(OwnCodeError) as called,
            imports.users_code("f must work", "data.name", "f"),
        ):
            imports.called("calls_models:f")()
        yield str(called.value)

    # A mistake, where there is no other package of that name.
    assert not any(ways_out in message for message in messages())
    sys.modules.pop("wants_models", None)
    write_models(folder)
    importlib.invalidate_caches()
    for message in messages():
        assert f"not {folder / 'models'}: {ways_out}" in message
        assert "\n" not in message


def test_a_module_of_their_models_is_told_both_ways_out(folder: Path) -> None:
    write_models(folder)
    (folder / "models" / "mine.py").write_text("f = len\n")
    with pytest.raises(ConfigError, match=r"there is no models.mine; .* or under another name"):
        imports.imported("models.mine:f")


def test_study_refuses_to_be_imported_after_another_models(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_models(folder)
    theirs = importlib.machinery.PathFinder.find_spec("models", [str(folder)])
    assert theirs is not None
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    source = ROOT / "study" / "__init__.py"
    monkeypatch.setitem(sys.modules, "models", importlib.util.module_from_spec(theirs))
    with pytest.raises(ImportError, match=r"is imported already: import yours as part of a pack"):
        exec(compile(source.read_text(), str(source), "exec"), {"__file__": str(source)})


def test_code_that_hangs_is_said_to_be_waited_for(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(imports, "_SILENT_SECONDS", 0.05)
    with imports.awaited("what is quick"):
        pass
    with imports.users_code("f must work", "data.name", "mine:f"):
        time.sleep(0.5)
    time.sleep(0.5)  # nothing is waited for now
    out, err = capfd.readouterr()
    assert out == ""
    assert set(err.splitlines()) <= {
        f"waiting for mine:f, {seconds} s so far; Ctrl-C ends it" for seconds in (0, 1)
    }
    # After 0.05, 0.1, 0.2 and 0.4 s, where the machine is not too busy.
    assert 1 <= len(err.splitlines()) <= 4


def test_an_import_that_hangs_is_said_to_be_waited_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(imports, "_SILENT_SECONDS", 0.05)
    (folder / "downloads.py").write_text("import time\n\ntime.sleep(0.5)\nf = len\n")
    assert imports.called("downloads:f") is len
    assert "waiting for the import of downloads, " in capfd.readouterr().err


def test_the_working_directory_is_looked_in_last(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "in_this_folder.py").write_text("def f(): return 1\n")
    (folder / "colorsys.py").write_text("def rgb_to_hsv(): raise AssertionError\n")
    # As of the script `iresnet-study`.
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(folder)])
    monkeypatch.chdir(folder)
    assert imports.imported("in_this_folder:f")() == 1
    assert imports.imported("colorsys:rgb_to_hsv")(0, 0, 0) == (0.0, 0.0, 0)
