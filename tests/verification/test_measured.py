"""What no proof covers: figures that are measured again on the data, and what they mean."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from models import certify, read_network
from study.metrics.artifacts import TEST_RADII, VAL_RIGHT, packed, packed_radii
from study.metrics.definitions import PROVEN_METRICS
from study.tracking.records import Records
from study.tracking.server.client import Client
from study.tracking.stored_model import DATA
from study.tracking.study_record import StudyRecord
from study.trial.data import sources
from study.trial.measured.evaluation import evaluate
from tests.support.stored import (
    CERTIFICATE,
    NETWORK,
    Stored,
    claim,
    describe,
    forget,
    metric,
    replace_text,
    take_files,
)


def raise_what_is_right(stored: Stored) -> None:
    """All images of the validation split are right and certified, and all say so."""

    def all_set(content: dict[str, Any]) -> None:
        all_right = [True] * content["n_images"]
        content.update(packed(all_right, all_right, content["radius"]))

    stored.edit("val_right.json", all_set)
    for name in ("val_accuracy", "certified_accuracy"):
        metric(name, lambda _: 1.0)(stored)


def raise_the_radii(stored: Stored) -> None:
    """Every test image is certified, and both places say so."""

    def all_above(content: dict[str, Any]) -> None:
        n_images = len(base64.b64decode(content["radii"])) // 4
        content.update(packed_radii(np.full(n_images, 5.0), content["radius"]))

    stored.edit("test_radii.json", all_above)
    metric("test_certified_accuracy", lambda _: 1.0)(stored)


def negate_the_answers(stored: Stored) -> None:
    """And certify that network."""
    stored.edit_weights(lambda t: t.update({k: -v for k, v in t.items() if "classifier.3" in k}))
    certificate = certify(read_network(stored.folder / DATA)).to_dict()
    stored.edit(CERTIFICATE, lambda content: content.update(json.loads(json.dumps(certificate))))


def move_the_images(stored: Stored) -> None:
    """The network is said to take images that are not centered, wherever it is said."""
    stored.edit(NETWORK, lambda content: content["data"]["normalization"].update(offset=0.0))
    replace_text("MLmodel", "offset: -0.5", "offset: 0.0")(stored)


def say_other_data(stored: Stored) -> None:
    digest = json.loads((stored.folder / NETWORK).read_text())["data"]["sha256"]
    for name in (NETWORK, "MLmodel"):
        replace_text(name, digest, "f" * 64)(stored)


def take_another_network(stored: Stored) -> None:
    """That of another trial, with its sample, its parameters and what can be checked without data,
    and with the names of this run."""
    client = stored.client
    own = stored.run
    which = "tags.`study.kind` = 'trial' and tags.`study.trial_id` = '0001'"
    (other,) = client.search_runs([own.info.experiment_id], which)
    assert other.info.run_id != stored.run_id
    before = yaml.safe_load((stored.folder / "MLmodel").read_text())
    take_files(stored, other)
    about = yaml.safe_load((stored.folder / "MLmodel").read_text())
    about |= {key: before[key] for key in ("run_id", "model_id", "model_uuid")}
    about["metadata"]["study"] = before["metadata"]["study"]
    (stored.folder / "MLmodel").write_text(yaml.safe_dump(about))
    stored.tag("study.sample", other.data.tags["study.sample"])
    for name in ("val_accuracy", *PROVEN_METRICS):
        client.log_metric(stored.run_id, name, other.data.metrics[name], step=100)
    for key, value in other.data.params.items():
        where = "WHERE key = ? AND run_uuid = ?"
        stored.sql(f"UPDATE params SET value = ? {where}", value, key, stored.run_id)


Changed = tuple[Callable[[Stored], None], str]


def off(name: str, change: Callable[[float], float]) -> Changed:
    """Another metric, and the line that names it."""
    return metric(name, change), f"its metric {name} is "


def off_curve(path: str, by: float) -> Changed:
    """A list in the certificate multiplied, at keys with a dot between, and the line."""
    outer, inner = path.split(".")

    def change(content: dict[str, Any]) -> None:
        content[outer][inner] = [value * by for value in content[outer][inner]]

    return lambda stored: stored.edit(CERTIFICATE, change), f"certificate.json: {path} is "


def write_inverse(**changes: object) -> Callable[[Stored], None]:
    return lambda stored: stored.edit("inverse.json", lambda content: content.update(changes))


# What is done in one go, and the line or lines that name each of it: measuring takes seconds.
ON_DATA: dict[str, tuple[tuple[Callable[[Stored], None], *tuple[str, ...]], ...]] = {
    "nothing": (),
    "figures": (
        (
            raise_what_is_right,
            "its metric val_accuracy is 1.0, but the network has ",
            "its metric certified_accuracy is 1.0, but the network has ",
            "val_right.json is wrong about ",
        ),
        off("test_accuracy", lambda v: v + 0.05),
        (
            raise_the_radii,
            "its metric test_certified_accuracy is 1.0, but the network has ",
            "test_radii.json is wrong about ",
        ),
        off("attacked_accuracy", lambda v: v + 0.05),
        off("val_loss", lambda v: v * 0.9),
        off("median_radius", lambda v: v + 0.01),
        off("inverse_steps", lambda v: v / 2),
        # Of the size of rounding; the other is not.
        off("reconstruction_error", lambda v: v / 100),
        off("noise_error", lambda v: v / 2),
        off_curve("on_validation_split.certified_accuracy", 1.015),
        off_curve("on_validation_split.radius", 1.1),
        off_curve("on_test_split.radius", 1.1),
        (claim("on_validation_split.n_images", 289), "on_validation_split.n_images is 289, but"),
        (claim("empirical_lipschitz", [0.01, 0.01]), "empirical_lipschitz is 0.01, but"),
        (write_inverse(needed_steps_mean=[1.0, 1.0]), "inverse.json: needed_steps_mean is 1.0, "),
        (write_inverse(needed_steps_max=[1, 1]), "inverse.json: needed_steps_max is 1, but"),
        (write_inverse(error_bound=1e-9), "inverse.json: error_bound is 1e-09, but"),
        (write_inverse(image_error_bound=1e-9), "inverse.json: image_error_bound is 1e-09, but"),
        (write_inverse(n_steps=[*range(20)]), "inverse.json: n_steps is 0, but"),
        (write_inverse(reconstruction_error=[1e-9] * 20), "reconstruction_error is 1e-09, but"),
        (write_inverse(rtol=1e-7), "inverse.json: rtol is 1e-07, but"),
        (move_the_images, "network.json: data.normalization.offset is 0.0, but the network has -0"),
        (describe(budget="last"), "network.json: architecture.budget is last, but"),
    ),
    "form": (
        (claim("on_validation_split", [1]), "on_validation_split must be an object of JSON"),
        (write_inverse(predicted_steps=[10**400, 1]), "predicted_steps is 1000000"),
        (write_inverse(needed_steps_mean=[1]), "needed_steps_mean must be a list of 2"),
    ),
    "no form": (
        (
            lambda stored: (stored.of_run / "inverse.json").write_text("[" * 5000),
            "inverse.json: it must be an object of JSON",
        ),
        # Each metric that the answers decide; the curves too, and the images that are right.
        (
            negate_the_answers,
            "its metric val_loss is ",
            "its metric val_accuracy is ",
            "its metric median_radius is ",
            "its metric test_accuracy is ",
            "on_validation_split.radius is ",
            "on_validation_split.certified_accuracy is ",
            "val_right.json is wrong about ",
            "test_radii.json is wrong about ",
        ),
    ),
    "another network": (
        (
            take_another_network,
            "its metric median_radius is ",
            "its metric inverse_steps is ",
            "its metric noise_error is ",
        ),
    ),
    "other data": (
        (say_other_data, "data: that of the run has the digest ffffffff, but that in "),
    ),
}


# What the figures of the study mean: tests/support/studies.py.
MEANT = (
    "at radius 4 (l2, pixels from 0 to 1) in float32, on digits with val_fraction 0.2, "
    "test_fraction 0.2, split_seed 0, images times 0.003922 plus -0.5, for "
    "block_lipschitz_upper_bound, inverse_steps, val_accuracy"
)


def set_in_study(stored: Stored, study: StudyRecord, section: str, changes: object) -> None:
    """Change the settings that the run of the study has in a tag, which no digest covers."""
    config = json.loads(stored.client.get_run(study.run_id).data.tags["study.config"])
    config[section] = {**config[section], **changes} if isinstance(changes, dict) else changes
    stored.client.set_tag(study.run_id, "study.config", json.dumps(config))


def claim_a_smaller_radius(stored: Stored, study: StudyRecord) -> float:
    """Let the study say a smaller radius, and the run how many answers are certified at it."""
    curve = json.loads((stored.folder / CERTIFICATE).read_text())["on_validation_split"]
    radius, accuracy = curve["radius"][1], curve["certified_accuracy"][1]
    assert 0 < radius < 4
    assert accuracy > 0.1 > stored.run.data.metrics["certified_accuracy"]
    set_in_study(stored, study, "evaluation", {"radius": radius})
    metric("certified_accuracy", lambda _: accuracy)(stored)
    # These depend on the radius as well.
    for name in ("attacked_accuracy", "lost_to_rounding"):
        forget(stored, name)
    return float(radius)


def certify_more(stored: Stored, study: StudyRecord, radius: float) -> None:
    """Let the files of the run have the images as certified that are at this radius."""
    dataset, network = sources.load(study.config.data), read_network(stored.folder / DATA)
    val, test = (
        evaluate(network, split, "float32", certify(network))
        for split in (dataset.val, dataset.test)
    )
    content = packed(val.right.tolist(), val.certified(radius).tolist(), radius)
    (stored.of_run / VAL_RIGHT).write_text(json.dumps(content))
    radii = packed_radii(test.radii.numpy(), radius)
    (stored.of_run / TEST_RADII).write_text(json.dumps(radii))
    metric("test_certified_accuracy", lambda _: test.certified_accuracy(radius))(stored)


def test_a_figure_keeps_the_radius_that_it_was_measured_with(
    stored: Stored, study: StudyRecord, tmp_path: Path
) -> None:
    """With and without the data. Who forges the files as well is measured at the forged radius, and
    verify prints it."""
    radius = claim_a_smaller_radius(stored, study)
    for options in ([], ["--data-root", str(tmp_path)]):
        assert (
            f"{stored.run_id}: run: its figures were measured with radius 4.0, by "
            f"network.json, but its study says {radius}\n"
        ) in stored.refused(*options)
    certify_more(stored, study, radius)
    stored.edit(NETWORK, lambda content: content["measured"].update(radius=radius))
    stored.log_again()
    out = stored.verified("--data-root", str(tmp_path))
    assert f"; measured again at radius {radius:.6g} (l2, pixels from 0 to 1) in float32, " in out


@pytest.mark.parametrize(
    ("section", "changes", "says"),
    [
        ("evaluation", {"precision": "float64"}, "precision float32, by"),
        ("evaluation", {"inverse_rtol": 1e-3}, "inverse_rtol 1e-06, by"),
        ("data", {"split_seed": 7}, "split.split_seed 0, by"),
        ("data", {"val_fraction": 0.5}, "split.val_fraction 0.2, by"),
        ("objectives", {"val_loss": "minimize"}, "objectives ['block_lipschitz"),
        ("objectives", {"val_accuracy": "minimize"}, "goals.val_accuracy maximize, by"),
        (
            "constraints",
            {"block_lipschitz_upper_bound": "< 2"},
            "goals.block_lipschitz_upper_bound minimize, < 1, by network.json, but its study says "
            "minimize, < 2",
        ),
        ("constraints", {"val_accuracy": "> 0.1"}, "goals.val_accuracy maximize, by"),
        (
            "metrics",
            {"mine": {"of": "own:metric", "direction": "maximize"}},
            "metrics.mine None, by network.json, but its study says own:metric",
        ),
    ],
)
def test_what_a_figure_means_is_what_the_study_says(
    stored: Stored, study: StudyRecord, section: str, changes: dict[str, Any], says: str
) -> None:
    set_in_study(stored, study, section, changes)
    if section == "objectives":
        set_in_study(stored, study, "reference_point", dict.fromkeys(changes, 3.0))
    assert says in stored.refused()


def test_a_sample_that_is_none_of_the_study_is_refused(stored: Stored) -> None:
    sample = stored.sample
    for wrong in ({"x": 1}, {"blocks": 3}, {"block": 3}):
        stored.tag("study.sample", json.dumps({**sample, **wrong}))
        assert "its sample must be one of its study, but is {" in stored.refused()


def test_objectives_that_were_not_measured_again_are_said_not_to_be(
    stored: Stored, study: StudyRecord, tmp_path: Path
) -> None:
    """Figures of training, and without --trust metrics of the user's own."""
    own = {"of": "own:half", "direction": "maximize"}
    set_in_study(stored, study, "search", {"ladder": []})
    set_in_study(stored, study, "metrics", {"half": own})
    set_in_study(stored, study, "reference_point", {"half": 0.0, "train_loss": 3.0})
    set_in_study(stored, study, "objectives", {"train_loss": "minimize", "half": "maximize"})
    metric("train_loss", lambda _: 1e-9)(stored)
    stored.client.log_metric(stored.run_id, "half", 0.999, step=3)
    forged = Records(Client(stored.uri)).find_study("tiny")
    assert forged is not None
    sample = stored.sample
    meant = json.loads(json.dumps(forged.config.resolve(sample, seed=0).meaning))
    stored.edit(NETWORK, lambda content: content.update(meant))
    stored.log_again()
    out = stored.verified("--data-root", str(tmp_path))
    assert out.endswith(f"; measured again {MEANT}, not for train_loss, half\n")


@pytest.mark.parametrize("case", ON_DATA)
def test_what_the_proof_does_not_cover_is_measured_again_on_the_data(
    stored: Stored, case: str, tmp_path: Path
) -> None:
    """By somebody who can log runs too."""
    for change, *_ in ON_DATA[case]:
        change(stored)
    stored.log_again()
    stored.verified()
    says = [line for _, *lines in ON_DATA[case] for line in lines]
    if not says:
        out = stored.verified("--data-root", str(tmp_path))
        assert out.endswith(f"; measured again {MEANT}\n")
        return
    out = stored.refused("--data-root", str(tmp_path))
    for line in says:
        assert out.count(line) == 1, (line, out)
