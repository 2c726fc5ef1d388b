import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.layers.power_iteration import adjoint_kernel
from models.norms import convolution_norm
from models.norms.convolution_norm import convolution_norm_bounds
from models.norms.gram_symbols import SHIFTS, GramSymbols
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


@pytest.mark.parametrize(
    ("taps", "n", "exact", "over_circular"),
    [
        # On n zero-padded pixels the eigenvalues are 2 - 2 cos(pi j / 6), j = 1..5,
        ([-1.0, 2.0, -1.0], 5, (2 - 2 * math.cos(5 * math.pi / 6)) ** 2, 1.064),
        # and 2 i cos(pi j / 7), j = 1..6; of the outer product, their products.
        ([1.0, 0.0, -1.0], 6, (2 * math.cos(math.pi / 7)) ** 2, 1.082),
    ],
)
def test_closed_forms_that_the_circular_norm_misses(
    taps: list[float], n: int, exact: float, over_circular: float
) -> None:
    weight = torch.outer(torch.tensor(taps), torch.tensor(taps)).double().view(1, 1, 3, 3)
    assert dense_norm(weight, (n, n)) == pytest.approx(exact, rel=1e-12)
    circular = torch.fft.fft2(weight[0, 0], s=(n, n)).abs().max().item()
    assert exact / circular == pytest.approx(over_circular, abs=5e-4)
    assert bounds(weight, (n, n))[1] == pytest.approx(exact, rel=1e-10)


def norms_of_symbols(weight: Tensor, size: tuple[int, int], shift: tuple[float, float]) -> Tensor:
    """(L,) largest norms of the symbols on a shifted grid: all of it, where the code takes half."""
    k_h, k_w = weight.shape[3:]
    n_rows, n_columns = size[0] + k_h // 2, size[1] + k_w // 2
    rows = (torch.arange(n_rows) + shift[0]).double() * (2 * math.pi / n_rows)
    columns = (torch.arange(n_columns) + shift[1]).double() * (2 * math.pi / n_columns)
    turns = rows.view(-1, 1, 1, 1) * (torch.arange(k_h) - k_h // 2).view(-1, 1)
    turns = turns + columns.view(-1, 1, 1) * (torch.arange(k_w) - k_w // 2)
    waves = torch.polar(torch.ones_like(turns), turns)
    symbols = torch.einsum("rcab,loiab->lrcoi", waves, weight.to(waves.dtype))
    return torch.linalg.matrix_norm(symbols, ord=2).amax(dim=(1, 2))


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(
    kernel=st.tuples(st.sampled_from([1, 3, 5]), st.sampled_from([1, 3, 5])),
    size=st.tuples(st.integers(3, 7), st.integers(3, 7)),
    exponent=st.sampled_from([-150, -100, -20, 0, 20, 100, 150]),
    seed=st.integers(0, 10_000),
)
def test_the_torus_norm_is_the_largest_over_the_whole_of_the_smallest_grid(
    kernel: tuple[int, int], size: tuple[int, int], exponent: int, seed: int
) -> None:
    """Also where single precision, which rules frequencies out, has no such number."""
    generator = torch.Generator().manual_seed(seed)
    random = torch.randn(5, 4, 6, *kernel, dtype=torch.float64, generator=generator)
    # An isometry at every frequency but for a part in 10^6: all are next to the largest.
    tie = 1e-6 * random[:1]
    tie[0, :4, :4, kernel[0] // 2, kernel[1] // 2] += torch.eye(4, dtype=torch.float64)
    weight = torch.cat([random, tie]) * 10.0**exponent
    expected = torch.stack([norms_of_symbols(weight, size, shift) for shift in SHIFTS])
    each = torch.stack([torus_norms(weight, size, [shift])[0] for shift in SHIFTS])
    torch.testing.assert_close(each, expected, rtol=1e-12, atol=0)
    norms, which = torus_norms(weight, size)
    for of_smallest in (expected.amin(dim=0), expected.gather(0, which[None])[0]):
        torch.testing.assert_close(norms, of_smallest, rtol=1e-12, atol=0)


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
