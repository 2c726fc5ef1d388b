"""A family against its definition, written out block by block, and its members against it."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from models import Family, NetworkSpec, SettingError, Span, certify, deployed, member_from
from models.blocks.potential import PotentialBlock
from models.heads.radius_loss import margin_loss

SPANS = {"coeff": Span(0.02, 0.6, log=True), "margin": Span(0.1, 1.2, log=True)}
BODIES: dict[str, dict[str, Any]] = {
    "dense": {"blocks": (), "dense_blocks": 2},
    "patches": {"blocks": (2, 1), "block": "potential", "patch": 2, "dense_blocks": 1},
}
HEADS: dict[str, dict[str, Any]] = {
    "lipschitz": {"head": "lipschitz"},
    "rows": {"head": "rows", "rows": 3},
}


def spec(body: str, head: str, **changes: Any) -> NetworkSpec:
    settings = {"channel_multiplier": 1, "bottleneck": 2, "dropout": 0.0}
    of_kind = {**settings, **BODIES[body], **HEADS[head], **changes}
    return NetworkSpec(in_shape=(1, 8, 8), n_classes=4, **of_kind)


def family(of: NetworkSpec, spans: Mapping[str, Span] = SPANS) -> Family:
    """A family in float64 with random biases and slopes."""
    torch.manual_seed(0)
    made = Family(of, spans).double()
    with torch.no_grad():
        for parameter in [*made.conditioned, *made.slopes]:
            parameter.add_(0.2 * torch.randn_like(parameter))
    return made


def position(span: Span, value: float) -> float:
    return 2 * math.log(value / span.low) / math.log(span.high / span.low) - 1


def by_definition(made: Family, image: Tensor, conditions: Mapping[str, float]) -> Tensor:
    """The features (1, C, H, W) of one image, by the docstring of `models.network.family`."""
    positions = [position(span, conditions[name]) for name, span in made.spans.items()]
    u = torch.tensor(positions, dtype=torch.float64)
    slopes = iter(made.slopes)
    a = conditions.get("coeff", 1.0)
    x = image
    for module in made.base.body:
        if not isinstance(module, PotentialBlock):
            x = module(x)
            continue
        weight = module.conv.weight[:, :, 0, 0] * module.conv.coeff
        bias = module.conv.bias + torch.einsum("k,kn->n", u, next(slopes))
        inner = torch.einsum("nc,bchw->bnhw", weight, x) / module.conv.coeff
        inner = module.activation((inner + bias[:, None, None]) * math.sqrt(a) * module.conv.coeff)
        x = x - math.sqrt(a) * torch.einsum("nc,bnhw->bchw", weight, inner)
    return x


@pytest.mark.parametrize("activation", ["relu", "elu"])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("reversible", [False, True])
def test_features_and_gradients_are_those_of_the_definition(
    body: str, head: str, activation: str, *, reversible: bool
) -> None:
    made = family(spec(body, head, activation=activation))
    generator = torch.Generator().manual_seed(1)
    values = made.draw(3, generator)
    images = torch.randn(5, 1, 8, 8, generator=generator, dtype=torch.float64)
    features = made.features(images, values, reversible=reversible)
    oracle = torch.cat(
        [
            by_definition(made, image[None], {k: v[i % 3].item() for k, v in values.items()})
            for i, image in enumerate(images)
        ]
    )
    torch.testing.assert_close(features, oracle, rtol=1e-11, atol=1e-11)
    trained = [
        p for p in made.parameters() if not any(p is q for q in made.base.classifier.parameters())
    ]
    trained = trained[: -len(list(made.base.classifier.parameters()))]
    ours = torch.autograd.grad(features.square().sum(), trained)
    theirs = torch.autograd.grad(oracle.square().sum(), trained)
    for one, two in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("body", BODIES)
def test_each_image_is_answered_by_its_member(body: str, head: str) -> None:
    made = family(spec(body, head))
    generator = torch.Generator().manual_seed(2)
    values = made.draw(3, generator)
    images = torch.randn(7, 1, 8, 8, generator=generator, dtype=torch.float64)
    labels = torch.randint(4, (7,), generator=generator)
    features = made.features(images, values, reversible=False)
    radii, logits = made.radii(features, labels, values, 1.0)
    for i, image in enumerate(images):
        member = made.at(**{name: value[i % 3].item() for name, value in values.items()})
        own = member.features(image[None])
        scores = member.head.scores(member.classifier, own)
        of_member = member.head.radii(member.classifier, own, scores, labels[i : i + 1], 1.0)
        torch.testing.assert_close(features[i], own[0], rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(logits[i], member(image[None])[0], rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(radii[i], of_member[0], rtol=1e-6, atol=1e-6)


BOTTLENECKS = {"blocks": (1, 1), "block": "bottleneck", "bottleneck": 1, "dense_blocks": 0}
COEFFS = {"coeff": SPANS["coeff"]}


def test_each_image_passes_the_bottlenecks_of_its_member_with_their_gradient() -> None:
    made = family(spec("dense", "rows", **BOTTLENECKS), COEFFS)
    generator = torch.Generator().manual_seed(2)
    values = made.draw(3, generator)
    images = torch.randn(7, 1, 8, 8, generator=generator, dtype=torch.float64)
    weights = torch.randn(7, 4, 4, 4, generator=generator, dtype=torch.float64)
    features = made.features(images, values, reversible=False)
    layer, *_ = made.base.normalized_layers()
    (ours,) = torch.autograd.grad((features * weights).sum(), layer.bias)
    theirs = torch.zeros_like(ours)
    for i, image in enumerate(images):
        member = made.at(coeff=values["coeff"][i % 3].item())
        own = member.features(image[None])
        torch.testing.assert_close(features[i], own[0], rtol=1e-6, atol=1e-6)
        first, *_ = member.normalized_layers()
        theirs += torch.autograd.grad((own[0] * weights[i]).sum(), first.bias)[0]
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    # No hook is left: the base is itself again.
    torch.testing.assert_close(made.base.features(images), made.base.features(images))
    assert not any(layer._forward_hooks for layer in made.base.normalized_layers())


def test_a_batch_norm_sees_the_images_of_one_member() -> None:
    made = family(replace(spec("dense", "rows", **BOTTLENECKS), head="batch_norm"), COEFFS)
    generator = torch.Generator().manual_seed(2)
    values = made.draw(2, generator)
    images = torch.randn(7, 1, 8, 8, generator=generator, dtype=torch.float64)
    features = made.features(images, values, reversible=False)
    logits = made.logits(features, values)
    for index, coeff in enumerate(values["coeff"].tolist()):
        member = made.at(coeff=coeff).train()
        own = member(images[index::2])
        torch.testing.assert_close(logits[index::2], own, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="members must have no BatchNorm"):
        member_from([({"coeff": coeff}, deployed(member))], COEFFS, {"coeff": 0.1})


def test_a_member_with_bottlenecks_is_proven_and_made_from_others() -> None:
    made = family(spec("dense", "rows", **BOTTLENECKS), COEFFS).eval()
    for conditions in made.spread(3):
        bound = certify(made.at(**conditions)).lipschitz_upper_bound
        # The power iteration of the base has not ended: its weights exceed the target a little.
        assert bound <= 1.5 * conditions["coeff"] ** 3
    stored = [(one, deployed(made.at(**one))) for one in made.spread(3)]
    mixed, exact = member_from(stored, COEFFS, {"coeff": 0.3}), deployed(made.at(coeff=0.3))
    for name, tensor in exact.state_dict().items():
        torch.testing.assert_close(mixed.state_dict()[name], tensor, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("body", BODIES)
def test_a_member_keeps_its_coefficient_and_is_proven_to_be_invertible(body: str) -> None:
    made = family(spec(body, "rows")).float().eval()
    for conditions in made.spread(5):
        certificate = certify(made.at(**conditions))
        assert certificate.invertible
        assert certificate.lipschitz_upper_bound == pytest.approx(conditions["coeff"], rel=1e-4)


def test_with_margins_alone_members_differ_in_biases_and_classifier() -> None:
    settings = {"blocks": (1,), "block": "bottleneck", "bottleneck": 1, "coeff": 0.7}
    made = family(spec("dense", "rows", **settings), {"margin": Span(0.1, 0.9)})
    small, large = made.at(margin=0.1).state_dict(), made.at(margin=0.9).state_dict()
    differ = {name for name, tensor in small.items() if not torch.equal(tensor, large[name])}
    biases = {name for name in small if name.startswith("body.") and name.endswith(".bias")}
    assert len(biases) == 3 + 2
    assert differ == {*biases, "classifier.1.weight"}
    # On a linear scale the middle is the mean.
    middle = made.at(margin=0.5).state_dict()
    for name in differ:
        torch.testing.assert_close(2 * middle[name], small[name] + large[name])


@pytest.mark.parametrize("body", BODIES)
def test_a_member_is_made_from_others_as_the_family_makes_it(body: str) -> None:
    made = family(spec(body, "rows")).eval()
    wanted = {"coeff": 0.07, "margin": 1.1}
    stored = [(one, deployed(made.at(**one))) for one in made.spread(8)]
    mixed, exact = member_from(stored, SPANS, wanted), deployed(made.at(**wanted))
    for name, tensor in exact.state_dict().items():
        torch.testing.assert_close(mixed.state_dict()[name], tensor, rtol=1e-12, atol=1e-12)
    # One that is stored needs no others.
    (first, network), *_ = stored
    same = member_from(stored[:1], SPANS, first).state_dict()
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(same[name], tensor, rtol=1e-12, atol=1e-12)


def test_members_on_a_line_determine_no_other() -> None:
    made = family(spec("dense", "rows")).eval()
    # The first three of a Sobol sequence are on a line, but for their rounding to three digits.
    stored = [(one, deployed(made.at(**one))) for one in made.spread(3)]
    with pytest.raises(ValueError, match="members must determine the one with"):
        member_from(stored, SPANS, {"coeff": 0.5, "margin": 1.1})


def test_radii_have_the_gradient_of_the_members_classifiers() -> None:
    made = family(spec("dense", "lipschitz"))
    generator = torch.Generator().manual_seed(3)
    values = made.draw(2, generator)
    features = torch.randn(4, 64, 1, 1, generator=generator, dtype=torch.float64)
    labels = torch.randint(4, (4,), generator=generator)
    radii, _ = made.radii(features, labels, values, 1.0)
    margin = torch.tensor([[0.2], [0.7], [0.2], [0.7]], dtype=torch.float64)
    slope = made.slopes[-2]  # of the classifier's weight
    (ours,) = torch.autograd.grad(margin_loss(radii, margin, 0.1), slope)
    direction = torch.randn_like(slope)

    def loss(step: float) -> float:
        with torch.no_grad():
            slope.add_(step * direction)
            moved, _ = made.radii(features, labels, values, 1.0)
            slope.sub_(step * direction)
            return margin_loss(moved, margin, 0.1).item()

    expected = (loss(1e-5) - loss(-1e-5)) / 2e-5
    assert (ours * direction).sum().item() == pytest.approx(expected, rel=1e-5)


def test_drawn_conditions_are_one_in_each_part_of_the_range() -> None:
    values = family(spec("dense", "rows")).draw(16, torch.Generator().manual_seed(0))
    for name, span in SPANS.items():
        shares = [(position(span, value) + 1) / 2 for value in values[name].tolist()]
        assert sorted(math.floor(16 * share) for share in shares) == list(range(16))


def test_spread_conditions_are_in_range_distinct_and_begin_in_the_middle() -> None:
    conditions = family(spec("dense", "rows")).spread(24)
    assert conditions[0] == {name: span.middle for name, span in SPANS.items()}
    assert len({tuple(one.values()) for one in conditions}) == 24
    for one in conditions:
        assert all(SPANS[name].low <= value <= SPANS[name].high for name, value in one.items())
    for name, span in SPANS.items():  # a quarter of them in each quarter of the range
        quarters = [math.floor(2 * (position(span, one[name]) + 1)) for one in conditions]
        assert {quarters.count(quarter) for quarter in range(4)} <= {5, 6, 7}


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({"coeff": 0.1}, "conditions must be coeff, margin, but got coeff"),
        ({"coeff": 0.1, "margin": 0.2, "lr": 1.0}, "conditions must be coeff, margin, but got"),
        ({"coeff": 0.7, "margin": 0.2}, "0.02 <= coeff <= 0.6 must hold, but got 0.7"),
        ({"coeff": math.nan, "margin": 0.2}, "0.02 <= coeff <= 0.6 must hold, but got nan"),
    ],
)
def test_what_is_no_member_is_refused(conditions: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        family(spec("dense", "rows")).at(**conditions)


def test_what_is_no_family_is_refused() -> None:
    with pytest.raises(ValueError, match="one or more conditions"):
        Family(spec("dense", "rows"), {})
    with pytest.raises(ValueError, match="blocks must be potential ones"):
        # With dense blocks a bottleneck's coeff is another one.
        Family(spec("dense", "rows", blocks=(1,), block="bottleneck", bottleneck=1), SPANS)
    with pytest.raises(SettingError, match=r"must be below high, 0\.2"):
        Span(0.3, 0.2)
    with pytest.raises(SettingError, match="above 0 where log is true"):
        Span(0.0, 0.2, log=True)


def test_conditions_that_are_equal_to_three_digits_come_once() -> None:
    made = family(spec("dense", "rows"), {"margin": Span(0.5, 0.502)})
    assert made.spread(24) == [{"margin": 0.501}, {"margin": 0.502}, {"margin": 0.5}]
