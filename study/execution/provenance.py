"""Provenance of a study's runs: commit, whether the tree was clean, and versions."""

import json
import platform
from collections.abc import Mapping
from importlib.metadata import version

from study.tracking import clone, tags

_PACKAGES = ("torch", "torchvision", "ray", "optuna", "mlflow")


def provenance() -> dict[str, str]:
    """Provenance as tags of a run; without a commit outside a git clone or without git."""
    versions = {"python": platform.python_version()}
    versions.update({name: version(name) for name in _PACKAGES})
    return {tags.VERSIONS: json.dumps(versions), **_commit()}


def _commit() -> Mapping[str, str]:
    commit = clone.git("rev-parse", "HEAD")
    changes = clone.git("status", "--porcelain", "--untracked-files=no")
    if commit is None or changes is None:
        return {}
    return {tags.COMMIT: commit, tags.TREE: "changed" if changes else "clean"}
