"""Digests of the files of a folder, and differences from them."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path


def manifest(folder: Path) -> dict[str, str]:
    """Path below the folder, with slashes -> SHA-256 in hex, sorted by path. Raises ValueError for
    anything that `irregular` reports."""
    for problem in irregular(folder):
        raise ValueError(problem)
    paths = (path for path in folder.rglob("*") if path.is_file())
    return dict(sorted((path.relative_to(folder).as_posix(), sha256_of(path)) for path in paths))


def irregular(folder: Path) -> Iterator[str]:
    """Yield a sentence for each thing below a folder that no model has: links, which are not
    followed, special files, folders without files, compiled code."""
    for at, folders, files in os.walk(folder):
        where = Path(at).relative_to(folder)
        for name in sorted([*folders, *files]):
            path = Path(at) / name
            shown = (where / name).as_posix()
            if path.is_symlink():
                yield f"{shown} must be a file of its own, but is a link"
            elif not path.is_dir() and not path.is_file():
                yield f"{shown} must be a file, but is none"
            elif name == "__pycache__":
                yield f"{shown} must not be there: it may hide other code than that beside it"
        if not folders and not files and where != Path():
            yield f"{where.as_posix()} must have files, but is empty"


def differences(folder: Path, expected: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for each file that is missing, extra or changed compared with a manifest."""
    there = manifest(folder)
    for name in sorted(there.keys() | expected.keys()):
        if name not in there:
            yield f"{name} is missing"
        elif name not in expected:
            yield f"{name} must not be there: the model was logged without it"
        elif there[name] != expected[name]:
            yield f"{name} is not the file that was logged"


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
