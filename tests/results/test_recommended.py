import math
from dataclasses import replace

import numpy as np
import pytest

from study.results.recommended import is_within_noise
from study.results.report import Report, collect
from tests.support.records import STUDY, measured, sought, study_of, trial


def results_of(*samples: tuple[float, float, float]) -> Report:
    """The report of trials with such accuracies, bounds and steps."""
    return collect(STUDY, [measured(k, *sample) for k, sample in enumerate(samples)])


def test_the_ends_of_the_front_and_its_knee_are_recommended() -> None:
    infeasible = (1.0, 1.5, 1.0)
    results = results_of(
        (0.99, 0.9, 6.0), (0.95, 0.2, 3.0), (0.5, 0.1, 2.0), (0.4, 0.1, 1.5), infeasible
    )
    assert results.handles == {
        "most-accurate": "tiny/0000", "knee": "tiny/0001", "most-invertible": "tiny/0003",
    }  # fmt: skip
    assert collect(STUDY, []).recommended == []


def test_with_certified_accuracy_among_the_objectives_its_end_is_recommended_too() -> None:
    """And the end of the inverse is that of the inverse's bound."""
    goals = sought(val_accuracy=0.1, certified_accuracy=0.0, inverse_lipschitz_upper_bound=100.0)
    figures = [
        (0.99, 0.2, 15.0, 0.1),
        (0.99, 0.3, 20.0, 0.2),
        (0.95, 0.6, 30.0, 0.3),
        (0.9, 0.5, 2.0, 0.4),
    ]
    records = [
        trial(
            number,
            val_accuracy=accuracy,
            certified_accuracy=certified,
            inverse_lipschitz_upper_bound=inverse,
            block_lipschitz_upper_bound=bound,
        )
        for number, (accuracy, certified, inverse, bound) in enumerate(figures)
    ]
    handles = collect(study_of(goals), records).handles
    # Of two that are as accurate, the more certified one.
    assert handles["most-accurate"] == "tiny/0001"
    assert handles["most-certified"] == "tiny/0002"
    assert handles["most-invertible"] == "tiny/0003"


def test_equal_ends_fall_to_the_better_in_what_is_left() -> None:
    results = results_of((0.9, 0.5, 3.0), (0.9, 0.4, 4.0), (0.8, 0.4, 3.5))
    assert results.handles["most-accurate"] == "tiny/0001"
    assert results.handles["most-invertible"] == "tiny/0002"


def test_a_step_hardly_less_is_not_worth_any_accuracy() -> None:
    samples = [(0.99, 0.5, 3.5), (0.98, 0.0101, 2.76), (0.97, 0.01, 2.67), (0.96, 0.01, 2.6)]
    # 0001 has 6 % more steps than the fewest.
    assert results_of(*samples).handles["most-invertible"] == "tiny/0002"
    assert results_of(*samples[:3]).handles["most-invertible"] == "tiny/0001"


def test_a_hundredth_of_a_step_is_no_bargain() -> None:
    """With an accuracy whose noise is larger than the difference, and a smaller bound or none."""
    pair = [(1.0, 0.5, 2.01), (0.995, 0.5, 2.0)]
    right = {f"{k:04d}": np.arange(200) >= k for k in range(3)}
    (one,) = with_right(results_of(*pair), right).recommended
    assert (one.point.label, len(one.aliases)) == ("0000", 3)
    more = results_of(*pair, (0.99, 0.49, 1.99), (0.9, 0.1, 1.9), (0.5, 0.0101, 2.0))
    found = with_right(more, right).recommended
    assert [one.point.label for one in found] == ["0000", "0003", "0004"]
    assert [one.sentence for one in found[1:]] == [
        "10.0 percentage points less accurate than the best, for a proven bound 5.0 times smaller "
        "and 0.11 inverse steps fewer.",
        "50.0 percentage points less accurate than the best, for a proven bound 50 times smaller.",
    ]


def test_a_dense_front_has_a_knee_where_a_sparse_one_has_it() -> None:
    """No network of it differs from the next by more than what is none."""
    bounds = np.geomspace(0.9, 0.1, 200)
    corner = np.abs(np.log(bounds / 0.3)).argmin()
    accuracies = 0.99 - 0.001 * np.arange(200) / 200 - 0.5 * (bounds < 0.3) * (0.3 - bounds)
    dense = results_of(*zip(accuracies.tolist(), bounds.tolist(), [3.0] * 200, strict=True))
    (knee,) = (r.point for r in dense.recommended if "knee" in r.aliases)
    assert abs(int(knee.first.trial_id) - corner) <= 5  # 5 %


