import copy
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from models import IResNet, certified_radius, certify, project, read_network
from study.config.trial import TrialConfig
from study.metrics.artifacts import VAL_RIGHT, read_right
from study.metrics.reports import CONTROL
from study.trial.data import tensors as data
from study.trial.head import make_loss
from study.trial.ladder import Projection, _best, projections, save_outcome
from study.trial.measured.evaluation import measure
from study.trial.measured.network_files import save_network
from study.trial.training import Training
from tests.support.networks import normalized_layers
from tests.support.trials import TINY, trained
from tests.trial.test_losses import CONFIG

LADDER = (0.125, 0.064, 0.027)
BRIEF = replace(TINY, ladder=LADDER, training=replace(TINY.training, max_epochs=1))
# Dense potential blocks with a linear head, a ladder and a control.
CERTIFYING = replace(
    TINY,
    model=replace(CONFIG.model, dense_blocks=2, dropout=0.1),
    training=replace(TINY.training, max_epochs=1, optimizer="muon", loss="margin"),
    evaluation=replace(CONFIG.evaluation, radius=0.1),
    ladder=(0.2, 0.05),
    control=True,
)


completed = cache(trained)


def training_of(config: TrialConfig) -> Training:
    """A completed training, shared by all configs that differ in settings of the ladder alone."""
    training = copy.copy(completed(replace(config, ladder=(), fine_tune_steps=0, control=False)))
    training.config = config
    return training


@cache
def rungs_of(config: TrialConfig) -> tuple[Projection, ...]:
    """Its ladder, which no test changes."""
    training = training_of(config)
    return tuple(projections(training, training.certified()))


def bounds(rungs: Sequence[Projection]) -> list[float]:
    return [rung.report.projected_to for rung in rungs]


def state_of(model: IResNet) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("fine_tune_steps", [0, 3])
def test_each_rung_is_certified_and_no_block_is_above_it(fine_tune_steps: int) -> None:
    found = rungs_of(replace(BRIEF, fine_tune_steps=fine_tune_steps))
    assert bounds(found) == list(LADDER)
    for projection in found:
        certificate = certify(projection.network.model, "full")
        assert projection.network.certificate == certificate
        assert certificate.lipschitz_upper_bound <= projection.report.projected_to
        assert projection.report.block_lipschitz_upper_bound == certificate.lipschitz_upper_bound
        assert projection.report.fine_tune_steps == fine_tune_steps


def test_what_is_reported_is_what_the_saved_network_is_bit_for_bit(tmp_path: Path) -> None:
    config, dataset = BRIEF, training_of(BRIEF).dataset
    for projection in rungs_of(BRIEF):
        folder = tmp_path / str(projection.report.projected_to)
        folder.mkdir()
        save_network(folder, projection.network, projection.answers, config, dataset)
        loaded = read_network(folder)
        again, answers = measure(loaded, dataset.val, config, certify(loaded, "full"))
        report = projection.report
        kept = read_right((folder / VAL_RIGHT).read_bytes(), report.val_accuracy)
        assert kept == answers.right.tolist()
        assert asdict(again).items() <= asdict(report).items()
        images = data.normalized(dataset.val.images[:8])
        with torch.no_grad():
            assert torch.equal(loaded(images), projection.network.model(images))


def test_the_ladder_is_the_same_each_time_and_leaves_the_trial_as_it_was() -> None:
    training = training_of(replace(BRIEF, fine_tune_steps=3, ladder=(0.064,)))
    network = training.certified()
    before, global_state = state_of(training.model), torch.random.get_rng_state()
    first, second = (
        [replace(rung.report, timestamp=0.0) for rung in projections(training, network)]
        for _ in range(2)
    )
    assert first == second
    assert torch.equal(torch.random.get_rng_state(), global_state)
    for name, value in training.model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_rung_that_changes_no_block_is_left_out() -> None:
    largest = training_of(BRIEF).certified().certificate.lipschitz_upper_bound
    ladder = (min(0.99, largest * 1.001), 0.125)
    assert bounds(rungs_of(replace(BRIEF, ladder=ladder))) == [0.125]


def test_a_control_that_violates_a_constraint_dominates_none_that_meets_it() -> None:
    def control(**metrics: float) -> Any:
        return SimpleNamespace(report=SimpleNamespace(metrics=lambda: metrics))

    goals = ("val_accuracy", "maximize"), ("certified_accuracy", "> 0.7")
    config = replace(BRIEF, objectives=("val_accuracy",), goals=goals)
    meets = control(val_accuracy=0.95, certified_accuracy=0.75)
    violates = control(val_accuracy=0.97, certified_accuracy=0.60)
    worse = control(val_accuracy=0.94, certified_accuracy=0.74)
    assert list(_best([meets, violates, worse], config)) == [meets, violates]


