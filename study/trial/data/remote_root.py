"""A data root at an address, such as s3://bucket/images, which is downloaded once per node."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import fsspec
from filelock import FileLock

from study.errors import DataNotFoundError, reason

_KEY = "data.root"
# Folder of the user's copies on this node. A copy stays until somebody deletes it.
_CACHE = Path("~/.cache/iresnet-study/data")


def fetched(root: str) -> str:
    """The folder on this node that holds the files below an address. They are downloaded unless
    this node has the same ones, judged by their names, sizes and the store's checksums. Raises
    DataNotFoundError if the address cannot be read."""
    cache = _CACHE.expanduser()
    try:
        # A new instance each time, since a file system caches its listings.
        files, path = fsspec.core.url_to_fs(root, skip_instance_cache=True)
        listed = files.find(path, detail=True)
        if not listed:
            raise DataNotFoundError("there must be files at it, but there are none", _KEY, root)
        folder = cache / _digest(root, listed)
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.exists():
                part = folder.with_suffix(".part")
                shutil.rmtree(part, ignore_errors=True)
                files.get(path.rstrip("/") + "/", f"{part}/", recursive=True)
                os.replace(part, folder)
    except DataNotFoundError:
        raise
    # Whatever a store raises, such as ImportError if its package is not installed.
    except Exception as error:
        raise DataNotFoundError(
            f"it must be readable from every node, but {root} is not: {reason(error)}", _KEY
        ) from error
    return str(folder)


def _digest(root: str, listed: dict[str, dict[str, object]]) -> str:
    known = ("size", "ETag", "etag", "checksum", "md5Hash", "generation")
    content = {name: [str(of.get(key)) for key in known] for name, of in listed.items()}
    text = json.dumps([root, content], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
