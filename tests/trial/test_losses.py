import math
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from models import IResNet, Span, certify, fit_to_labels
from models.heads.linear_last import last_layer
from models.heads.radius_loss import margin_loss, pair_distances, radii_of_classes
from study.config.data import DataConfig
from study.config.trial import ModelConfig, TrainingConfig, TrialConfig
from study.errors import ConfigError
from study.trial.data.tensors import normalized
from study.trial.head import make_loss, target_lipschitz
from tests.support.networks import enlarge
from tests.support.trials import trained

CONFIG = TrialConfig(
    data=DataConfig(max_train=300, shift=0),
    model=ModelConfig(
        blocks=(),
        dense_blocks=1,
        channel_multiplier=1,
        bottleneck=2,
        head="lipschitz",
        coeff=0.5,
        dropout=0.0,
    ),
    training=TrainingConfig(
        max_epochs=2, batch_size=50, optimizer="muon", lr_schedule="one_cycle", loss="margin"
    ),
)

MARGINS = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5], dtype=torch.float64)


def test_the_margin_loss_is_the_formula() -> None:
    of_pairs = torch.randn(5, 4, dtype=torch.float64)
    of_pairs[torch.arange(5), torch.tensor([0, 1, 2, 3, 0])] = math.inf
    margin, t = 0.3, 0.1
    each = [
        t * math.log(1 + sum(math.exp((margin - r) / t) for r in row if r < math.inf))
        for row in of_pairs.tolist()
    ]
    assert margin_loss(of_pairs, margin, t).item() == pytest.approx(sum(each) / 5)
    # Each image may have a margin and a temperature of its own.
    alone = [margin_loss(row[None], m, m / 4) for row, m in zip(of_pairs, MARGINS, strict=True)]
    together = margin_loss(of_pairs, MARGINS[:, None], MARGINS[:, None] / 4)
    torch.testing.assert_close(together, torch.stack(alone).mean())
    # With a small temperature it is the mean shortfall of the smallest radius.
    of_pairs = torch.tensor([[math.inf, 0.1, 0.4], [0.9, math.inf, 0.8]])
    assert margin_loss(of_pairs, 0.5, 1e-3).item() == pytest.approx(0.4 / 2, abs=2e-3)


def test_a_relative_temperature_is_a_fraction_of_the_margin() -> None:
    one = replace(CONFIG.training, max_epochs=1, margin=0.4, temperature=0.1)
    relative = replace(one, temperature=0.25, relative_temperature=True)
    for family in ((), (("margin", Span(0.4, 0.4000001)),)):
        weights = []
        for training in (one, relative, replace(relative, relative_temperature=False)):
            config = replace(CONFIG, training=training, family=family)
            weights.append(next(trained(config).model.parameters()))
        torch.testing.assert_close(weights[0], weights[1], rtol=1e-4, atol=1e-5)
        assert (weights[0] - weights[2]).abs().max() > 1e-3


def test_a_radius_is_the_distance_to_where_two_logits_are_equal() -> None:
    """For linear logits, moved along the difference of two rows."""
    torch.manual_seed(0)
    head, x = nn.Linear(6, 3).double(), torch.randn(8, 6).double()
    labels = torch.randint(0, 3, (8,))
    logits = head(x)
    of_pairs = radii_of_classes(logits, labels, pair_distances(head.weight), 1.0)
    for index, label in enumerate(labels.tolist()):
        for other in {0, 1, 2} - {label}:
            away = head.weight[label] - head.weight[other]
            moved = head(x[index] - of_pairs[index, other] * away / away.norm())
            assert moved[label].item() == pytest.approx(moved[other].item())
        assert of_pairs[index, label] == math.inf
    # Features that are twice as steep.
    torch.testing.assert_close(
        radii_of_classes(logits, labels, pair_distances(head.weight), 2.0), of_pairs / 2
    )


def test_classes_with_equal_rows_have_gradients() -> None:
    weight = torch.ones(3, 4, requires_grad=True)
    of_pairs = radii_of_classes(
        torch.randn(2, 3), torch.tensor([0, 1]), pair_distances(weight), 1.0
    )
    margin_loss(of_pairs, 1.0, 0.1).backward()
    assert weight.grad is not None
    assert weight.grad.isfinite().all()


@pytest.mark.parametrize(
    "changes",
    [
        {"blocks": (1, 1), "bottleneck": 1, "channel_multiplier": 4},
        {"blocks": (1,), "block": "potential", "dense_blocks": 2},
        {"blocks": (1,), "block": "potential", "dense_blocks": 1, "coeff": 1.5},
    ],
)
def test_the_features_are_at_most_as_steep_as_their_targets(changes: dict[str, Any]) -> None:
    """What is proven of layers that meet their targets."""
    rest = {"head": "lipschitz", "dropout": 0.0, "channel_multiplier": 1}
    model = IResNet((1, 4, 4), 3, **{**rest, **changes})
    enlarge(model, 20)
    for _ in range(60):
        model.update_spectral_norm()
    proven = certify(model.eval()).features_lipschitz_upper_bound
    assert proven <= target_lipschitz(model) * (1 + 1e-4)


def test_without_targets_no_slope_is_known() -> None:
    assert target_lipschitz(IResNet((1, 4, 4), 3, (1,), norm="none")) == math.inf


def test_a_head_is_fitted_to_a_body_that_stays() -> None:
    """From another start, the loss comes down to nearly what a second fit gives."""
    training = trained(CONFIG)
    model, split = training.model.eval(), training.dataset.train
    body = {name: value.clone() for name, value in model.body.state_dict().items()}
    images, of_trial = normalized(split.images), make_loss(CONFIG, 1.0)
    head = last_layer(model.classifier)

    def loss() -> float:
        with torch.no_grad():
            features, logits = model.features(images), model(images)
            radii = partial(model.head.radii, model.classifier, features, logits, split.labels)
            return of_trial(radii, logits, split.labels).item()

    before = loss()
    torch.manual_seed(1)
    head.reset_parameters()
    spoiled = loss()
    fit_to_labels(model, [images], split.labels, of_trial, seed=0)
    fitted = loss()
    fit_to_labels(model, [images], split.labels, of_trial, seed=1)
    assert fitted < before < spoiled
    assert loss() == pytest.approx(fitted, rel=0.05)
    assert all(torch.equal(value, body[name]) for name, value in model.body.state_dict().items())


def test_a_larger_margin_gives_larger_radii() -> None:
    longer = replace(CONFIG.training, max_epochs=10, other_lr=0.12)
    small, large = (
        trained(replace(CONFIG, training=replace(longer, margin=margin))).answers().val.radii
        for margin in (0.05, 1.0)
    )
    assert small.median() < large.median()


@pytest.mark.parametrize("changes", [{"head": "batch_norm"}, {"norm": "none"}])
def test_a_margin_needs_slopes_that_are_known(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"training\.loss: must be another without model\.head"):
        replace(CONFIG, model=replace(CONFIG.model, **changes))
