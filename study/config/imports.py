"""The user's own code, named by import path: `package.module:object`.

A study names such code by its path alone, so that every process of the study can import it: the
driver, which also ships it to the nodes, the workers, and a later command that resumes the study.
"""

import hashlib
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module, invalidate_caches
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from study.errors import ConfigError, OwnCodeError, absent

_NAME = r"[^\W\d]\w*"
_PATH = re.compile(rf"({_NAME}(?:\.{_NAME})*):({_NAME}(?:\.{_NAME})*)")
_RULE = "must be package.module:object"
# The module of functions defined in a notebook or script: no other process can import them.
_MAIN = "__main__"
_SILENT_SECONDS = 10.0
_STUDY = Path(__file__).parents[1]
_MODELS = _STUDY.parent / "models"


def check_path(text: str, key: str | None = None) -> str:
    """Return the text if it is an import path, else raise ConfigError about the key."""
    if not _PATH.fullmatch(text):
        raise ConfigError(_RULE, key, text)
    return text


def path_of(given: object) -> str:
    """The import path of a function or class given in Python. Raises ConfigError if it cannot be
    imported by its name."""
    module, name = getattr(given, "__module__", None), getattr(given, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str):
        raise ConfigError(f"{_RULE}, or a function or class", value=given)
    if module == _MAIN or not _PATH.fullmatch(f"{module}:{name}"):
        place = "a notebook or script" if module == _MAIN else "a function"
        raise ConfigError(
            f"must be one that other processes can import, but {name} is defined in {place}: put "
            "it at the top level of a file, mine.py, and give 'mine:NAME'"
        )
    path = f"{module}:{name}"
    if imported(path) is not given:
        raise ConfigError(f"must be what {path} imports, but is another object", value=given)
    return path


def imported(path: str) -> Any:
    """The object at an import path. Raises ConfigError if there is none."""
    module = _module(path)
    found: Any = module
    for name in path.partition(":")[2].split("."):
        if not hasattr(found, name):
            known = [key for key in vars(found) if not key.startswith("_")]
            rule = f"must be an object of {module.__name__}"
            raise ConfigError(f"{rule}, but {absent(name, known, 'object')}")
        found = getattr(found, name)
    return found


def called(path: str) -> Callable[..., Any]:
    """The function or class at an import path. Raises ConfigError if there is none."""
    found = imported(path)
    if not callable(found):
        raise ConfigError(f"must be a function or class, but {path} is a {type(found).__name__}")
    function: Callable[..., Any] = found
    return function


def _module(path: str) -> ModuleType:
    name = check_path(path).partition(":")[0]
    here = os.getcwd()
    # Appended, so that no file there shadows a library. `python -m` itself puts it first.
    if not {"", here} & set(sys.path):
        sys.path.append(here)
    # So that a file is found that was written after this process began, beside a notebook say.
    invalidate_caches()
    try:
        with awaited(f"the import of {name}"):
            return import_module(name)
    # Whatever the code of a module raises.
    except Exception as error:
        rule = f"importing {name} must work, but raises {where(error)}"
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            rule = (
                f"there must be a module {name} in the working directory or installed, but there "
                f"is no {error.name}{_ways_out(error)}"
            )
        raise ConfigError(rule, value=path) from error


def where(error: BaseException) -> str:
    """An error in one line, with the line of the user's code that raised it or led to it."""
    text = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    ways_out = _ways_out(error)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename[:1] != "<" and not _is_library(Path(frame.filename)):
            return f"{text} ({Path(frame.filename).name}, line {frame.lineno}){ways_out}"
    return text + ways_out


def _ways_out(error: BaseException) -> str:
    """A hint for an error of user code that expects a package `models` of its own, but got this
    project's; empty for any other error."""
    is_absent = isinstance(error, ImportError) and f"{error.name}.".startswith("models.")
    if not is_absent and getattr(error, "obj", None) is not sys.modules.get("models", error):
        return ""
    # Searches sys.path alone, without the finder that `study` adds.
    other = PathFinder.find_spec("models")
    if other is None:
        return ""
    places = [*(other.submodule_search_locations or [str(other.origin)])]
    if all(Path(place).resolve() == _MODELS.resolve() for place in places):
        return ""
    return (
        f"; models is this project's package here, not {places[0]}: import that as part of a "
        "package, or under another name"
    )


@contextmanager
def users_code(rule: str, key: str, what: str) -> Iterator[None]:
    """Turn an exception of the user's own code in the context into an OwnCodeError about the key;
    ConfigError and OwnCodeError pass unchanged. `what` names the code, as for `awaited`."""
    try:
        with awaited(what):
            yield
    except (ConfigError, OwnCodeError):
        raise
    except Exception as error:
        raise OwnCodeError(f"{rule}, but raises {where(error)}", key) from error


@contextmanager
def awaited(what: str) -> Iterator[None]:
    """Print on stderr that the user's own code, called `what`, is still running: after ten seconds
    in the context, and then each time that the wait has doubled, since the code may hang."""
    began, has_ended = time.monotonic(), threading.Event()

    def say() -> None:
        seconds = _SILENT_SECONDS
        while not has_ended.wait(began + seconds - time.monotonic()):
            line = f"waiting for {what}, {seconds:.0f} s so far; Ctrl-C ends it"
            print(line, file=sys.stderr, flush=True)
            seconds *= 2

    threading.Thread(target=say, daemon=True).start()
    try:
        yield
    finally:
        has_ended.set()


def _is_library(file: Path) -> bool:
    """Whether a source file belongs to this project or an installed package, not to the user."""
    is_ours = bool({_STUDY, _MODELS} & set(file.parents))
    return is_ours or bool({"site-packages", "dist-packages"} & set(file.parts))


def _source_files(paths: Iterable[str]) -> dict[str, Path]:
    """Import the modules of import paths; returns module -> source file, for those with a file."""
    files = {module.__name__: getattr(module, "__file__", None) for module in map(_module, paths)}
    return {name: Path(file) for name, file in sorted(files.items()) if file is not None}


def digests(paths: Iterable[str]) -> dict[str, str]:
    """Module -> SHA-256 of its source file, hex, for the modules of import paths."""
    files = _source_files(paths)
    return {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in files.items()}


def to_ship(paths: Iterable[str]) -> list[str]:
    """The user's files that a node of a cluster lacks: for each module that is not installed, the
    folder of its outermost package, or its file if it is in no package."""
    shipped = set[str]()
    for name, file in _source_files(paths).items():
        folder = getattr(sys.modules[name.partition(".")[0]], "__path__", None)
        if not _is_library(file):
            shipped.add(next(iter(folder)) if folder else str(file))
    return sorted(shipped)
