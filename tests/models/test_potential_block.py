import copy
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models import (
    IResNet,
    certified_radius,
    certify,
    deployed,
    project,
    read_network,
    write_network,
)
from models.blocks.potential import PotentialBlock
from models.isometries import Patches
from models.norms.rounding import norm_of
from tests.support.networks import enlarge, with_biases
from tests.support.oracles import dense_convolution

ARCHITECTURE: dict[str, Any] = {
    "in_shape": (2, 4, 4),
    "n_classes": 3,
    "blocks": (1, 1),
    "block": "potential",
    "dense_blocks": 2,
    "bottleneck": 2,
    "channel_multiplier": 1,
    "head": "lipschitz",
    "coeff": 0.8,
    "dropout": 0.0,
}


def network(**changes: Any) -> IResNet:
    model = with_biases(IResNet(**{**ARCHITECTURE, **changes}))
    enlarge(model, 5)
    return model.eval()


def potential_blocks(model: IResNet) -> list[PotentialBlock]:
    return [module for module in model.body if isinstance(module, PotentialBlock)]


def dense(block: PotentialBlock) -> Tensor:
    """The matrix of W as it is now."""
    weight = block.deployed()[0].weight
    assert isinstance(weight, Tensor)
    return dense_convolution(weight.detach().double(), block.in_shape[1:])


@pytest.mark.parametrize("patch", [0, 1])
def test_no_pattern_of_activations_is_beyond_what_is_proven(patch: int) -> None:
    """The eigenvalues of I - W^T Q W for all masks Q; with all of them on, W^T W is met."""
    for norm, size in (("spectral", 1.0), ("none", 1.0), ("none", 3.0)):
        model = IResNet(
            (2, 1, 3), 2, (1,), block="potential", patch=patch, norm=norm, coeff=0.7, dropout=0.0,
            channel_multiplier=1, bottleneck=1,
        )  # fmt: skip
        (block,) = potential_blocks(model)
        with torch.no_grad():
            block.conv.weight.mul_(size)
        proven = certify(model.eval()).blocks[0]
        w = dense(block)
        masks = torch.tensor(list(product([0.0, 1.0], repeat=len(w)))).double()
        of_g = (w.T * masks.unsqueeze(1)) @ w
        maps = torch.linalg.eigvalsh(torch.eye(w.shape[1]).double() - of_g)
        largest = torch.linalg.matrix_norm(of_g, ord=2).max().item()
        assert largest <= proven.upper_bound <= largest * (1 + 1e-6)
        attained = maps.abs().max().item()
        assert attained * (1 - 1e-12) <= proven.map_lipschitz_upper_bound
        if proven.upper_bound < 1:
            inverse = 1 / maps.min().item()
            assert inverse <= proven.inverse_lipschitz_upper_bound <= inverse * (1 + 1e-5)


def test_dropout_counts_in_training_mode() -> None:
    """Every mask of dropout on top of every mask of ReLU."""
    model = network(blocks=(1,), in_shape=(2, 1, 3), dense_blocks=0, dropout=0.5)
    (block,) = potential_blocks(model)
    (proven,) = certify(model).blocks
    assert proven.train_upper_bound == pytest.approx(2 * proven.upper_bound)
    w = dense(block)
    assert torch.linalg.matrix_norm(2 * w.T @ w, ord=2) <= proven.train_upper_bound


@pytest.mark.parametrize(
    ("activation", "patch"), [("relu", 0), ("elu", 0), ("softplus", 0), ("relu", 2)]
)
def test_the_network_comes_back_and_moves_nothing_apart(activation: str, patch: int) -> None:
    model = network(activation=activation, patch=patch)
    certificate = certify(model)
    assert certificate.features_lipschitz_upper_bound == pytest.approx(1, abs=1e-8)
    x, other = torch.rand(2, 8, 2, 4, 4)
    z = model.features(x)
    assert z.shape == (8, 32, 1, 1)
    assert (norm_of(z - model.features(other)) <= norm_of(x - other) * (1 + 1e-6)).all()
    solution = model.inverse(z, certificate=certificate)
    assert solution.converged.all()
    assert solution.error_bound is not None
    error = norm_of(solution.last_iterate - x)
    # The features in float32 are those of another image nearby.
    nearby = certificate.inverse_lipschitz_upper_bound * 1e-6 * norm_of(x)
    assert (error <= solution.error_bound[0] + nearby).all()
    assert (error <= 1e-3).all()


