from dataclasses import replace

import numpy as np
import pytest

from study.metrics.definitions import Direction
from study.metrics.goals import Objective
from study.results.recommended import is_within_noise
from study.results.report import Report, collect
from study.tracking.records import TrialRecord
from tests.support.records import STUDY, projection, trial


def point(number: int, accuracy: float, bound: float, steps: float) -> TrialRecord:
    return trial(number, val_accuracy=accuracy, lipschitz_upper_bound=bound, inverse_steps=steps)


def test_the_ends_of_the_front_and_its_knee_are_recommended() -> None:
    results = collect(
        STUDY,
        [
            point(0, 0.99, 0.9, 6.0),
            point(1, 0.95, 0.2, 3.0),
            point(2, 0.50, 0.1, 2.0),
            point(3, 0.40, 0.1, 1.5),
            point(4, 1.00, 1.5, 1.0),  # infeasible
        ],
    )
    assert results.handles == {
        "most-accurate": "tiny/0000", "knee": "tiny/0001", "most-invertible": "tiny/0003",
    }  # fmt: skip
    assert collect(STUDY, []).recommended == []


def test_equal_ends_fall_to_the_better_in_what_is_left() -> None:
    results = collect(
        STUDY, [point(0, 0.9, 0.5, 3.0), point(1, 0.9, 0.4, 4.0), point(2, 0.8, 0.4, 3.5)]
    )
    assert results.handles["most-accurate"] == "tiny/0001"
    assert results.handles["most-invertible"] == "tiny/0002"


def test_a_step_hardly_less_is_not_worth_any_accuracy() -> None:
    results = collect(
        STUDY,
        [point(0, 0.99, 0.5, 3.5), point(1, 0.98, 0.0101, 2.76), point(2, 0.97, 0.01, 2.67),
         point(3, 0.96, 0.01, 2.6)],
    )  # fmt: skip
    assert (
        results.handles["most-invertible"] == "tiny/0002"
    )  # 0001 has 6 % more steps than the fewest
    nearer = collect(STUDY, [one.first for one in results.points if one.label != "0003"])
    assert nearer.handles["most-invertible"] == "tiny/0001"


def test_a_hundredth_of_a_step_is_no_bargain() -> None:
    """With an accuracy whose noise is larger than the difference, and a smaller bound or none."""
    pair = [point(0, 1.0, 0.5, 2.01), point(1, 0.995, 0.5, 2.0)]
    right = {f"{k:04d}": np.arange(200) >= k for k in range(3)}
    (one,) = with_right(collect(STUDY, pair), right).recommended
    assert (one.point.label, len(one.aliases)) == ("0000", 3)
    more = [*pair, point(2, 0.99, 0.49, 1.99), point(3, 0.9, 0.1, 1.9), point(4, 0.5, 0.0101, 2.0)]
    found = with_right(collect(STUDY, more), right).recommended
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
    pairs = zip(accuracies.tolist(), bounds.tolist(), strict=True)
    dense = [point(k, accuracy, bound, 3.0) for k, (accuracy, bound) in enumerate(pairs)]
    (knee,) = (r.point for r in collect(STUDY, dense).recommended if "knee" in r.aliases)
    assert abs(int(knee.first.trial_id) - corner) <= 5  # 5 %


def test_the_only_network_is_all_three() -> None:
    (one,) = collect(STUDY, [point(0, 0.9, 0.5, 3.0)]).recommended
    assert one.aliases == ("most-accurate", "knee", "most-invertible")
    assert one.sentence == (
        "Validation accuracy 0.9000, the only network on the front: none is better in any "
        "objective."
    )


def with_right(results: Report, right: dict[str, np.ndarray]) -> Report:
    n_images = len(next(iter(right.values())))
    points = (replace(p, right=right.get(p.label), n_val_images=n_images) for p in results.points)
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
    results = with_right(
        collect(
            STUDY,
            [point(0, best.mean(), 0.55, 4.5), projection(0, 0.5, val_accuracy=other.mean(),
             lipschitz_upper_bound=0.1, inverse_steps=3.5)],
        ),
        {"0000": best, "0000@0.5": other},
    )  # fmt: skip
    first, second = results.recommended
    assert first.sentence.startswith("Validation accuracy 0.9500 (0.935 to 0.962 with 95 %")
    amount = f"{(n_lost - n_won) / 10:.1f} percentage points less accurate than the best"
    assert second.sentence == (
        f"{amount}{', which is within the noise' if within else ''}, for a proven bound 5.5 times "
        "smaller and 1 inverse step fewer."
    )


def test_without_its_answers_nothing_is_said_of_noise() -> None:
    results = collect(STUDY, [point(0, 0.95, 0.5, 4.0), point(1, 0.94, 0.1, 4.0)])
    best, other = results.front
    assert is_within_noise(other, best) is None
    assert "noise" not in results.recommended[1].sentence


def test_of_repeats_the_standard_errors_decide() -> None:
    def repeated(number: int, of: int, accuracy: float, bound: float) -> TrialRecord:
        return replace(point(number, accuracy, bound, 4.0), repeat_of=f"{of:04d}")

    def results(lower: float) -> Report:
        return collect(
            STUDY,
            [
                repeated(0, 0, 0.949, 0.5),
                repeated(1, 0, 0.951, 0.5),
                repeated(2, 2, lower - 0.001, 0.1),
                repeated(3, 2, lower + 0.001, 0.1),
            ],
        )

    # The standard error of each mean is 0.001, that of a difference 0.0014.
    for lower, within in ((0.948, True), (0.946, False)):
        best, other = results(lower).front
        assert is_within_noise(other, best) is within


def test_what_gets_worse_is_no_gain() -> None:
    results = collect(
        STUDY, [point(0, 0.95, 0.1, 6.0), point(1, 0.94, 0.2, 3.0), point(2, 0.1, 0.01, 5.0)]
    )
    sentences = {one.point.label: one.sentence for one in results.recommended}
    assert sentences["0001"] == (
        "1.0 percentage points less accurate than the best, for 3 inverse steps fewer, with a "
        "proven bound 2.0 times larger."
    )


def test_repeats_without_accuracy_among_the_objectives_say_nothing_of_noise() -> None:
    goals = tuple(
        Objective(name, Direction.MINIMIZE, 1.0) for name in ("val_loss", "lipschitz_upper_bound")
    )
    records = [
        replace(
            trial(n, val_loss=loss, val_accuracy=accuracy, lipschitz_upper_bound=bound),
            repeat_of=of,
        )
        for n, of, loss, accuracy, bound in (
            (0, "0000", 0.3, 0.95, 0.5), (1, "0000", 0.31, 0.95, 0.5),
            (2, "0002", 0.5, 0.90, 0.1), (3, "0002", 0.52, 0.90, 0.1),
        )
    ]  # fmt: skip
    first, second = collect(STUDY, records, goals).recommended
    assert first.point.standard_error is not None
    assert second.sentence.startswith("5.0 percentage points less accurate than the best, for ")


def test_a_network_that_lacks_a_metric_is_not_recommended() -> None:
    goals = (Objective("val_accuracy", Direction.MAXIMIZE, 0.0),)
    foreign = replace(trial(0), metrics={"val_accuracy": 0.99})
    config = replace(STUDY.config, constraints=())
    study = replace(STUDY, config=config)
    assert collect(study, [foreign], goals).recommended == []
    (one,) = collect(study, [trial(1, val_accuracy=0.99)], goals).recommended
    assert one.point.label == "0001"