@pytest.mark.parametrize("head", ["lipschitz", "rows"])
def test_the_control_is_a_classifier_of_rows_trained_alone(head: Any, tmp_path: Path) -> None:
    """It is the network that a trial without blocks would train, and comes back from its files."""
    model_config = replace(CERTIFYING.model, head=head, rows=3)
    longer = replace(CERTIFYING.training, max_epochs=5, other_lr=0.3)
    config = replace(CERTIFYING, model=model_config, training=longer)
    training = training_of(config)
    *rungs, control = rungs_of(config)
    assert bounds(rungs) == [0.2, 0.05]
    report, model = control.report, control.network.model
    assert report.projected_to == CONTROL
    images = data.normalized(training.dataset.val.images[:50])
    assert torch.equal(model.features(images), images)
    certificate = control.network.certificate
    assert certificate.blocks == ()
    assert report.inverse_lipschitz_upper_bound == pytest.approx(1)
    assert report.reconstruction_error == 0
    assert report.inverse_steps == 0
    assert report.certified_accuracy <= report.val_accuracy
    assert report.val_accuracy > 0.5
    without = replace(model_config, blocks=(), dense_blocks=0, head="rows")
    alone = trained(replace(config, model=without, control=False)).certified()
    assert certify(alone.model) == certificate
    save_outcome(tmp_path / "outcome", training, [*rungs, control])
    *_, stored = sorted(path.parent for path in (tmp_path / "outcome").rglob("network.json"))
    assert certify(read_network(stored)) == certificate


def test_on_the_test_images_too_the_certified_ones_are_counted() -> None:
    """Of the training's network, each rung and the control: image by image, those whose own radius
    is above that of the study."""
    training, rungs = training_of(CERTIFYING), rungs_of(CERTIFYING)
    test, radius = training.dataset.test, CERTIFYING.radius
    counted = [(training.certified(), training.answers())]
    counted += [(rung.network, rung.answers) for rung in rungs]
    for network, answers in counted:
        radii = [
            certified_radius(network.model, images, labels, network.certificate)
            for images, labels in zip(
                data.normalized(test.images).double().split(50), test.labels.split(50), strict=True
            )
        ]
        n_certified = sum(int((part > radius).sum()) for part in radii)
        assert 0 < n_certified < len(test)
        assert answers.test.certified_accuracy(radius) == n_certified / len(test)
    assert [rung.report.test_certified_accuracy for rung in rungs] == [
        answers.test.certified_accuracy(radius) for _, answers in counted[1:]
    ]


def test_a_linear_head_is_fitted_anew_at_each_rung() -> None:
    """With its loss, the classifier of a rung fits its features better than that of before."""
    training = training_of(CERTIFYING)
    fitted = next(r for r in rungs_of(CERTIFYING) if r.report.projected_to == 0.05).network.model
    unfitted = copy.deepcopy(fitted)
    unfitted.classifier.load_state_dict(training.certified().model.classifier.state_dict())
    split, loss = training.dataset.train, make_loss(CERTIFYING, 1.0)
    losses = []
    with torch.no_grad():
        for model in (fitted, unfitted):
            features = model.features(data.normalized(split.images))
            logits = model.classifier(features)
            radii = partial(model.head.radii, model.classifier, features, logits, split.labels)
            losses.append(loss(radii, logits, split.labels))
    assert losses[0] < losses[1]


@pytest.mark.parametrize("loss", ["margin", "cross_entropy"])
def test_project_with_labels_gives_the_network_of_a_rung(loss: Any) -> None:
    """The call in models/README.md does what the ladder does, with the settings of the training."""
    recipe = replace(CERTIFYING.training, loss=loss, margin=0.4)
    config = replace(CERTIFYING, training=recipe, control=False, ladder=(0.05,))
    (rung,), training = rungs_of(config), training_of(config)
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
    for norm, n_rungs in (("batch", 0), ("none", 1)):
        config = replace(BRIEF, ladder=(0.064,), model=replace(TINY.model, norm=norm))  # type: ignore[arg-type]
        assert len(rungs_of(config)) == n_rungs


def test_fine_tuning_starts_at_the_projected_network_with_weights_of_their_former_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A step of Muon has one size: of a weight that was made small it would leave nothing."""
    started: list[IResNet] = []
    monkeypatch.setattr(
        Training, "fine_tune", lambda _, model, *args, **kw: started.append(copy.deepcopy(model))
    )
    config = replace(BRIEF, fine_tune_steps=1, ladder=(0.001,))
    assert len(rungs_of(config)) == 1
    model = training_of(config).model
    projected = copy.deepcopy(model)
    project(projected, lipschitz=0.001)
    scaled = 0
    for layer, before, lowered in zip(
        *map(normalized_layers, (started[0], model, projected)), strict=True
    ):
        assert torch.allclose(layer.weight.norm(), before.weight.norm())
        assert layer.coeff == lowered.coeff
        # The rest is the error of sigma, an estimate.
        change = (layer.effective_weight() - lowered.effective_weight()).norm()
        assert change <= 0.05 * lowered.effective_weight().norm()
        scaled += lowered.coeff < before.coeff
    assert scaled > 0


def test_fine_tuning_that_diverges_leaves_its_rung_out_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tuned = Training.fine_tune

    def diverging(self: Training, model: IResNet, n_steps: int, seed: int) -> None:
        before = copy.deepcopy(model.state_dict())
        tuned(self, model, n_steps, seed)
        assert any(not torch.equal(v, before[name]) for name, v in model.state_dict().items())
        if seed % 10 == 1:  # the second rung
            with torch.no_grad():
                next(model.body.parameters()).fill_(float("nan"))

    monkeypatch.setattr(Training, "fine_tune", diverging)
    assert bounds(rungs_of(replace(BRIEF, fine_tune_steps=2))) == [LADDER[0], LADDER[2]]