def test_every_patch_is_seen_by_the_same_weights() -> None:
    """Against convolutions whose stride is the edge of a patch."""
    model = network(blocks=(3, 1), patch=2, dense_blocks=0, channel_multiplier=2, dropout=0.0)
    x = torch.rand(8, 2, 4, 4)
    expected = torch.cat([x, torch.zeros_like(x)], dim=1)
    blocks = potential_blocks(model)
    assert [block.in_shape for block in blocks] == 3 * [(16, 2, 2)] + [(64, 1, 1)]
    for block, edge, moved in zip(blocks, (2, 2, 2, 4), (0, 1, 0, 0), strict=True):
        first = block.deployed()[0]
        assert isinstance(first, nn.Conv2d)
        kernel = first.weight.reshape(-1, edge, edge, 4).permute(0, 3, 1, 2)
        here = torch.roll(expected, (-moved, -moved), (2, 3))
        inner = torch.relu(nn.functional.conv2d(here, kernel, block.conv.bias, stride=edge))
        here = here - nn.functional.conv_transpose2d(inner, kernel, stride=edge)
        expected = torch.roll(here, (moved, moved), (2, 3))
    assert [len(block.conv.weight) for block in blocks] == 3 * [8] + [32]
    z = model.features(x).reshape(8, 4, 4, 4).permute(0, 3, 1, 2)
    torch.testing.assert_close(z, expected, rtol=1e-5, atol=1e-6)
    assert certify(model).features_lipschitz_upper_bound == pytest.approx(1, abs=1e-8)


def test_dense_blocks_may_have_a_bottleneck_of_their_own() -> None:
    for dense, n_inner in ((0, [1, 4, 16]), (8, [1, 4, 4])):
        model = network(dense_blocks=1, dense_bottleneck=dense)
        assert [len(block.conv.weight) for block in potential_blocks(model)] == n_inner


def test_a_deployed_network_is_the_same_function_and_a_file_of_it_too(tmp_path: Path) -> None:
    model = network(dropout=0.25)
    plain = deployed(model)
    x = torch.rand(8, 2, 4, 4)
    assert torch.equal(model(x), plain(x))
    for block in potential_blocks(plain):
        torch.testing.assert_close(x_after(block), block.deployed()(samples(block)))
    architecture = {**ARCHITECTURE, "dropout": 0.25, "norm": "none"}
    base, smaller = tmp_path / "base", tmp_path / "smaller"
    for folder in (base, smaller):
        folder.mkdir()
    write_network(base, plain, {"architecture": architecture})
    assert torch.equal(read_network(base)(x), plain(x))
    # Weights and biases of a projected network are those of its base, times factors.
    projected = deployed(model)
    project(projected, lipschitz=0.1)
    write_network(smaller, projected, {"architecture": architecture}, base=plain)
    (smaller / "weights.safetensors").write_bytes((base / "weights.safetensors").read_bytes())
    assert torch.equal(read_network(smaller)(x), projected(x))


def samples(block: PotentialBlock) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.rand(4, *block.in_shape, generator=generator)


def x_after(block: PotentialBlock) -> Tensor:
    """g at the samples."""
    x = samples(block)
    g: Tensor = block(x) - x
    return g


def test_a_projection_scales_g_of_each_block() -> None:
    model = network()
    before = [x_after(block).detach() for block in potential_blocks(model)]
    proven = certify(model)
    certificate = project(model, lipschitz=0.2)
    assert 0.2 * (1 - 1e-4) <= certificate.lipschitz_upper_bound <= 0.2
    for block, g, of in zip(potential_blocks(model), before, proven.blocks, strict=True):
        torch.testing.assert_close(x_after(block), g * 0.2 / of.upper_bound, rtol=1e-4, atol=1e-6)
    assert certificate.sha256 == certify(model).sha256
    by_layer = network()
    assert project(by_layer, 0.5).lipschitz_upper_bound <= 0.5


