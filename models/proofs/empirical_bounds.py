"""The bounds that other authors state, compared with what their blocks do at given images.

This can refute a false bound, but prove none: what a block does far from every point that is tried
stays unknown. Ratios are measured between two points, in float64. Jacobians only say which pairs to
try, so that neither a kink nor a wrong gradient can refute a true bound.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from models.blocks.invertible_block import InvertibleBlock
from models.blocks.kinds import author_of
from models.floats.norm import scaled_norm
from models.network.iresnet import IResNet
from models.norms.rounding import UNITS
from models.proofs.empirical_lipschitz import jacobian_products

# Steps of Lanczos' method for the extreme directions of a Jacobian.
_N_STEPS = 12
# Points beside the images: this many images moved by noise of standard deviation 1, and the same
# points enlarged by this factor.
_N_MOVED, _ENLARGED = 4, 10.0
# Distances of the pairs, l2, relative to |x| + 1.
_NEAR, _FAR = 1e-4, 0.1
# The most channels, and the most pixels, that are changed one at a time.
_MOST_CHANGED = 64
# A vector counts as one in the span of others if less than this part of its length is left.
_LEAST_REST = 1e-8
# Points that go through a block in one batch.
_BATCH_SIZE = 64


@dataclass(frozen=True)
class EmpiricalBounds:
    """The extreme values that a block attained, l2 to l2, named like its `Bounds`. They never go
    beyond true bounds, up to the rounding of float64.

    Attributes:
        lipschitz: the largest |g(x) - g(y)| / |x - y| that was found; at most Lip(g).
        alpha, beta: the smallest and largest |(x + g(x)) - (y + g(y))| / |x - y|.
        rounding: the largest distance between the forward passes in float32 and in float64, in
            units of u (|x| + 1), u = 2^-24; 0 for images of float64, which do not show it.
    """

    lipschitz: float
    alpha: float
    beta: float
    rounding: float


@torch.no_grad()
def empirical_bounds(model: IResNet, images: Tensor) -> tuple[EmpiricalBounds | None, ...]:
    """For each block of another author the values that it attained; None for a block of this
    package, and for one whose inputs were not finite.

    The pairs are two images, or points around an image that differ in one row, column, channel or
    pixel, in a random direction, or in the direction in which the Jacobian of the block, or of g,
    stretches most or least. A value is NaN where the block gives no finite map. The seed is fixed.

    Args:
        model: in eval mode, with weights of the images' dtype.
        images: (B, C, H, W), float32 or float64, B >= 1, of in_shape.

    Raises:
        RuntimeError: if the model is in training mode.
    """
    if model.training:
        raise RuntimeError("empirical_bounds needs eval mode; call model.eval() first")
    found: list[EmpiricalBounds | None] = []
    x = images
    for module in model.body:
        if isinstance(module, InvertibleBlock):
            usable = x[x.flatten(1).isfinite().all(dim=1)]
            is_of_package = author_of(module) is None
            found.append(None if is_of_package or len(usable) == 0 else _attained(module, usable))
        x = module(x)
    return tuple(found)


def _attained(block: InvertibleBlock, x: Tensor) -> EmpiricalBounds:
    """The values that a block attains at its inputs x (B, C, H, W) and around them."""
    exact = copy.deepcopy(block).double()
    generator = torch.Generator().manual_seed(0)
    moved = x[:_N_MOVED] + _noise(x[:_N_MOVED], generator)
    points = torch.cat([x, moved, _ENLARGED * moved])
    rounding = 0.0
    if x.dtype == torch.float32:
        off = scaled_norm(_image(block, points).double() - _image(exact, points.double()))
        rounding = (off / (scaled_norm(points.double()) + 1)).amax().item() / UNITS[x.dtype][0]
    pairs = [*_pairs(exact, x.double(), points.double(), generator)]
    first, second = (torch.cat(side) for side in zip(*pairs, strict=True))
    between = first - second
    distance = scaled_norm(between)
    apart = distance != 0  # NaN stays
    of_map = _image(exact, first) - _image(exact, second)
    of_block, of_g = (scaled_norm(d)[apart] / distance[apart] for d in (of_map, of_map - between))
    return EmpiricalBounds(
        lipschitz=of_g.amax().item(),
        alpha=of_block.amin().item(),
        beta=of_block.amax().item(),
        rounding=rounding,
    )


def _image(block: InvertibleBlock, x: Tensor) -> Tensor:
    return torch.cat([block(part) for part in x.split(_BATCH_SIZE)])


def _pairs(
    block: InvertibleBlock, images: Tensor, points: Tensor, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield pairs as two tensors (n, C, H, W) of n points each: images, and points around them."""
    yield images, images.roll(1, dims=0)
    masks = _masks(images[0], generator)
    bases = points[torch.arange(len(masks), device=points.device) % len(points)]
    yield _ends(bases, masks * _noise(bases, generator), _FAR)
    for size in (_NEAR, _FAR):
        yield _ends(points, _noise(points, generator), size)
    # Every second point, off the kinks at which an image, such as a black one, may be.
    smooth = points[::2] + _NEAR * _noise(points[::2], generator)

    def residual(x: Tensor) -> Tensor:
        image: Tensor = block(x)
        return image - x

    for function in (block, residual):
        for direction in _extreme_directions(function, smooth, generator):
            yield _ends(smooth, direction, _NEAR)


