"""Newton-Schulz iteration against singular value decompositions in float64."""

import pytest
import torch
from torch import Tensor

from study.trial.orthogonalization import COEFFICIENTS, LARGEST, orthogonalized

SHAPES = [(3, 8, 8), (2, 5, 17), (2, 17, 5), (4, 1, 1), (1, 1, 9)]


def with_singular_values(values: Tensor, m: int, n: int) -> Tensor:
    u, _ = torch.linalg.qr(torch.randn(m, len(values), dtype=torch.float64))
    v, _ = torch.linalg.qr(torch.randn(n, len(values), dtype=torch.float64))
    return u @ values.diag() @ v.T


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n_steps", [1, 3, 5])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_it_is_the_polynomial_of_the_singular_values(
    shape: tuple[int, int, int], n_steps: int, scale: float
) -> None:
    x = torch.randn(shape, dtype=torch.float64)
    u, s, vh = torch.linalg.svd(x, full_matrices=False)
    s = s / s.norm(dim=1, keepdim=True)
    a, b, c = COEFFICIENTS
    for _ in range(n_steps):
        s = a * s + b * s**3 + c * s**5
    torch.testing.assert_close(orthogonalized(scale * x, n_steps), u @ s.diag_embed() @ vh)


@pytest.mark.parametrize(("n_steps", "least"), [(3, 0.018), (5, 0.0015)])
def test_singular_values_come_near_one(n_steps: int, least: float) -> None:
    """So the result is within 0.33 of the exact polar factor U V^T, in the spectral norm."""
    values = torch.cat([torch.logspace(0, -8, 20, dtype=torch.float64), torch.zeros(2)])
    x = with_singular_values(values, 24, 40)[None]
    large = values / values.norm() >= least
    got = torch.linalg.svdvals(orthogonalized(x, n_steps))[0]
    assert got.max() <= LARGEST
    assert (got >= 0.67).sum() >= large.sum() >= 5
    x = with_singular_values(values[large], 24, 40)[None]
    u, _, vh = torch.linalg.svd(x, full_matrices=False)
    rank = int(large.sum())
    polar = u[..., :rank] @ vh[:, :rank]
    off = torch.linalg.matrix_norm(orthogonalized(x, n_steps) - polar, ord=2)
    assert off.item() <= 0.33


@pytest.mark.parametrize("scale", [1e-21, 1e-22, 1e-24, 1e-30, 1e-40, 0.0])
def test_what_is_far_below_any_gradient_fades(scale: float) -> None:
    """The squares of the last four are zero in float32."""
    x = torch.randn(2, 16, 72)
    assert torch.linalg.matrix_norm(orthogonalized(x * scale, 5), ord=2).max() < 0.01
    if scale == 0:
        assert not orthogonalized(x * scale, 5).any()


def test_bf16_is_off_by_its_rounding() -> None:
    x = with_singular_values(torch.linspace(0.97, 1, 24, dtype=torch.float64), 24, 40)[None]
    x = x.float()
    ours, exact = orthogonalized(x, 3, torch.bfloat16).float(), orthogonalized(x, 3)
    assert 0 < torch.linalg.matrix_norm(ours - exact, ord=2) < 0.05


@pytest.mark.parametrize("factor", [1e-20, 1e-30, 1e-42])
def test_rows_of_dead_units_become_zero_and_change_no_others(factor: float) -> None:
    """Their subnormal products would take tens of times as long."""
    matrix = torch.randn(1, 12, 30, generator=torch.Generator().manual_seed(0))
    matrix[:, :5] *= factor
    result = orthogonalized(matrix, 3)
    assert not bool(result[:, :5].any())
    torch.testing.assert_close(result[:, 5:], orthogonalized(matrix[:, 5:], 3))
