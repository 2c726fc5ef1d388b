"""How far an image can move before a margin is gone, from what the network does around that image.

A Lipschitz bound of the body speaks of all images at once. Near one image most ReLUs of a network
of potential blocks keep their sign, and then the network is linear, with a gradient that is often
much shorter. `blocks.passed_potential` bounds what ReLUs that turn can add.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from models.blocks.invertible_block import BlockBound, InvertibleBlock
from models.isometries import Isometry
from models.network.iresnet import IResNet, deployed
from models.norms.fall import Fall, PassedBlock
from models.norms.rounding import Running, norm_of

# The shares of a gradient that are carried back, of which each image takes the best: the rest is
# bounded by its norm.
_SHARES = (0.6, 0.75)
# The share of the first distance by which an image moves; the slopes are taken around that way.
_PART = 0.6

_Step = PassedBlock | Isometry


@dataclass(frozen=True)
class Surroundings:
    """The body of a network around B images, in float64.

    Attributes:
        steps: its modules, in order.
        ends: the state after them, whose spread and error are (2, B): for the images, and for all
            inputs within `distance` (B,) of them.
    """

    steps: tuple[_Step, ...]
    ends: Running
    distance: Tensor

    @classmethod
    def of(
        cls, model: IResNet, images: Tensor, bounds: Sequence[BlockBound]
    ) -> "Surroundings | None":
        """The surroundings of images (B, C, H, W) in a network in eval mode, with the proven bounds
        of its blocks; None if nothing beyond its bounds is known of some block."""
        images, left = images.double(), iter(bounds)
        # One like the norm of the image keeps the difference of the ends from being lost.
        distance = 1 + norm_of(images)
        spread = torch.stack([torch.zeros_like(distance), distance])
        running, steps = Running(images, spread, torch.zeros_like(spread)), list[_Step]()
        for module in deployed(model).double().body:
            if isinstance(module, Isometry):
                steps.append(module)
                running = replace(running, value=module(running.value))
                continue
            assert isinstance(module, InvertibleBlock)
            found = module.passed(running, next(left))
            if found is None:
                return None
            passed, running = found
            steps.append(passed)
        return cls(tuple(steps), running, distance)

    def after(self, spread: Tensor) -> Running:
        """The state after the body for inputs within `spread` (B,) of an image. Both its spread and
        its error are linear in that."""
        shares = spread / self.distance
        of_spread, of_error = (
            (ends[0] + shares * (ends[1] - ends[0])).nan_to_num(nan=math.inf, posinf=math.inf)
            for ends in (self.ends.spread, self.ends.error)
        )
        return Running(self.ends.value, of_spread, of_error)

    def fall(self, rows: Tensor, slopes: Tensor, off: Tensor, margins: Tensor) -> Fall:
        """Bounds of the falls of some margins when the image moves.

        A search in float32, which need not be trusted, comes first. It looks for the share of the
        gradient to carry back, and for a direction in which the image loses its margin quickly.

        Args:
            rows: indices (N,) of the images.
            slopes: float64 (N, D), the gradients of the margins by the features.
            off: float64 (N,), bounds of the errors of these gradients, l2.
            margins: float64 (N,), > 0.
        """
        slopes = slopes.view(-1, *self.ends.value.shape[1:])
        radii = margins / slopes.flatten(1).norm(dim=1)
        quick = self._selected(rows, torch.float32)
        nothing = [slopes.new_zeros((), dtype=torch.float32)] * len(quick)
        falls = []
        for share in _SHARES:
            shares = torch.full_like(radii, share).float()
            start = Fall.of_margin(slopes.float(), shares, radii.float(), off.float())
            falls.append(_back(quick, start, nothing))
        distances, best = torch.stack([fall.distance(margins) for fall in falls]).max(dim=0)
        towards = torch.stack([fall.slope for fall in falls])[best, torch.arange(len(best))]
        size = _PART * distances.maximum(radii) / towards.flatten(1).norm(dim=1)
        insides = _moved(quick, -towards * size.float().view(-1, 1, 1, 1))
        start = Fall.of_margin(slopes, slopes.new_tensor(_SHARES)[best], radii, off)
        return _back(self._selected(rows, torch.float64), start, insides)

    def _selected(self, rows: Tensor, dtype: torch.dtype) -> list[_Step]:
        return [s.select(rows, dtype) if isinstance(s, PassedBlock) else s for s in self.steps]


def _moved(steps: Sequence[_Step], d: Tensor) -> list[Tensor]:
    """For each step, how far what is inside moves if the image moves by d; zero for isometries."""
    insides = []
    for step in steps:
        inside = d.new_zeros(())
        if isinstance(step, PassedBlock):
            inside, d = step.moved(d)
        else:
            d = step(d)
        insides.append(inside)
    return insides


def _back(steps: Sequence[_Step], fall: Fall, insides: Sequence[Tensor]) -> Fall:
    """The bound for the images, given the one for the features."""
    for step, inside in zip(reversed(steps), reversed(insides), strict=True):
        if isinstance(step, PassedBlock):
            fall = step.before(fall, inside.to(fall.slope.dtype))
        else:
            # These are linear, and their inverse is their adjoint.
            fall = replace(fall, slope=step.inverse(fall.slope))
    return fall
