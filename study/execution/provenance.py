"""Where a study's runs come from: the commit, whether the tree was clean, and versions."""

import json
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from study.tracking import tags

_PACKAGES = ("torch", "torchvision", "ray", "optuna", "mlflow")
_ROOT = Path(__file__).resolve().parents[2]


def provenance() -> dict[str, str]:
    """As tags of a run. There is no commit where the code is no clone, or there is no git."""
    versions = {"python": platform.python_version()}
    versions.update({name: version(name) for name in _PACKAGES})
    return {tags.VERSIONS: json.dumps(versions), **_commit(_ROOT)}


def _commit(root: Path) -> Mapping[str, str]:
    if not (root / ".git").exists():
        return {}  # installed as a package, perhaps into the clone of something else
    commit = _git(root, "rev-parse", "HEAD")
    changes = _git(root, "status", "--porcelain", "--untracked-files=no")
    if commit is None or changes is None:
        return {}
    return {tags.COMMIT: commit, tags.TREE: "changed" if changes else "clean"}


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
