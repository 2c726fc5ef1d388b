import math
import sys
from decimal import Decimal, localcontext

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.inverse.fixed_point import Solution, fixed_point, predicted_steps


def linear_map(lipschitz: float, n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(n, n, dtype=torch.float64, generator=generator)
    matrix *= lipschitz / torch.linalg.matrix_norm(matrix, ord=2)
    offset = torch.randn(5, n, dtype=torch.float64, generator=generator)
    return matrix, offset


@settings(deadline=None, max_examples=50)
@given(lipschitz=st.floats(0.01, 0.95), n=st.integers(1, 8), seed=st.integers(0, 10_000))
def test_contraction_converges_to_the_solution_of_the_linear_system(
    lipschitz: float, n: int, seed: int
) -> None:
    matrix, offset = linear_map(lipschitz, n, seed)
    rtol = 1e-10
    solution = fixed_point(
        lambda x, rows: offset[rows] - x @ matrix.T,
        torch.zeros_like(offset),
        rtol=rtol,
        max_steps=2000,
    )
    exact = torch.linalg.solve(torch.eye(n, dtype=torch.float64) + matrix, offset.T).T
    assert solution.converged.all()
    error = (solution.value - exact).norm(dim=1)
    # Banach: ||x_k - x*|| <= L / (1 - L) * ||x_k - x_{k-1}||, with room for rounding.
    bound = lipschitz / (1 - lipschitz) * solution.residual_norm
    assert (error <= bound * (1 + 1e-6) + 1e-13 * exact.norm(dim=1)).all()
    assert (solution.residual_norm <= rtol * solution.value.norm(dim=1)).all()


def test_each_sample_stops_by_itself_and_leaves_the_batch() -> None:
    """x -> y - a x from y: the k-th step is |a|^k |y|, so the number of steps is known."""
    slopes = torch.tensor([0.0, 0.05, 0.1, 0.25], dtype=torch.float64)
    y = torch.ones(4, 1, dtype=torch.float64)
    seen: list[int] = []

    def fn(x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        seen.append(len(rows))
        return y[rows] - slopes[rows, None] * x

    solution = fixed_point(fn, y, rtol=0.0, atol=1e-6, max_steps=1000)
    expected = [1] + [next(k for k in range(1, 99) if a**k <= 1e-6) for a in (0.05, 0.1, 0.25)]
    assert solution.n_steps.tolist() == expected
    assert sum(seen) == sum(expected)
    torch.testing.assert_close(solution.value, y / (1 + slopes[:, None]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_worst_case_takes_ten_evaluations_at_most(sign: float, dtype: torch.dtype) -> None:
    """g = +-L relu at L = 0.97, where Picard iteration takes hundreds; solved in closed form."""
    y = torch.randn(50, 64, dtype=dtype)
    slope = sign * 0.97
    solution = fixed_point(lambda x, rows: y[rows] - slope * x.relu(), y, rtol=1e-6)
    assert solution.converged.all()
    assert solution.n_steps.max() <= 10
    exact = torch.where(y > 0, y / (1 + slope), y)
    error = (solution.value - exact).norm(dim=1) / exact.norm(dim=1)
    assert error.max() < 1e-6 / (1 - 0.97)


@settings(deadline=None, max_examples=30)
@given(lipschitz=st.floats(0.5, 0.97), seed=st.integers(0, 10_000))
def test_acceleration_solves_what_is_not_linear_in_fewer_steps(lipschitz: float, seed: int) -> None:
    matrix, offset = linear_map(lipschitz, 12, seed)
    picard, moves = offset, torch.ones(5, dtype=torch.bool)
    n_picard = 0
    while moves.any():
        n_picard += int(moves.sum())
        before, picard = picard, offset - (picard @ matrix.T).relu()
        moves &= (picard - before).norm(dim=1) > 1e-9 * picard.norm(dim=1)
    solution = fixed_point(
        lambda x, rows: offset[rows] - (x @ matrix.T).relu(), offset, rtol=1e-9, max_steps=3000
    )
    assert solution.converged.all()
    close = 1e-8 / (1 - lipschitz) * picard.norm(dim=1)
    assert ((solution.value - picard).norm(dim=1) <= close).all()
    # A step that is taken back costs one evaluation; on the whole it pays.
    assert solution.n_steps.sum() <= n_picard + 5


def test_each_sample_has_a_limit_of_its_own() -> None:
    y = torch.ones(4, 1, dtype=torch.float64)
    limits = torch.tensor([1, 2, 3, 50])
    solution = fixed_point(lambda x, rows: y[rows] - 0.2 * x, y, rtol=1e-12, max_steps=limits)
    assert solution.n_steps[:3].tolist() == [1, 2, 3]
    assert solution.converged.tolist() == [False, False, False, True]
    iterates = [1 - 0.2, 1 - 0.2 * 0.8, 1 - 0.2 * 0.84]
    assert solution.last_iterate[:3, 0].tolist() == pytest.approx(iterates, rel=1e-14)


@settings(deadline=None, max_examples=200)
@example(lipschitz=1 - 2**-53, rtol=1e-6, first_error=1.0)
@example(lipschitz=0.5, rtol=0.5, first_error=1 / 3.5)
@given(
    lipschitz=st.floats(1e-3, 1 - 2**-53),
    rtol=st.floats(1e-12, 0.5),
    first_error=st.floats(1e-6, 1e6),
)
def test_predicted_steps_are_the_least_that_are_proven_or_a_few_more(
    lipschitz: float, rtol: float, first_error: float
) -> None:
    """Against the inequality of the docstring in decimals of 60 digits."""
    predicted = predicted_steps(lipschitz, rtol, first_error)
    assert predicted is not None
    with localcontext(prec=60):
        bound, tolerance, error = Decimal(lipschitz), Decimal(rtol), Decimal(first_error)

        def is_proven(n_steps: int) -> bool:
            step = bound ** (n_steps - 1) * (1 + bound) * error
            return step <= tolerance * (1 - bound**n_steps * error)

        assert is_proven(predicted)
        fewer = predicted - 2 - math.ceil(predicted * 1e-14) - math.ceil(1e-14 / (1 - lipschitz))
        assert fewer < 1 or not is_proven(fewer)


@pytest.mark.parametrize(
    ("lipschitz", "rtol", "first_error", "expected"),
    [
        (0.0, 1e-6, 1.0, 2), (0.0, 0.0, 1.0, 2), (0.9, 0.0, 1.0, None), (0.9, 0.0, 0.0, 1),
        (1.0, 0.5, 1.0, None), (0.5, 0.5, math.inf, None), (0.5, 0.5, math.nan, None),
        (math.nan, 0.5, 1.0, None),
    ],
)  # fmt: skip
def test_predicted_steps_at_the_ends_of_their_ranges(
    lipschitz: float, rtol: float, first_error: float, expected: int | None
) -> None:
    assert predicted_steps(lipschitz, rtol, first_error) == expected


@pytest.mark.parametrize("lipschitz", [0.4, 0.97])
def test_a_batch_in_parts_is_solved_sample_by_sample(
    monkeypatch: pytest.MonkeyPatch, lipschitz: float
) -> None:
    matrix, offset = linear_map(lipschitz, 6, seed=3)
    evaluated: list[int] = []

    def fn(x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        evaluated.append(len(rows))
        return offset[rows] - x @ matrix.T

    whole = fixed_point(fn, offset, rtol=1e-9)
    assert max(evaluated) == len(offset) == 5
    # Two samples of six float64 numbers; one of the parts has one.
    monkeypatch.setattr(sys.modules["models.inverse.fixed_point"], "_PART_BYTES", 2 * 6 * 8)
    evaluated.clear()
    parts = fixed_point(fn, offset, rtol=1e-9)
    assert evaluated[0] == 2
    assert torch.equal(parts.n_steps, whole.n_steps)
    assert parts.converged.all()
    torch.testing.assert_close(parts.value, whole.value, rtol=0, atol=1e-12)
    torch.testing.assert_close(parts.last_iterate, parts.value, rtol=0, atol=0)


@settings(deadline=None, max_examples=100)
@given(
    lipschitz=st.floats(0.01, 0.95),
    size=st.floats(1e-3, 1e3),
    seed=st.integers(0, 10_000),
    exponent=st.integers(-8, -1),
)
def test_plain_iteration_has_stopped_after_the_predicted_steps(
    lipschitz: float, size: float, seed: int, exponent: int
) -> None:
    """Of x -> y - g(x) from y, for fixed points of any size beside g of them."""
    matrix, offset = linear_map(lipschitz, 6, seed)
    exact, rtol = size * torch.randn(5, 6, dtype=torch.float64), 10.0**exponent
    y = exact + exact @ matrix.T + offset
    first_error = ((y - exact).norm(dim=1) / exact.norm(dim=1)).max().item()
    predicted = predicted_steps(lipschitz, rtol, first_error)
    assert predicted is not None
    x, stopped = y, torch.zeros(5, dtype=torch.bool)
    for _ in range(predicted):
        before, x = x, y - x @ matrix.T - offset
        stopped |= (x - before).norm(dim=1) <= rtol * x.norm(dim=1)
    assert stopped.all()
    assert ((x - exact).norm(dim=1) <= rtol * exact.norm(dim=1)).all()


@pytest.mark.parametrize(
    ("dtype", "exponent"),
    [(torch.float32, -37), (torch.float32, -25), (torch.float32, 25), (torch.float64, -165)],
)
def test_samples_of_any_scale_stop_alike(dtype: torch.dtype, exponent: int) -> None:
    """A linear map: the steps of a scaled problem are the scaled steps."""
    y = torch.randn(20, 64, dtype=dtype)

    def solve(y: torch.Tensor) -> Solution:
        return fixed_point(lambda x, rows: y[rows] - 0.4 * x, y, rtol=1e-5)

    expected, scaled = solve(y), solve(y * 10.0**exponent)
    assert (scaled.n_steps - expected.n_steps).abs().max() <= 1
    assert scaled.converged.all()
    error = (scaled.value.double() / 10.0**exponent - y.double() / 1.4).norm(dim=1)
    assert (error <= 1e-5 * y.double().norm(dim=1)).all()


def test_what_does_not_converge_has_no_value() -> None:
    """Slopes -2, -1, -0.5 and -1e30: diverges, alternates, converges, and overflows at once."""
    slopes = torch.tensor([2.0, 1.0, 0.5, 1e30])
    y = torch.ones(4, 1)
    solution = fixed_point(lambda x, rows: y[rows] - slopes[rows, None] * x, y, max_steps=60)
    assert solution.converged.tolist() == [False, False, True, False]
    assert solution.value[:2].isnan().all()
    assert solution.value[2].isfinite().all()
    assert solution.last_iterate[1].isfinite().all()
    assert solution.n_steps[1] == 60
    assert solution.n_steps[3] < 5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("slope", [1.0, 1.5, 4.0])
def test_an_expanding_map_is_solved_if_its_fixed_point_is_the_only_one(
    slope: float, dtype: torch.dtype
) -> None:
    """x + slope relu(x) = y, solved in closed form; Picard iteration diverges."""
    y = torch.randn(50, 64, dtype=dtype)

    def fn(x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return y[rows] - slope * x.relu()

    assert not fixed_point(fn, y).converged.any()
    solution = fixed_point(fn, y, expanding=True)
    assert solution.converged.all()
    exact = torch.where(y > 0, y / (1 + slope), y)
    # |x' - x| is at most the residual, since the map's inverse has the Lipschitz constant 1.
    error = (solution.value - exact).norm(dim=1)
    assert (error <= solution.residual_norm * (1 + slope) + 1e-6 * exact.norm(dim=1)).all()
    assert error.max() < 1e-4


def test_an_empty_batch_is_solved() -> None:
    solution = fixed_point(lambda x, rows: x, torch.zeros(0, 3))
    assert solution.value.shape == (0, 3)
    assert solution.converged.all()


def test_parallel_changes_do_not_stop_the_batch() -> None:
    """A map of rank one: the changes of the residual are parallel up to rounding."""
    for seed in range(150):
        generator = torch.Generator().manual_seed(seed)
        u = torch.randn(64, generator=generator)
        u /= u.norm()
        y = 3 * torch.randn(8, 64, generator=generator)

        def fn(
            x: torch.Tensor, rows: torch.Tensor, u: torch.Tensor = u, y: torch.Tensor = y
        ) -> torch.Tensor:
            t = x @ u
            return y[rows] - (0.8 * t.tanh() + 0.05 * (3 * t).sin()).unsqueeze(1) * u

        assert fixed_point(fn, y, max_steps=1000).converged.all()
