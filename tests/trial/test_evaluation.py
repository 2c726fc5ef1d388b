import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from models import IResNet, certify
from study.config.trial import EvaluationConfig, ModelConfig, TrialConfig
from study.trial.data.tensors import Split, normalized
from study.trial.measured.evaluation import Answers, measure

N_IMAGES = 40


@pytest.fixture(scope="module")
def model() -> IResNet:
    """Eight dense blocks on 28 x 28 pixels: sums of hundreds of terms. With ELU, of whose radii
    Lipschitz bounds are all that is known."""
    torch.manual_seed(0)
    settings = {"norm": "none", "head": "lipschitz", "activation": "elu"}
    return IResNet((1, 28, 28), 10, (), dense_blocks=8, channel_multiplier=1, **settings).eval()


def split_of(model: IResNet) -> Split:
    """Images with the answers of the network as labels, so that every image is right."""
    generator = torch.Generator().manual_seed(1)
    shape = (N_IMAGES, *model.in_shape)
    images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    return Split(images, model(normalized(images)).argmax(1))


def real_radii(model: IResNet, split: Split) -> Tensor:
    """Margins over the norms of the differences of the head's rows, in float64; the blocks move no
    two images apart."""
    with torch.no_grad():
        logits = copy.deepcopy(model).double()(normalized(split.images).double())
    rows = model.classifier[-1].weight.detach().double()
    between = (rows[split.labels].unsqueeze(1) - rows).norm(dim=2)
    margins = logits.gather(1, split.labels.unsqueeze(1)) - logits
    others = margins / between
    others[torch.arange(len(split)), split.labels] = torch.inf
    return others.amin(dim=1)


def config(radius: float, **evaluation: str) -> TrialConfig:
    return TrialConfig(
        model=ModelConfig(
            blocks=(), dense_blocks=8, channel_multiplier=1, head="lipschitz", activation="elu"
        ),
        evaluation=replace(
            EvaluationConfig(radius=radius, n_inverse_samples=2, inverse_max_steps=2), **evaluation
        ),
    )


def test_by_default_a_lipschitz_head_certifies_what_float32_loses_to_its_rounding(
    model: IResNet,
) -> None:
    """At a radius that three images in four have in real arithmetic."""
    split, certificate = split_of(model), certify(model)
    real = real_radii(model, split)
    ordered = real.sort().values
    radius = ((ordered[N_IMAGES // 4 - 1] + ordered[N_IMAGES // 4]) / 2).item()
    expected = 3 / 4
    assert int((real > radius).sum()) / N_IMAGES == expected
    measured, _ = measure(model, split, config(radius), certificate)
    assert (measured.certified_accuracy, measured.lost_to_rounding) == (expected, 0.0)
    single, answers = measure(model, split, config(radius, precision="float32"), certificate)
    assert single.certified_accuracy is not None
    assert single.certified_accuracy < 0.1
    assert single.lost_to_rounding == expected - single.certified_accuracy
    torch.testing.assert_close(answers.unrounded, real, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_radius_without_rounding_is_never_smaller_than_the_certified_one(
    model: IResNet, precision: str
) -> None:
    split, certificate = split_of(model), certify(model)
    _, answers = measure(model, split, config(0.1, precision=precision), certificate)
    assert (answers.unrounded > answers.radii).all()
    wrong = Split(split.images, (split.labels + 1) % 10)
    _, answers = measure(model, wrong, config(0.1, precision=precision), certificate)
    assert (answers.unrounded < 0).all()


def test_where_no_rounding_is_bounded_none_is_lost_to_it() -> None:
    radii = torch.tensor([-torch.inf, 0.5, 2.0, -0.1])
    unrounded = torch.tensor([3.0, 1.5, 2.5, -0.05])
    answers = Answers(0.0, torch.ones(4, dtype=torch.bool), radii, unrounded)
    assert answers.lost_to_rounding(1.0) == 0.25


@pytest.mark.parametrize(
    ("head", "precision"), [("lipschitz", "float64"), ("batch_norm", "float32")]
)
def test_the_head_decides_the_precision_unless_it_is_given(head: str, precision: str) -> None:
    model = ModelConfig(head=head)  # type: ignore[arg-type]
    assert TrialConfig(model=model).precision == precision
    for given in ("float32", "float64"):
        evaluation = EvaluationConfig(precision=given)  # type: ignore[arg-type]
        assert TrialConfig(model=model, evaluation=evaluation).precision == given
