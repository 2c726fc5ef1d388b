"""Whether what is proven of blocks and networks is true, where it is hardest to be.

    python -m tests.benchmarks.truth [--blocks 2000] [--networks 300] [--seed 0]

Blocks: random ones of many shapes and sizes of g, with and without an activation ahead, both
efforts, dense operators and grids; against the singular values of the Jacobian of x + g, dense, for
slopes in [0, 1] found by ascent from several starts.

Networks: of all activations and all norms, with statistics and classifiers of their own, with
images on several scales, both efforts and both ways; against the dense Jacobians of features and of
logit differences at images found by ascent, gradient attacks within the radius, and the distance of
the inverse from images whose features are known up to float64's rounding.

What is attained is exact up to float64's rounding, and estimates from below the supremum that is
bounded. Prints how many were checked of each kind and how close they come; exits 1 if one is
beyond. On one thread: more would mostly wait, with matrices this small.
"""

import argparse
import copy
import math
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import combinations, product
from typing import get_args
from unittest import mock

import torch
from torch import Tensor, nn
from torch.func import jvp, vmap

from models import (
    Certificate,
    Effort,
    IResNet,
    certified_radius,
    certify,
)
from models.blocks.bottleneck import ResidualBlock
from models.layers.activations import ACTIVATIONS
from models.norms import block_bounds, convolution_norm
from tests.benchmarks.attained import kernel, network
from tests.support.networks import with_biases
from tests.support.oracles import dense_convolution, extremes_over_slopes

_SHAPES = ((1, 2, (2, 2)), (2, 4, (3, 3)), (2, 8, (4, 4)), (4, 8, (2, 3)), (3, 3, (1, 5)))
_KINDS = ("normal", "smooth", "rank one", "sparse")
_SIZES = (0.01, 0.3, 0.6, 0.9, 1.2, 2.0)
_NORMS = ("spectral", "batch", "none")
_WAYS = ("dense operators", "grids")
# Images are scale * pixels: a data set's normalization.
_SCALES = (1.0, 2.0, 4.0, 0.5)
# Blocks in one network, of one shape: much of what `certify` costs is the same for one and several.
_MOST_BLOCKS = 8
# What is attained by a block is good to this.
_ROUNDING = 1e-12
_N_ASCENT_STEPS, _N_ATTACK_STEPS = 8, 25
# A kernel's shape, the map's size, and whether there is an activation ahead.
_Shape = tuple[torch.Size, tuple[int, int], bool]


class Tally:
    """How close what is attained comes to what is proven, as a fraction of it, by what it is."""

    def __init__(self) -> None:
        self.closest: dict[str, list[float]] = defaultdict(list)
        self.n_unbounded: dict[str, int] = defaultdict(int)
        self.n_beyond = 0

    def add(self, what: str, case: str, attained: float, proven: float) -> None:
        """attained <= proven must hold."""
        if not attained <= proven:
            self.n_beyond += 1
            print(f"beyond: {what}, {case}, {attained!r} > {proven!r}", flush=True)
        if 0 < proven < math.inf:
            self.closest[what].append(attained / proven)
        else:
            self.n_unbounded[what] += 1

    def lines(self) -> list[str]:
        return [
            f"{what}: {len(of)} checked, and {self.n_unbounded[what]} against infinity; attained "
            f"over proven at most {max(of):.9f}, median {statistics.median(of):.4f}"
            for what, of in sorted(self.closest.items())
        ]


@contextmanager
def by(way: str) -> Iterator[None]:
    """Let `certify` use grids for all maps, or what it chooses for maps as small as these: dense
    operators, apart from the two-sided bounds of the fast effort."""
    with ExitStack() as stack:
        for module in (block_bounds, convolution_norm):
            if way == "grids":
                stack.enter_context(mock.patch.object(module, "_DENSE_ROWS", 0))
        yield


def _generator(seed: int, index: int) -> torch.Generator:
    """One for each index, so that a case can be looked at alone."""
    return torch.Generator().manual_seed(seed * 2**20 + index)


