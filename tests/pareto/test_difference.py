import math
from statistics import NormalDist

import numpy as np
import pytest
from scipy.stats import ttest_ind

from study.pareto.difference import (
    OnImages,
    Trainings,
    difference,
    has_spread,
    interval_by_images,
    interval_by_seeds,
)
from study.pareto.dominance import hypervolume


def one_network(right: np.ndarray) -> OnImages:
    return OnImages(np.array([[-right.mean()]]), {0: right[None].astype(float)})


def once(losses: list[float]) -> list[Trainings]:
    """A sample with a network and one loss, trained as often."""
    return [Trainings(np.array(losses).reshape(-1, 1, 1), np.array([1.0]))]


def test_the_difference_is_that_of_the_volumes() -> None:
    first, second = np.array([[1.0, 2.0], [2.0, 1.0]]), np.array([[2.0, 2.0]])
    assert difference(first, second, [3.0, 3.0]) == pytest.approx(3 - 1)
    assert difference(np.empty((0, 2)), second, [3.0, 3.0]) == -1
    accuracies = np.array([[-0.5], [-0.75]])  # the best of one loss
    assert difference(accuracies, np.array([[-0.25]]), [0.0]) == 0.5


@pytest.mark.parametrize(("only_first", "only_second"), [(30, 12), (20, 20), (60, 3)])
def test_two_networks_have_the_interval_of_paired_proportions(
    only_first: int, only_second: int
) -> None:
    """With many images the draws are normal, with a known variance."""
    n, variances = 1000, 1.5
    pairs = [(1, 0)] * only_first + [(0, 1)] * only_second
    pairs += [(1, 1)] * 900 + [(0, 0)] * (n - 900 - len(pairs))
    first, second = np.array(pairs).T
    value = first.mean() - second.mean()
    low, high = interval_by_images(one_network(first), one_network(second), [0.0], n_draws=20_000)
    # With an image more that only the first has right, and one that only the second has.
    apart = (only_first - only_second) / (n + 2)
    deviation = math.sqrt(
        variances * ((only_first + only_second + 2) / (n + 2) - apart**2) / (n + 2)
    )
    reach = NormalDist().inv_cdf(0.975) * deviation
    assert high - low == pytest.approx(2 * reach, rel=0.1)
    # The middle of draws that are mirrored at the value.
    assert (low + high) / 2 == pytest.approx(2 * value - apart, abs=0.2 * reach)
    assert low < value < high


def test_two_that_agree_on_the_images_are_not_sure_to_agree_on_others() -> None:
    right = np.array([True] * 280 + [False] * 8)
    low, high = interval_by_images(one_network(right), one_network(right), [0.0])
    assert low < -1 / 288 < 1 / 288 < high
    # By the rule of three, of what was seen on none of the images.
    assert high - low < 2 * 2 * 3 / 288


def test_the_images_are_the_same_for_both() -> None:
    """Two studies of one network differ by nothing but the two images more."""
    right = np.random.default_rng(0).random(2000) < 0.9
    same = interval_by_images(one_network(right), one_network(right), [0.0])
    other = np.random.default_rng(1).random(2000) < 0.9
    apart = interval_by_images(one_network(right), one_network(other), [0.0])
    assert same[1] - same[0] < 0.15 * (apart[1] - apart[0])


def test_other_losses_and_what_another_network_dominates_count_as_in_the_volume() -> None:
    rng = np.random.default_rng(2)
    right = (rng.random((3, 400)) < [[0.9], [0.8], [0.5]]).astype(float)
    losses = np.column_stack([-right.mean(axis=1), [0.5, 0.1, 0.9]])
    one = OnImages(losses, {0: right})
    front = OnImages(losses[:2], {0: right[:2]})  # the third is dominated, in every draw too
    second = OnImages(losses[1:2], {0: right[1:2]})
    found = [interval_by_images(of, second, [0.0, 1.0], n_draws=5000) for of in (one, front)]
    # Images on which they answer alike have other draws where there is one more answer.
    assert found[0] == pytest.approx(found[1], abs=0.003)
    again = interval_by_images(one, second, [0.0, 1.0], n_draws=5000)
    assert again == found[0]


