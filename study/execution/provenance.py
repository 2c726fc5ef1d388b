"""Provenance of a study's runs: commit, whether the tree was clean, and versions."""

import json
import platform
from collections.abc import Mapping
from importlib.metadata import version

from study.config.imports import digests
from study.config.study import StudyConfig
from study.tracking import clone, tags
from study.tracking.study_record import StudyRecord

_PACKAGES = ("torch", "torchvision", "ray", "optuna", "mlflow")


def provenance() -> dict[str, str]:
    """Provenance as tags of a run; the commit is left out where there is no git or git clone."""
    versions = {"python": platform.python_version()}
    versions.update({name: version(name) for name in _PACKAGES})
    return {tags.VERSIONS: json.dumps(versions), **_commit()}


def own_code(study: StudyConfig) -> dict[str, str]:
    """A tag with the digests of the user's own code; empty if the study has no such code."""
    code = digests(path for _, path in study.import_paths)
    return {tags.OWN_CODE: json.dumps(code)} if code else {}


def changes_of_code(record: StudyRecord) -> list[str]:
    """A sentence for each module of the user's own that has changed since a study was begun."""
    now = digests(path for _, path in record.config.import_paths)
    return [
        f"{module} has changed since {record.name} was begun: trials from here on run other code"
        for module, digest in now.items()
        if record.own_code.get(module) != digest
    ]


def _commit() -> Mapping[str, str]:
    commit = clone.git("rev-parse", "HEAD")
    changes = clone.git("status", "--porcelain", "--untracked-files=no")
    if commit is None or changes is None:
        return {}
    return {tags.COMMIT: commit, tags.TREE: "changed" if changes else "clean"}
