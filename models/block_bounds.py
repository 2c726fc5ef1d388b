"""Proven bounds alpha |dx| <= |dx + dg| <= beta |dx| of a bottleneck block x + g(x), nearer to each
other than 1 - L and 1 + L, for g = W3 k(W2 k(W1 k0(x))).

Between two points, an activation with slopes in [0, 1] acts as a diagonal matrix Q with entries in
[0, 1], of which only <Q u, T (u - Q u)> >= 0 is used, for a diagonal T > 0: the semidefinite
program of Fazlyab et al. 2019 (LipSDP), as in `block_norm`, with the identity beside W3. k0 is the
activation ahead of the first convolution; the first block of a network has none. With y0 = Q0 x,
y1 = Q1 W1 y0 and y2 = Q2 W2 y1, the smallest rho, or the largest, is sought with

    |x + W3 y2|^2 <= rho |x|^2     (forward, rho = beta^2)
    |x + W3 y2|^2 >= rho |x|^2     (inverse, rho = alpha^2)

for all x, y0, y1 and y2, once the multiples 2 <y, T (u - y)> are added (or subtracted). Eliminated
are x and y0, on which the form is diagonal: with k = |rho - 1| and T0 = k tau, tau in (0, 2), there
remains on (y1, y2), divided by its diagonal,

    Z = I - coupling - q B2 - B1 / k,     coupling the terms of W2, B2 that of W3^T W3,
    B1 = [T1 W1 / tau; +-W3^T] diag(tau / (2 - tau)) [.]^T + that of W3^T W3, if there is a k0,
    B1 = [T1 W1; +-W3^T] [.]^T                                          , if there is none,

with + and q = 1 forward, - and q = -1 for the inverse. A Cholesky factorization that succeeds
proves Z positive semidefinite. So k and the multipliers may come from anywhere, and a search for
good ones need not be trusted.

Where the map is small, W1 and W3 are the dense operators, and each pixel of a channel may have its
own multipliers. Elsewhere a channel has the same for all, and the operators commute with the
Fourier transform on the torus of `convolution_norm`, where the zeros around the map are entries of
Q that are 0: the program over all pixels becomes one small matrix at each frequency. What the last
convolution's cut at the map's edge takes away makes the left side smaller, which only helps
forward. For the inverse, since x is zero off the map, |x + cut(z)|^2 >= |x|^2 + 2 <x, z> is used
instead, which is q = 0.
"""

import math
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from models.block_program import Blocks, Multipliers, Program, slope_of_log_det, smallest_k
from models.gram_symbols import largest_eigenvalue

# The multipliers |W2|^2 |W3|^2 and |W3|^2 give at most the product of the layers' norms. These
# fractions of them are better on nearly all blocks of trained networks.
_FRACTIONS = (2 / 3, 0.9)
# Doublings of the multipliers, tried until they allow a k.
_N_DOUBLINGS = 6
# Relative raises of k above its estimate, tried in turn until the proof succeeds. After the one of
# this index, estimates that were made at the same frequencies are computed instead.
_RAISES = (1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-4)
_COMPUTED_AFTER = 3
# The search (Rprop, Riedmiller and Braun 1993), forward and for the inverse: the number of steps,
# and in which of them T0 moves, which costs more than the step itself.
_STEPS = ((8, (1,)), (14, (1, 3, 6)))
# The first step of a multiplier's logarithm, and the step's factors where the sign of the slope
# stays and where it changes.
_FIRST_STEP, _GROWTH, _SHRINKAGE = 0.3, 1.3, 0.4
# How far above k log det Z is differentiated, at first and at last. Close to k its slope is that of
# k itself, which has kinks.
_ROOMS = (5e-3, 5e-4)
# Steps of the power iteration that estimates k, at first and at last, and in between. Near k, one
# eigenvalue is far above the others.
_N_POWER_STEPS = (8, 2)
# Multipliers are sought on the torus of a map of at most so many rows and columns.
_SIDE = 5
# A dense operator with at most this many rows costs about as much as all frequencies do.
_DENSE_ROWS = 256