def test_fractions_of_the_same_images_are_drawn_together() -> None:
    """A second loss that is counted on the same images as the first has the same value in each
    draw, so the volume is that of one accuracy, squared."""
    rng = np.random.default_rng(3)
    first, second = (rng.random((2, 1, 300)) < [[[0.9]], [[0.6]]]).astype(float)

    def twice(right: np.ndarray) -> OnImages:
        return OnImages(np.full((1, 2), -right.mean()), {0: right, 1: right})

    low, high = interval_by_images(twice(first), twice(second), [0.0, 0.0], n_draws=4000)
    # The quantiles of p^2 - q^2 by another bootstrap: with replacement, its deviations widened.
    drawn = rng.multinomial(302, np.full(302, 1 / 302), 4000) / 302
    p, q = (np.append(of[0], more) for of, more in ((first, [1, 0]), (second, [0, 1])))
    volumes = (drawn @ p) ** 2 - (drawn @ q) ** 2
    value = first.mean() ** 2 - second.mean() ** 2
    reach = NormalDist().inv_cdf(0.975) * math.sqrt(1.5) * volumes.std()
    assert (high - low) / 2 == pytest.approx(reach, rel=0.1)
    assert low < value < high


def test_of_one_network_each_it_is_welchs_interval() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(-0.9, 0.01, 5), rng.normal(-0.8, 0.03, 3)
    low, high = interval_by_seeds(once(first.tolist()), once(second.tolist()), [0.0])
    expected = ttest_ind(-first, -second, equal_var=False).confidence_interval(0.95)
    assert (low, high) == pytest.approx((expected.low, expected.high), rel=1e-4)


def test_networks_of_one_training_vary_together() -> None:
    """The slopes of a volume by hand: two networks on a front, whose noise is the same."""
    noise = np.array([-0.01, 0.0, 0.01])
    means = np.array([[0.2, 0.6], [0.5, 0.3]])
    losses = means + noise[:, None, None] * [[[1.0, 0.0]]]  # of the first loss, in both networks
    together = [Trainings(losses, np.array([1.0, 0.5]))]
    constant = [Trainings(np.full((2, 1, 2), 2.0), np.array([1.0]))]  # outside the volume
    low, high = interval_by_seeds(together, constant, [1.0, 1.0])
    assert (low + high) / 2 == pytest.approx(hypervolume(means, [1.0, 1.0]))
    # Each step of the first losses moves the whole left side of the staircase, 0.7 high.
    error = 0.7 * 0.01 / math.sqrt(3)
    assert high - low == pytest.approx(2 * 4.302653 * error, rel=1e-3)  # t with 2 degrees


def test_the_spread_is_pooled_over_the_samples_of_a_study() -> None:
    """The best sample was trained once, and is drawn with the spread of the others."""
    best = Trainings(np.array([[[-0.9]]]), np.array([1.0]))
    others = [Trainings(np.array([[[-0.5]], [[-0.5 + d]]]), np.array([1.0])) for d in (0.02, 0.04)]
    pooled = math.sqrt((2 * 0.01**2 + 2 * 0.02**2) / 2)
    other = once([-0.1, -0.1])
    low, high = interval_by_seeds([best, *others], other, [0.0])
    assert (low + high) / 2 == pytest.approx(0.8)
    assert high - low == pytest.approx(2 * 4.302653 * pooled, rel=1e-3)


def test_a_network_that_a_training_has_not_left_is_not_missed() -> None:
    losses = np.array([[[-0.9], [-0.8]], [[-0.92], [np.nan]], [[-0.91], [-0.84]]])
    sample = Trainings(losses, np.array([1.0, 0.5]))
    assert sample.means == pytest.approx(np.array([[-0.91], [-0.82]]))
    low, high = interval_by_seeds([sample], once([-0.5, -0.5]), [0.0])
    assert (low + high) / 2 == pytest.approx(0.41)
    assert high - low == pytest.approx(2 * 4.302653 * 0.01 / math.sqrt(3), rel=1e-3)


def test_without_a_sample_that_was_trained_twice_there_is_no_spread() -> None:
    assert not has_spread(once([0.5]))
    assert not has_spread([])
    assert has_spread([*once([0.5]), *once([0.5, 0.6])])


def test_where_nothing_varies_the_interval_is_the_difference() -> None:
    assert interval_by_seeds(once([-0.5, -0.5]), once([-0.25, -0.25]), [0.0]) == (0.25, 0.25)
