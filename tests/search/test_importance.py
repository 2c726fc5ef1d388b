import random

import pytest

from study.config.space import CategoricalParameter, FloatParameter, IntParameter, Parameter, Value
from study.search.importance import FEWEST_TRIALS, importance

SPACE: list[tuple[str, Parameter]] = [
    ("coeff", FloatParameter("float", 0.3, 0.9)),
    ("n_power_iterations", IntParameter("int", 1, 20, log=True)),
    ("blocks", CategoricalParameter("categorical", ([1, 1], [2, 2]))),
]


def samples(n: int) -> list[dict[str, Value]]:
    generator = random.Random(0)
    return [
        {
            "coeff": generator.uniform(0.3, 0.9),
            "n_power_iterations": generator.randint(1, 20),
            "blocks": generator.choice([[1, 1], [2, 2]]),
        }
        for _ in range(n)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("key", ["coeff", "blocks"])
def test_what_alone_decides_has_nearly_all_of_it(key: str) -> None:
    drawn = samples(60)
    values = [float(str(s["coeff"])) if key == "coeff" else float(s[key] == [1, 1]) for s in drawn]
    found = importance(SPACE, drawn, values)
    assert found is not None
    assert sum(share.value for share in found.values()) == pytest.approx(1)
    assert next(iter(found)) == key
    assert found[key].value > 0.9
    assert all(0 <= s.low <= s.value <= s.high <= 1 + 1e-9 for s in found.values())
    assert found[key].low > 0.8
    assert importance(SPACE, drawn, values) == found  # seeded


def test_too_few_trials_and_a_constant_say_nothing() -> None:
    drawn = samples(FEWEST_TRIALS)
    assert importance(SPACE, drawn[:-1], [float(n) for n in range(FEWEST_TRIALS - 1)]) is None
    assert importance(SPACE, drawn, [1.0] * FEWEST_TRIALS) is None


def test_trials_that_differ_by_their_seeds_alone_say_nothing_of_hyperparameters() -> None:
    n = FEWEST_TRIALS
    values = [float(n) for n in range(n)]
    assert importance(SPACE, [samples(1)[0]] * n, values) is None
    # A parameter that never varied is not among those that matter.
    fixed = [{**s, "blocks": [1, 1]} for s in samples(n)]
    found = importance(SPACE, fixed, values)
    assert found is not None
    assert set(found) == {"coeff", "n_power_iterations"}


def test_values_that_differ_by_little_are_told_apart() -> None:
    drawn = samples(FEWEST_TRIALS)
    shares = importance(SPACE, drawn, [1e-7 + 1e-10 * float(str(s["coeff"])) for s in drawn])
    assert shares is not None
    assert shares["coeff"].value > 0.8