def two_sided_bounds(
    first: Tensor,
    second: Tensor,
    third: Tensor,
    scale: Tensor,
    size: tuple[int, int],
    *,
    is_activated: bool,
    search: bool = False,
) -> Tensor:
    """Proven (beta, alpha) of L blocks of one shape, float64 (L, 2), l2 to l2.

    They hold for every activation that acts entrywise with slopes in [0, 1] and for any biases.
    Infinite and 0 where none could be proven.

    Args:
        first: float64 (L, m, c, k_h, k_w), m <= c; zero padding, stride 1, odd kernel; finite, as
            the others, with their largest entries near 1.
        second: (L, m, m), a 1x1 convolution.
        third: (L, c, m, k_h, k_w).
        scale: (L,) a factor > 0 of g.
        size: (H, W) of the maps.
        is_activated: whether there is an activation ahead of the first convolution.
        search: look for multipliers, and use small dense operators: slower, better bounds.
    """
    height, width = size
    is_dense = search and second.shape[-1] * height * width <= _DENSE_ROWS
    if is_dense and len(scale) > 1:
        # One after another, so that its matrices stay in the cache.
        parts = zip(*(part.split(1) for part in (first, second, third, scale)), strict=True)
        alone = partial(two_sided_bounds, size=size, is_activated=is_activated, search=search)
        return torch.cat([alone(*of_block) for of_block in parts])
    is_zero = torch.stack([(w == 0).flatten(1).all(dim=1) for w in (first, second, third)])
    blocks = Blocks(first, second, third, scale, is_activated)
    if is_dense:
        # What the torus of the map proves is true of its dense operators.
        multipliers, k = _start(Program.on_the_torus(blocks, size))
        multipliers = multipliers.of_pixels(height * width)
        small = whole = Program.dense(blocks, size)
    else:
        small = whole = Program.on_the_torus(blocks, (min(height, _SIDE), min(width, _SIDE)))
        multipliers, k = _start(small)
        if max(size) > _SIDE:
            whole = Program.on_the_torus(blocks, size)
    if search:
        halves = zip(small.halves(), multipliers.halves(), k.chunk(2), _STEPS, strict=True)
        found, ks = zip(*(_better(*half) for half in halves), strict=True)
        multipliers, k = Multipliers.joined(found), torch.cat(ks)
    forward, inverse = _proven(whole, multipliers, k).chunk(2)
    bounds = torch.stack([(1 + forward).sqrt(), (1 - inverse).clamp(min=0).sqrt()], dim=1)
    # The roots are rounded too.
    bounds = bounds * bounds.new_tensor([1 + 2**-50, 1 - 2**-50])
    return torch.where(is_zero.any(dim=0).unsqueeze(1), 1.0, bounds)


def _start(program: Program) -> tuple[Multipliers, Tensor]:
    """(multipliers by layer, the k (L,) that they give, up to rounding)."""
    n, c = program.second.shape[-1], program.rows.shape[-1]
    corners = program.gram[..., :n, :n], program.gram[..., n:, n:]
    squared_1, squared_3 = (largest_eigenvalue(corner).amax(dim=1) for corner in corners)
    squared_2 = torch.linalg.matrix_norm(program.second, ord=2).amax(dim=1).square()
    # A layer that is zero: any positive multiplier serves.
    squared_1, squared_2, squared_3 = (
        torch.where(s > 0, s, 1.0) for s in (squared_1, squared_2, squared_3)
    )
    squared_3 = program.scale.square() * squared_3
    # Near k of products with that norm.
    squared_3 = squared_3 * (1 + 1 / (squared_1 * squared_2 * squared_3).sqrt())
    of_layers = [_FRACTIONS[0] * squared_2 * squared_3, _FRACTIONS[1] * squared_3]
    of_rows = torch.cat([of_one.log().unsqueeze(1).expand(-1, n) for of_one in of_layers], 1)
    multipliers = Multipliers(of_rows, of_rows.new_zeros(len(of_rows), c))
    k = program.form(multipliers, program.gram).k()
    for _ in range(_N_DOUBLINGS):
        if bool(k.isfinite().all()):
            break
        more = replace(multipliers, of_rows=multipliers.of_rows + math.log(2))
        multipliers = multipliers.where(k.isfinite(), more)
        k = program.form(multipliers, program.gram).k()
    return multipliers, k


