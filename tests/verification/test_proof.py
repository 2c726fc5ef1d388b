"""The command, and what it proves of the models of a real study."""

import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from models import NETWORK, certify, read_network
from models.floats.raised import SEARCH_ROOM
from models.norms import bottleneck_bounds
from models.norms.block_bounds import block_bounds
from study import report
from study.metrics.definitions import PROVEN_METRICS
from study.tracking import clone
from study.tracking.server.files import manifest
from study.tracking.stored_model import CODE, DATA
from study.tracking.study_record import StudyRecord, TrialRecord
from study.verify import app
from tests.support.stored import (
    CERTIFICATE,
    RUN_FILES,
    Stored,
    claim,
    forget,
    metric,
    reported,
    scale_the_last_layers,
)


def test_every_model_of_a_study_verifies(study_uri: str, records: list[TrialRecord]) -> None:
    assert len(records) >= 6
    for record in records:
        done = CliRunner().invoke(app, [record.run_id, "--tracking-uri", study_uri])
        bound = reported(record.metrics["block_lipschitz_upper_bound"])
        assert done.exit_code == 0, done.output
        before, said, after = done.output.partition(": verified: proven bound ")
        assert (before, bool(said)) == (record.run_id, True)
        # What was proven here, without the room that certificates leave.
        proven, _, rest = after.partition(", ")
        assert bound * (1 - 1e-3) <= float(proven) <= bound * (1 + 1e-3)
        assert rest == (
            "invertible; stored with this version of models/; not measured again, without its "
            "data\n"
        )


@pytest.mark.parametrize(
    ("which", "state", "says"),
    [
        ("none", "completed", "not found"),
        ("study", "completed", "has no block_lipschitz_upper_bound"),
        *(("trial", state, "but") for state in ("running", "stopped_early", "failed", "x\n", None)),
    ],
)
def test_what_is_no_run_of_a_completed_network_is_bad_input(
    stored: Stored, study: StudyRecord, which: str, state: str | None, says: str
) -> None:
    stored.tag("study.state", state)
    run_id = {"none": "0" * 32, "study": study.run_id, "trial": stored.run_id}[which]
    done = CliRunner().invoke(app, [run_id, "--tracking-uri", stored.uri])
    assert done.exit_code == 2
    if which != "none":
        rule = "error: NETWORK: must be the run of a completed trial or of a projection, but"
        assert done.output.startswith(f"{rule} {run_id} ")
    assert says in done.output
    assert done.output.count("\n") == 1


def test_a_database_that_is_not_there_is_bad_input_and_is_not_made(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    done = CliRunner().invoke(app, ["0" * 32, "--tracking-uri", uri])
    assert done.exit_code == 2
    assert "there is no run" in done.output
    assert list(tmp_path.iterdir()) == []


def test_the_help_names_a_rung_by_its_bound() -> None:
    out = " ".join(CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).output.split())
    assert "STUDY/TRIAL@BOUND" in out


def test_no_proven_metric_may_be_smaller_than_what_is_proven_or_missing(stored: Stored) -> None:
    for name in PROVEN_METRICS:
        metric(name, lambda value: value / 2)(stored)
    out = stored.refused()
    for name in PROVEN_METRICS:
        assert f"run: its metric {name} is " in out
    forget(stored, "inverse_lipschitz_upper_bound")
    assert "run: its metric inverse_lipschitz_upper_bound is None, but" in stored.refused()


def test_the_accuracies_must_be_those_of_the_images_that_are_right_and_certified(
    stored: Stored,
) -> None:
    client = stored.client
    for name in ("val_accuracy", "certified_accuracy"):
        accuracy = stored.run.data.metrics[name]
        for step, other in enumerate([accuracy + 2e-5, float("nan")]):
            client.log_metric(stored.run_id, name, other, step=100 + step)
            assert "run: val_right.json has " in stored.refused()
        client.log_metric(stored.run_id, name, accuracy, step=200)
    stored.verified()
    path = stored.of_run / "val_right.json"
    content = json.loads(path.read_text())
    without = {key: value for key, value in content.items() if key != "certified"}
    for changed in ({**content, "n_images": content["n_images"] - 1}, without, "[" * 5000):
        path.write_text(changed if isinstance(changed, str) else json.dumps(changed))
        stored.tag(RUN_FILES, json.dumps(manifest(stored.of_run)))
        assert "run: val_right.json " in stored.refused()


