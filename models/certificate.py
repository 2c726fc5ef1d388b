"""Proven upper bounds on the Lipschitz constants of residual blocks.

The paper checks a layer by the singular values of its kernel's Fourier transform (after
Sedghi et al. 2018), which is exact for circular padding and can be below the norm under
the zero padding that the network uses. Here the map of n x n pixels is embedded in a
torus of N = n + r pixels a side, r = (k - 1) / 2: zero-padded convolution is then embed,
convolve circularly, restrict. Embedding and restriction have norm 1, so the norm of the
circular convolution, the largest singular value of its symbol over the N x N grid of
frequencies, is an upper bound.

The entries that wrap around the torus are never used, so they may carry any phase:
every grid shifted by a fraction of its spacing gives a bound too, and the smallest of
several is one. Where the map is so small that the dense operator is cheap, its own norm
takes the place of the bound.

All bounds are l2 to l2, computed in float64 from the very weights that the forward pass
uses, in eval mode. They are statements in real arithmetic; the rounding of the forward
pass itself is not part of them.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.iresnet import ACTIVATIONS, InjectivePad, IResNet, ResidualBlock, Squeeze
from models.spectral_norm import SpectralNormConv2d

# Relative allowance for the rounding of the bound's own computation in float64: sums of
# at most some 10^4 terms, each good to 2^-53, and an eigenvalue solver that is backward
# stable. The bound holds as printed.
ROUNDING_SLACK = 1e-11
# Half a spacing keeps the conjugate symmetry of the grid, so half of it is enough.
_SHIFTS = (0.0, 0.5)
# A dense operator with at most this many rows costs about as much as the grids do.
_DENSE_ROWS = 256


@dataclass(frozen=True)
class LayerBound:
    """A proven upper bound of one layer's Lipschitz constant, in eval mode, l2 to l2.

    Attributes:
        name: the module's path in model.named_modules().
        kind: "convolution", or "batch_norm" for one with no convolution ahead of it.
        upper_bound: the bound; infinite if the weights are not finite.
        folded: path of the BatchNorm that was folded into this convolution, or None.
    """

    name: str
    kind: str
    upper_bound: float
    folded: str | None = None


@dataclass(frozen=True)
class BlockBound:
    """A proven upper bound of Lip(g) of one residual block x + g(x): the layers' product."""

    name: str
    upper_bound: float


@dataclass(frozen=True)
class Certificate:
    """What is proven of a network in eval mode.

    Attributes:
        lipschitz_upper_bound: the largest bound of Lip(g) over the residual blocks. Below
            1 the network is invertible (paper, Theorem 1); otherwise nothing is proven.
        in_shape: (C, H, W) of the images for which it holds.
        blocks: a bound for each residual block, in order.
        layers: a bound for each layer that is no 1-Lipschitz activation, in order.
    """

    lipschitz_upper_bound: float
    in_shape: tuple[int, int, int]
    blocks: tuple[BlockBound, ...]
    layers: tuple[LayerBound, ...]

    @property
    def contraction(self) -> bool:
        """Every residual block is proven to contract: the network is invertible."""
        return self.lipschitz_upper_bound < 1

    def to_dict(self) -> dict[str, object]:
        """Plain dict of str, float, bool, lists and dicts, for JSON."""
        return {
            "lipschitz_upper_bound": self.lipschitz_upper_bound,
            "contraction": self.contraction,
            "mode": "eval",
            "norm": "l2",
            "in_shape": list(self.in_shape),
            "blocks": [asdict(block) for block in self.blocks],
            "layers": [asdict(layer) for layer in self.layers],
        }


@torch.no_grad()
def certify(model: IResNet) -> Certificate:
    """Bound the Lipschitz constant of every residual block of the model, in eval mode.

    Raises:
        ValueError: if the invertible part contains a module whose Lipschitz constant is not
            known here, or a convolution outside the argument above. A layer without a
            proof has no bound.
    """
    blocks: list[BlockBound] = []
    layers: list[LayerBound] = []
    for name, module in model.body.named_children():
        path = f"body.{name}"
        if type(module) is ResidualBlock:
            block_layers = list(_layer_bounds(module, f"{path}.residual"))
            upper_bound = math.prod(layer.upper_bound for layer in block_layers)
            blocks.append(BlockBound(path, _at_least(upper_bound)))
            layers.extend(block_layers)
        elif type(module) not in (Squeeze, InjectivePad):
            raise ValueError(_unknown(path, module))
    largest = max((block.upper_bound for block in blocks), default=0.0)
    return Certificate(largest, model.in_shape, tuple(blocks), tuple(layers))


def _layer_bounds(block: ResidualBlock, path: str) -> Iterator[LayerBound]:
    children = list(block.residual.named_children())
    index = 0
    while index < len(children):
        child, module = children[index]
        name = f"{path}.{child}"
        index += 1
        if isinstance(module, SpectralNormConv2d | nn.Conv2d):
            weight = _effective_weight(name, module).double()
            folded = None
            if index < len(children) and type(children[index][1]) is nn.BatchNorm2d:
                # conv, then BatchNorm: one convolution with the kernel s_o * W[o].
                following, batch_norm = children[index]
                weight = weight * _batch_norm_scale(batch_norm).view(-1, 1, 1, 1)
                folded = f"{path}.{following}"
                index += 1
            bound = convolution_upper_bound(weight, block.in_shape[1:])
            yield LayerBound(name, "convolution", bound, folded)
        elif type(module) is nn.BatchNorm2d:
            scale = _batch_norm_scale(module).abs().max().item()
            yield LayerBound(name, "batch_norm", _at_least(scale))
        elif type(module) not in (*ACTIVATIONS.values(), nn.Dropout):
            raise ValueError(_unknown(name, module))
        elif isinstance(module, nn.ELU) and module.alpha > 1:
            # The slope of ELU at 0 from below is alpha.
            raise ValueError(f"ELU at {name}: alpha <= 1 must hold, but got {module.alpha}")


