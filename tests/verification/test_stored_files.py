"""Files of a network and of its run that were changed, also by somebody who can log runs too.

Who can write files cannot write tags, so the manifest refuses every change. Each form of tampering
is checked with a manifest made anew."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from models import certify
from study.api import study as api
from study.errors import UserError
from study.tracking.server.files import manifest
from study.tracking.stored_model import CODE
from study.tracking.study_record import StudyRecord, TrialRecord
from tests.support.stored import (
    CERTIFICATE,
    LAYER,
    MODEL_FILES,
    NETWORK,
    RUN_FILES,
    WEIGHTS,
    Stored,
    claim,
    describe,
    put_back,
    replace_text,
    scale_the_last_layers,
    take_files,
    unclaimed,
    weights,
    write,
)


def test_every_file_changed_removed_or_linked_is_named(stored: Stored, tmp_path: Path) -> None:
    files = set(manifest(stored.folder))
    code = {name for name in files if name.startswith(f"{CODE}/")}
    assert {
        f"{CODE}/network/iresnet.py",
        f"{CODE}/storage/serving.py",
        f"{CODE}/__init__.py",
    } <= code
    assert files - code == {
        "MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt",
        WEIGHTS, NETWORK, CERTIFICATE,
    }  # fmt: skip
    outside = tmp_path / "outside"
    for name in [*(files - code), f"{CODE}/__init__.py"]:
        path = stored.folder / name
        with put_back(path) as content:
            assert not content.startswith((b"\x80", b"PK")), f"{name} is a pickle"
            changed = removed = f"{CODE}/ is not the folder that was logged"
            if name not in code:
                changed, removed = f"{name} is not the file that was logged", f"{name} is missing"
            path.write_bytes(content + b"\n")
            assert f"model: {changed}" in stored.refused()
            path.unlink()
            assert f"model: {removed}" in stored.refused()
            outside.write_bytes(content)
            path.symlink_to(outside)
            assert f"model: {name} must be a file of its own, but is a link" in stored.refused()
    stored.verified()


def test_a_network_whose_files_were_changed_is_not_loaded(stored: Stored) -> None:
    opened = api.open("tiny", tracking_uri=stored.uri)
    assert certify(opened.load(stored.run_id), "full").contraction
    stored.edit_weights(lambda tensors: tensors[LAYER].mul_(0.5))
    with pytest.raises(UserError, match=f"model: {WEIGHTS} is not the file that was logged"):
        opened.load(stored.run_id)


def test_a_model_that_is_a_link_or_gone_is_refused(stored: Stored, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    stored.folder.rename(moved)
    stored.folder.symlink_to(moved, target_is_directory=True)
    assert "must be a folder of its own, but is a link" in stored.refused()
    stored.folder.unlink()
    assert "is not there" in stored.refused()


def maps_without_end(stored: Stored) -> None:
    describe(in_shape=[1, 2**40, 2**40])(stored)
    claim("in_shape", [1, 2**40, 2**40])(stored)


# Twelve levels of ten aliases each: 10 ** 12 values.
BOMB = ", ".join(
    f"&a{i} [" + ", ".join([f"*a{i - 1}"] * 10 if i else ["x"]) + "]" for i in range(12)
)
NOT_A_NUMBER = weights(lambda t: t[LAYER].view(-1)[:1].fill_(torch.nan))
ESCAPES = "x\nverified: proven bound 0.1 \ud800\x1b[2J"
GIVE = "but the weights give"
FLAVORS, CONDA = "flavors of MLmodel must be {", "conda.yaml must be {"
PYTHON_ENV, NEEDED = "python_env.yaml must be {", "requirements.txt must be ["
GONE = f"model: {WEIGHTS} is missing"
# What is done, and what is said of it once the manifest is made anew.
TAMPERED: tuple[tuple[Callable[[Stored], None], str], ...] = (
    (weights(scale_the_last_layers), "certificate: "),
    (weights(lambda t: t[LAYER].mul_(1.5)), "upper_bound of body.1.residual"),
    (NOT_A_NUMBER, f"{GIVE} inf"),
    (weights(lambda t: t.update({"x": torch.ones(1)})), "has a tensor that it must not have: x"),
    (weights(lambda t: t.pop(LAYER)), f"has no tensor {LAYER}"),
    (weights(lambda t: t.update({LAYER: t[LAYER].double()})), f"the tensor {LAYER} must be"),
    (lambda s: torch.save({LAYER: 0}, s.folder / WEIGHTS), "weights.safetensors cannot be read"),
    (lambda s: (s.folder / WEIGHTS).unlink(), GONE),
    # Its bound is proven as well, and its output is another.
    (describe(activation="elu"), "certificate: sha256 is "),
    (describe(in_shape=[1, 16, 16]), "certificate: in_shape is not [1, 16, 16]"),
    (maps_without_end, "sizes and counts must be at most"),
    (describe(n_power_iterations=math.inf), "sizes and counts must be whole numbers"),
    (describe(hidden=1), "network.json describes no network"),
    (describe(blocks=[10**4, 10**4]), "blocks must be at most 1000 blocks together"),
    (write(NETWORK, "{}"), "data of MLmodel is not that of network.json"),
    (lambda s: s.edit(NETWORK, lambda c: c.pop("data")), "data of MLmodel is not that of"),
    (lambda s: s.edit(NETWORK, lambda c: c.pop("architecture")), "network.json cannot be read"),
    *(
        (
            lambda s, key=key: s.edit(NETWORK, lambda c: c.pop(key)),
            f"figures were measured with {key}",
        )
        for key in ("precision", "measured")
    ),
    (
        lambda s: s.edit(NETWORK, lambda c: c["measured"].pop("goals")),
        "its figures were measured with goals None, by network.json, but its study says {",
    ),
    (claim("lipschitz_upper_bound", 9e-5), f"lipschitz_upper_bound is 9e-05, {GIVE}"),
    (claim("layers.2.lower_bound", 3.0), "lower_bound of body.1.residual"),
    (claim("blocks.0.upper_bound", math.nan), "is nan, but"),
    (claim("blocks.0.upper_bound", "0.1"), f"is 0.1, {GIVE}"),
    (claim("contraction", False), "contraction is False, but"),
    (claim("sha256", "0" * 64), "sha256 is 000000"),
    (claim("lipschitz_upper_bound", 10**400), GIVE),
    (claim("mode", ESCAPES), rf"mode is x\nverified: proven bound 0.1 \ud800\x1b[2J, {GIVE} eval"),
    (claim("proven", True), "a key that no certificate has: proven"),
    (unclaimed("classifier_sha256"), f"classifier_sha256 is missing, {GIVE}"),
    (claim("layers", []), "certificate.json has not the layers of the network"),
    (claim("layers", [1, None]), "has not the layers of the network"),
    (write(CERTIFICATE, "{"), "certificate.json cannot be read"),
    # What MLflow would load and install.
    (write("code/numpy.py", ""), "code/ must be ['models'] in a logged model, but is ['models', '"),
    (write("code/models/stored/__init__.pyc", b"\0"), "files of the code that are not Python's"),
    (write("code/models/stored.abi3.so", b"\0"), "files of the code that are not Python's must"),
    (replace_text("MLmodel", "models.storage.serving", "numpy"), FLAVORS),
    # The loader of a version that was never released.
    (replace_text("MLmodel", "models.storage.serving", "models.serving"), FLAVORS),
    (replace_text("MLmodel", "models.storage.serving", f"[{BOMB}]"), FLAVORS),
    (replace_text("MLmodel", "    streamable: false", "    config: {x: 1}"), FLAVORS),
    (replace_text("MLmodel", "prompts: null", "prompts: [x]"), "the keys of MLmodel must be ["),
    (replace_text("MLmodel", "offset: -0.5", "offset: 0.0"), "data of MLmodel is not that of"),
    (write("MLmodel", "{"), "MLmodel cannot be read"),
    (replace_text("requirements.txt", "torch==", "evil\ntorch=="), NEEDED),
    (replace_text("requirements.txt", "numpy==", "numpy @ http://evil/"), NEEDED),
    (replace_text("conda.yaml", "- conda-forge", "- http://evil"), CONDA),
    (replace_text("conda.yaml", "- pip<=", "- pip@http://evil/"), CONDA),
    (replace_text("python_env.yaml", "- -r requirements.txt", "- evil==1.0"), PYTHON_ENV),
)


@pytest.mark.parametrize(("change", "says"), TAMPERED, ids=range(len(TAMPERED)))
def test_tampered_contents_are_refused_without_their_manifest(
    stored: Stored, change: Callable[[Stored], None], says: str
) -> None:
    change(stored)
    stored.log_again()
    assert says in stored.refused()


def test_a_file_that_was_not_logged_is_named(stored: Stored) -> None:
    """Others that the manifest refuses are changed, removed or linked above."""
    write("data/more.json", "")(stored)
    assert (
        "model: data/more.json must not be there: the model was logged without it"
        in stored.refused()
    )


@pytest.mark.parametrize("tools", ["", "==80.1"])
def test_a_model_verifies_whatever_tools_its_environment_had(stored: Stored, tools: str) -> None:
    """MLflow writes the versions of pip, setuptools and wheel only if they are installed."""
    for name, sign in (("python_env.yaml", "=="), ("conda.yaml", "<=")):
        path = stored.folder / name
        text = re.sub(
            rf"^- (pip|setuptools|wheel)({sign}\S+)?$",
            rf"- \1{tools.replace('==', sign)}",
            path.read_text(),
            flags=re.MULTILINE,
        )
        assert text != path.read_text()
        path.write_text(text)
    stored.log_again()
    stored.verified()


def test_files_that_mlflow_would_load_beside_the_model_are_refused(stored: Stored) -> None:
    """It lays the model over what the run has under the model's name."""
    evil = stored.of_run / "model" / "code" / "models" / "stored" / "__init__.py"
    evil.parent.mkdir(parents=True)
    evil.write_text("raise SystemExit")
    assert "run: it must have no files under model beside its model, but has" in stored.refused()


