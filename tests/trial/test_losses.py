import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from models import IResNet, certify
from models.heads.radius_loss import margin_loss, pair_distances, radii
from study.config.trial import DataConfig, ModelConfig, TrainingConfig, TrialConfig
from study.errors import ConfigError
from study.metrics.reports import TrialStatus
from study.trial.data import Split
from study.trial.losses import fit_head, make_loss, target_lipschitz
from study.trial.training import Training

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


def test_the_margin_loss_is_the_formula() -> None:
    of_pairs = torch.randn(5, 4, dtype=torch.float64)
    of_pairs[torch.arange(5), torch.tensor([0, 1, 2, 3, 0])] = math.inf
    margin, t = 0.3, 0.1
    each = [
        t * math.log(1 + sum(math.exp((margin - r) / t) for r in row if r < math.inf))
        for row in of_pairs.tolist()
    ]
    assert margin_loss(of_pairs, margin, t).item() == pytest.approx(sum(each) / 5)


def test_with_a_small_temperature_it_is_the_mean_shortfall() -> None:
    of_pairs = torch.tensor([[math.inf, 0.1, 0.4], [0.9, math.inf, 0.8]])
    assert margin_loss(of_pairs, 0.5, 1e-3).item() == pytest.approx(0.4 / 2, abs=2e-3)


def test_a_radius_is_the_distance_to_where_two_logits_are_equal() -> None:
    """For linear logits, moved along the difference of two rows."""
    torch.manual_seed(0)
    head, x = nn.Linear(6, 3).double(), torch.randn(8, 6).double()
    labels = torch.randint(0, 3, (8,))
    logits = head(x)
    of_pairs = radii(logits, labels, pair_distances(head.weight), 1.0)
    for index, label in enumerate(labels.tolist()):
        for other in {0, 1, 2} - {label}:
            away = head.weight[label] - head.weight[other]
            moved = head(x[index] - of_pairs[index, other] * away / away.norm())
            assert moved[label].item() == pytest.approx(moved[other].item())
        assert of_pairs[index, label] == math.inf
    # Features that are twice as steep.
    torch.testing.assert_close(
        radii(logits, labels, pair_distances(head.weight), 2.0), of_pairs / 2
    )


def test_classes_with_equal_rows_have_gradients() -> None:
    weight = torch.ones(3, 4, requires_grad=True)
    of_pairs = radii(torch.randn(2, 3), torch.tensor([0, 1]), pair_distances(weight), 1.0)
    margin_loss(of_pairs, 1.0, 0.1).backward()
    assert weight.grad is not None
    assert weight.grad.isfinite().all()


def test_the_features_are_as_steep_as_their_targets_allow() -> None:
    """Of layers that meet their targets, what is proven is that, or less."""
    for changes in (
        {"blocks": (1, 1), "dense_blocks": 0, "bottleneck": 1, "channel_multiplier": 4},
        {"blocks": (1,), "block": "potential", "dense_blocks": 2},
        {"blocks": (1,), "block": "potential", "dense_blocks": 1, "coeff": 1.5},
    ):
        model = IResNet((1, 4, 4), 3, **{**_arguments(), **changes})
        with torch.no_grad():
            for name, parameter in model.body.named_parameters():
                parameter.mul_(20 if name.endswith("weight") else 1)
        model.update_spectral_norm()
        for _ in range(60):
            model.update_spectral_norm()
        proven = certify(model.eval()).features_lipschitz_upper_bound
        assert proven <= target_lipschitz(model) * (1 + 1e-4)
    assert target_lipschitz(IResNet((1, 4, 4), 3, (1,), norm="none")) == math.inf


def _arguments() -> dict[str, object]:
    model = CONFIG.model
    return {"head": model.head, "coeff": 0.9, "dropout": 0.0, "channel_multiplier": 1}


def test_a_head_is_fitted_to_a_body_that_stays() -> None:
    """From another start, the loss comes down to nearly what a second fit gives."""
    training = Training(CONFIG)
    while training.status is TrialStatus.RUNNING:
        training.run_to_report()
    model, split = training.model.eval(), training.dataset.train
    body = {name: value.clone() for name, value in model.body.state_dict().items()}

    def loss() -> float:
        with torch.no_grad():
            logits = model(_normalized(split))
            slopes = partial(model.head.slopes, model.classifier)
            return make_loss(CONFIG, 1.0)(slopes, logits, split.labels).item()

    trained = loss()
    torch.manual_seed(1)
    last = model.classifier[-1]
    assert isinstance(last, nn.Linear)
    last.reset_parameters()
    spoiled = loss()
    fit_head(model, split, CONFIG, 1.0, seed=0)
    fitted = loss()
    fit_head(model, split, CONFIG, 1.0, seed=1)
    assert fitted < trained < spoiled
    assert loss() == pytest.approx(fitted, rel=0.05)
    assert all(torch.equal(value, body[name]) for name, value in model.body.state_dict().items())


def _normalized(split: Split) -> torch.Tensor:
    return split.images.float() / 255 - 0.5


def test_a_larger_margin_gives_larger_radii_and_less_accuracy_on_training_images() -> None:
    medians = []
    longer = replace(CONFIG.training, max_epochs=10, other_lr=0.12)
    for margin in (0.05, 1.0):
        training = Training(replace(CONFIG, training=replace(longer, margin=margin)))
        while training.status is TrialStatus.RUNNING:
            training.run_to_report()
        answers = training.answers().val
        assert answers.radii is not None
        medians.append(answers.radii.median().item())
    assert medians[0] < medians[1]


@pytest.mark.parametrize("changes", [{"head": "batch_norm"}, {"norm": "none"}])
def test_a_margin_needs_slopes_that_are_known(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"training\.loss: must be another without model\.head"):
        replace(CONFIG, model=replace(CONFIG.model, **changes))
