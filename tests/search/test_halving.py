import math

import numpy as np
import pytest
from numpy.typing import NDArray

from study.search.halving import Entry, SuccessiveHalving, best

_SPECIAL = (math.nan, math.inf, -math.inf, 1e308, -1e308, 0.0)


def dominates(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    return bool((a <= b).all() and (a < b).any())


def ranking(losses: NDArray[np.float64], violations: NDArray[np.float64]) -> list[int]:
    """Row numbers from best to worst: those that `best` adds one by one."""
    ordered: list[int] = []
    for n in range(1, len(losses) + 1):
        chosen = best(losses, violations, n)
        (added,) = chosen - set(ordered)
        ordered.append(added)
        assert chosen == set(ordered)
    return ordered


def random_rung(rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """1 to 12 rows of coarse values, so that many tie, with special values among them."""
    n, m = rng.integers(1, 13), rng.integers(1, 4)
    losses = rng.integers(0, 4, (n, m)).astype(float)
    if rng.random() < 0.5:
        losses += rng.random((n, m))
    violations = np.where(rng.random(n) < 0.6, 0.0, rng.integers(1, 4, n).astype(float))
    if rng.random() < 0.3:
        losses[rng.integers(n), rng.integers(m)] = rng.choice(_SPECIAL)
    if rng.random() < 0.2:
        violations[rng.integers(n)] = rng.choice([math.nan, math.inf])
    return losses, violations


@pytest.mark.slow
def test_no_row_comes_before_a_better_one_over_random_rungs() -> None:
    rng = np.random.default_rng(0)
    for _ in range(1_000):
        losses, violations = random_rung(rng)
        ordered = ranking(losses, violations)
        assert sorted(ordered) == list(range(len(losses)))
        place = {row: index for index, row in enumerate(ordered)}
        usable = np.isfinite(losses).all(axis=1) & np.isfinite(violations)
        for a in range(len(losses)):
            for b in range(len(losses)):
                better = usable[a] and (
                    not usable[b]
                    or violations[a] < violations[b]
                    or (violations[a] == violations[b] and dominates(losses[a], losses[b]))
                )
                if better:
                    assert place[a] < place[b]
        assert best(losses, violations, 0) == set()
        assert best(losses, violations, len(losses) + 1) == set(ordered)


def test_each_row_of_a_front_is_the_farthest_from_those_before_it() -> None:
    """Greedy farthest points, by brute force over all distances."""
    rng = np.random.default_rng(1)
    for _ in range(50):
        points = rng.random((15, 3))
        points /= points.sum(axis=1, keepdims=True)  # on a simplex none dominates another
        ordered = ranking(points, np.zeros(15))
        scaled = (points - points.min(axis=0)) / (points.max(axis=0) - points.min(axis=0))
        assert scaled[ordered[0]].mean() == pytest.approx(scaled.mean(axis=1).min())
        for k in range(1, 15):
            gaps = [min(math.dist(scaled[r], scaled[o]) for o in ordered[:k]) for r in ordered[k:]]
            assert gaps[0] == pytest.approx(max(gaps))


def entry(loss: float, violation: float = 0.0) -> Entry:
    return Entry((loss,), violation)


def test_one_trial_in_three_goes_on_from_each_rung() -> None:
    halving = SuccessiveHalving(max_epochs=27, grace_period=1, reduction_factor=3)
    assert list(halving.rungs) == [1, 3, 9]
    rng = np.random.default_rng(2)
    seen: list[float] = []
    for trial, loss in enumerate(rng.random(60)):
        seen.append(loss)
        n_kept = math.ceil(len(seen) / 3)
        is_among_the_best = loss in sorted(seen)[:n_kept]
        assert halving.goes_on(trial, 1, entry(loss)) == is_among_the_best
        # Between rungs nothing new is decided.
        assert halving.goes_on(trial, 2, entry(1.0)) == is_among_the_best
    assert len(halving.rungs[1]) == 60
    assert halving.rungs[3] == {}


def test_a_report_that_comes_again_is_decided_as_it_was() -> None:
    """Though others have reached the rung since."""
    halving = SuccessiveHalving(max_epochs=4, grace_period=1, reduction_factor=2)
    losses = [4.0, 5.0, 3.0, 2.0, 1.0]
    decided = [halving.goes_on(trial, 1, entry(loss)) for trial, loss in enumerate(losses)]
    assert decided == [True, False, True, True, True]
    before = {rung: dict(entries) for rung, entries in halving.rungs.items()}
    again = [halving.goes_on(trial, 1, entry(loss)) for trial, loss in enumerate(losses)]
    assert again == decided
    assert halving.rungs == before


def test_a_stopped_trial_that_is_restored_from_before_trains_to_where_it_was_stopped() -> None:
    halving = SuccessiveHalving(max_epochs=12, grace_period=4, reduction_factor=2)
    assert halving.goes_on(0, 4, entry(0.0))
    assert not halving.goes_on(1, 4, entry(1.0))
    assert halving.goes_on(1, 2, entry(5.0))
    assert halving.goes_on(1, 3, entry(5.0))
    assert not halving.goes_on(1, 4, entry(1.0))


def test_a_report_after_a_rung_counts_for_it_once() -> None:
    """Reports miss rungs with training.report_every: 2."""
    halving = SuccessiveHalving(max_epochs=20, grace_period=3, reduction_factor=2)
    assert halving.goes_on(0, 2, entry(0.0))
    assert halving.rungs[3] == {}
    assert halving.goes_on(0, 4, entry(0.0))
    assert not halving.goes_on(1, 4, entry(1.0))
    assert set(halving.rungs[3]) == {0, 1}
    # Trial 0, on its way to rung 6, is not compared again.
    assert halving.goes_on(0, 5, entry(9.0))


def test_brackets_skip_rungs() -> None:
    halving = SuccessiveHalving(max_epochs=20, grace_period=1, reduction_factor=3, brackets=3)
    for trial in range(6):
        halving.goes_on(trial, 1, entry(float(trial)))
        halving.goes_on(trial, 3, entry(float(trial)))
        halving.goes_on(trial, 9, entry(float(trial)))
    reached = {rung: set(entries) for rung, entries in halving.rungs.items()}
    assert reached == {1: {0, 3}, 3: {0, 1, 3, 4}, 9: {0, 1, 2, 3, 4, 5}}