def test_a_folder_in_the_place_of_a_runs_file_is_bad_input(stored: Stored) -> None:
    (stored.of_run / "network.json").unlink()
    (stored.of_run / "network.json").mkdir()
    (stored.of_run / "network.json" / "x").write_text("")
    exit_code, out = stored.check()
    assert exit_code in (1, 2)
    assert out.count("\n") == 1


def test_the_runs_own_files_must_be_those_that_were_logged_and_those_of_the_model(
    stored: Stored,
) -> None:
    files = set(manifest(stored.of_run))
    assert {"network.json", "certificate.json", "inverse.json", "val_right.json"} < files
    for name in files:
        path = stored.of_run / name
        with put_back(path) as content:
            path.write_bytes(content + b" ")
            assert f"run: its {name} is not the file that was logged" in stored.refused()
            if name in ("network.json", "certificate.json"):
                stored.tag(RUN_FILES, json.dumps(manifest(stored.of_run)))
                assert f"run: its {name} is not that of the model" in stored.refused()
            path.unlink()
            assert f"run: it must have {name}, but has not" in stored.refused()
        stored.tag(RUN_FILES, json.dumps(manifest(stored.of_run)))
    stored.verified()


def test_files_without_a_digest_are_named_or_refused(stored: Stored) -> None:
    """Whoever can delete the digests gains nothing by it."""
    (stored.of_run / "mine.txt").write_text("")
    out = stored.verified()
    assert "; not checked, since their digests were not stored: mine.txt; " in out
    logged = manifest(stored.of_run)
    for name in ("network.json", "certificate.json", "inverse.json", "val_right.json"):
        stored.tag(RUN_FILES, json.dumps({key: logged[key] for key in logged if key != name}))
        assert f"run: its {name} is not the file that was logged" in stored.refused()
    stored.tag(RUN_FILES, None)
    assert "manifest: the run must have the tag study.run_files, but has none" in stored.refused()