def _better(
    program: Program, multipliers: Multipliers, k: Tensor, steps: tuple[int, tuple[int, ...]]
) -> tuple[Multipliers, Tensor]:
    """Multipliers that usually give smaller k, by a search from given ones that give `k` or
    less, and estimates of these smaller k."""
    n_steps, steps_of_0 = steps
    best, best_near = multipliers, k * (1 + _ROOMS[0])
    step = torch.full_like(multipliers.of_rows, _FIRST_STEP)
    slope = torch.zeros_like(multipliers.of_rows)
    gram = best_gram = program.weighted_gram(multipliers)
    # That of the start may be of another program, and far from its own.
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
        # Where there is none, return to the best multipliers and go on with half the step.
        new_slope, of_each = slope_of_log_det(form, inverse), is_possible.unsqueeze(1)
        turn = slope * new_slope
        factor = torch.where(turn > 0, _GROWTH, torch.where(turn < 0, _SHRINKAGE, 1.0))
        step = step * torch.where(of_each, factor, _SHRINKAGE)
        slope = torch.where(of_each, new_slope, slope)
        if program.is_activated and index in steps_of_0:
            columns = program.best_of_columns(form, inverse)
            multipliers = replace(multipliers, of_columns=columns).where(is_possible, best)
            gram = program.weighted_gram(multipliers)
        elif not bool(is_possible.all()):
            multipliers = multipliers.where(is_possible, best)
            gram = torch.where(is_possible.view(-1, 1, 1, 1), gram, best_gram)
        moved = multipliers.of_rows - slope.sign() * step
        multipliers = replace(multipliers, of_rows=moved)
    form = program.form(best, best_gram)
    _, is_possible, k, _ = form.inverse(best_k * (1 + _ROOMS[1]), vector, _N_POWER_STEPS[0])
    return best, torch.where(is_possible, k, best_near)


def _proven(program: Program, multipliers: Multipliers, k: Tensor) -> Tensor:
    """(L,) a k that is proven, near `k` if that is an estimate; infinite where there is none.

    The smallest eigenvalue of Z may be off by the rounding of its entries and by that of the
    factorization (Higham, Accuracy and Stability of Numerical Algorithms, theorem 10.3, as in
    `convolution_norm`).
    """
    form = program.form(multipliers, program.weighted_gram(multipliers))
    n = program.second.shape[-1]
    magnitude = form.by_row.unsqueeze(2) * program.magnitude
    plain = weighted = magnitude.square().sum(dim=(1, 2))
    if program.is_activated:
        factors = multipliers.column_factors.repeat_interleave(n, dim=1)
        weighted = (magnitude * factors).square().sum(dim=(1, 2))
    third = magnitude[:, n:].square().sum(dim=(1, 2))
    size_fixed, size_slope = (
        torch.linalg.matrix_norm(part).amax(dim=1) for part in (form.fixed, form.slope)
    )
    proven = torch.full_like(k, math.inf)
    for index, raise_by in enumerate(_RAISES):
        left = (proven.isinf() & k.isfinite()).nonzero().squeeze(1)
        if left.numel() == 0:
            break
        raised = k[left] * (1 + raise_by)
        off = program.rounding * (third[left] + (plain + weighted)[left] / raised)
        # Twice the lower triangle is at least the whole.
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
