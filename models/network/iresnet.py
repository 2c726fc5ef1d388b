"""Invertible residual networks and the paper's baselines, in one class.

Behrmann et al., "Invertible Residual Networks": pre-activation bottleneck blocks x + g(x),
g = W3 k(W2 k(W1 k(x))), invertible downsampling between the stages and zeros appended to the input
channels (section 3 and appendix A). Other kinds of blocks may take their place (`blocks.kinds`).
"""

import copy
import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from models.arguments import check_kind, described
from models.blocks.invertible_block import InvertibleBlock
from models.blocks.kinds import kind_of
from models.blocks.own import Block, path_of_class
from models.blocks.potential import PotentialBlock
from models.floats.raised import UP
from models.heads.head import Head
from models.heads.kinds import HEADS, head_of
from models.inverse.fixed_point import Solution, nan_where_unconverged
from models.isometries import ISOMETRIES, Flatten, InjectivePad, Patches, Squeeze
from models.layers.normalized import NormalizedConv2d
from models.layers.orthonormal import OrthonormalConv2d, retract
from models.layers.spectral_norm import (
    SpectralNormConv2d,
    effective_weights,
    update_spectral_norm,
)
from models.maps import check_maps, check_precision
from models.network.certificate import Certificate
from models.network.error_bound import error_bounds
from models.norms.rounding import UNITS, norm_of
from models.spec import NetworkSpec


