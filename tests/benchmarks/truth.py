"""Whether what is proven of blocks and networks is true, where it is hardest to be.

    python -m tests.benchmarks.truth [--blocks 2000] [--networks 300] [--seed 0]

Blocks: random ones of many shapes and sizes of g, with and without an activation ahead, both
efforts, dense operators and grids; against the singular values of the Jacobian of x + g, dense, for
slopes in [0, 1] found by ascent from several starts.

Networks: of all activations and all norms, with statistics and classifiers of their own, with
images on several scales; against the dense Jacobians of features and of logit differences at images
found by gradient ascent, gradient attacks within the radius, and the distance of the inverse from
images whose features are exact. Prints how close each comes; exits 1 if one is beyond.
"""

import argparse
import math
import sys
from collections import defaultdict
from typing import get_args
from unittest import mock

import torch
from torch import Tensor, nn

from models import Effort, IResNet, block_bounds, certified_radius, certify
from models.activations import ACTIVATIONS
from tests.benchmarks.attained import kernel, network
from tests.support.networks import with_biases
from tests.support.oracles import dense_convolution, extreme_over_slopes

_SHAPES = ((1, 2, (2, 2)), (2, 4, (3, 3)), (2, 8, (4, 4)), (4, 8, (2, 3)), (3, 3, (1, 5)))
_KINDS = ("normal", "smooth", "rank one", "sparse")
_SIZES = (0.01, 0.3, 0.6, 0.9, 1.2, 2.0)
_NORMS = ("spectral", "batch", "none")


class Tally:
    """How close what is attained comes to what is proven, as a fraction of it, by what it is."""

    def __init__(self) -> None:
        self.closest: dict[str, list[float]] = defaultdict(list)
        self.n_beyond = 0

    def add(self, what: str, attained: float, proven: float) -> None:
        """attained <= proven must hold."""
        if not attained <= proven:
            self.n_beyond += 1
            print(f"beyond: {what}, {attained} > {proven}", flush=True)
        if 0 < proven < math.inf:
            self.closest[what].append(attained / proven)

    def lines(self) -> list[str]:
        return [
            f"{what}: {len(found)}, attained over proven at most {max(found):.6f}, "
            f"median {sorted(found)[len(found) // 2]:.4f}"
            for what, found in sorted(self.closest.items())
        ]


def block(index: int, generator: torch.Generator) -> tuple[list[Tensor], tuple[int, int]]:
    """Kernels whose layers' norms have a product of `_SIZES`."""
    m, channels, size = _SHAPES[index % len(_SHAPES)]
    k = 1 if index % 7 == 0 else 3
    kind = _KINDS[index % len(_KINDS)]
    weights = [
        kernel(kind, (m, channels, k, k), generator),
        kernel("normal", (m, m, 1, 1), generator),
        kernel("normal", (channels, m, k, k), generator),
    ]
    norms = [torch.linalg.matrix_norm(dense_convolution(w, size), ord=2).item() for w in weights]
    product = math.prod(norms)
    if product > 0:
        weights[2] = weights[2] * (_SIZES[index % len(_SIZES)] / product)
    return weights, size


def check_block(index: int, generator: torch.Generator, tally: Tally) -> None:
    weights, size = block(index, generator)
    is_activated = index % 3 > 0
    model = network(weights, size)
    if not is_activated:
        model.body[0].residual = model.body[0].residual[1:]
    matrices = [dense_convolution(w, size) for w in weights]
    largest, smallest = (
        extreme_over_slopes(*matrices, is_activated=is_activated, sign=sign, generator=generator)
        for sign in (1, -1)
    )
    for effort in get_args(Effort):
        for rows in (0, 256):
            with mock.patch.object(block_bounds, "_DENSE_ROWS", rows):
                (bound,) = certify(model, effort).blocks
            way = f"{effort}, {'dense operators' if rows else 'grids'}"
            tally.add(f"block, {way}", largest * (1 - 1e-12), bound.map_lipschitz_upper_bound)
            inverse = (1 - 1e-12) / smallest if smallest > 0 else math.inf
            tally.add(f"its inverse, {way}", inverse, bound.inverse_lipschitz_upper_bound)


