"""How far an image can move before the answer of the network changes: a proven radius.

The network runs in float32, and its rounding differs from image to image. So a radius counts the
rounding of the pass on every image within it: beside the value at the image run a bound of how far
that of another image is from it, and a bound of the rounding (a running error analysis: Higham,
Accuracy and Stability of Numerical Algorithms, 3.3).
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from models.activations import ACTIVATIONS
from models.certificate import UP, Certificate
from models.iresnet import GlobalAveragePool, IResNet
from models.residual_block import ResidualBlock
from models.rounding import scaled_norm

_UNIT = 2.0**-24
# Operations on an entry by an activation, or by BatchNorm, at most; each good to one rounding.
_FEW = 8
# Far above what the underflow of one layer's products adds up to.
_UNDERFLOW = 2.0**-100
# For terms of higher order, and for the rounding of the bounds themselves, which are computed in
# float32 where they are maps.
_ROOM = 1.01


@torch.no_grad()
def certified_radius(
    model: IResNet,
    images: Tensor,
    labels: Tensor,
    certificate: Certificate,
    *,
    scale: float = 1.0,
) -> Tensor:
    """Proven radii (B,), float64, l2, in pixels of [0, 1]: for every image within it, the network's
    largest logit, in float32, is that of the label alone. No radius is proven where it is negative
    or zero: the answer is wrong, or right by less than rounding. None is larger than the diameter
    of the box of all images.

    Every other class j is looked at: the margin z_y - z_j, less twice the rounding, which is that
    at the image and that at the other one, over the bound of Lip(z_y - z_j) by pixels. Convolutions
    and sums are assumed to be sums of products in float32, in any order, as torch's are on CPUs; no
    TF32, no Winograd and no Fourier form.

    Args:
        model: in eval mode, in float32.
        images: float32 (B, C, H, W), as the network takes them: scale * pixels + an offset.
        labels: int64 (B,).
        certificate: of this network, by `certify`.
        scale: > 0, the largest factor of a pixel in the normalization.

    Raises:
        ValueError: if the certificate is of another network.
    """
    certificate.check(model.body)
    certificate.check_classifier(model.classifier)
    between = torch.tensor(certificate.logit_difference_bounds, dtype=torch.float64)
    if between.numel() == 0:
        return torch.full((len(images),), -math.inf, dtype=torch.float64)
    between = between.to(images.device)[labels]
    of_pixels = scale * certificate.features_lipschitz_upper_bound * between
    logits = model(images).double()
    margin = logits.gather(1, labels.unsqueeze(1)) - logits
    others = torch.ones_like(of_pixels, dtype=torch.bool).scatter(1, labels.unsqueeze(1), False)
    # No farther than without rounding, or than from one corner of the box of images to another.
    farthest = images[0].numel() ** 0.5
    spread = scale * _smallest(margin, of_pixels, others).clamp(0, farthest)
    running = _Running(images, spread, torch.zeros_like(spread))
    blocks = iter(certificate.blocks)
    for module in model.body:
        if isinstance(module, ResidualBlock):
            running = _after_block(module, running, next(blocks).map_lipschitz_upper_bound)
        else:
            running = replace(running, value=module(running.value))
    # The classifier's own rounding, at features that are off by that of the body.
    of_logits = _through_classifier(model.classifier, running.as_input())
    of_label = of_logits.gather(1, labels.unsqueeze(1))
    rounding = between * running.error.unsqueeze(1) + of_label + of_logits
    return _smallest(margin - 2 * _ROOM * rounding, of_pixels, others).clamp(max=farthest)


@dataclass(frozen=True)
class _Running:
    """A step of the pass on B images.

    Attributes:
        value: float32 (B, ...), as computed at the image.
        spread: float64 (B,), bound of the l2 distance between the exact values at the image and at
            any other in the ball.
        error: float64 (B,), bound of the rounding up to here, l2, at any image in the ball.
    """

    value: Tensor
    spread: Tensor
    error: Tensor

    @property
    def off(self) -> Tensor:
        """(B,): bound of the distance of the computed values at any image in the ball from this."""
        return self.spread + 2 * self.error

    def as_input(self) -> "_Running":
        """The same, as what is given: the rounding before it is part of how far it is off."""
        return _Running(self.value, self.off, torch.zeros_like(self.error))


def _smallest(margin: Tensor, lipschitz: Tensor, others: Tensor) -> Tensor:
    """The smallest over the other classes of margin / lipschitz, rounded down."""
    quotient = margin / lipschitz
    # Logits that never differ: certified at any radius, or at none.
    quotient = torch.where(lipschitz > 0, quotient, torch.where(margin > 0, math.inf, -math.inf))
    quotient = quotient.nan_to_num(nan=-math.inf, posinf=math.inf, neginf=-math.inf)
    quotient = torch.where(others, quotient, math.inf).amin(dim=1)
    return torch.where(quotient.isinf(), quotient, quotient - (UP - 1) * quotient.abs())


def _after_block(block: ResidualBlock, before: _Running, lipschitz: float) -> _Running:
    """x + g(x): what comes in off by an error leaves off by `lipschitz` times that, and the block
    adds its own rounding, at what comes in."""
    inside = before.as_input()
    for module in block.deployed():
        inside = _through(module, inside)
    size = _norm(before.value) + before.off + _norm(inside.value) + inside.off
    error = lipschitz * before.error + inside.error + _UNIT * size + _UNDERFLOW
    return _Running(before.value + inside.value, lipschitz * before.spread, error)


def _through(module: nn.Module, before: _Running) -> _Running:
    """A layer of g or of the classifier. Each operation rounds at most so many times the sum of the
    absolute values of its terms."""
    x = before.value
    value = module(x)
    if isinstance(module, nn.Conv2d):
        kernel = module.weight.abs()
        bias = None if module.bias is None else module.bias.abs()
        size = _norm(nn.functional.conv2d(x.abs(), kernel, bias, padding=module.padding))
        norm = torch.linalg.matrix_norm(kernel.sum(dim=(2, 3)).double(), ord=2)
        n_terms = kernel[0].numel() + 1
    elif isinstance(module, nn.BatchNorm2d):
        assert module.running_mean is not None
        assert module.running_var is not None
        scale = module.weight.abs() * (module.running_var + module.eps).rsqrt()
        offset = module.bias.abs() + scale * module.running_mean.abs()
        size = _norm(x.abs() * scale.view(-1, 1, 1) + offset.view(-1, 1, 1))
        norm = scale.max().double()
        n_terms = _FEW
    elif type(module) in ACTIVATIONS.values():
        rounds = not isinstance(module, nn.ReLU)
        # A softplus is at most |x| + log(2), and log(2) at 0.
        size = _norm(x.abs() + math.log(2))
        norm = torch.ones((), dtype=torch.float64)
        n_terms = _FEW if rounds else 0
    elif isinstance(module, GlobalAveragePool):
        n_pixels = x.shape[2] * x.shape[3]
        size = _norm(x.abs().mean(dim=(2, 3)))
        norm = torch.ones((), dtype=torch.float64) / n_pixels**0.5
        n_terms = n_pixels + 1
    else:
        assert isinstance(module, nn.Dropout | nn.Identity)
        return before
    rounding = _gamma(n_terms) * (size + norm * before.off) + _UNDERFLOW
    return _Running(value, norm * before.spread, norm * before.error + rounding)


def _through_classifier(classifier: nn.Module, running: _Running) -> Tensor:
    """(B, K): bounds of the rounding of each logit."""
    assert isinstance(classifier, nn.Sequential)
    *layers, last = classifier
    for module in layers:
        running = _through(module, running)
    assert isinstance(last, nn.Linear)
    norms = last.weight.double().norm(dim=1)
    size = nn.functional.linear(running.value.abs(), last.weight.abs(), last.bias.abs()).double()
    size = size + norms * running.off.unsqueeze(1)
    gamma = _gamma(last.in_features + 1)
    rounding: Tensor = norms * running.error.unsqueeze(1) + gamma * size + _UNDERFLOW
    return rounding


def _gamma(n_terms: int) -> float:
    return n_terms * _UNIT / (1 - n_terms * _UNIT)


def _norm(x: Tensor) -> Tensor:
    """(B,), float64: the l2 norm of each sample."""
    return scaled_norm(x).double()
