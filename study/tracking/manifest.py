"""The files of a folder with their digests, and what is not as they say."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path


def manifest(folder: Path) -> dict[str, str]:
    """Path below the folder, with slashes -> SHA-256 of the file, hex, sorted by path.

    Raises:
        ValueError: if there is a link or anything else that is neither a folder nor a file.
    """
    for problem in irregular(folder):
        raise ValueError(problem)
    paths = (path for path in folder.rglob("*") if path.is_file())
    return dict(sorted((path.relative_to(folder).as_posix(), sha256_of(path)) for path in paths))


def irregular(folder: Path) -> Iterator[str]:
    """A sentence for each thing below a folder that no model has: what is neither a file nor a
    folder, a folder without files, compiled code. Links are not followed."""
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
    """A sentence for each file below a folder that is not as a manifest says, or is not in it."""
    there = manifest(folder)
    for name in sorted(there.keys() | expected.keys()):
        if name not in there:
            yield f"{name} is missing"
        elif name not in expected:
            yield f"{name} must not be there: the model was logged without it"
        elif there[name] != expected[name]:
            yield f"{name} is not the file that was logged"


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
