"""Blocks of other authors: with a proof, without one, and with a wrong one."""

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from models import (
    BlockError,
    Bounds,
    IResNet,
    certified_radius,
    certify,
    deployed,
    empirical_lipschitz,
    project,
    read_network,
    write_network,
)
from models.blocks.own import Block
from tests.support.oracles import jacobian_norm
from tests.support.own_code import Coupling, NoBounds, Stuck, TwoChannels, Unproven, Whole, Wrong

COUPLING = "tests.support.own_code:Coupling"
ARCHITECTURE: dict[str, Any] = {
    "in_shape": (2, 4, 4),
    "n_classes": 3,
    "blocks": [2, 1],
    "channel_multiplier": 2,
    "head": "lipschitz",
    "coeff": 0.7,
    "dropout": 0.0,
}


def network(block: object, **changes: Any) -> IResNet:
    torch.manual_seed(0)
    return IResNet(**{**ARCHITECTURE, "block": block, **changes}).eval()


def own(model: IResNet) -> list[Block]:
    return [block for block in model.body if isinstance(block, Block)]


def images(n: int = 3) -> Tensor:
    return torch.rand(n, 2, 4, 4, generator=torch.Generator().manual_seed(1)) - 0.5


def test_a_setting_that_is_private_to_its_author_is_certified_too() -> None:
    model = network(Coupling)
    certificate = certify(model)
    labels = model(images()).argmax(1)
    certified_radius(model, images(), labels, certificate)
    vars(own(model)[0])["_gain"] = 50.0
    with pytest.raises(ValueError, match="certificate must be that of the network as it is"):
        certified_radius(model, images(), labels, certificate)


def test_a_block_that_stands_in_two_places_counts_twice() -> None:
    model = network("bottleneck", norm="none")
    with torch.no_grad():
        for parameter in model.body.parameters():
            parameter.mul_(0.3)
    model.body[2] = model.body[1]
    certificate = certify(model)
    assert len(certificate.blocks) == 3
    x = images()
    z = model.features(x).detach()
    solution = model.inverse(z, certificate=certificate)
    assert solution.image_error_bound is not None
    distance = (solution.last_iterate - x).flatten(1).norm(dim=1)
    assert (distance <= solution.image_error_bound).all()
    assert (certified_radius(model, x, model(x).argmax(1), certificate) > 0).any()


@pytest.mark.parametrize("block", [Coupling, Whole, COUPLING])
def test_a_block_with_a_proof_is_certified_by_its_authors_name(block: object) -> None:
    model = network(block)
    certificate = certify(model)
    assert certificate.invertible
    name = COUPLING if isinstance(block, str) else f"tests.support.own_code:{block.__name__}"  # type: ignore[attr-defined]
    assert certificate.others == (name,)
    assert {b.proven_by for b in certificate.blocks} == {name}
    stored = certificate.to_dict()["blocks"]
    assert isinstance(stored, list)
    assert stored[0]["proven_by"] == name


def test_the_bounds_hold_for_dense_jacobians() -> None:
    model = network(Coupling).double()
    certificate, x = certify(model), images().double()
    for block, bound in zip(own(model), certificate.blocks, strict=True):
        at = torch.randn(1, *block.in_shape, dtype=torch.float64)
        assert jacobian_norm(block.g, at) <= bound.upper_bound
        assert jacobian_norm(block, at) <= bound.map_lipschitz_upper_bound
        jacobian = torch.autograd.functional.jacobian(block, at).reshape(at.numel(), at.numel())
        smallest = torch.linalg.svdvals(jacobian)[-1].item()
        assert smallest >= 1 / bound.inverse_lipschitz_upper_bound
    whole = jacobian_norm(lambda one: model.features(one), x[:1])
    assert whole <= certificate.features_lipschitz_upper_bound


@pytest.mark.parametrize("block", [Coupling, Whole, Unproven])
def test_the_inverse_gives_the_images_back(block: type[Block]) -> None:
    model, x = network(block), images()
    solution = model.inverse(model.features(x))
    assert bool(solution.converged.all())
    torch.testing.assert_close(solution.value, x, rtol=0, atol=1e-5)
    assert set(solution.n_steps.flatten().tolist()) == {1}


def test_an_inverse_without_a_preimage_is_by_fixed_point_iteration() -> None:
    class Iterated(Coupling):
        def preimage(self, z: Tensor) -> None:  # type: ignore[override]
            return None

    model, x = network(Iterated), images()
    solution = model.inverse(model.features(x))
    assert solution.n_steps.max() > 1
    torch.testing.assert_close(solution.value, x, rtol=0, atol=1e-4)