def block(index: int, generator: torch.Generator) -> tuple[list[Tensor], tuple[int, int], bool]:
    """Kernels whose layers' norms have a product of `_SIZES`, the map's size, and whether there is
    an activation ahead. With every kind of kernel goes every size of g, with and without."""
    m, channels, size = _SHAPES[index % len(_SHAPES)]
    k = 1 if index % 7 == 0 else 3
    kind = _KINDS[index % 4]
    weights = [
        kernel(kind, (m, channels, k, k), generator),
        kernel("normal", (m, m, 1, 1), generator),
        kernel("normal", (channels, m, k, k), generator),
    ]
    norms = [torch.linalg.matrix_norm(dense_convolution(w, size), ord=2).item() for w in weights]
    if math.prod(norms) > 0:
        weights[2] = weights[2] * (_SIZES[index // 4 % 6] / math.prod(norms))
    return weights, size, index // 24 % 3 > 0


def check_blocks(n_blocks: int, seed: int, tally: Tally) -> None:
    """Check blocks of one shape together, in one network; each also has its own generator."""
    waiting: dict[_Shape, list[tuple[int, list[Tensor]]]] = defaultdict(list)
    for index in range(n_blocks):
        weights, size, is_activated = block(index, _generator(seed, index))
        group = waiting[weights[0].shape, size, is_activated]
        group.append((index, weights))
        if len(group) == _MOST_BLOCKS:
            _check_group(group, size, is_activated, tally)
            group.clear()
        if index % 500 == 499:
            print(f"{index + 1} blocks", flush=True)
    for (_, size, is_activated), group in waiting.items():
        if group:
            _check_group(group, size, is_activated, tally)


def _check_group(
    group: list[tuple[int, list[Tensor]]], size: tuple[int, int], is_activated: bool, tally: Tally
) -> None:
    model = network(group[0][1], size)
    model.body = nn.ModuleList(network(weights, size).body[0] for _, weights in group)
    if not is_activated:
        for module in model.body:
            module.residual = module.residual[1:]
    matrices = [
        torch.stack([dense_convolution(w, size) for w in layer])
        for layer in zip(*(weights for _, weights in group), strict=True)
    ]
    generator = torch.Generator().manual_seed(group[0][0])
    largest, smallest = (
        extremes_over_slopes(*matrices, is_activated=is_activated, sign=sign, generator=generator)
        for sign in (1, -1)
    )
    for effort, way in product(get_args(Effort), _WAYS):
        with by(way):
            bounds = certify(model, effort).blocks
        for (index, _), bound, high, low in zip(
            group, bounds, largest.tolist(), smallest.tolist(), strict=True
        ):
            case = f"block {index}"
            high = high * (1 - _ROUNDING)
            tally.add(f"block, {effort}, {way}", case, high, bound.map_lipschitz_upper_bound)
            inverse = (1 - _ROUNDING) / low if low > 0 else math.inf
            proven = bound.inverse_lipschitz_upper_bound
            tally.add(f"its inverse, {effort}, {way}", case, inverse, proven)


def classifying(
    norm: str,
    activation: str,
    coeff: float,
    generator: torch.Generator,
    blocks: tuple[int, ...] = (1, 1),
) -> IResNet:
    """A network in eval mode, with statistics of its own."""
    model = IResNet(
        (2, 4, 4), 4, blocks, norm=norm, activation=activation, dropout=0.0, coeff=coeff
    )
    with_biases(model)
    with torch.no_grad():
        for _ in range(3):
            model.train()(torch.rand(32, 2, 4, 4, generator=generator) - 0.5)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(-0.5, 0.5, generator=generator)
                module.bias.normal_(generator=generator)
            if isinstance(module, nn.Conv2d) and norm == "none":
                module.weight.mul_(0.7)
    return model.eval()


def check_network(index: int, seed: int, tally: Tally) -> None:
    """Check a network of one of the 288 kinds, in turn."""
    generator = _generator(seed, index)
    torch.manual_seed(generator.initial_seed())
    kinds = list(product(_WAYS, _SCALES, get_args(Effort), (0.5, 0.9), sorted(ACTIVATIONS), _NORMS))
    way, scale, effort, coeff, activation, norm = kinds[index % len(kinds)]
    case = f"network {index}, {norm}, {activation}, {coeff}, {effort}, {way}, times {scale}"
    model = classifying(norm, activation, coeff, generator).requires_grad_(False)
    with by(way):
        certificate = certify(model, effort)
    images = scale * (torch.rand(8, 2, 4, 4, generator=generator) - 0.5)
    exact = _in_float64(model)
    _check_jacobians(exact, images, case, certificate, generator, tally)
    logits = model(images)
    labels = logits.argmax(1)
    radius = scale * certified_radius(model, images, labels, certificate, scale=scale)
    held = radius > 0
    if held.any():
        least = _attacked(model, images[held], labels[held], radius[held], generator)
        for distance, proven in zip(least.tolist(), radius[held].tolist(), strict=True):
            # A radius that is proven is at most the distance of an image with another answer.
            tally.add("radius", case, proven, distance)
    if certificate.invertible:
        z = exact.features(images.double())
        solution = model.inverse(z.float(), certificate=certificate)
        assert solution.error_bound is not None
        # The features are rounded to float32 here, which the inverse's bound carries on.
        carried = (z.float().double() - z).flatten(1).norm(dim=1)
        carried = carried * certificate.inverse_lipschitz_upper_bound
        error = (solution.last_iterate.double() - images.double()).flatten(1).norm(dim=1)
        for attained, bound in zip(error, solution.error_bound[0] + carried, strict=True):
            tally.add("error_bound", case, attained.item(), bound.item())


def _in_float64(model: IResNet) -> IResNet:
    """A copy that computes in float64 with the effective weights that the model has in float32, of
    which its certificate is."""
    exact = copy.deepcopy(model)
    for module in exact.body:
        if isinstance(module, ResidualBlock):
            module.residual = module.deployed()
    return exact.double()


def _check_jacobians(
    exact: IResNet,
    images: Tensor,
    case: str,
    certificate: Certificate,
    generator: torch.Generator,
    tally: Tally,
) -> None:
    """Against the largest at any of six images on their way. Two each look for a large Jacobian of
    features, for one with a small singular value, and for a large difference of logits: from the
    best so far along the gradient, or anywhere where that is zero. One of the two begins at a large
    image, where slopes are near 0 and 1."""
    between = torch.tensor(certificate.logit_difference_bounds, dtype=torch.float64)
    between = between * certificate.features_lipschitz_upper_bound
    x = images[:6].double() * torch.tensor([1.0, 10.0]).repeat(3).view(-1, 1, 1, 1)
    step = 0.3 * x.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    best, best_x, best_slope = x.new_full((6, 1, 1, 1), -math.inf), x, torch.zeros_like(x)
    stretched, squeezed, differed = [], [], []
    for _ in range(_N_ASCENT_STEPS):
        x = x.detach().requires_grad_()
        of_features, of_logits = _jacobians(exact, x)
        values = torch.linalg.svdvals(of_features)
        differences = (of_logits.unsqueeze(2) - of_logits.unsqueeze(1)).norm(dim=3)
        stretched.append(values[:, 0].max().item())
        squeezed.append(1 / values[:, -1].min().item())
        differed.append(differences.detach().amax(dim=0))
        farthest = differences.amax(dim=(1, 2)).clamp(min=1e-30)
        goals = torch.cat([values[:2, 0], 1 / values[2:4, -1], farthest[4:]]).log()
        (slope,) = torch.autograd.grad(goals.sum(), x)
        with torch.no_grad():
            is_better = goals.view(-1, 1, 1, 1) > best
            best = torch.where(is_better, goals.view(-1, 1, 1, 1), best)
            best_x = torch.where(is_better, x, best_x)
            best_slope = torch.where(is_better, slope, best_slope)
            step = torch.where(is_better, step, step / 2)
            anywhere = torch.randn(x.shape, dtype=x.dtype, generator=generator)
            is_flat = best_slope.abs().amax(dim=(1, 2, 3), keepdim=True) == 0
            x = best_x + step * _unit(torch.where(is_flat, anywhere, best_slope))
    proven = certificate.features_lipschitz_upper_bound
    tally.add("features", case, max(stretched), proven)
    tally.add("inverse", case, max(squeezed), certificate.inverse_lipschitz_upper_bound)
    attained = torch.stack(differed).amax(dim=0)
    for i, j in combinations(range(len(between)), 2):
        tally.add("logit difference", case, attained[i, j].item(), between[i, j].item())


def _jacobians(exact: IResNet, x: Tensor) -> tuple[Tensor, Tensor]:
    """Of features and of logits, (B, outputs, inputs) each, differentiable: forward mode, which
    takes one pass, with all inputs as a batch."""

    def outputs(images: Tensor) -> tuple[Tensor, Tensor]:
        features = exact.features(images)
        return features.flatten(1), exact.classifier(features)

    n = x[0].numel()
    units = torch.eye(n, dtype=x.dtype).view(n, 1, *x.shape[1:]).expand(-1, *x.shape)
    of_features, of_logits = vmap(lambda unit: jvp(outputs, (x,), (unit,))[1])(units)
    return of_features.permute(1, 2, 0), of_logits.permute(1, 2, 0)


def _attacked(
    model: IResNet, images: Tensor, labels: Tensor, radius: Tensor, generator: torch.Generator
) -> Tensor:
    """(B,): the least distance at which gradient steps found another answer; infinite for none.
    A tie is another one. They look within 1, 3 and 30 times the radius, and nearer once found."""
    balls = torch.cat([factor * radius for factor in (1.0, 3.0, 30.0)]).view(-1, 1, 1, 1)
    images, labels = images.repeat(3, 1, 1, 1), labels.repeat(3)
    least = torch.full((len(images),), math.inf, dtype=torch.float64)
    offset = torch.randn(images.shape, generator=generator)
    for _ in range(_N_ATTACK_STEPS):
        size = offset.flatten(1).norm(dim=1).clamp(min=1e-30).view(-1, 1, 1, 1)
        offset = (offset * (balls / size).clamp(max=1)).float().detach().requires_grad_()
        moved = images + offset
        answers = model(moved)
        of_label = answers.gather(1, labels.unsqueeze(1)).squeeze(1)
        others = answers.scatter(1, labels.unsqueeze(1), -math.inf).amax(dim=1)
        # Slopes of logits: those of probabilities vanish far from another answer.
        (slope,) = torch.autograd.grad((others - of_label).sum(), offset)
        with torch.no_grad():
            distance = (moved.double() - images.double()).flatten(1).norm(dim=1)
            found = (others >= of_label) & (distance < least)
            least = torch.where(found, distance, least)
            balls = torch.where(found.view(-1, 1, 1, 1), 0.95 * distance.view(-1, 1, 1, 1), balls)
            offset = offset + 0.3 * balls * _unit(slope)
    return least.view(3, -1).amin(dim=0)


def _unit(x: Tensor) -> Tensor:
    """Each sample (B, C, H, W) divided by its norm; zero if that is zero."""
    unit: Tensor = x / x.flatten(1).norm(dim=1).clamp(min=1e-30).view(-1, 1, 1, 1)
    return unit


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--blocks", type=int, default=2000)
    parser.add_argument("--networks", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tally = Tally()
    check_blocks(arguments.blocks, arguments.seed, tally)
    for index in range(arguments.networks):
        check_network(index, arguments.seed, tally)
        if index % 100 == 99:
            print(f"{index + 1} networks", flush=True)
    print("\n".join(tally.lines()))
    print(f"{tally.n_beyond} beyond what is proven")
    return int(tally.n_beyond > 0)


if __name__ == "__main__":
    sys.exit(main())
