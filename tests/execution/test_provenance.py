import json
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from study.execution.provenance import provenance
from study.tracking import clone

pytestmark = pytest.mark.slow  # git


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    done = subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout.strip()


def test_a_run_knows_its_commit_and_whether_the_tree_was_clean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clone, "_ROOT", tmp_path)
    (tmp_path / "code.py").write_text("1\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "x")
    head = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "untracked.txt").write_text("notes\n")
    found = provenance()
    assert (found["mlflow.source.git.commit"], found["study.tree"]) == (head, "clean")
    (tmp_path / "code.py").write_text("2\n")
    assert provenance()["study.tree"] == "changed"
    versions = json.loads(found["study.versions"])
    assert versions["python"] == platform.python_version()
    for name in ("torch", "torchvision", "ray", "optuna", "mlflow"):
        assert versions[name] == version(name)


def test_where_there_is_no_clone_or_no_git_there_is_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "init", "-q")
    for root in (tmp_path, tmp_path / "site-packages"):  # without a commit; of something else
        monkeypatch.setattr(clone, "_ROOT", root)
        assert set(provenance()) == {"study.versions"}
    monkeypatch.setenv("PATH", str(tmp_path))
    assert set(provenance()) == {"study.versions"}
