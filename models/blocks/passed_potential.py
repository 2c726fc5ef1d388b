"""How far a margin can fall through a potential block with ReLU, around a sample.

Let the block be f(x) = x - W^T k(W x + b), |W|^2 <= c < 2. If x moves by d, an inner entry moves by
e = (W d)_i, and k of it by s = k(u + e) - k(u), with u = (W x + b)_i. So with q = W p,

    -p . (f(x + d) - f(x)) + a |f(x + d) - f(x)|^2
        <= -p . d + a |d|^2 + sum_i [q s - a (2 s e - c s^2)]_i.

With ReLU, each term of the sum is at most g e + h, for any g that is allowed and this h:

* u > 0: any g <= 2 a u, with h = (q - g)^2 / (4 a (2 - c)).
* u <= 0: any g <= 0, with h = g u + max(q - g + 2 a u, 0)^2 / (4 a (2 - c)).
* u of unknown sign: g = 0, with h = q^2 / (4 a (2 - c)).

So -p . d becomes -(p - W^T g) . d, and the sum of all h is added. No term grows with depth unless
ReLUs can turn: where none can, g is q where they are on, p is the gradient, and all h are zero.
"""

from dataclasses import dataclass, replace
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from models.blocks.invertible_block import BlockBound
from models.floats.raised import UP
from models.layers.convolution import convolved
from models.layers.power_iteration import adjoint_kernel
from models.norms.fall import Fall, PassedBlock
from models.norms.rounding import ROOM, UNITS


@dataclass(frozen=True)
class PassedPotential(PassedBlock):
    """A potential block with ReLU after B samples.

    Attributes:
        kernel: of W.
        absolute_norm: a bound of the norm of W with absolute values.
        bound: proven of the block, with Lip(g) = c below 2.
        u: (B, n, H, W), W x + b.
        off: (B,), the bound of its error, l2.
    """

    kernel: Tensor
    absolute_norm: float
    bound: BlockBound
    u: Tensor
    off: Tensor

    def select(self, rows: Tensor, dtype: torch.dtype) -> Self:
        return replace(
            self,
            kernel=self.kernel.to(dtype),
            u=self.u[rows].to(dtype),
            off=self.off[rows].to(dtype),
        )

    def moved(self, d: Tensor) -> tuple[Tensor, Tensor]:
        inside = convolved(d, self.kernel)
        change = F.relu(self.u + inside) - F.relu(self.u)
        return inside, d - convolved(change, adjoint_kernel(self.kernel))

    def before(self, fall: Fall, inside: Tensor) -> Fall:
        off, curvature = (of.view(-1, 1, 1, 1) for of in (self.off, fall.curvature))
        unit, underflow = UNITS[fall.slope.dtype]
        size, is_on = self.u.abs(), self.u > 0
        least, most = (size - off).clamp(min=0) / UP, size + off
        steep = 2 * curvature * (2 - self.bound.upper_bound)
        q, reach = convolved(fall.slope, self.kernel), 2 * curvature * least
        # The slopes g with the least bound, should what is inside move by `inside`.
        on = torch.minimum(q - steep * inside, reach)
        turned = (q - reach - steep * (inside - most)).clamp(max=0)
        slope = torch.where(is_on, on, torch.where(inside > most, turned, 0.0))
        rest = torch.where(is_on, q - slope, (q - slope - reach).clamp(min=0))
        is_known = size > off
        slope, rest = slope * is_known, torch.where(is_known, rest, q.abs())
        # The sums of products of q, with what the differences below round, and of W^T g.
        n_terms, n_back = self.kernel[0].numel() + 4, self.kernel[:, 0].numel() + 2
        of_p, of_rest, of_slope = (
            torch.linalg.vector_norm(x, dim=(1, 2, 3)) for x in (fall.slope, rest, slope)
        )
        of_q = n_terms * unit * ROOM * self.absolute_norm * of_p + underflow
        square = (of_rest * UP + of_q).square() / (2 * steep.flatten())
        of_back = n_back * unit * ROOM * (of_p + self.absolute_norm * of_slope) + underflow
        turning = torch.where(is_on, 0.0, -slope * most).flatten(1).sum(dim=1)
        return Fall(
            fall.slope - convolved(slope, adjoint_kernel(self.kernel)),
            fall.curvature,
            fall.offset + (square + turning) * UP,
            fall.error * self.bound.map_lipschitz_upper_bound + of_back,
        )
