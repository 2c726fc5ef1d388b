import math
from collections.abc import Callable, Iterator
from itertools import product

import pytest
import torch
from torch import Tensor

from models.norms import block_bounds
from models.norms.block_bounds import _better, _proven, _start
from models.norms.block_program import KINDS, Blocks, Form, Multipliers, Program
from tests.support.lipsdp import lipsdp
from tests.support.oracles import dense_convolution

Weights = tuple[Tensor, Tensor, Tensor]
# Of the programs that the bounds are proven with.
PROGRAMS = [(False, 256), (True, 256), (True, 0)]


def block(m: int, channels: int, kernel: tuple[int, int] = (3, 3), lipschitz: float = 0) -> Weights:
    """Random kernels, of layers whose norms have the product `lipschitz` on a map of 4 x 4."""
    first = torch.randn(m, channels, *kernel, dtype=torch.float64)
    third = torch.randn(channels, m, *kernel, dtype=torch.float64)
    weights = first, torch.randn(m, m, dtype=torch.float64), third
    if lipschitz:
        norms = [torch.linalg.matrix_norm(w, ord=2).item() for w in dense(weights, (4, 4))]
        weights = first, weights[1], third * (lipschitz / math.prod(norms))
    return weights


def bounds(
    weights: Weights,
    size: tuple[int, int],
    *,
    is_activated: bool = True,
    search: bool = True,
    scale: float = 1.0,
) -> list[float]:
    """[Lip(g), beta, alpha]."""
    first, second, third = (weight.unsqueeze(0) for weight in weights)
    found: list[float] = block_bounds.block_bounds(
        first,
        second,
        third,
        torch.tensor([scale], dtype=torch.float64),
        size,
        is_activated=is_activated,
        search=search,
    )[0].tolist()
    return found


def dense(weights: Weights, size: tuple[int, int]) -> Weights:
    first, second, third = weights
    return (
        dense_convolution(first, size),
        dense_convolution(second[:, :, None, None], size),
        dense_convolution(third, size),
    )


def jacobians(weights: Weights, q0: Tensor, q1: Tensor, q2: Tensor) -> Tensor:
    """Those of g for slopes (..., n) of its activations, by dense matrices."""
    w1, w2, w3 = weights
    return (w3 * q2.unsqueeze(-2)) @ (w2 * q1.unsqueeze(-2)) @ (w1 * q0.unsqueeze(-2))


def over_masks(weights: Weights, *, is_activated: bool) -> Tensor:
    """The Jacobians of g for all masks of ReLU."""
    n, n_in = len(weights[1]), weights[0].shape[1]
    n_first = n_in if is_activated else 0
    masks = torch.tensor(list(product([0.0, 1.0], repeat=n_first + 2 * n)), dtype=torch.float64)
    q0 = masks[:, :n_first] if is_activated else torch.ones(len(masks), n_in).double()
    return jacobians(weights, q0, *masks[:, n_first:].chunk(2, dim=1))


def extremes(jacobian: Tensor) -> list[float]:
    """The largest singular value of Jacobians of g, and the largest and the smallest of x + g."""
    whole = torch.linalg.svdvals(torch.eye(jacobian.shape[-1]).double() + jacobian)
    of_g = torch.linalg.matrix_norm(jacobian, ord=2)
    return [of_g.max().item(), whole.max().item(), whole.min().item()]


