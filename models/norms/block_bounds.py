"""Proven bounds of a bottleneck block x + g(x) with g = W3 k(W2 k(W1 k0(x))): a bound of Lip(g)
below the product of the layers' norms, and alpha |dx| <= |dx + dg| <= beta |dx| for the differences
of any two inputs, with alpha and beta closer to 1 than 1 - Lip(g) and 1 + Lip(g).

The product of the norms is reached only if the strongest output of each layer is the strongest
input of the next and passes its activation whole. Between two points, an activation with slopes in
[0, 1] acts as a diagonal matrix Q with entries in [0, 1]. All that is used of Q is
<Q u, T (u - Q u)> >= 0, for a diagonal matrix T > 0 of multipliers: the semidefinite program of
Fazlyab et al. 2019 (LipSDP), for alpha and beta with the identity beside W3. k0 is the activation
ahead of the first convolution; the first block of a network has none. With y0 = Q0 x, y1 = Q1 W1 y0
and y2 = Q2 W2 y1, the program seeks the smallest rho, or the largest for the inverse, with

    |W3 y2|^2 <= rho |x|^2         (g, rho = Lip(g)^2; without k0, which does not make it larger)
    |x + W3 y2|^2 <= rho |x|^2     (forward, rho = beta^2)
    |x + W3 y2|^2 >= rho |x|^2     (inverse, rho = alpha^2)

for all x, y0, y1 and y2, once the terms 2 <y, T (u - y)>, y = Q u, are added (or subtracted). The
form is diagonal on x and y0, which are eliminated: with k = rho for g, else |rho - 1|, and
T0 = k tau, tau in (0, 2), what remains is a form on (y1, y2). Divided by its diagonal it is

    Z = I - coupling - q B2 - B1 / k,     coupling: the terms of W2; B2: the term of W3^T W3;
    B1 = [T1 W1; 0] [.]^T                                                            for g,
    B1 = [T1 W1 / tau; +-W3^T] diag(tau / (2 - tau)) [.]^T + the term of W3^T W3     with a k0,
    B1 = [T1 W1; +-W3^T] [.]^T                                                       without a k0,

with + and q = 1 forward, - and q = -1 for the inverse; q = 1 for g. A Cholesky factorization that
succeeds proves Z positive semidefinite. So k and the multipliers may come from anywhere, and a
search for good ones need not be trusted.

Where the map is small, W1 and W3 are the dense operators, and each pixel of a channel may have its
own multipliers. Elsewhere all pixels of a channel share theirs, and the operators commute with the
Fourier transform on the torus of `convolution_norm`, where the zeros around the map are entries of
Q that are 0: the program over all pixels becomes one small matrix at each frequency. Cutting the
last convolution's output at the map's edge makes the left side smaller, which only helps g and
forward. The inverse, since x is zero off the map, uses |x + cut(z)|^2 >= |x|^2 + 2 <x, z> (q = 0).
"""

import math
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from models.norms.block_program import (
    KINDS,
    Blocks,
    Multipliers,
    Program,
    slope_of_log_det,
    smallest_k,
)
from models.norms.gram_symbols import largest_eigenvalue

# T1 = |W2|^2 |W3|^2 and T2 = |W3|^2 prove the product of the layers' norms, or less. These
# fractions of them are better on nearly all blocks of trained networks.
_FRACTIONS = (2 / 3, 0.9)
# Doublings of the multipliers, tried until they allow a k.
_N_DOUBLINGS = 6
# Relative raises of k above its estimate, tried in turn until the proof succeeds. After the one of
# this index (on a torus: the first), k is computed instead of estimated where the proof failed.
_RAISES = (1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-4)
_COMPUTED_AFTER = 3
# The search (Rprop, Riedmiller and Braun 1993): the number of steps, and the steps in which T0
# moves too, which costs more than the rest of a step.
_STEPS = {"g": (12, ()), "forward": (8, (1,)), "inverse": (14, (1, 3, 6))}
# The first step of a multiplier's logarithm, and the step's factors where the sign of the slope
# stays and where it changes.
_FIRST_STEP, _GROWTH, _SHRINKAGE = 0.3, 1.3, 0.4
# The relative distance above k at which log det Z is differentiated, in the first and the last
# step. Close to k its slope is that of k itself, which has kinks.
_ROOMS = (5e-3, 5e-4)
# Steps of the power iteration that estimates k: in the first and last estimate, and in all others.
# Near k, one eigenvalue is far above the others.
_N_POWER_STEPS = (8, 2)
# Multipliers of beta and alpha are sought on the torus of a map of at most this many pixels a side.
_SIDE = 5
# A dense operator with at most this many rows costs about as much as all frequencies do.
_DENSE_ROWS = 256


