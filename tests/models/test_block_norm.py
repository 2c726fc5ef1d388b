import pytest
import torch
from torch import Tensor

from models import block_norm
from models.block_norm import _Program, bottleneck_upper_bounds
from tests.support.lipsdp import lipsdp
from tests.support.oracles import dense_convolution, largest_over_masks


def block(
    m: int, c_in: int, c_out: int, kernel: tuple[int, int] = (3, 3)
) -> tuple[Tensor, Tensor, Tensor]:
    first = torch.randn(m, c_in, *kernel, dtype=torch.float64)
    third = torch.randn(c_out, m, *kernel, dtype=torch.float64)
    return first, torch.randn(m, m, dtype=torch.float64), third


def bound(
    first: Tensor, second: Tensor, third: Tensor, size: tuple[int, int], *, search: bool = True
) -> float:
    weights = first[None], second[None], third[None]
    return bottleneck_upper_bounds(*weights, size, search=search).item()


def attained(weights: tuple[Tensor, Tensor, Tensor], size: tuple[int, int]) -> float:
    """The largest norm over all pairs of masks of the two inner maps, as ReLU sets them."""
    return largest_over_masks(*dense(*weights, size))


def dense(
    first: Tensor, second: Tensor, third: Tensor, size: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        dense_convolution(first, size),
        dense_convolution(second[:, :, None, None], size),
        dense_convolution(third, size),
    )


@pytest.mark.parametrize(("search", "dense_rows"), [(False, 256), (True, 256), (True, 0)])
@pytest.mark.parametrize("size", [(2, 2), (1, 4)])
def test_no_pattern_of_activations_exceeds_the_bound(
    size: tuple[int, int], search: bool, dense_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor that of the torus, which small maps do without."""
    monkeypatch.setattr(block_norm, "_DENSE_ROWS", dense_rows)
    for _ in range(10):
        weights = block(1, 2, 2)
        assert attained(weights, size) <= bound(*weights, size, search=search)


@pytest.mark.parametrize("on_the_torus", [False, True])
def test_what_is_not_so_is_not_proven_whatever_the_multipliers(on_the_torus: bool) -> None:
    """Just below what a pattern attains, with the multipliers of the search and with others."""
    for _ in range(20):
        weights = block(2, 2, 2)
        stacked = tuple(weight[None] for weight in weights)
        make = _Program.on_the_torus if on_the_torus else _Program.dense
        program = make(*stacked, (1, 2))
        rho = torch.tensor([attained(weights, (1, 2)) ** 2])
        usual = program.usual_multipliers(stacked[1])
        found = program.better(usual)
        proven = program.upper_bounds(found).square()
        at = torch.tensor([0])
        assert program._proves(found, proven * (1 + 1e-9), at).all()
        for multipliers in (usual, found, *(found * torch.rand(1, 2, 2).exp() for _ in range(20))):
            assert not program._proves(multipliers, rho * (1 - 1e-9), at).any()


@pytest.mark.parametrize(("m", "channels", "size"), [(1, 4, (8, 8)), (4, 16, (4, 4))])
def test_a_search_never_gives_more_and_gives_less_on_small_maps(
    m: int, channels: int, size: tuple[int, int]
) -> None:
    ratios = []
    for _ in range(9):
        weights = block(m, channels, channels)
        fast = bound(*weights, size, search=False)
        ratios.append(bound(*weights, size) / fast)
    assert max(ratios) <= 1
    assert sorted(ratios)[4] < 0.95


@pytest.mark.parametrize("kernel", [(3, 3), (1, 1), (5, 3)])
@pytest.mark.parametrize("size", [(4, 4), (5, 3)])
def test_no_slopes_between_0_and_1_exceed_the_bound(
    kernel: tuple[int, int], size: tuple[int, int]
) -> None:
    """Slopes found by gradient ascent on the norm of the dense map."""
    weights = block(2, 3, 4, kernel)
    w1, w2, w3 = dense(*weights, size)
    slopes = [torch.randn(len(w2), dtype=torch.float64, requires_grad=True) for _ in range(2)]
    optimizer = torch.optim.Adam(slopes, lr=0.3)
    largest = 0.0
    for _ in range(60):
        q1, q2 = (s.sigmoid().unsqueeze(1) for s in slopes)
        norm = torch.linalg.matrix_norm(w3 @ (q2 * (w2 @ (q1 * w1))), ord=2)
        largest = max(largest, norm.item())
        optimizer.zero_grad()
        (-norm).backward()
        optimizer.step()
    assert largest <= bound(*weights, size)


def test_it_is_below_the_product_where_the_layers_do_not_fit_each_other() -> None:
    """W1 writes to a channel that W3 does not read: g = 0, and the product of the norms is 1."""
    first, third = torch.zeros(2, 2, 3, 3).double(), torch.zeros(2, 2, 3, 3).double()
    first[0, 0, 1, 1] = third[1, 1, 1, 1] = 1.0
    assert bound(first, torch.eye(2).double(), third, (5, 5)) < 0.75


@pytest.mark.parametrize("search", [False, True])
def test_blocks_in_a_batch_are_bounded_as_each_alone_and_scale_as_g_does(search: bool) -> None:
    blocks = [block(2, 4, 4) for _ in range(3)]
    stacked = [torch.stack(parts) for parts in zip(*blocks, strict=True)]
    together = bottleneck_upper_bounds(*stacked, (6, 6), search=search)
    for index, weights in enumerate(blocks):
        alone = bound(*weights, (6, 6), search=search)
        assert alone == pytest.approx(together[index].item(), rel=1e-12)
    factors = zip((2, 3, 5), stacked, strict=True)
    scaled = bottleneck_upper_bounds(*(f * part for f, part in factors), (6, 6), search=search)
    torch.testing.assert_close(scaled, 30 * together)


def test_with_a_layer_that_is_zero_the_bound_is_zero() -> None:
    first, second, third = block(2, 3, 3)
    for weights in (
        (first * 0, second, third),
        (first, second * 0, third),
        (first, second, third * 0),
    ):
        assert bound(*weights, (4, 4)) == 0


def test_a_searched_bound_is_at_most_a_tenth_above_a_semidefinite_program() -> None:
    """The program has a multiplier for each entry, where the bound has one for each channel."""
    for channels, size in ((2, (3, 3)), (2, (2, 4)), (3, (2, 3)), (2, (4, 2)), (4, (2, 2))):
        weights = block(channels, 4 * channels, 4 * channels)
        of_program = lipsdp(*(matrix.numpy() for matrix in dense(*weights, size)))
        searched = bound(*weights, size, search=True)
        assert of_program * (1 - 1e-3) <= searched <= of_program * 1.1
