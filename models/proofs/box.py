"""How far an image must move, within a box, to reach the far side of a plane."""

import math

import torch
from torch import Tensor

from models.floats.raised import UP
from models.norms.rounding import UNITS

_N_STEPS = 12
# What the subtraction from a side of the box may round away, relative.
_OF_SIDES = 1e-12


def distances_within(
    x: Tensor, box: tuple[float, float], slopes: Tensor, margins: Tensor
) -> Tensor:
    """Proven lower bounds (B, P), float64, l2, of |d| for all d with n.d >= m and x + d in the box;
    infinite where there is none, and zero for m <= 0.

    The shortest d has the entries min(t |n_k|, c_k) in the direction of n, with c_k the distance
    of x_k from the side of the box and t such that n.d = m. n.d is concave in t, so Newton's steps
    from below come to t monotonically, and as soon as no side is passed any more exactly. Whatever
    t comes out, t (m - n.d) + |d|^2 / 2 bounds half of the least square from below (weak duality).

    Args:
        x: float64 (B, D), in the box.
        box: (low, high), for all entries.
        slopes: float64 (B, P, D), n.
        margins: float64 (B, P), m.
    """
    unit, _ = UNITS[torch.float64]
    low, high = box
    steep = slopes.abs()
    sides = torch.where(slopes > 0, (high - x).unsqueeze(1), (x - low).unsqueeze(1))
    sides = sides.clamp(min=0) * (1 + _OF_SIDES) + _OF_SIDES * max(abs(low), abs(high))
    rest = margins.clamp(min=0)
    t = rest / steep.square().sum(dim=2)
    for _ in range(_N_STEPS):
        free = t.unsqueeze(2) * steep < sides
        reached = (steep * torch.minimum(t.unsqueeze(2) * steep, sides)).sum(dim=2)
        slope = (steep.square() * free).sum(dim=2)
        t = torch.where(slope > 0, t + (rest - reached) / slope, t)
    moved = torch.minimum(t.unsqueeze(2) * steep, sides)
    reached, square = (steep * moved).sum(dim=2), moved.square().sum(dim=2)
    rounding = 2 * (x.shape[1] + 8) * unit
    halves = t * (rest - reached) + square / 2
    halves = halves - rounding * (t * (rest + reached) + square)
    proven = (2 * halves.clamp(min=0)).sqrt() / UP
    farthest = (steep * sides).sum(dim=2)
    beyond = rest > farthest * (1 + rounding)
    return torch.where(beyond, math.inf, proven.nan_to_num(nan=0.0))
