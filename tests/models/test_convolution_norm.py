import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models import convolution_norm
from models.convolution_norm import convolution_norm_bounds
from models.gram_symbols import SHIFTS, GramSymbols
from models.power_iteration import adjoint_kernel
from tests.support.oracles import dense_norm
from tests.support.torus import torus_norms


def bounds(weight: Tensor, size: tuple[int, int]) -> tuple[float, float]:
    lower, upper = convolution_norm_bounds(weight[None], size)
    return lower.item(), upper.item()


@pytest.fixture
def only_the_torus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small maps are normed densely; this has the bound for large maps tested on them too."""
    monkeypatch.setattr(convolution_norm, "_DENSE_ROWS", 0)


KERNELS = st.tuples(
    st.integers(1, 4),  # c_out
    st.integers(1, 4),  # c_in
    st.sampled_from([1, 3, 5, 7]),  # k_h
    st.sampled_from([1, 3, 5, 7]),  # k_w
    st.integers(1, 7),  # height, less than k included
    st.integers(1, 7),  # width
)


@settings(deadline=None, max_examples=100)
@given(shape=KERNELS, seed=st.integers(0, 10_000), rows=st.sampled_from([0, 256]))
def test_the_dense_norm_is_between_the_bounds(shape: tuple[int, ...], seed: int, rows: int) -> None:
    c_out, c_in, k_h, k_w, height, width = shape
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(c_out, c_in, k_h, k_w, dtype=torch.float64, generator=generator)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convolution_norm, "_DENSE_ROWS", rows)
        lower, upper = bounds(weight, (height, width))
    exact = dense_norm(weight, (height, width))
    assert lower <= exact <= upper
    if rows or k_h == k_w == 1:
        assert upper == pytest.approx(exact, rel=1e-11)
        assert lower == pytest.approx(exact, rel=1e-11)


def second_difference_squared() -> tuple[float, int]:
    """[-1, 2, -1] on n = 5 zero-padded pixels: eigenvalues 2 - 2 cos(pi j / 6), j = 1..5."""
    return (2 - 2 * math.cos(5 * math.pi / 6)) ** 2, 5


def central_difference_squared() -> tuple[float, int]:
    """[1, 0, -1] on n = 6 zero-padded pixels: eigenvalues 2 i cos(pi j / 7), j = 1..6."""
    return (2 * math.cos(math.pi / 7)) ** 2, 6


@pytest.mark.parametrize(
    ("taps", "closed_form", "over_circular"),
    [
        ([-1.0, 2.0, -1.0], second_difference_squared(), 1.064),
        ([1.0, 0.0, -1.0], central_difference_squared(), 1.082),
    ],
)
def test_closed_forms_that_the_circular_norm_misses(
    taps: list[float], closed_form: tuple[float, int], over_circular: float
) -> None:
    exact, n = closed_form
    weight = torch.outer(torch.tensor(taps), torch.tensor(taps)).double().view(1, 1, 3, 3)
    assert dense_norm(weight, (n, n)) == pytest.approx(exact, rel=1e-12)
    circular = torch.fft.fft2(weight[0, 0], s=(n, n)).abs().max().item()
    assert exact / circular == pytest.approx(over_circular, abs=5e-4)
    assert bounds(weight, (n, n))[1] == pytest.approx(exact, rel=1e-10)


@pytest.mark.parametrize("size", [(5, 6), (6, 6), (4, 7)])
@pytest.mark.parametrize("kernel", [(3, 5), (1, 3), (3, 3)])
@pytest.mark.parametrize("shift", SHIFTS)
def test_the_torus_norm_is_the_largest_over_the_whole_shifted_grid(
    size: tuple[int, int], kernel: tuple[int, int], shift: tuple[float, float]
) -> None:
    """Every frequency, by a loop, where the code takes half of them."""
    (k_h, k_w), (height, width) = kernel, size
    weight = torch.randn(2, 3, k_h, k_w, dtype=torch.float64)
    n_rows, n_columns = height + k_h // 2, width + k_w // 2
    norms = []
    for row in range(n_rows):
        for column in range(n_columns):
            symbol = torch.zeros(2, 3, dtype=torch.complex128)
            for a in range(k_h):
                for b in range(k_w):
                    phase = (row + shift[0]) * (a - k_h // 2) / n_rows
                    phase += (column + shift[1]) * (b - k_w // 2) / n_columns
                    turn = 2 * math.pi * phase
                    symbol += weight[:, :, a, b] * complex(math.cos(turn), math.sin(turn))
            norms.append(torch.linalg.matrix_norm(symbol, ord=2).item())
    assert torus_norms(weight[None], size, [shift])[0].item() == pytest.approx(
        max(norms), rel=1e-12
    )


@pytest.mark.parametrize("exponent", [-150, -100, -20, 0, 20, 100, 150])
def test_single_precision_rules_out_no_largest_frequency_at_any_scale(exponent: int) -> None:
    """Also where single precision has no such number, and where many frequencies nearly tie."""
    generator = torch.Generator().manual_seed(exponent % 97)
    random = torch.randn(3, 4, 6, 3, 3, dtype=torch.float64, generator=generator)
    # An isometry at every frequency but for a part in 10^6: all are next to the largest.
    tie = 1e-6 * random[:1]
    tie[0, :4, :4, 1, 1] += torch.eye(4, dtype=torch.float64)
    weight = torch.cat([random, tie]) * 10.0**exponent
    for shift in SHIFTS:
        norms, _ = torus_norms(weight, (6, 5), [shift])
        symbols = GramSymbols(weight, (6, 5))
        grid, _ = symbols.frequencies(shift)
        # A second way: the singular values of the symbols at all frequencies.
        offsets = torch.cartesian_prod(torch.arange(-1.0, 2.0), torch.arange(-1.0, 2.0)).double()
        waves = torch.polar(torch.ones(len(grid), 9, dtype=torch.float64), grid @ offsets.T)
        symbol = torch.einsum("fa,loia->lfoi", waves, weight.flatten(3).to(waves.dtype))
        expected = torch.linalg.matrix_norm(symbol, ord=2).amax(dim=1)
        torch.testing.assert_close(norms, expected, rtol=1e-12, atol=0)


def test_the_rounding_of_single_precision_symbols_is_bounded() -> None:
    generator = torch.Generator().manual_seed(5)
    for k, size in ((3, (9, 9)), (5, (6, 7)), (7, (12, 5))):
        weight = torch.randn(5, 3, 4, k, k, dtype=torch.float64, generator=generator)
        symbols = GramSymbols(weight, size)
        layers = torch.tensor([4, 0, 2])
        scale = torch.tensor([1e-3, 1.0, 7.0], dtype=torch.float64)
        single, rounding = symbols.single_precision(layers, scale)
        for shift in SHIFTS:
            grid, _ = symbols.frequencies(shift)
            exact = symbols.gram(grid, layers) * scale.view(-1, 1, 1, 1)
            error = torch.linalg.matrix_norm(single.gram(grid) - exact).amax(dim=1)
            assert (error > 0).all()
            assert (error <= rounding).all()


def test_the_smallest_grid_is_found() -> None:
    weight = torch.randn(20, 3, 4, 3, 3)
    norms, which = torus_norms(weight, (7, 6))
    each = torch.stack([torus_norms(weight, (7, 6), [shift])[0] for shift in SHIFTS])
    torch.testing.assert_close(norms, each.amin(dim=0), rtol=1e-12, atol=0)
    assert torch.equal(which, each.argmin(dim=0))
    assert len(which.unique()) == 4


@pytest.mark.usefixtures("only_the_torus")
def test_the_correction_at_the_edge_tightens_and_still_holds() -> None:
    """Smooth kernels, whose leading vectors reach the edge of the map, as trained ones do."""
    better = 0
    for _ in range(40):
        weight = torch.randn(4, 6, 1, 1) * torch.ones(3, 3) + 0.3 * torch.randn(4, 6, 3, 3)
        lower, upper = bounds(weight, (6, 6))
        exact = dense_norm(weight, (6, 6))
        assert lower <= exact <= upper
        plain = torus_norms(weight[None], (6, 6))[0].item()
        assert upper <= plain * (1 + 1e-10)
        better += upper < 0.999 * plain
    assert better > 20


@pytest.mark.usefixtures("only_the_torus")
def test_layers_in_a_batch_are_bounded_as_each_alone() -> None:
    weight = torch.randn(5, 3, 4, 3, 3, dtype=torch.float64)
    lower, upper = convolution_norm_bounds(weight, (6, 7))
    for index, one in enumerate(weight):
        assert bounds(one, (6, 7)) == pytest.approx((lower[index].item(), upper[index].item()))
        assert bounds(adjoint_kernel(one), (6, 7))[1] == pytest.approx(upper[index].item())


def test_a_zero_layer_has_norm_zero() -> None:
    for size in ((3, 3), (12, 12)):
        assert bounds(torch.zeros(3, 4, 3, 3), size) == (0, 0)