def test_the_certified_test_accuracy_must_be_that_of_the_radii(stored: Stored) -> None:
    path = stored.of_run / "test_radii.json"
    logged = json.loads(stored.run.data.tags[RUN_FILES])
    content = json.loads(path.read_text())
    for changed in ({**content, "radius": 1e-6}, {"radius": 4.0}, "[" * 5000):
        path.write_text(changed if isinstance(changed, str) else json.dumps(changed))
        stored.tag(RUN_FILES, json.dumps(manifest(stored.of_run)))
        assert "run: test_radii.json " in stored.refused()
    # Networks of earlier versions have no such file, and say nothing of one.
    path.unlink()
    assert "run: it must have test_radii.json, but has not" in stored.refused()
    del logged["test_radii.json"]
    stored.tag(RUN_FILES, json.dumps(logged))
    stored.verified()


def test_a_sample_that_is_not_that_of_the_network_is_refused(stored: Stored) -> None:
    sample = stored.sample
    assert sample.keys() == {"coeff", "n_power_iterations", "dropout"}
    for key, value in sample.items():
        stored.tag("study.sample", json.dumps({**sample, key: value + 1}))
        out = stored.refused()
        assert f"run: {key} of its sample is {value + 1}, but that of" in out
        assert f"run: {key} of its sample is {value + 1}, but its parameter is {value}" in out


def test_what_is_claimed_may_be_worse_and_never_better(stored: Stored) -> None:
    client = stored.client
    # Without the room that certificates leave.
    bound = certify(read_network(stored.folder / DATA), search_room=0.0).lipschitz_upper_bound
    for step, (factor, exit_code) in enumerate(
        [(1 + 5e-7, 0), (1 - 5e-8, 1), (1.01, 0), (float("nan"), 1)]
    ):
        client.log_metric(
            stored.run_id, "block_lipschitz_upper_bound", bound * factor, step=100 + step
        )
        got, out = stored.check()
        assert got == exit_code, (factor, out)
        if exit_code:
            # What the two differ by can be seen, however little that is.
            name = "block_lipschitz_upper_bound"
            claimed, given = re.findall(
                rf"run: its metric {name} is (\S+), but the weights give (\S+)\n", out
            )[0]
            assert claimed != given
            assert float(given) == pytest.approx(bound, rel=1e-6)
        else:
            # What is printed is what was proven here.
            assert f"proven bound {reported(bound):.4g}, " in out


@pytest.mark.parametrize(("wider_by", "exit_code"), [(0.5, 0), (2.0, 1)])
def test_a_claim_holds_where_the_search_ends_a_little_elsewhere(
    stored: Stored, monkeypatch: pytest.MonkeyPatch, wider_by: float, exit_code: int
) -> None:
    """As on another processor, by a multiple of the room that certificates leave for it."""

    def search(*args: Any, **kwargs: Any) -> torch.Tensor:
        neutral = torch.tensor([0.0, 1.0, 1.0])
        found = block_bounds(*args, **kwargs)
        return neutral + (found - neutral) * (1 + wider_by * SEARCH_ROOM)

    monkeypatch.setattr(bottleneck_bounds, "block_bounds", search)
    got, out = stored.check()
    assert got == exit_code, out
    assert ("inverse_lipschitz_upper_bound of body." in out) == (exit_code == 1)


def test_a_certificate_may_claim_no_inverse_where_one_is_proven(stored: Stored) -> None:
    claim("inverse_lipschitz_upper_bound", math.inf)(stored)
    stored.log_again()
    assert "certificate: invertible is True, but the weights give False" in stored.refused()
    claim("invertible", False)(stored)
    stored.log_again()
    stored.verified()