def test_a_wrong_preimage_does_not_converge() -> None:
    class Off(Coupling):
        def preimage(self, z: Tensor) -> Tensor:
            return z - 1.1 * self.g(z)

    model = network(Off)
    solution = model.inverse(model.features(images()))
    assert not bool(solution.converged.all())
    assert bool(solution.value[~solution.converged.all(dim=0)].isnan().all())


def test_a_block_without_a_proof_is_never_certified() -> None:
    model = network(Unproven)
    certificate = certify(model)
    assert not certificate.invertible
    assert certificate.lipschitz_upper_bound == math.inf
    radii = certified_radius(model, images(), torch.zeros(3, dtype=torch.int64), certificate)
    assert not bool((radii > 0).any())
    with pytest.raises(ValueError, match="finite"):
        project(model, lipschitz=0.1)


def test_attained_slopes_contradict_a_wrong_proof() -> None:
    model = network(Wrong)
    attained, claimed = empirical_lipschitz(model, images()), certify(model).block_bounds
    assert all(a > c for a, c in zip(attained, claimed, strict=True))


def test_radii_hold_against_the_margins_of_moved_images() -> None:
    """No image within its radius has another answer, and a block that says nothing of its rounding
    has no radius."""
    model, x = network(Coupling), images(64)
    labels = model(x).argmax(1)
    radii = certified_radius(model, x, labels, certify(model))
    assert (radii > 0).float().mean() > 0.5
    direction = torch.randn(64, 2, 4, 4, generator=torch.Generator().manual_seed(2))
    direction = direction / direction.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    moved = x + 0.999 * radii.clamp(min=0).float().view(-1, 1, 1, 1) * direction
    assert bool((model(moved).argmax(1) == labels)[radii > 0].all())

    class Silent(Coupling):
        def bounds(self) -> Bounds:
            return Bounds(super().bounds().lipschitz)

    silent = network(Silent)
    assert bool((certified_radius(silent, x, labels, certify(silent)) == -math.inf).all())


def test_blocks_are_scaled_to_a_bound() -> None:
    model = network(Coupling)
    before = [
        block.g(torch.ones(1, *block.in_shape)) for block in model.body if isinstance(block, Block)
    ]
    certificate = project(model, lipschitz=0.2)
    assert 0.19 < certificate.lipschitz_upper_bound <= 0.2
    after = [
        block.g(torch.ones(1, *block.in_shape)) for block in model.body if isinstance(block, Block)
    ]
    for old, new in zip(before, after, strict=True):
        ratio = new.norm() / old.norm()
        torch.testing.assert_close(new, old * ratio)


def test_a_block_whose_scale_does_not_lower_its_bound_is_named() -> None:
    model = network(Stuck)
    before = copy.deepcopy(model.state_dict())
    rule = (
        r"^bounds\(\)\.lipschitz of .*:Stuck at body\.1 must be at most .* times 0\.7 after scale"
    )
    with pytest.raises(BlockError, match=rule):
        project(model, lipschitz=0.2)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_network_is_read_only_if_its_blocks_are_trusted(tmp_path: Path) -> None:
    model = deployed(network(COUPLING))
    architecture = {**ARCHITECTURE, "in_shape": [2, 4, 4], "norm": "none", "block": COUPLING}
    write_network(tmp_path, model, {"architecture": architecture})
    with pytest.raises(ValueError, match=r"own_code:Coupling.* only if it is trusted"):
        read_network(tmp_path)
    again = read_network(tmp_path, trust=True)
    assert torch.equal(again(images()), model(images()))
    certify(again).check(model, IResNet)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("nowhere:Block", "must be importable, but: ModuleNotFoundError"),
        ("tests.support.own_code:Nothing", "must be importable, but: AttributeError"),
        ("tests.support.own_code:margin", "must be a subclass of models.Block"),
    ],
)
def test_what_is_no_block_is_refused(block: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        network(block)


def test_bounds_must_be_bounds() -> None:
    with pytest.raises(ValueError, match=r"must give Bounds, but gives 0\.5"):
        certify(network(NoBounds))
    for wrong in ({"lipschitz": -1.0}, {"alpha": math.nan}, {"beta": 1}):
        with pytest.raises(ValueError, match="must be a float >= 0"):
            Bounds(**wrong)  # type: ignore[arg-type]


def test_a_block_must_keep_the_shape() -> None:
    with pytest.raises(RuntimeError):
        network(TwoChannels)(images())


def test_subclasses_that_change_nothing_of_the_forward_pass_are_certified() -> None:
    class Named(IResNet):
        """A network with a name."""

        def __init__(self, name: str, **options: Any) -> None:
            super().__init__(**options)
            self.name = name

        def describe(self) -> str:
            return self.name

    torch.manual_seed(0)
    named = Named("mine", **ARCHITECTURE).eval()
    torch.manual_seed(0)
    plain = IResNet(**ARCHITECTURE).eval()
    assert certify(named).to_dict() == certify(plain).to_dict()


class CallsFirst(torch.nn.Module):
    """Stands ahead of nn.Module, and behind IResNet."""

    def __call__(self, *images: Any) -> Tensor:
        return super().__call__(-images[0])  # type: ignore[no-any-return]


class LooksUp:
    """Finds another classifier."""

    def __getattribute__(self, name: str) -> Any:
        return super().__getattribute__(name)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (type("Called", (IResNet, CallsFirst), {}), "CallsFirst has its own __call__"),
        (type("Looked", (IResNet, LooksUp), {}), "LooksUp has its own __getattribute__"),
        (type("Has", (IResNet,), {"classifier": property(id)}), "Has has its own classifier"),
    ],
)
def test_what_runs_ahead_of_a_network_is_refused(kind: type[IResNet], message: str) -> None:
    model = network("bottleneck")
    model.__class__ = kind
    with pytest.raises(ValueError, match=message):
        certify(model)


