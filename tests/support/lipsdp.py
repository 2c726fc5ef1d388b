"""The semidefinite program LipSDP (Fazlyab et al. 2019), solved by SCS: an oracle for the bounds of
blocks. Slow, and only an estimate: a bound up to the solver's tolerance."""

import math
from collections.abc import Sequence

import numpy as np
import scs
from numpy.typing import NDArray
from scipy import sparse

Matrix = NDArray[np.float64]
_TOLERANCE = 1e-5


def lipsdp(first: Matrix, second: Matrix, third: Matrix) -> float:
    """The least sqrt(rho) for which multipliers prove |W3 k(W2 k(W1 x))| <= sqrt(rho) |x|, with one
    multiplier per neuron ("LipSDP-Neuron") and slopes of k in [0, 1].

    Args:
        first, second, third: dense, (n, n_in), (n, n), (n_out, n).
    """
    # Scaled to norm 1 to make the solver's tolerance relative.
    norms = [np.linalg.norm(matrix, 2) for matrix in (first, second, third)]
    first, second, third = (m / x for m, x in zip((first, second, third), norms, strict=True))
    n = len(first)
    left, values, _ = np.linalg.svd(first, full_matrices=False)
    # Only W1 W1^T matters, so a square root of it can replace W1.
    root = np.zeros((n, n))
    root[:, : len(values)] = left * values
    rho = np.zeros((3 * n, 3 * n))
    rho[:n, :n] = np.eye(n)
    forms = [rho]
    for start, weight in ((n, root), (2 * n, second)):
        before = slice(start - n, start)
        for i, row in enumerate(weight, start):
            form = np.zeros((3 * n, 3 * n))
            form[i, i] = 2
            form[i, before] = form[before, i] = -row
            forms.append(form)
    constant = np.zeros((3 * n, 3 * n))
    constant[2 * n :, 2 * n :] = -third.T @ third
    return math.sqrt(_least_first(forms, constant)) * math.prod(norms)


def _least_first(forms: Sequence[Matrix], constant: Matrix) -> float:
    """The least z_0 for which sum_i z_i forms_i + constant is positive semidefinite."""
    n = len(constant)
    columns, rows = np.triu_indices(n)  # the lower triangle, column by column
    scale = np.where(rows == columns, 1.0, math.sqrt(2))
    stacked = np.stack([-form[rows, columns] * scale for form in forms], axis=1)
    goal = np.zeros(len(forms))
    goal[0] = 1
    solver = scs.SCS(
        {"A": sparse.csc_matrix(stacked), "b": constant[rows, columns] * scale, "c": goal},
        {"s": [n]},
        eps_abs=_TOLERANCE,
        eps_rel=_TOLERANCE,
        max_iters=50_000,
        verbose=False,
    )
    solution = solver.solve()
    assert solution["info"]["status"] == "solved", solution["info"]
    return float(solution["info"]["pobj"])