def classifying(index: int, generator: torch.Generator) -> IResNet:
    """A network in eval mode, with statistics of its own."""
    norm, activation = _NORMS[index % 3], sorted(ACTIVATIONS)[index // 3 % 3]
    model = IResNet(
        (2, 4, 4), 4, (1, 1), norm=norm, activation=activation, dropout=0.0,
        coeff=(0.5, 0.9)[index % 2],
    )  # fmt: skip
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


def check_network(index: int, generator: torch.Generator, tally: Tally) -> None:
    model = classifying(index, generator)
    # Images are scale * pixels: a data set's normalization.
    scale = (1.0, 2.0, 4.0, 0.5)[index % 4]
    certificate = certify(model, get_args(Effort)[index % 2])
    images = scale * (torch.rand(8, 2, 4, 4, generator=generator) - 0.5)
    _check_jacobians(model, images[:1], tally)
    with torch.no_grad():
        logits = model(images)
    labels = logits.argmax(1)
    radius = certified_radius(model, images, labels, certificate, scale=scale)
    held = radius > 0
    if held.any():
        least = _attacked(model, images[held], labels[held], scale * radius[held], generator)
        for distance, proven in zip(least.tolist(), (scale * radius[held]).tolist(), strict=True):
            # A radius that is proven is at most the distance of an image with another answer.
            tally.add("radius", proven, distance)
    if certificate.invertible:
        exact = model.double()
        with torch.no_grad():
            z = exact.features(images.double())
        model.float()
        solution = model.inverse(z.float(), certificate=certificate)
        assert solution.error_bound is not None
        # The features are rounded to float32 here, which the inverse's bound carries on.
        carried = (z.float().double() - z).flatten(1).norm(dim=1)
        carried = carried * certificate.inverse_lipschitz_upper_bound
        error = (solution.last_iterate.double() - images.double()).flatten(1).norm(dim=1)
        for attained, proven in zip(error, solution.error_bound[0] + carried, strict=True):
            tally.add("error_bound", attained.item(), proven.item())


def _check_jacobians(model: IResNet, x: Tensor, tally: Tally) -> None:
    model.double()
    certificate = certify(model)
    between = torch.tensor(certificate.logit_difference_bounds, dtype=torch.float64)
    between = between * certificate.features_lipschitz_upper_bound
    x = x.double()
    for _ in range(8):
        x = x.detach().requires_grad_()
        jacobian = torch.autograd.functional.jacobian(lambda image: model(image)[0], x)
        jacobian = jacobian.reshape(len(between), -1)
        norms = (jacobian.unsqueeze(1) - jacobian).norm(dim=2)
        for i in range(len(between)):
            for j in range(i):
                tally.add("logit difference", norms[i, j].item(), between[i, j].item())
        features = torch.autograd.functional.jacobian(model.features, x, create_graph=True)
        values = torch.linalg.svdvals(features.reshape(-1, x.numel()))
        tally.add("features", values[0].item(), certificate.features_lipschitz_upper_bound)
        tally.add("inverse", 1 / values[-1].item(), certificate.inverse_lipschitz_upper_bound)
        (slope,) = torch.autograd.grad((values[0] / values[-1]).log(), x)
        x = x + 0.3 * slope / slope.norm().clamp(min=1e-12)
    model.float()


def _attacked(
    model: IResNet, images: Tensor, labels: Tensor, radius: Tensor, generator: torch.Generator
) -> Tensor:
    """(B,): the least distance at which gradient steps found another answer; infinite for none.
    They look within 1, 3 and 30 times the radius."""
    least = torch.full((len(images),), math.inf, dtype=torch.float64)
    for factor in (1.0, 3.0, 30.0):
        ball = (factor * radius).float().view(-1, 1, 1, 1)
        offset = torch.randn(images.shape, generator=generator)
        for _ in range(20):
            size = offset.flatten(1).norm(dim=1).clamp(min=1e-30).view(-1, 1, 1, 1)
            offset = (offset * (ball / size).clamp(max=1)).detach().requires_grad_()
            answers = model(images + offset)
            loss = nn.functional.cross_entropy(answers, labels, reduction="sum")
            (slope,) = torch.autograd.grad(loss, offset)
            with torch.no_grad():
                moved = ((images + offset).double() - images.double()).flatten(1).norm(dim=1)
                found = (answers.argmax(1) != labels) & (moved < least)
                least = torch.where(found, moved, least)
                steps = slope / slope.flatten(1).norm(dim=1).clamp(min=1e-30).view(-1, 1, 1, 1)
                offset = offset + 0.3 * ball * steps
    return least


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--blocks", type=int, default=2000)
    parser.add_argument("--networks", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    generator = torch.Generator().manual_seed(arguments.seed)
    torch.manual_seed(arguments.seed)
    tally = Tally()
    for index in range(arguments.blocks):
        check_block(index, generator, tally)
    for index in range(arguments.networks):
        check_network(index, generator, tally)
    print("\n".join(tally.lines()))
    print(f"{tally.n_beyond} beyond what is proven")
    return int(tally.n_beyond > 0)


if __name__ == "__main__":
    sys.exit(main())