@pytest.mark.parametrize("kind", ["trial", "projection"])
def test_the_model_of_another_run_is_refused(
    stored: Stored, records: list[TrialRecord], kind: str
) -> None:
    """With all of its files, both manifests, and every metric, as if the run were its own."""
    (own,) = (r for r in records if r.run_id == stored.run_id)
    other = next(
        r
        for r in records
        if r.trial_id != own.trial_id and (r.projected_to is not None) is (kind == "projection")
    )
    run = stored.client.get_run(other.run_id)
    take_files(stored, run)
    for name, value in run.data.metrics.items():
        stored.client.log_metric(stored.run_id, name, value, step=100)
    stored.refused()
    stored.log_again()
    stored.tag("study.sample", json.dumps(other.sample))
    out = stored.refused()
    for key in ("run_id", "model_id", "study"):
        assert f"model: {key} of MLmodel must be " in out
    with pytest.raises(UserError, match=f"run_id of MLmodel must be {stored.run_id}"):
        api.open("tiny", tracking_uri=stored.uri).load(stored.run_id)


def test_a_manifest_that_was_edited_or_deleted_is_refused(stored: Stored) -> None:
    other = json.dumps({**manifest(stored.folder), WEIGHTS: "0" * 64})
    for tag in (
        "", "{", "null", "[]", '{"MLmodel": 1}', "{}", '{"../../x": "0"}', "[" * 5000,
        '{"\\ud800\\n": "0"}', other,
    ):  # fmt: skip
        stored.tag(MODEL_FILES, tag)
        out = stored.refused()
    assert f"model: {WEIGHTS} is not the file that was logged" in out
    stored.tag(MODEL_FILES, None)
    assert "manifest: the run must have the tag study.model_files, but has none" in stored.refused()


def test_a_manifest_with_a_digest_for_each_file_of_the_code_is_read(stored: Stored) -> None:
    """As earlier versions stored it."""
    stored.tag(MODEL_FILES, json.dumps(manifest(stored.folder), separators=(",", ":")))
    stored.verified()
    write(f"{CODE}/__init__.py", "")(stored)
    assert f"model: {CODE}/__init__.py is not the file that was logged" in stored.refused()


def test_a_second_model_of_the_run_is_refused(stored: Stored, study: StudyRecord) -> None:
    stored.client.create_logged_model(study.experiment_id, "model", source_run_id=stored.run_id)
    assert "model: the run must have one, but has 2" in stored.refused()