def block_bounds(
    first: Tensor,
    second: Tensor,
    third: Tensor,
    scale: Tensor,
    size: tuple[int, int],
    *,
    is_activated: bool,
    search: bool = False,
) -> Tensor:
    """Proven (Lip(g), beta, alpha) of L blocks of one shape, float64 (L, 3), l2 to l2.

    They hold for every activation that acts entrywise with slopes in [0, 1] and for any biases.
    Where nothing could be proven, Lip(g) and beta are infinite and alpha is 0.

    Args:
        first: W1, float64 (L, m, c, k_h, k_w), m <= c; zero padding, stride 1, odd kernel. All
            three weights must be finite, with their largest entries near 1.
        second: W2, (L, m, m), a 1x1 convolution.
        third: W3, (L, c, m, k_h, k_w).
        scale: (L,), > 0: beta and alpha are those of x + scale g(x), Lip(g) that of g without it.
        size: (H, W) of the maps.
        is_activated: whether there is an activation ahead of the first convolution.
        search: whether to search multipliers, and use small dense operators: slower, better bounds.
    """
    height, width = size
    is_dense = search and second.shape[-1] * height * width <= _DENSE_ROWS
    if is_dense and len(scale) > 1:
        # One after another, so that its matrices stay in the cache.
        parts = zip(*(part.split(1) for part in (first, second, third, scale)), strict=True)
        alone = partial(block_bounds, size=size, is_activated=is_activated, search=search)
        return torch.cat([alone(*of_block) for of_block in parts])
    blocks = Blocks(first, second, third, scale, is_activated)
    side = (min(height, _SIDE), min(width, _SIDE))
    small = torus = Program.on_the_torus(blocks, size)
    if side != size and not is_dense:
        small = Program.on_the_torus(blocks, side)
    whole = Program.dense(blocks, size) if is_dense else torus
    ks = []
    for kind in KINDS:
        # Multipliers that suit a small torus may give a far larger bound of Lip(g) on the map's.
        searched = torus if kind == "g" else small
        multipliers, k = _start(searched.of_kind(kind))
        if is_dense:
            # Whatever is proven on the map's torus is true of its dense operators.
            searched, multipliers = whole, multipliers.of_pixels(height * width)
        if search:
            multipliers, k = _better(searched.of_kind(kind), multipliers, k)
        ks.append(_proven(whole.of_kind(kind), multipliers, k))
    of_g, forward, inverse = ks
    bounds = torch.stack([of_g, 1 + forward, (1 - inverse).clamp(min=0)], dim=1).sqrt()
    # The roots are rounded too.
    bounds = bounds * bounds.new_tensor([1 + 2**-50, 1 + 2**-50, 1 - 2**-50])
    is_zero = torch.stack([(w == 0).flatten(1).all(dim=1) for w in (first, second, third)])
    return torch.where(is_zero.any(dim=0).unsqueeze(1), bounds.new_tensor([0, 1, 1]), bounds)


def _start(program: Program) -> tuple[Multipliers, Tensor]:
    """Returns (multipliers, k): a start with one multiplier for each layer, and the k (L,) that it
    gives, up to rounding; infinite where there is none."""
    n, c = program.second.shape[-1], program.rows.shape[-1]
    corners = program.gram[..., :n, :n], program.gram[..., n:, n:]
    squared_1, squared_3 = (largest_eigenvalue(corner).amax(dim=1) for corner in corners)
    squared_2 = torch.linalg.matrix_norm(program.second, ord=2).amax(dim=1).square()
    # A layer that is zero: any positive multiplier serves.
    squared_1, squared_2, squared_3 = (
        torch.where(s > 0, s, 1.0) for s in (squared_1, squared_2, squared_3)
    )
    if program.kind != "g":
        squared_3 = program.scale.square() * squared_3
        # Near k of products with that norm.
        squared_3 = squared_3 * (1 + 1 / (squared_1 * squared_2 * squared_3).sqrt())
    of_layers = [_FRACTIONS[0] * squared_2 * squared_3, _FRACTIONS[1] * squared_3]
    of_rows = torch.cat([of_one.log().unsqueeze(1).expand(-1, n) for of_one in of_layers], 1)
    multipliers = Multipliers(of_rows, of_rows.new_zeros(len(of_rows), c))
    gram = program.slope_gram(multipliers)
    k = program.form(multipliers, gram).k()
    for _ in range(_N_DOUBLINGS):
        if bool(k.isfinite().all()):
            break
        more = replace(multipliers, of_rows=multipliers.of_rows + math.log(2))
        multipliers = multipliers.where(k.isfinite(), more)
        k = program.form(multipliers, gram).k()
    return multipliers, k