class IResNet(nn.Module):
    """A residual network that is invertible up to the classifier if its blocks contract.

    Args:
        in_shape: (C, H, W) of an image; or a NetworkSpec, beside which only the class `block` that
            it names may be given.
        n_classes: at least 1.
        blocks: residual blocks in each stage; by default as in the paper, (18, 18, 19).
        settings: the other settings of `NetworkSpec`, which has their types, defaults and rules;
            `block` may also be a subclass of Block itself.

    Raises:
        TypeError: if a setting is unknown or of the wrong type.
        ValueError: if a setting is out of range, in_shape does not fit the stages, or no such block
            exists.

    >>> solution = model.inverse(model.features(images), certificate=certificate)
    >>> torch.allclose(solution.value, images, atol=1e-4), solution.image_error_bound.max() < 1e-3
    (True, tensor(True))
    """

    def __init__(
        self,
        in_shape: tuple[int, int, int] | NetworkSpec,
        n_classes: int | None = None,
        blocks: Sequence[int] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__()
        block = settings.get("block")
        own = block if isinstance(block, type) and issubclass(block, Block) else None
        if own is not None:
            settings["block"] = path_of_class(own)
        if blocks is not None:
            settings["blocks"] = blocks
        if isinstance(in_shape, NetworkSpec):
            others = [n for n, value in settings.items() if n != "block" or value != in_shape.block]
            others += ["n_classes"] * (n_classes is not None)
            if others:
                raise TypeError(f"a NetworkSpec must stand alone, but got {', '.join(others)} too")
            spec = in_shape
        else:
            spec = NetworkSpec(**{"in_shape": in_shape, "n_classes": n_classes, **settings})
        kind = own or kind_of(spec.block)
        self.in_shape = spec.in_shape
        self.n_classes = spec.n_classes
        self.classifier_eps = spec.classifier_eps
        self.n_power_iterations = spec.n_power_iterations
        channels, height, width = spec.in_shape
        body: list[nn.Module] = []
        if spec.channel_multiplier > 1:
            body.append(InjectivePad(channels * (spec.channel_multiplier - 1)))
            channels *= spec.channel_multiplier
        # The patches whose pixels are channels at this point: their edge, and their offset.
        edge, moved = 1, 0
        for stage, n_blocks in enumerate(spec.blocks):
            if stage > 0 and spec.patch == 0:
                body.append(Squeeze())
                channels, height, width = channels * 4, height // 2, width // 2
            for index in range(n_blocks):
                if spec.patch > 0:
                    old, was = edge, moved
                    edge = spec.patch * 2**stage
                    moved = edge // 2 if index % 2 else 0
                    body.append(Patches(old, edge, moved - was))
                size = height // edge, width // edge
                is_first = stage == 0 and index == 0
                body.append(kind.built(spec, channels * edge**2, size, is_first=is_first))
        shape = channels * edge**2, height // edge, width // edge
        if spec.dense_blocks > 0:
            body.append(Flatten(shape))
            n_features = math.prod(shape)
            shape = n_features, 1, 1
            body.extend(
                PotentialBlock(spec, n_features, (1, 1), dense=True)
                for _ in range(spec.dense_blocks)
            )
        self.body = nn.ModuleList(body)
        self.classifier = HEADS[spec.head].build(spec, shape)
        # The faster layout on the CPU and for half precision on GPUs. Always the same one, since
        # the last bits of sigma, and with them the effective weight, depend on it. Before 2.15,
        # torch's stubs of Module.to do not know memory_format.
        cast(Any, self).to(memory_format=torch.channels_last)

    def features(self, x: Tensor) -> Tensor:
        """The invertible part: (B, C, H, W) -> (B, C', H', W'). The inverse is `inverse`.

        Raises:
            TypeError: if the images are no Tensor.
            ValueError: if they are not of in_shape (the norm of a zero-padded convolution grows
                with the map, so a certificate holds at its size only), or not on the device or of
                the dtype of the weights; under autocast any floating-point dtype is accepted.
        """
        weight = next(self.parameters(), None)
        check_maps("images", x, self.in_shape, weight)
        check_precision("images", x, weight, autocast=True)
        weights = self.effective_weights()
        for module in self.body:
            x = module.image(x, weights) if isinstance(module, InvertibleBlock) else module(x)
        return x

    def effective_weights(self) -> dict[nn.Module, Tensor]:
        """The effective weight of each layer that has a sigma, as `InvertibleBlock.image` takes
        them."""
        layers = [m for m in self.normalized_layers() if isinstance(m, SpectralNormConv2d)]
        return dict(zip(layers, effective_weights(layers), strict=True))

    @property
    def blocks(self) -> list[InvertibleBlock]:
        """The residual blocks in the order of the forward pass."""
        # By position: a block that stands in two places comes twice.
        parts = self.body._modules.values()
        return [part for part in parts if isinstance(part, InvertibleBlock)]

    @property
    def head(self) -> Head:
        """The kind of head of the classifier. Raises ValueError if it is none of the known ones."""
        return head_of(self.classifier)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, n_classes)."""
        logits: Tensor = self.classifier(self.features(x))
        return logits

    @torch.no_grad()
    def inverse(
        self,
        z: Tensor,
        *,
        rtol: float = 1e-6,
        atol: float = 0.0,
        max_steps: int | Tensor = 100,
        certificate: Certificate | None = None,
        bound_error: bool = True,
        images: Tensor | None = None,
    ) -> Solution:
        """x (B, C, H, W) such that features(x) = z, block by block from the last to the first.

        Args:
            z: (B, C', H', W'), from `features`. The channels that InjectivePad appended are dropped
                at the end, so a z outside the image of `features` gives the preimage of a neighbor.
            rtol, atol, max_steps: per block and sample, as in `fixed_point`.
            certificate: of this network, by `certify`. It allows the two error bounds, which cost
                an inverse in float64, and an inverse of blocks that are proven to be invertible
                though they do not contract.
            bound_error: whether to compute the error bounds.
            images: (B, C, H, W), from which z was computed: they make `image_error_bound` smaller.

        Returns:
            A Solution with n_steps, residual_norm and converged of shape (T, B), T blocks in the
            order of the forward pass. Each block starts from the last iterate of the block behind
            it, converged or not, so that last_iterate shows how far off an inverse without
            convergence is (the first two columns of the paper's Table 1).

            error_bound, (T, B), bounds the distance of the solution before block t from the exact
            preimage of z under the blocks from t on. image_error_bound, (B,), bounds the distance
            of last_iterate from the image whose features z are, so it includes their rounding
            (in the precision of z; infinite where torch may compute float32 products in TF32 or
            bfloat16). With `images` it is the distance from these, rounded up. Both are proven,
            rounding included; see `models.network.error_bound`.

        Raises:
            RuntimeError: in training mode with dropout, BatchNorm or a certificate.
            TypeError: if z, images or the certificate is of the wrong type.
            ValueError: if the certificate is of another network, `certify` would refuse this one,
                or torch flushes denormal numbers to zero; or if z has not the shape of features or
                not the dtype and device of the weights, or images not the shape of the solution.
        """
        check_kind("z", z, Tensor)
        weight = next(self.parameters(), None)
        check_maps("z", z, z.shape[1:], weight)  # the blocks look at the shape
        check_precision("z", z, weight)
        if certificate is not None:
            check_kind("certificate", certificate, Certificate)
            if z.dtype not in UNITS:
                raise ValueError(
                    f"z must be float32 or float64 with a certificate, but got {described(z)}"
                )
            certificate.check(self, IResNet)
            if self.training:
                raise RuntimeError(
                    "inverse with a certificate needs eval mode; call model.eval() first"
                )
        unused = [] if certificate is None else list(certificate.blocks)
        per_block: list[Solution] = []
        x = z
        # By order, as in features; ModuleList would be reversed by the names of its modules.
        for module in reversed(list(self.body)):
            if isinstance(module, InvertibleBlock):
                expanding = certificate is not None and unused.pop().expands
                solution = module.inverse(
                    x, rtol=rtol, atol=atol, max_steps=max_steps, expanding=expanding
                )
                per_block.append(solution)
                x = solution.last_iterate
            else:
                check_kind("each part of the body", module, *ISOMETRIES)
                x = cast(Any, module).inverse(x)
        bound = image_bound = None
        if certificate is not None and bound_error:
            iterates = (solution.last_iterate for solution in per_block)
            with torch.autocast("cpu", enabled=False):  # where the bounds are computed
                bound, image_bound = error_bounds(list(self.body), z, iterates, certificate.blocks)
        if images is not None:
            check_kind("images", images, Tensor)
            if images.shape != x.shape:
                raise ValueError(
                    f"images of shape {tuple(x.shape)} must be given, but got {tuple(images.shape)}"
                )
            image_bound = UP * norm_of(x.double() - images.double())
        per_block.reverse()
        # torch.stack refuses the empty list of a body without blocks.
        none = x.new_empty(0, len(x))
        n_steps, residual_norm, converged = (
            torch.stack(of_blocks) if of_blocks else none.to(dtype)
            for of_blocks, dtype in (
                ([solution.n_steps for solution in per_block], torch.int64),
                ([solution.residual_norm for solution in per_block], x.dtype),
                ([solution.converged for solution in per_block], torch.bool),
            )
        )
        return Solution(
            value=nan_where_unconverged(x, converged.all(dim=0)),
            last_iterate=x,
            n_steps=n_steps,
            residual_norm=residual_norm,
            converged=converged,
            error_bound=bound,
            image_error_bound=image_bound,
        )

    def update_spectral_norm(self) -> None:
        """Refine every sigma by n_power_iterations, and take rows that should be orthonormal as
        many steps towards that; training calls this once per step."""
        layers = self.normalized_layers()
        spectral = [layer for layer in layers if isinstance(layer, SpectralNormConv2d)]
        update_spectral_norm(spectral, self.n_power_iterations)
        retract([m for m in layers if isinstance(m, OrthonormalConv2d)], self.n_power_iterations)

    def normalized_layers(self) -> list[NormalizedConv2d]:
        """The layers of the body under spectral normalization, each once."""
        return [m for m in self.body.modules() if isinstance(m, NormalizedConv2d)]


@torch.no_grad()
def deployed(model: IResNet) -> IResNet:
    """A copy of a network in plain convolutions with the current effective weights: the same
    function in eval mode, bit for bit, in which no sigma stands between the weights and the map. It
    has the layers of a network with norm="none", and loads into one. Blocks of other authors stay
    as they are. Raises TypeError if the model is no IResNet.

    >>> torch.equal(models.deployed(model)(images), model(images))
    True
    """
    check_kind("model", model, IResNet)
    plain = copy.deepcopy(model)
    for block in plain.blocks:
        block.make_plain()
    return plain