def _ends(x: Tensor, direction: Tensor, size: float) -> tuple[Tensor, Tensor]:
    """Two points on both sides of x (n, C, H, W) along a direction, size * (|x| + 1) apart."""
    length = size * (scaled_norm(x) + 1) / scaled_norm(direction)
    half = direction * (length / 2).view(-1, 1, 1, 1)
    return x + half, x - half


def _masks(x: Tensor, generator: torch.Generator) -> Tensor:
    """(n, C, H, W), each 1 in one row, column, channel or pixel of x (C, H, W) and 0 elsewhere."""
    channels, height, width = x.shape
    by_row, by_column = torch.eye(height), torch.eye(width)
    by_channel = torch.eye(channels)[torch.randperm(channels, generator=generator)[:_MOST_CHANGED]]
    pixels = torch.randperm(height * width, generator=generator)[:_MOST_CHANGED]
    by_pixel = torch.eye(height * width)[pixels]
    masks = (
        by_row.view(-1, 1, height, 1),
        by_column.view(-1, 1, 1, width),
        by_channel.view(-1, channels, 1, 1),
        by_pixel.view(-1, 1, height, width),
    )
    return torch.cat([mask.expand(-1, *x.shape) for mask in masks]).to(x)


def _extreme_directions(
    function: Callable[[Tensor], Tensor], x: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Returns (most, least): directions (B, C, H, W) that the Jacobian J of a map at x stretches
    nearly most and least, by Rayleigh-Ritz in the Krylov space of J^T J from a random start."""
    push, pull = jacobian_products(function, x)
    v = _noise(x, generator).flatten(1)
    basis = v.new_empty(len(v), 0, v.shape[1])
    images: list[Tensor] = []
    for _ in range(min(_N_STEPS, v.shape[1])):
        unit = _orthonormal(v, basis, generator)
        basis = torch.cat([basis, unit.unsqueeze(1)], dim=1)
        image = push(unit.view_as(x))
        images.append(image.flatten(1))
        v = pull(image).flatten(1)
    stretched = torch.stack(images, dim=1)
    gram = (stretched @ stretched.mT).cpu().nan_to_num()
    vectors = torch.linalg.eigh(gram).eigenvectors.to(x.device)
    least, most = (vectors[:, None, :, end] @ basis for end in (0, -1))
    return most.view_as(x), least.view_as(x)


def _orthonormal(v: Tensor, basis: Tensor, generator: torch.Generator) -> Tensor:
    """Unit vectors (B, D) orthogonal to those of a basis (B, k, D): v without its part in their
    span, or random ones where nothing is left of v."""
    rest = _rest(v, basis)
    is_left = _norm(rest) > _LEAST_REST * _norm(v)
    if not is_left.all():
        rest = torch.where(is_left, rest, _rest(_noise(v, generator), basis))
    return rest / _norm(rest)


def _rest(v: Tensor, basis: Tensor) -> Tensor:
    """v (B, D) without its part in the span of an orthonormal basis (B, k, D)."""
    for _ in range(2):  # once more, against the rounding of the first time
        v = v - (v.unsqueeze(1) @ basis.mT @ basis).squeeze(1)
    return v


def _norm(v: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(v, dim=1, keepdim=True)
    return norm


def _noise(x: Tensor, generator: torch.Generator) -> Tensor:
    """Gaussian noise in the shape of x, drawn on the CPU."""
    return torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)
