"""What all residual blocks x + g(x) share: the inverse by fixed-point iteration (Behrmann et al.,
section 3)."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from models.fixed_point import Solution, fixed_point

Layers = Sequence[Callable[[Tensor], Tensor]]
"""A g as functions, in order; each takes and gives (B, C, H, W)."""


class InvertibleBlock(nn.Module):
    """x + g(x) for x (B, C, H, W), invertible if g contracts.

    Args:
        channels: of the input and the output.
        size: (H, W) of the map.
    """

    def __init__(self, channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.in_shape = (channels, *size)

    @abstractmethod
    def forward(self, x: Tensor, weights: Mapping[nn.Module, Tensor] | None = None) -> Tensor:
        """x + g(x) for x (B, C, H, W); `weights` are the layers' effective ones, if at hand."""

    @property
    @abstractmethod
    def target_lipschitz(self) -> float:
        """The Lipschitz constant of the block at most, if each layer meets its target: an estimate,
        and no bound. Infinite if not every layer has one."""

    @abstractmethod
    def deployed(self) -> nn.Sequential:
        """A copy of g in plain modules: its convolutions have the effective weights."""

    @abstractmethod
    def layers(self) -> Layers:
        """g with the effective weights of now. Not `deployed`, whose modules take a tenth of the
        inverse's time to make."""

    @torch.no_grad()
    def inverse(
        self,
        z: Tensor,
        *,
        rtol: float = 1e-6,
        atol: float = 0.0,
        max_steps: int | Tensor = 100,
        expanding: bool = False,
    ) -> Solution:
        """Solve x + g(x) = z for x (B, C, H, W) by fixed-point iteration from z, in the precision
        of the weights, under autocast too.

        Args:
            z: (B, C, H, W), of the block's in_shape.
            rtol, atol, max_steps: as in `fixed_point`.
            expanding: whether it is known to be invertible though g may not contract.

        Raises:
            RuntimeError: in training mode with dropout or BatchNorm, where g is no function of one
                sample.
            ValueError: if z is not of in_shape.
        """
        if self.training and any(
            isinstance(m, nn.Dropout | nn.BatchNorm2d) for m in self.modules()
        ):
            raise RuntimeError(
                "inverse needs eval mode: dropout and BatchNorm make the network in training "
                "mode no function of a single sample; call model.eval() first"
            )
        if z.shape[1:] != self.in_shape:
            raise ValueError(
                f"z of shape {self.in_shape} must be given, but got {tuple(z.shape[1:])}"
            )
        return solve(
            self.layers(), z, rtol=rtol, atol=atol, max_steps=max_steps, expanding=expanding
        )


def solve(
    layers: Layers,
    z: Tensor,
    *,
    rtol: float,
    atol: float = 0.0,
    max_steps: int | Tensor,
    expanding: bool,
) -> Solution:
    """x (B, C, H, W) with x + g(x) = z; arguments as of `InvertibleBlock.inverse`."""
    # The iteration sees (B, H, W, C), in which channels_last maps are contiguous, so that it
    # neither copies nor reorders samples.
    pixels = z.permute(0, 2, 3, 1).contiguous()
    solved, targets = torch.empty(0), pixels

    def step(x: Tensor, rows: Tensor) -> Tensor:
        nonlocal solved, targets
        if rows is not solved:  # the same as in the step before, as a rule
            solved, targets = rows, pixels[rows]
        g = x.permute(0, 3, 1, 2)
        for layer in layers:
            g = layer(g)
        g = g.permute(0, 2, 3, 1)
        return torch.sub(targets, g, out=g)

    with torch.autocast(z.device.type, enabled=False):
        solution = fixed_point(
            step, pixels, rtol=rtol, atol=atol, max_steps=max_steps, expanding=expanding
        )
    return replace(
        solution,
        value=solution.value.permute(0, 3, 1, 2),
        last_iterate=solution.last_iterate.permute(0, 3, 1, 2),
    )