def _effective_weight(name: str, module: nn.Module) -> Tensor:
    if type(module) is SpectralNormConv2d:
        return module.effective_weight()
    if type(module) is not nn.Conv2d:
        raise ValueError(_unknown(name, module))
    k_height, k_width = module.kernel_size
    if (
        module.stride != (1, 1)
        or module.dilation != (1, 1)
        or module.groups != 1
        or module.padding_mode != "zeros"
        or k_height % 2 == 0
        or k_width % 2 == 0
        or module.padding != (k_height // 2, k_width // 2)
    ):
        raise ValueError(
            f"no bound is known for the convolution at {name}: it must have an odd kernel, "
            f"stride 1, dilation 1, one group and 'same' zero padding, but got {module}"
        )
    return module.weight


def _batch_norm_scale(module: nn.Module) -> Tensor:
    """s = gamma / sqrt(running_var + eps) of an eval-mode BatchNorm, (C,), float64."""
    assert isinstance(module, nn.BatchNorm2d)
    if module.running_var is None:
        raise ValueError("a BatchNorm without running statistics is no function of one sample")
    scale = (module.running_var.double() + module.eps).rsqrt()
    return scale if module.weight is None else scale * module.weight.double()


def convolution_upper_bound(weight: Tensor, size: tuple[int, int]) -> float:
    """Upper bound of the spectral norm of a zero-padded convolution of stride 1.

    Exact, up to ROUNDING_SLACK, for 1x1 kernels and small maps; elsewhere the smallest
    over four shifted grids of the norm of a circular convolution that contains it.

    Args:
        weight: (c_out, c_in, k_h, k_w), k_h and k_w odd; computed in float64.
        size: (H, W) of the map. Taps that reach across the whole map are never used and
            are dropped, each axis by itself.

    Returns:
        The bound, l2 to l2; infinite if the weight is not finite.
    """
    weight = weight.double()
    if not bool(weight.isfinite().all()):
        return math.inf
    reach_h, reach_w = (min(k // 2, n - 1) for k, n in zip(weight.shape[2:], size, strict=True))
    unused_h, unused_w = weight.shape[2] // 2 - reach_h, weight.shape[3] // 2 - reach_w
    weight = weight.narrow(2, unused_h, 2 * reach_h + 1).narrow(3, unused_w, 2 * reach_w + 1)
    if reach_h == reach_w == 0:
        return _at_least(torch.linalg.matrix_norm(weight[:, :, 0, 0], ord=2).item())
    if weight.shape[0] > weight.shape[1]:
        weight = weight.transpose(0, 1)  # the transposed symbol has the same norm
    if weight.shape[0] * math.prod(size) <= _DENSE_ROWS:
        dense = _dense_operator(weight, size)
        squared = float(torch.linalg.eigvalsh(dense @ dense.T)[-1])
        return _at_least(math.sqrt(max(squared, 0.0)))
    tori = (size[0] + reach_h, size[1] + reach_w)
    squared = min(
        _largest_gram_eigenvalue(weight, tori, (row, column))
        for row, column in product(_SHIFTS, repeat=2)
    )
    return _at_least(math.sqrt(max(squared, 0.0)))


def _dense_operator(weight: Tensor, size: tuple[int, int]) -> Tensor:
    """The zero-padded convolution as a matrix (c_out H W, c_in H W); weight (c_out, c_in, ...)."""
    c_out = weight.shape[0]
    n_rows = c_out * math.prod(size)
    unit = torch.eye(n_rows, dtype=weight.dtype, device=weight.device).view(n_rows, c_out, *size)
    padding = (weight.shape[2] // 2, weight.shape[3] // 2)
    return F.conv_transpose2d(unit, weight, padding=padding).flatten(1)


def _largest_gram_eigenvalue(
    weight: Tensor, tori: tuple[int, int], shift: tuple[float, float]
) -> float:
    """max over the shifted grid of sigma_max(symbol)^2; weight (c_small, c_large, k_h, k_w)."""
    c_small, c_large, k_h, k_w = weight.shape

    def phases(n_frequencies: int, torus: int, k: int, fraction: float) -> Tensor:
        # In float64 from the start: a float32 quotient would cost the bound nine digits.
        frequency = (torch.arange(n_frequencies, dtype=torch.float64) + fraction) / torus
        tap = torch.arange(k, dtype=torch.float64) - k // 2
        angle = 2 * math.pi * torch.outer(frequency, tap)
        return torch.polar(torch.ones_like(angle), angle).to(weight.device)

    # The symbol at -f is the conjugate of the symbol at f: half of the rows are enough.
    rows = phases(tori[0] // 2 + 1, tori[0], k_h, shift[0])
    columns = phases(tori[1], tori[1], k_w, shift[1])
    symbol = torch.einsum("yh,oihw,xw->yxoi", rows, weight.to(rows.dtype), columns)
    symbol = symbol.reshape(-1, c_small, c_large)
    gram = symbol @ symbol.mH
    return float(torch.linalg.eigvalsh(gram)[:, -1].max())


def _at_least(value: float) -> float:
    """The value with its rounding allowance; a value that is no number bounds nothing."""
    return math.inf if math.isnan(value) else value * (1 + ROUNDING_SLACK)


def _unknown(name: str, module: nn.Module) -> str:
    return f"no Lipschitz bound is known for the module {type(module).__name__} at {name}"