def test_the_knee_sees_decades_of_the_inverse() -> None:
    """From 1,000 to 2 is most of the way to 1 for little accuracy. By differences it is next to
    nothing beside 1e6, and the second network would be the knee."""
    goals = sought(val_accuracy=0.1, inverse_lipschitz_upper_bound=1e7)
    figures = [(0.99, 1e6), (0.9, 1e3), (0.892, 2.0), (0.7, 1.0)]
    trials = [
        trial(k, val_accuracy=accuracy, inverse_lipschitz_upper_bound=inverse)
        for k, (accuracy, inverse) in enumerate(figures)
    ]
    report = collect(study_of(goals, constraints=()), trials)
    assert report.handles["knee"] == "tiny/0002"
    two = math.log10(2)
    by_hand = 0.89 * 1 + 0.8 * 3 + 0.792 * (3 - two) + 0.6 * two
    assert report.hypervolume == pytest.approx(by_hand)


def test_the_only_network_is_all_three() -> None:
    (one,) = results_of((0.9, 0.5, 3.0)).recommended
    assert one.aliases == ("most-accurate", "knee", "most-invertible")
    assert one.sentence == (
        "Validation accuracy 0.9000, the only network on the front: no other that it admits "
        "is better in any objective."
    )


def with_right(results: Report, right: dict[str, np.ndarray]) -> Report:
    n_images = len(next(iter(right.values())))
    counted = {label: {"val_accuracy": of} for label, of in right.items()}
    points = (
        replace(p, counted=counted.get(p.label, {}), n_val_images=n_images) for p in results.points
    )
    return replace(results, points=tuple(points))


@pytest.mark.parametrize(
    ("n_lost", "n_won", "within"), [(4, 3, True), (9, 3, True), (12, 0, False), (40, 3, False)]
)
def test_a_sentence_says_what_a_network_costs_and_whether_that_is_noise(
    n_lost: int, n_won: int, within: bool
) -> None:
    n = 1000
    best = np.arange(n) >= 50
    other = best.copy()
    other[50 : 50 + n_lost], other[:n_won] = False, True
    results = results_of((best.mean(), 0.55, 4.5), (other.mean(), 0.1, 3.5))
    first, second = with_right(results, {"0000": best, "0001": other}).recommended
    assert first.sentence.startswith("Validation accuracy 0.9500 (0.935 to 0.962 with 95 %")
    amount = f"{(n_lost - n_won) / 10:.1f} percentage points less accurate than the best"
    assert second.sentence == (
        f"{amount}{', which is within the noise' if within else ''}, for a proven bound 5.5 times "
        "smaller and 1 inverse step fewer."
    )


def test_without_its_answers_nothing_is_said_of_noise() -> None:
    results = results_of((0.95, 0.5, 4.0), (0.94, 0.1, 4.0))
    best, other = results.front
    assert is_within_noise(other, best) is None
    assert "noise" not in results.recommended[1].sentence


def test_of_repeats_the_standard_errors_decide() -> None:
    # The standard error of each mean is 0.001, that of a difference 0.0014.
    for lower, within in ((0.948, True), (0.946, False)):
        samples = ((0.949, 0.5), (0.951, 0.5), (lower - 0.001, 0.1), (lower + 0.001, 0.1))
        records = [
            replace(measured(k, *sample), repeat_of=f"{k // 2:04d}")
            for k, sample in enumerate(samples)
        ]
        best, other = collect(STUDY, records).front
        assert is_within_noise(other, best) is within


def test_what_gets_worse_is_no_gain() -> None:
    results = results_of((0.95, 0.1, 6.0), (0.94, 0.2, 3.0), (0.1, 0.01, 5.0))
    sentences = {one.point.label: one.sentence for one in results.recommended}
    assert sentences["0001"] == (
        "1.0 percentage points less accurate than the best, for 3 inverse steps fewer, with a "
        "proven bound 2.0 times larger."
    )


def test_repeats_without_accuracy_among_the_objectives_say_nothing_of_noise() -> None:
    goals = sought(val_loss=1.0, block_lipschitz_upper_bound=1.0)
    records = [
        replace(
            trial(n, val_loss=loss, val_accuracy=accuracy, block_lipschitz_upper_bound=bound),
            repeat_of=f"{n // 2:04d}",
        )
        for n, (loss, accuracy, bound) in enumerate(
            [(0.3, 0.95, 0.5), (0.31, 0.95, 0.5), (0.5, 0.9, 0.1), (0.52, 0.9, 0.1)]
        )
    ]
    first, second = collect(STUDY, records, goals).recommended
    assert first.point.standard_error is not None
    assert second.sentence.startswith("5.0 percentage points less accurate than the best, for ")


def test_a_network_that_lacks_a_metric_is_not_recommended() -> None:
    study = study_of(sought(val_accuracy=0.0), constraints=())
    foreign = replace(trial(0), metrics={"val_accuracy": 0.99})
    assert collect(study, [foreign]).recommended == []
    (one,) = collect(study, [trial(1, val_accuracy=0.99)]).recommended
    assert one.point.label == "0001"