def test_no_image_within_the_radius_has_another_answer() -> None:
    """Along the gradient of the smallest margin, and nearly that far."""
    model = network()
    certificate = certify(model)
    x = torch.rand(64, 2, 4, 4)
    labels = model(x).argmax(dim=1)
    radii = certified_radius(model, x, labels, certificate)
    assert (radii > 0).float().mean() > 0.9
    at = x.clone().requires_grad_()
    logits = model(at)
    runner_up = logits.detach().scatter(1, labels[:, None], -torch.inf).argmax(dim=1)
    margin = (logits.gather(1, labels[:, None]) - logits.gather(1, runner_up[:, None])).sum()
    (slope,) = torch.autograd.grad(margin, at)
    unit = slope / norm_of(slope).view(-1, 1, 1, 1).float()
    for part in (0.5, 0.999):
        moved = x - unit * (part * radii.clamp(min=0)).view(-1, 1, 1, 1).float()
        assert (model(moved).argmax(dim=1) == labels)[radii > 0].all()
    beyond = x - unit * (3 * radii.clamp(min=0) + 0.5).view(-1, 1, 1, 1).float()
    assert (model(beyond).argmax(dim=1) != labels).any()


def put_patches(model: IResNet, old: int, new: int, moved: Any = 0) -> None:
    model.body.insert(0, Patches(old, new, moved))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda m: setattr(m.body[3], "shape", (8, 2, 3)), "the Flatten at body.3 must be for"),
        (lambda m: setattr(m.body[0], "activation", nn.GELU()), "GELU at body.0.activation"),
        (lambda m: setattr(m.body[0], "conv", nn.Linear(2, 2)), "Linear at body.0.conv"),
        (lambda m: setattr(m.body[0], "in_shape", (2, 8, 8)), "the PotentialBlock at body.0 must"),
        (
            lambda m: put_patches(m, 1, 0),
            "the Patches at body.0 must have whole numbers of pixels",
        ),
        (lambda m: put_patches(m, 1, 2, 0.5), "new=2, moved=0.5"),
        (lambda m: put_patches(m, 1, 3), r"cut into those of 3 x 3, but gets \(2, 4, 4\)"),
        (lambda m: put_patches(m, 2, 1), "made of patches of 2 x 2 pixels"),
        (lambda m: put_patches(m, 1, 2), r"for maps of shape \(8, 2, 2\), which come to it"),
        (lambda m: m.body[0].register_module("more", nn.ReLU()), "must have no parts but"),
        (lambda m: m.body[0].register_forward_hook(lambda *_: None), "must have no hook"),
    ],
)
def test_a_block_that_runs_something_else_is_refused(spoil: Any, message: str) -> None:
    model = network()
    spoil(model)
    with pytest.raises(ValueError, match=message):
        certify(model.eval())


def test_a_dense_block_meets_a_coefficient_above_1_too() -> None:
    """Its rows stay orthonormal, and are scaled up: all of its singular values are at the target,
    as the dense matrix says, and the gradient is that of finite differences."""
    torch.manual_seed(0)
    model = IResNet(
        (1, 4, 4), 3, (), dense_blocks=1, channel_multiplier=1, bottleneck=2, coeff=1.7, dropout=0.0
    )
    (block,) = (module for module in model.body if isinstance(module, PotentialBlock))
    weight = block.conv.effective_weight()
    values = torch.linalg.svdvals(weight.flatten(1).double())
    torch.testing.assert_close(values**2, torch.full_like(values, 1.7), rtol=1e-5, atol=0)
    assert certify(model).lipschitz_upper_bound == pytest.approx(1.7, rel=1e-4)
    direction = torch.randn_like(block.conv.weight)
    target = torch.randn_like(weight)

    def loss(step: float) -> Tensor:
        moved = copy.deepcopy(block.conv).double()
        moved.weight.data.add_(direction.double(), alpha=step)
        return (moved.effective_weight() * target.double()).sum()

    (gradient,) = torch.autograd.grad((weight * target).sum(), block.conv.weight)
    numeric = (loss(1e-5) - loss(-1e-5)) / 2e-5
    torch.testing.assert_close((gradient * direction).sum().double(), numeric, rtol=1e-3, atol=1e-4)