def _better(program: Program, multipliers: Multipliers, k: Tensor) -> tuple[Multipliers, Tensor]:
    """Returns (multipliers, k): multipliers that usually give a smaller k than the given ones, from
    which the search starts and whose k is at most `k`; and an estimate (L,) of that smaller k."""
    n_steps, steps_of_0 = _STEPS[program.kind]
    best, best_near = multipliers, k * (1 + _ROOMS[0])
    step = torch.full_like(multipliers.of_rows, _FIRST_STEP)
    slope = torch.zeros_like(multipliers.of_rows)
    gram = best_gram = program.slope_gram(multipliers)
    # The k of the start may come from another program, and be far from the k of this one.
    form = program.form(multipliers, gram)
    _, is_possible, estimate, vector = form.inverse(
        best_near, program.some_vector(), _N_POWER_STEPS[0]
    )
    best_k = k = torch.where(is_possible, estimate, k)
    for index in range(n_steps):
        room = _ROOMS[0] * (_ROOMS[1] / _ROOMS[0]) ** (index / (n_steps - 1))
        near = k * (1 + room)
        form = program.form(multipliers, gram)
        inverse, is_possible, k, vector = form.inverse(near, vector, _N_POWER_STEPS[1])
        is_best = is_possible & (k <= best_k)
        best = multipliers.where(is_best, best)
        best_gram = torch.where(is_best.view(-1, 1, 1, 1), gram, best_gram)
        best_near = torch.where(is_best, near, best_near)
        # An estimate may be too small for the room.
        raised = torch.where(is_possible, best_k, (best_k + best_near) / 2)
        best_k = torch.where(is_best, k, raised)
        k = torch.where(is_possible, k, best_k)
        # Where no k is possible, return to the best multipliers and continue with smaller steps.
        new_slope, of_each = slope_of_log_det(form, inverse), is_possible.unsqueeze(1)
        turn = slope * new_slope
        factor = torch.where(turn > 0, _GROWTH, torch.where(turn < 0, _SHRINKAGE, 1.0))
        step = step * torch.where(of_each, factor, _SHRINKAGE)
        slope = torch.where(of_each, new_slope, slope)
        if program.has_columns and index in steps_of_0:
            columns = program.best_of_columns(form, inverse)
            multipliers = replace(multipliers, of_columns=columns).where(is_possible, best)
            gram = program.slope_gram(multipliers)
        elif not bool(is_possible.all()):
            multipliers = multipliers.where(is_possible, best)
            gram = torch.where(is_possible.view(-1, 1, 1, 1), gram, best_gram)
        moved = multipliers.of_rows - slope.sign() * step
        multipliers = replace(multipliers, of_rows=moved)
    form = program.form(best, best_gram)
    _, is_possible, k, _ = form.inverse(best_k * (1 + _ROOMS[1]), vector, _N_POWER_STEPS[0])
    return best, torch.where(is_possible, k, best_near)


def _proven(program: Program, multipliers: Multipliers, k: Tensor) -> Tensor:
    """Proven k (L,), close to `k` where that is a good estimate; infinite where no proof succeeds.

    The smallest eigenvalue of Z may be off by the rounding of its entries and of the factorization
    (Higham, Accuracy and Stability of Numerical Algorithms, theorem 10.3).
    """
    form = program.form(multipliers, program.slope_gram(multipliers))
    n = program.second.shape[-1]
    off_fixed, off_slope = program.rounding_of(form, multipliers)
    size_fixed, size_slope = (
        torch.linalg.matrix_norm(part).amax(dim=1) for part in (form.fixed, form.slope)
    )
    proven = torch.full_like(k, math.inf)
    for index, raise_by in enumerate(_RAISES):
        left = (proven.isinf() & k.isfinite()).nonzero().squeeze(1)
        if left.numel() == 0:
            break
        raised = k[left] * (1 + raise_by)
        off = off_fixed[left] + off_slope[left] / raised
        # Twice the norm of the lower triangle is at least the norm of the whole.
        size = 2 * size_fixed[left] + size_slope[left] / raised
        off = off + 2**-53 * (10 * size + 2 * n + 8 * n * (2 * n + 1))
        z = form.fixed[left] - form.slope[left] / raised.view(-1, 1, 1, 1)
        # Twice that covers the rounding of this computation.
        z.diagonal(dim1=-2, dim2=-1).sub_((2 * off).view(-1, 1, 1))
        failed = torch.linalg.cholesky_ex(z).info != 0
        holds = ~failed.any(dim=1) & off.isfinite()
        proven[left[holds]] = raised[holds]
        if index == (_COMPUTED_AFTER if program.is_whole else 0):
            block, frequency = failed.nonzero(as_tuple=True)
            at = left[block], frequency
            computed = smallest_k(form.fixed[at], form.slope[at])
            k = k.scatter_reduce(0, left[block], computed, "amax")
    return proven
