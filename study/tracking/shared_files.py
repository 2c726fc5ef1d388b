"""Files that several models have in common, once on the disk.

Each model of a study has the code of `models/`, and those of one training have its tensors: a
hundred times the same bytes. In a folder they are hard links to one file. Nobody need know: each
model has all of its files, and one that is deleted takes none of another's.
"""

import filecmp
import os
from collections.abc import Mapping
from pathlib import Path


class SharedFiles:
    """What the models have that were logged before: of each file name the latest."""

    def __init__(self) -> None:
        self._latest: dict[str, tuple[str, Path]] = {}

    def share(self, folder: Path, files: Mapping[str, str]) -> None:
        """Let the files of a model be those of the model before, where they are the same.

        Args:
            folder: the model's, of this machine.
            files: path below it -> SHA-256.
        """
        for name, digest in files.items():
            path = folder / name
            before = self._latest.get(name)
            if before is None or before[0] != digest or not _link(before[1], path):
                self._latest[name] = (digest, path)


def _link(source: Path, path: Path) -> bool:
    """Put a hard link to a file in the place of a copy of it; whether that could be done."""
    beside = path.with_name(f".{path.name}.link")
    try:
        if not filecmp.cmp(source, path, shallow=False):
            return False  # it was changed since
        os.link(source, beside)
        beside.replace(path)
    except OSError:
        # It is gone, has as many links as a file can have, or this file system knows none. The
        # copy stays.
        return False
    return True