@pytest.mark.parametrize("block", [None, 3, ["a:b"], int])
def test_a_file_with_another_block_is_refused(block: object, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="block must be of type str, but got"):
        network(block)
    if not isinstance(block, type):
        architecture = {**ARCHITECTURE, "in_shape": [2, 4, 4], "norm": "none"}
        write_network(tmp_path, deployed(network("bottleneck")), {"architecture": architecture})
        content = json.loads((tmp_path / "network.json").read_text())
        content["architecture"]["block"] = block
        (tmp_path / "network.json").write_text(json.dumps(content))
        with pytest.raises(ValueError, match=r"network\.json describes no network"):
            read_network(tmp_path)


@pytest.mark.parametrize(
    "name", ["forward", "features", "__call__", "normalized_layers", "__getattr__"]
)
def test_subclasses_that_change_the_forward_pass_are_refused(name: str) -> None:
    changed = type("Changed", (IResNet,), {name: lambda *_, **options: None})
    model = network("bottleneck")
    model.__class__ = changed
    with pytest.raises(ValueError, match=f"but Changed has its own {name}"):
        certify(model)


def test_no_block_of_another_author_is_one_of_this_package() -> None:
    """Its bounds would be shown as proven here."""

    class Claims(Coupling):
        __module__ = "models.blocks.bottleneck"
        __qualname__ = "ResidualBlock"

    rule = "must not be in the package models, but is 'models.blocks.bottleneck'"
    with pytest.raises(ValueError, match=rule):
        network(Claims)
    model = network(Coupling)
    own(model)[0].__class__ = Claims
    with pytest.raises(ValueError, match=rule):
        certify(model)


def test_a_certificate_is_of_the_blocks_of_its_authors() -> None:
    """Another author's class of the same name has the same digest."""

    class Other(Coupling):
        __module__ = "elsewhere"
        __qualname__ = Coupling.__qualname__

    model, x = network(Coupling), images()
    certificate, labels = certify(model), model(x).argmax(1)
    certified_radius(model, x, labels, certificate)
    own(model)[1].__class__ = Other
    assert certify(model).sha256 == certificate.sha256
    for use in (
        lambda: certified_radius(model, x, labels, certificate),
        lambda: model.inverse(model.features(x), certificate=certificate),
    ):
        with pytest.raises(ValueError, match=r"a proof by the author of each block, .*elsewhere:"):
            use()


class Doubled(Block):
    def __init__(
        self, channels: int, size: tuple[int, int], *, coeff: float, dropout: float
    ) -> None:
        super().__init__(channels, size, coeff=coeff, dropout=dropout)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return 2 * x


def test_a_whole_map_may_take_the_maps_alone() -> None:
    model = IResNet((1, 4, 4), 3, (1,), block=Doubled, channel_multiplier=1).eval()
    images = torch.rand(2, 1, 4, 4)
    assert torch.equal(model.features(images), 2 * images)