@pytest.mark.parametrize("is_activated", [False, True])
@pytest.mark.parametrize(("search", "dense_rows"), PROGRAMS)
def test_no_pattern_of_activations_is_beyond_the_bounds(
    is_activated: bool, search: bool, dense_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor beyond those of the torus, which small maps do without."""
    monkeypatch.setattr(block_bounds, "_DENSE_ROWS", dense_rows)
    n_finite = 0
    for lipschitz in (0.1, 0.5, 0.9, 2.0) * 3:
        weights = block(1, 2, lipschitz=lipschitz)
        jacobian = over_masks(dense(weights, (1, 3)), is_activated=is_activated)
        of_g, largest, smallest = extremes(jacobian)
        proven = bounds(weights, (1, 3), is_activated=is_activated, search=search)
        assert of_g <= proven[0]
        assert largest <= proven[1]
        assert proven[2] <= smallest
        n_finite += max(proven) < math.inf and proven[2] > 0
    assert n_finite >= 6


@pytest.mark.parametrize("is_activated", [False, True])
@pytest.mark.parametrize("kernel", [(3, 3), (1, 1), (5, 3)])
@pytest.mark.parametrize("size", [(4, 4), (5, 3)])
def test_no_slopes_between_0_and_1_are_beyond_the_bounds(
    kernel: tuple[int, int], size: tuple[int, int], is_activated: bool
) -> None:
    """Slopes found by gradient ascent on the singular values of the dense map."""
    weights = block(2, 3, kernel, lipschitz=0.8)
    matrices = dense(weights, size)
    proven = bounds(weights, size, is_activated=is_activated)
    for index, sign in enumerate((1, 1, -1)):
        widths = [matrices[0].shape[1], len(matrices[1]), len(matrices[1])]
        slopes = [torch.randn(n, dtype=torch.float64, requires_grad=True) for n in widths]
        optimizer = torch.optim.Adam(slopes, lr=0.3)
        for _ in range(40):
            q0, q1, q2 = (s.sigmoid() for s in slopes)
            jacobian = jacobians(matrices, q0 if is_activated else torch.ones_like(q0), q1, q2)
            identity = torch.eye(len(jacobian)).double() * (index > 0)
            values = torch.linalg.svdvals(identity + jacobian)
            value = values[-1] if sign < 0 else values[0]
            assert sign * value.item() <= sign * proven[index]
            optimizer.zero_grad()
            (-sign * value).backward()
            optimizer.step()
        assert value.item() == pytest.approx(proven[index], rel=0.4)


def test_an_activation_ahead_can_make_a_block_steeper() -> None:
    """With one inner channel and slopes in {0, 1}: x + u w^T Q0 x, where Q0 = diag(1, 0) is worse
    than any slope of w alone. A bound that left k0 out would be false."""
    u, w = torch.tensor([0.5, -0.5]).double(), torch.tensor([1.0, 1.0]).double()
    weights = w.view(1, 2, 1, 1), torch.eye(1).double(), u.view(2, 1, 1, 1)
    without = extremes(over_masks(dense(weights, (1, 1)), is_activated=False))
    with_k0 = extremes(over_masks(dense(weights, (1, 1)), is_activated=True))
    proven = bounds(weights, (1, 1), is_activated=False)
    assert with_k0[1] > proven[1] >= without[1]
    assert with_k0[1] <= bounds(weights, (1, 1), is_activated=True)[1]


@pytest.mark.parametrize("make", [Program.on_the_torus, Program.dense])
@pytest.mark.parametrize("is_activated", [False, True])
def test_what_is_not_so_is_not_proven_whatever_the_multipliers(
    make: Callable[..., Program], is_activated: bool
) -> None:
    """No k below the one that a pattern attains, with the multipliers of the search and with
    others; and one near the estimate, with those of the search."""
    for _ in range(4):
        weights = block(1, 2, lipschitz=0.7)
        jacobian = over_masks(dense(weights, (1, 2)), is_activated=is_activated)
        of_g, largest, smallest = extremes(jacobian)
        program = make(blocks(weights, is_activated=is_activated), (1, 2))
        for kind, attained in zip(KINDS, (of_g**2, largest**2 - 1, 1 - smallest**2), strict=True):
            of_kind = program.of_kind(kind)
            found, k = _better(of_kind, *_start(of_kind))
            assert _proven(of_kind, found, k) <= 1.001 * k
            for _ in range(20):
                for of in (found, moved(found)):
                    below = attained * (1 - 1e-9 * torch.rand(1).double())
                    assert _proven(of_kind, of, below) >= attained * (1 - 1e-12)


def blocks(weights: Weights, scale: float = 1.0, *, is_activated: bool) -> Blocks:
    stacked = [weight.unsqueeze(0) for weight in weights]
    return Blocks(*stacked, torch.tensor([scale]).double(), is_activated)


def moved(multipliers: Multipliers) -> Multipliers:
    rows, columns = multipliers.of_rows, multipliers.of_columns
    return Multipliers(rows + torch.randn_like(rows), columns + torch.randn_like(columns))


def programs() -> Iterator[tuple[Program, Multipliers, Tensor]]:
    """Of each kind, with multipliers, and k that they allow."""
    weights = block(2, 3, lipschitz=0.7)
    for make, is_activated in product((Program.on_the_torus, Program.dense), (False, True)):
        whole = make(blocks(weights, 0.5, is_activated=is_activated), (2, 2))
        for kind in KINDS:
            program = whole.of_kind(kind)
            multipliers, k = _start(program)
            yield program, multipliers, 2 * k


def form_of(program: Program, multipliers: Multipliers) -> Form:
    return program.form(multipliers, program.slope_gram(multipliers))


def test_an_estimate_is_that_of_the_eigenvalues() -> None:
    """From above it, and close to it; the estimate is from below."""
    for program, multipliers, k in programs():
        form = form_of(program, multipliers)
        exact = form.k()
        for near, off in ((k, 0.02), (exact * 1.001, 1e-6)):
            _, is_possible, estimate, _ = form.inverse(near, program.some_vector(), 30)
            assert is_possible.all()
            assert ((1 - off) * exact <= estimate).all()
            assert (estimate <= exact * (1 + 1e-9)).all()
        _, is_possible, _, _ = form.inverse(exact * 0.999, program.some_vector(), 1)
        assert not is_possible.any()


@pytest.mark.parametrize(("m", "channels", "size"), [(1, 4, (8, 8)), (4, 16, (4, 4))])
def test_a_search_never_gives_more_and_gives_less_on_small_maps(
    m: int, channels: int, size: tuple[int, int]
) -> None:
    ratios = []
    for _ in range(5):
        weights = block(m, channels, lipschitz=0.8)
        fast, found = bounds(weights, size, search=False), bounds(weights, size)
        ratios.append([found[0] / fast[0], found[1] / fast[1], fast[2] / found[2]])
    for of_bound in zip(*ratios, strict=True):
        assert max(of_bound) <= 1
        assert sorted(of_bound)[2] < 0.97


def test_it_is_below_the_product_where_the_layers_do_not_fit_each_other() -> None:
    """W1 writes to a channel that W3 does not read: g = 0, and the product of the norms is 1."""
    first, third = torch.zeros(2, 2, 3, 3).double(), torch.zeros(2, 2, 3, 3).double()
    first[0, 0, 1, 1] = third[1, 1, 1, 1] = 1.0
    of_g, forward, inverse = bounds((first, torch.eye(2).double(), third), (5, 5))
    assert of_g < 0.75
    assert forward < 1.5
    assert inverse > 0.5


@pytest.mark.parametrize("search", [False, True])
def test_blocks_in_a_batch_are_bounded_as_each_alone(search: bool) -> None:
    blocks = [block(2, 4, lipschitz=0.6) for _ in range(3)]
    stacked = [torch.stack(parts) for parts in zip(*blocks, strict=True)]
    scale = torch.tensor([1.0, 0.5, 0.25]).double()
    together = block_bounds.block_bounds(
        stacked[0], stacked[1], stacked[2], scale, (6, 6), is_activated=True, search=search
    )
    for index, weights in enumerate(blocks):
        alone = bounds(weights, (6, 6), search=search, scale=scale[index].item())
        assert alone == pytest.approx(together[index].tolist(), rel=1e-4)
        # The scale is a factor of g, which its own bound is without.
        first, second, third = weights
        scaled = bounds((first, second, third * scale[index]), (6, 6), search=search)
        assert alone[1:] == pytest.approx(scaled[1:], rel=1e-4)
        assert alone[0] * scale[index].item() == pytest.approx(scaled[0], rel=1e-4)


def test_a_block_that_changes_little_is_nearly_the_identity() -> None:
    for exponent in (-12, -24, -36):
        scale = 2.0**exponent
        _, forward, inverse = bounds(block(2, 4, lipschitz=0.6), (4, 4), scale=scale)
        assert 1 <= forward <= 1 + 0.6 * scale * (1 + 1e-6)
        assert 1 >= inverse >= 1 - 0.6 * scale * (1 + 1e-6)


def test_with_a_layer_that_is_zero_the_block_is_the_identity() -> None:
    first, second, third = block(2, 3)
    for weights in (
        (first * 0, second, third),
        (first, second * 0, third),
        (first, second, third * 0),
    ):
        assert bounds(weights, (4, 4)) == [0, 1, 1]


def test_a_searched_bound_of_g_is_at_most_a_tenth_above_a_semidefinite_program() -> None:
    """The program's multipliers are the best that there are."""
    for channels, size in ((2, (3, 3)), (2, (2, 4)), (3, (2, 3)), (2, (4, 2)), (4, (2, 2))):
        weights = block(channels, 4 * channels)
        of_program = lipsdp(*(matrix.numpy() for matrix in dense(weights, size)))
        searched = bounds(weights, size)[0]
        assert of_program * (1 - 1e-3) <= searched <= of_program * 1.1