def test_what_is_proven_decides_whether_it_is_invertible(stored: Stored) -> None:
    """A network without a proof, whose run says so: all of it is true."""
    stored.edit_weights(scale_the_last_layers)
    model = read_network(stored.folder / DATA)
    certificate = certify(model, "full")
    assert not certificate.contraction
    assert not certificate.invertible
    before = json.loads((stored.folder / CERTIFICATE).read_text())
    content = {**before, **certificate.to_dict()}
    (stored.folder / CERTIFICATE).write_text(json.dumps(content))
    stored.log_again()
    bound = certificate.lipschitz_upper_bound
    assert "run: its metric block_lipschitz_upper_bound is" in stored.refused()
    for name, value in (
        ("block_lipschitz_upper_bound", bound),
        ("inverse_lipschitz_upper_bound", sys.float_info.max),  # as MLflow stores infinity
        ("logit_lipschitz_upper_bound", certificate.logit_lipschitz_upper_bound),
    ):
        stored.client.log_metric(stored.run_id, name, value, step=100)
    out = stored.verified()
    assert f"proven bound {reported(bound):.4g}, not proven to be invertible" in out


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def other_code(stored: Stored, tmp_path: Path) -> Path:
    """A file that exists once the stored code is run, which is not the code at hand."""
    touched = tmp_path / "touched"
    path = stored.folder / CODE / "__init__.py"
    path.write_text(path.read_text() + f"\nopen({str(touched)!r}, 'w').close()\n")
    assert f"{CODE}/ is not the folder that was logged" in stored.refused()
    stored.log_again()
    return touched


@pytest.fixture
def own_clone(stored: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone that this code is run from, as far as git is asked; no commit has other code."""
    root = tmp_path / "clone"
    shutil.copytree(stored.folder / CODE, root / "models")
    (root / "models" / "README.md").write_text("is not stored")
    git(tmp_path, "init", "-q", str(root))
    git(root, "add", ".")
    git(root, "commit", "-qm", "this version")
    monkeypatch.setattr(clone, "_ROOT", root)
    return root


def test_other_code_is_refused_unless_a_commit_has_it_and_is_not_run(
    stored: Stored, own_clone: Path, other_code: Path
) -> None:
    """Of a branch that was merged, though the merge has nothing of it."""
    assert "code: it must be models/ as it is here or in a commit" in stored.refused()
    git(own_clone, "checkout", "-qb", "branch")
    shutil.copy(stored.folder / CODE / "__init__.py", own_clone / "models")
    git(own_clone, "commit", "-qam", "other version")
    commit = git(own_clone, "rev-parse", "HEAD")
    git(own_clone, "checkout", "-q", "-")
    (own_clone / "models" / "README.md").write_text("changed")
    git(own_clone, "commit", "-qam", "meanwhile")
    git(own_clone, "merge", "-qs", "ours", "branch")
    git(own_clone, "branch", "-D", "branch")
    out = stored.verified()
    assert f", invertible; stored with the models/ of commit {commit[:12]}; " in out
    assert not other_code.exists()


@pytest.mark.parametrize("why", ["no clone", "no git", "not all of it"])
def test_of_other_code_without_a_history_nothing_is_said(
    stored: Stored, own_clone: Path, other_code: Path, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if why == "no clone":
        shutil.rmtree(own_clone / ".git")
    elif why == "no git":
        monkeypatch.setenv("PATH", str(own_clone))
    else:
        head = git(own_clone, "rev-parse", "HEAD")
        (own_clone / ".git" / "shallow").write_text(f"{head}\n")
    out = stored.verified()
    assert "stored with another version of models/ or changed code, which only a full clone" in out
    assert not other_code.exists()


def test_a_network_stored_under_the_former_name_of_a_metric_is_verified_and_reported(
    stored: Stored, study: StudyRecord, tmp_path: Path
) -> None:
    today, former = "block_lipschitz_upper_bound", "lipschitz_upper_bound"
    for table in ("metrics", "latest_metrics"):
        stored.sql(f"UPDATE {table} SET key = ? WHERE key = ?", former, today)
    config = stored.client.get_run(study.run_id).data.tags["study.config"]
    stored.client.set_tag(study.run_id, "study.config", config.replace(today, former))
    for path in (stored.folder / DATA / NETWORK, stored.of_run / NETWORK):
        assert today in path.read_text()
        path.write_text(path.read_text().replace(today, former))
    stored.log_again()
    out = stored.verified("--data-root", str(tmp_path))
    assert "; measured again at radius 4 " in out
    assert f"for {today}, " in out
    options = ["--tracking-uri", stored.uri, "--objective", f"{former}:minimize", "--format", "csv"]
    for where in ([], ["--where", f"{former} < 1"]):
        done = CliRunner().invoke(report.app, ["tiny", *options, *where])
        assert done.exit_code == 0, done.output
        assert today in done.stdout
