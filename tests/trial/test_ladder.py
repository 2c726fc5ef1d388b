import copy
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from models import IResNet, certified_radius, certify, project, read_network
from models.layers.spectral_norm import SpectralNormConv2d
from study.config.trial import TrialConfig
from study.metrics.artifacts import VAL_RIGHT, read_right
from study.metrics.reports import CONTROL, TrialStatus
from study.trial import data
from study.trial.evaluation import measure
from study.trial.ladder import Projection
from study.trial.ladder import projections as projections_of
from study.trial.losses import make_loss
from study.trial.network_files import Certified, save_network
from study.trial.training import Training
from tests.trial.test_losses import CONFIG
from tests.trial.test_training import TINY

LADDER = (0.125, 0.064, 0.027)


def projections(training: Training) -> Iterator[Projection]:
    return projections_of(training, Certified.of(training.model))


def trained(**changes: object) -> Training:
    brief = {"ladder": LADDER, "training": replace(TINY.training, max_epochs=1)}
    config: TrialConfig = replace(TINY, **{**brief, **changes})
    training = Training(config)
    while training.status is TrialStatus.RUNNING:
        training.run_to_report()
    assert training.status is TrialStatus.COMPLETED
    return training


@pytest.fixture(scope="module")
def training() -> Training:
    return trained()


@pytest.mark.parametrize("fine_tune_steps", [0, 3])
def test_each_rung_is_certified_and_no_block_is_above_it(
    fine_tune_steps: int,
) -> None:
    found = list(projections(trained(fine_tune_steps=fine_tune_steps)))
    assert [projection.report.projected_to for projection in found] == list(LADDER)
    for projection in found:
        certificate = certify(projection.network.model, "full")
        assert projection.network.certificate == certificate
        assert certificate.lipschitz_upper_bound <= projection.report.projected_to
        assert projection.report.lipschitz_upper_bound == certificate.lipschitz_upper_bound
        assert projection.report.fine_tune_steps == fine_tune_steps


def test_what_is_reported_is_what_the_saved_network_is_bit_for_bit(
    training: Training, tmp_path: Path
) -> None:
    for index, projection in enumerate(projections(training)):
        folder = tmp_path / str(index)
        folder.mkdir()
        network, config, dataset = projection.network, training.config, training.dataset
        save_network(folder, network, projection.answers, config, dataset)
        loaded = read_network(folder)
        certificate = certify(loaded, "full")
        again, answers = measure(loaded, dataset.val, config, certificate)
        report = projection.report
        kept = read_right((folder / VAL_RIGHT).read_bytes(), report.val_accuracy)
        assert kept == answers.right.tolist()
        assert asdict(again).items() <= asdict(report).items()
        images = data.normalized(dataset.val.images[:8])
        with torch.no_grad():
            assert torch.equal(loaded(images), projection.network.model(images))


def test_the_ladder_is_the_same_each_time_and_leaves_the_trial_as_it_was() -> None:
    training = trained(fine_tune_steps=3, ladder=(0.064,))
    before = {name: value.clone() for name, value in training.model.state_dict().items()}
    first, second = (
        [replace(projection.report, timestamp=0.0) for projection in projections(training)]
        for _ in range(2)
    )
    assert first == second
    for name, value in training.model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_rung_that_changes_no_block_is_left_out(training: Training) -> None:
    largest = certify(training.model, "full").lipschitz_upper_bound
    training = trained(ladder=(min(0.99, largest * 1.001), 0.125))
    assert [projection.report.projected_to for projection in projections(training)] == [0.125]


def certifying(**changes: object) -> Training:
    """A training of dense potential blocks with a linear head, a ladder and a control."""
    model = replace(CONFIG.model, dense_blocks=2, dropout=0.1)
    recipe = replace(TINY.training, max_epochs=2, optimizer="muon", loss="margin")
    given = {"model": model, "training": recipe, "ladder": (0.2, 0.05), "control": True}
    return trained(**{**given, **changes})


def test_the_control_is_linear_and_its_classifier_is_fitted(tmp_path: Path) -> None:
    """The features are the images, so its certificate is that of the classifier alone; and it comes
    back from its files, which share the weights of the training's network."""
    training = certifying()
    *rungs, control = projections(training)
    assert [rung.report.projected_to for rung in rungs] == [0.2, 0.05]
    assert control.report.projected_to == CONTROL
    model = control.network.model
    images = data.normalized(training.dataset.val.images[:50])
    assert torch.equal(model.features(images).flatten(1), images.flatten(1))
    certificate = control.network.certificate
    assert certificate.lipschitz_upper_bound < 1e-6
    assert certificate.inverse_lipschitz_upper_bound == pytest.approx(1)
    assert control.report.reconstruction_error < 1e-6
    assert control.report.val_accuracy > 0.5
    assert control.report.certified_accuracy <= control.report.val_accuracy
    save_network(
        tmp_path,
        control.network,
        control.answers,
        training.config,
        training.dataset,
        training.certified().model,
    )
    weights = tmp_path / "weights.safetensors"
    assert not weights.exists()
    (tmp_path / "base").mkdir()
    own = training.certified()
    save_network(tmp_path / "base", own, training.answers(), training.config, training.dataset)
    weights.write_bytes((tmp_path / "base" / "weights.safetensors").read_bytes())
    with torch.no_grad():
        assert torch.equal(read_network(tmp_path)(images), model(images))


def test_on_the_test_images_too_the_certified_ones_are_counted() -> None:
    """Of the training's network, each rung and the control: image by image, those whose own radius
    is above that of the study."""
    evaluation = replace(CONFIG.evaluation, radius=0.1)
    training = certifying(evaluation=evaluation)
    test = training.dataset.test
    counted = [(training.certified(), training.answers())]
    counted += [(rung.network, rung.answers) for rung in projections(training)]
    for network, answers in counted:
        radii = [
            certified_radius(network.model, images, labels, network.certificate)
            for images, labels in zip(
                data.normalized(test.images).double().split(7), test.labels.split(7), strict=True
            )
        ]
        n_certified = sum(int((part > 0.1).sum()) for part in radii)
        assert 0 < n_certified < len(test)
        assert answers.test.certified_accuracy(0.1) == n_certified / len(test)
    reports = [rung.report for rung in projections(training)]
    assert [report.test_certified_accuracy for report in reports] == [
        answers.test.certified_accuracy(0.1) for _, answers in counted[1:]
    ]


def test_a_linear_head_is_fitted_anew_at_each_rung_and_the_training_stays() -> None:
    """With its loss, the classifier of a rung fits its features better than that of before."""
    training = certifying()
    before = {name: value.clone() for name, value in training.model.state_dict().items()}
    found = {projection.report.projected_to: projection for projection in projections(training)}
    for name, value in training.model.state_dict().items():
        assert torch.equal(value, before[name]), name
    last = found[0.05].network.model
    unfitted = copy.deepcopy(last)
    unfitted.classifier.load_state_dict(training.certified().model.classifier.state_dict())
    split = training.dataset.train
    losses = []
    for model in (last, unfitted):
        with torch.no_grad():
            logits = model(data.normalized(split.images))
            slopes = partial(model.head.slopes, model.classifier)
            losses.append(make_loss(training.config, 1.0)(slopes, logits, split.labels).item())
    assert losses[0] < losses[1]


@pytest.mark.parametrize("loss", ["margin", "cross_entropy"])
def test_project_with_labels_gives_the_network_of_a_rung(loss: Any) -> None:
    """The call in models/README.md does what the ladder does, with the settings of the training."""
    recipe = replace(TINY.training, max_epochs=1, optimizer="muon", loss=loss, margin=0.4)
    training = certifying(training=recipe, control=False, ladder=(0.05,))
    (rung,) = projections(training)
    model, split = copy.deepcopy(training.certified().model), training.dataset.train
    certificate = project(
        model,
        lipschitz=0.05,
        images=data.normalized(split.images),
        labels=split.labels,
        margin=0.4 if loss == "margin" else None,
        temperature=recipe.temperature,
        seed=training.config.seed,
    )
    for name, value in rung.network.model.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value)
    assert certificate == certify(model)


def test_batch_norm_in_the_blocks_has_no_ladder_and_a_plain_network_has_one() -> None:
    model = replace(TINY.model, norm="batch")
    assert list(projections(trained(model=model))) == []
    model = replace(TINY.model, norm="none")
    assert len(list(projections(trained(model=model)))) == len(LADDER)


def test_fine_tuning_moves_the_network_and_draws_nothing_from_the_global_state(
    training: Training,
) -> None:
    model = copy.deepcopy(training.model)
    before = [p.detach().clone() for p in model.classifier.parameters()]
    state = torch.random.get_rng_state()
    training.fine_tune(model, 2, seed=5)
    assert torch.equal(torch.random.get_rng_state(), state)
    after = list(model.classifier.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(after, before, strict=True))


def test_fine_tuning_starts_at_the_projected_network_with_weights_of_their_former_size(
    training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step of Muon has one size: of a weight that was made small it would leave nothing."""
    started: list[IResNet] = []

    def noted(self: Training, model: IResNet, n_steps: int, seed: int) -> None:
        started.append(copy.deepcopy(model))

    monkeypatch.setattr(Training, "fine_tune", noted)
    training = trained(fine_tune_steps=1, ladder=(0.001,))
    assert len(list(projections(training))) == 1
    projected = copy.deepcopy(training.model)
    project(projected, lipschitz=0.001)
    scaled = 0
    for layer, before, lowered in zip(
        *(
            [m for m in model.modules() if isinstance(m, SpectralNormConv2d)]
            for model in (started[0], training.model, projected)
        ),
        strict=True,
    ):
        assert torch.allclose(layer.weight.norm(), before.weight.norm())
        assert layer.coeff == lowered.coeff
        # The rest is the error of sigma, an estimate.
        change = (layer.effective_weight() - lowered.effective_weight()).norm()
        assert change <= 0.05 * lowered.effective_weight().norm()
        scaled += lowered.coeff < before.coeff
    assert scaled > 0


def test_fine_tuning_that_diverges_leaves_its_rung_out_and_no_other(
    training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuned = Training.fine_tune

    def diverging(self: Training, model: IResNet, n_steps: int, seed: int) -> None:
        tuned(self, model, n_steps, seed)
        if seed % 10 == 1:  # the second rung
            with torch.no_grad():
                next(model.body.parameters()).fill_(float("nan"))

    monkeypatch.setattr(Training, "fine_tune", diverging)
    found = list(projections(trained(fine_tune_steps=2)))
    assert [projection.report.projected_to for projection in found] == [LADDER[0], LADDER[2]]
