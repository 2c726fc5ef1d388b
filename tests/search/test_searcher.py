import pickle
import random
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from ray.tune.search import Searcher

from study.config import parser
from study.config.study import StudyConfig
from study.errors import ConfigError
from study.search.searcher import OptunaSearcher
from tests.support.searches import observed, proposed
from tests.support.studies import (
    RAW,
    completed,
    failed,
    running,
    tiny,
)

SAMPLERS = ["tpe", "nsga2", "gp", "sobol", "random"]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samples_are_inside_the_space_and_as_many_as_asked(sampler: str) -> None:
    searcher = OptunaSearcher(tiny(search={"sampler": sampler, "n_trials": 14}))
    for number in range(14):
        suggestion = proposed(searcher, f"id{number}")
        assert suggestion["number"] == number
        sample = suggestion["sample"]
        assert 0.3 <= sample["coeff"] <= 0.99
        assert 1 <= sample["n_power_iterations"] <= 20
        assert isinstance(sample["n_power_iterations"], int)
        assert 0.0 <= sample["dropout"] <= 0.5
        searcher.on_trial_complete(f"id{number}", completed(val_accuracy=sample["coeff"]))
    assert searcher.suggest("one more") == Searcher.FINISHED


GRID: dict[str, Any] = {
    "coeff": {"type": "float", "low": 0.3, "high": 0.9, "step": 0.3},
    "n_power_iterations": {"type": "int", "low": 1, "high": 2},
    "dropout": {"type": "categorical", "choices": [0.0, 0.5]},
}


FIRST = [
    {"dropout": 0.5, "coeff": 0.9, "n_power_iterations": 1},
    {"dropout": 0.0, "coeff": 0.3, "n_power_iterations": 2},
]


@pytest.mark.parametrize("first", [[], FIRST])
def test_a_grid_is_every_combination_once_the_first_samples_first(
    first: list[dict[str, Any]],
) -> None:
    search = {"sampler": "grid", "n_trials": None, "first": first}
    searcher = OptunaSearcher(tiny(space=GRID, search=search))
    samples = [proposed(searcher, f"id{number}")["sample"] for number in range(12)]
    assert samples[: len(first)] == first
    expected = {(c, n, d) for c in (0.3, 0.6, 0.9) for n in (1, 2) for d in (0.0, 0.5)}
    assert {tuple(sample[key] for key in GRID) for sample in samples} == expected
    assert searcher.suggest("x") == Searcher.FINISHED


@pytest.mark.parametrize("first", [[], FIRST])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_first_samples_come_before_the_samplers_and_count(
    sampler: str, first: list[dict[str, Any]]
) -> None:
    """A sampler that learns starts with those of Sobol, but not with more than there are trials."""
    samples = samples_of(sampler, 9, n_trials=8, n_startup_trials=4, first=first)
    n = len(first)
    assert len(samples) == 8
    assert samples[:n] == first
    if sampler in ("tpe", "gp", "sobol"):
        assert samples[n:4] == samples_of("sobol", 4 - n)
        assert samples_of(sampler, 9, n_trials=3, first=first) == samples[:3]
    assert samples_of(sampler, 9, n_trials=1, first=FIRST) == FIRST[:1]


def grid_of(space: dict[str, Any], **search: Any) -> list[dict[str, Any]]:
    """The grid of a study that varies nothing else."""
    raw = {**RAW, "space": space, "search": {"sampler": "grid", **search}}
    return parser.parse(raw, "x").grid()


def test_a_grid_knows_a_first_sample_by_its_value() -> None:
    """Whatever the file's spelling: 0 is 0.0, and rounding is none."""
    space: dict[str, Any] = {
        "coeff": {"type": "float", "low": 0.3, "high": 0.9, "step": 0.3},
        "dropout": {"type": "float", "low": 0.0, "high": 0.5, "step": 0.25},
    }
    first = [{"coeff": 0.3 + 0.3 + 0.3, "dropout": 0}]
    grid = grid_of(space, first=first)
    assert grid[0] == {"coeff": 0.9, "dropout": 0.0}
    assert len(grid) == 9


def test_a_grid_has_no_two_samples_of_one_network_without_spectral_norm() -> None:
    space: dict[str, Any] = {
        "norm": {"type": "categorical", "choices": ["none", "spectral"]},
        "budget": {"type": "categorical", "choices": ["even", "last"]},
    }
    grid = grid_of(space)
    assert [tuple(sample.values()) for sample in grid] == [
        ("none", "even"), ("spectral", "even"), ("spectral", "last"),
    ]  # fmt: skip


def samples_of(sampler: str, n: int, **search: Any) -> list[dict[str, Any]]:
    """The first n, none of which has ended."""
    searcher = OptunaSearcher(tiny(search={"sampler": sampler, "n_trials": 64, **search}))
    suggestions = [searcher.suggest(f"id{number}") for number in range(n)]
    return [suggestion["sample"] for suggestion in suggestions if isinstance(suggestion, dict)]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_sobol_samples_have_as_many_in_each_part_of_the_space(seed: int) -> None:
    """A net in base 2: of 2^m points, each of 2^m equal parts of an axis has one."""
    for n in (2, 8, 64):
        samples = samples_of("sobol", n, seed=seed)
        for key, low, high in (("coeff", 0.3, 0.99), ("dropout", 0.0, 0.5)):
            parts = [int(n * (s[key] - low) / (high - low)) for s in samples]
            assert sorted(parts) == list(range(n))
    assert samples_of("sobol", 8, seed=seed) != samples_of("sobol", 8, seed=seed + 1)


def test_sobol_samples_are_inside_the_space_to_the_last_bit() -> None:
    """exp(log(x)) is not x."""
    space = {
        "other_lr": {"type": "float", "low": 1e-3, "high": 1e-3, "log": True},
        "coeff": {"type": "float", "low": 0.7, "high": 0.7000000000000001, "log": True},
    }
    study = parser.parse(
        {**RAW, "space": space, "search": {"sampler": "sobol", "n_trials": 8}}, "x"
    )
    searcher = OptunaSearcher(study)
    for number in range(8):
        sample = proposed(searcher, f"{number}")["sample"]
        assert sample["other_lr"] == 1e-3
        assert 0.7 <= sample["coeff"] <= 0.7000000000000001


def test_choices_may_be_lists() -> None:
    raw = {
        **RAW,
        "model": {"channel_multiplier": 4},
        "space": {"blocks": {"type": "categorical", "choices": [[1], [1, 1]]}},
    }
    sample = proposed(OptunaSearcher(parser.parse(raw, "x")), "a")["sample"]
    assert sample["blocks"] in ([1], [1, 1])


@pytest.mark.slow
@pytest.mark.parametrize("ladder", [[], [0.4]])
def test_gp_proposes_no_failed_sample_again(ladder: list[float]) -> None:
    """The more coeff the better, but above 0.9 trials fail."""
    search = {"sampler": "gp", "n_trials": 24, "n_startup_trials": 6, "ladder": ladder}
    searcher = OptunaSearcher(tiny(search=search))
    proposals, n_failed = [], 0
    for number in range(12):
        sample = proposed(searcher, f"{number}")["sample"]
        proposals.append(tuple(sample.values()))
        fails = sample["coeff"] > 0.9
        n_failed += fails
        metrics = {"val_accuracy": sample["coeff"], "block_lipschitz_upper_bound": 0.5}
        last = failed("diverged") if fails else completed(**metrics)
        searcher.on_trial_complete(f"{number}", last)
    assert n_failed >= 2
    assert len(set(proposals)) == len(proposals)


def test_telling_twice_changes_nothing() -> None:
    searcher = observed(tiny(), completed(val_accuracy=0.9))
    searcher.on_trial_complete("0", running())
    searcher.on_trial_complete("never seen", completed())
    assert [t.state for t in searcher._study.trials] == [TrialState.COMPLETE]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sampler", "n_begun", "first"),
    [*((sampler, 3, FIRST) for sampler in SAMPLERS), ("tpe", 6, []), ("sobol", 3, [])],
)
def test_a_search_that_is_extended_is_the_one_that_was_longer_from_the_start(
    sampler: str, n_begun: int, first: list[dict[str, Any]], tmp_path: Path
) -> None:
    """Each part goes on from what the one before it saved."""
    settings = {"sampler": sampler, "n_startup_trials": 5, "first": first}

    def run(searcher: OptunaSearcher, start: int) -> list[Any]:
        suggestions = []
        while isinstance(suggestion := searcher.suggest(f"{start + len(suggestions)}"), dict):
            coeff = suggestion["sample"]["coeff"]
            result = completed(val_accuracy=coeff, block_lipschitz_upper_bound=coeff**3)
            searcher.on_trial_complete(f"{start + len(suggestions)}", result)
            suggestions.append(suggestion)
        return suggestions

    def of(n_trials: int) -> StudyConfig:
        return tiny(search={**settings, "n_trials": n_trials})

    suggestions = run(OptunaSearcher(of(8)), 0)
    extended, n_before = list[Any](), 0
    for n_searches, n_trials in enumerate((n_begun, 7, 8)):
        searcher = OptunaSearcher(of(n_trials), n_searches=n_searches)
        if n_before:
            searcher.restore(str(tmp_path / "state.pkl"))
        extended += run(searcher, n_before)
        searcher.save(str(tmp_path / "state.pkl"))
        n_before = n_trials
    assert extended == suggestions
    assert [s["is_given"] for s in extended] == [n < len(first) for n in range(8)]


def test_an_end_that_the_search_had_come_to_holds_no_longer_once_more_is_asked_for(
    tmp_path: Path,
) -> None:
    stop = {"hypervolume_gain": 0.5, "over_trials": 2}
    study = tiny(search={"n_trials": 20, "stop": stop})

    def run(searcher: OptunaSearcher) -> int:
        """How many trials it proposes until it ends."""
        n = 0
        while isinstance(searcher.suggest(f"{n}"), dict):
            searcher.on_trial_complete(f"{n}", completed())
            n += 1
        searcher.save(str(tmp_path / "state.pkl"))
        return n

    def restored(n_searches: int) -> OptunaSearcher:
        searcher = OptunaSearcher(study, n_searches=n_searches)
        searcher.restore(str(tmp_path / "state.pkl"))
        return searcher

    assert run(OptunaSearcher(study)) == 3
    assert run(restored(0)) == 0
    # A driver that dies before the next snapshot goes on from the one before.
    for _ in range(2):
        extended = restored(1)
        assert extended._stopping.end_of_search is None
    assert run(extended) == 2  # as many as the criterion looks at
    assert "less than 50.00%" in (extended._stopping.end_of_search or "")
    assert run(restored(1)) == 0
    assert run(restored(2)) == 2


def test_a_search_of_another_version_is_refused_when_it_is_read() -> None:
    searcher = OptunaSearcher(tiny())
    assert pickle.loads(pickle.dumps(searcher)).suggest("a") == searcher.suggest("a")
    del searcher.__dict__["_form"]  # as before there was one
    with pytest.raises(AttributeError, match="kept in another form"):
        pickle.loads(pickle.dumps(searcher))


def test_seeds_differ_between_trials_and_studies() -> None:
    seeds: set[int] = set()
    for seed in (0, 1):
        searcher = OptunaSearcher(tiny(search={"seed": seed}))
        seeds |= {proposed(searcher, name)["seed"] for name in ("a", "b", "c")}
    assert len(seeds) == 6


def test_a_sample_is_repeated_with_other_seeds_and_told_once_with_its_mean() -> None:
    searcher = OptunaSearcher(tiny(search={"n_trials": 1, "repeats": 3}))
    first = proposed(searcher, "a")
    assert searcher.suggest("early") is None  # the running trial decides
    told = []
    for name, accuracy in (("a", 0.5), ("b", 0.6), ("c", 0.7)):
        if name != "a":
            again = proposed(searcher, name)
            assert again["sample"] == first["sample"]
            assert again["repeat_of"] == first["number"] == 0
            assert again["seed"] != first["seed"]
        searcher.on_trial_complete(name, completed(val_accuracy=accuracy))
        told.append(searcher._study.trials[0].state)
    assert told == [TrialState.RUNNING, TrialState.RUNNING, TrialState.COMPLETE]
    assert searcher._study.trials[0].values == pytest.approx([0.6, 0.8, 4.0])
    assert searcher.suggest("d") == Searcher.FINISHED


@pytest.mark.parametrize(
    ("n_samples", "results", "values"),
    [
        # The second sample is dominated by more than the spread of the first.
        (
            2,
            [
                completed(val_accuracy=0.9, block_lipschitz_upper_bound=0.2),
                completed(val_accuracy=0.9, block_lipschitz_upper_bound=0.2),
                completed(val_accuracy=0.1, inverse_steps=9.0),
            ],
            [[0.9, 0.2, 4.0], [0.1, 0.8, 9.0]],
        ),
        # What did not complete at first is not trained again.
        (2, [running(), failed("diverged")], [None, None]),
        # A repeat that fails leaves the mean of the others.
        (1, [completed(val_accuracy=0.5), None], [[0.5, 0.8, 4.0]]),
    ],
)
def test_a_sample_is_trained_again_where_that_may_change_the_front(
    n_samples: int, results: list[dict[str, Any] | None], values: list[list[float] | None]
) -> None:
    searcher = observed(tiny(search={"n_trials": n_samples, "repeats": 2}), *results)
    assert searcher.suggest("one more") == Searcher.FINISHED
    assert [trial.values for trial in searcher._study.trials] == values


def test_a_sample_that_runs_during_a_snapshot_is_observed_and_repeated_after_it(
    tmp_path: Path,
) -> None:
    study = tiny(search={"n_trials": 2, "repeats": 2})
    first = OptunaSearcher(study)
    sample = proposed(first, "a")["sample"]
    first.save(str(tmp_path / "state"))
    second = OptunaSearcher(study)
    second.restore(str(tmp_path / "state"))
    second.on_trial_complete("a", completed(val_accuracy=0.7))
    again = proposed(second, "b")
    assert (again["sample"], again["number"], again["repeat_of"]) == (sample, 1, 0)
    second.on_trial_complete("b", completed(val_accuracy=0.5))
    assert second._study.trials[0].values == pytest.approx([0.6, 0.8, 4.0])


def own_sampler(seed: int) -> Any:
    """A sampler of a user's own."""
    return optuna.samplers.RandomSampler(seed=seed)


def test_a_sampler_of_a_users_own_proposes(tmp_path: Path) -> None:
    """The same samples as the shipped one that it makes, and again after a restart."""

    def samples(sampler: str, restart: Path | None = None) -> list[dict[str, Any]]:
        study = tiny(search={"sampler": sampler, "n_trials": 6, "seed": 3})
        searcher, found = OptunaSearcher(study), []
        for number in range(6):
            if restart is not None and number == 3:
                searcher.save(str(restart))
                searcher = OptunaSearcher(study)
                searcher.restore(str(restart))
            found.append(proposed(searcher, str(number))["sample"])
            searcher.on_trial_complete(str(number), completed())
        return found

    again = samples(f"{__name__}:own_sampler", tmp_path / "state")
    assert samples("random") == samples(f"{__name__}:own_sampler") == again


def in_parallel(
    n_at_once: int, folder: Path, sampler: str = "tpe", **search: Any
) -> list[dict[str, Any]]:
    """The samples of a study whose trials end in random order, so many at a time, and whose search
    is saved and restored after each."""
    given = {"sampler": sampler, "n_trials": 12, "n_startup_trials": 4, **search}
    study = tiny(search=given)
    searcher, order = OptunaSearcher(study), random.Random(n_at_once)
    samples: list[dict[str, Any]] = []
    trials: dict[str, dict[str, Any]] = {}
    while True:
        while len(trials) < n_at_once:
            suggestion = searcher.suggest(f"id{len(samples)}")
            if not isinstance(suggestion, dict):
                break
            trials[f"id{len(samples)}"] = suggestion["sample"]
            samples.append(suggestion["sample"])
        if not trials:
            assert searcher.suggest("one more") == Searcher.FINISHED
            return samples
        name = order.choice(list(trials))
        searcher.on_trial_complete(name, completed(val_accuracy=trials.pop(name)["coeff"]))
        searcher.save(str(folder / "search"))
        searcher = OptunaSearcher(study)
        searcher.restore(str(folder / "search"))


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_with_same_up_to_a_study_in_parallel_is_the_one_of_single_trials(
    sampler: str, tmp_path: Path
) -> None:
    alone = in_parallel(1, tmp_path, sampler, same_up_to=3)
    assert len(alone) == 12
    for n_at_once in (2, 8):
        assert in_parallel(n_at_once, tmp_path, sampler, same_up_to=3) == alone
    # Without it the samples depend on what has ended.
    assert in_parallel(3, tmp_path, sampler) != in_parallel(1, tmp_path, sampler)
    # 1 is the order of a study without it, one trial at a time.
    assert in_parallel(2, tmp_path, sampler, same_up_to=1) == in_parallel(1, tmp_path, sampler)


def test_with_same_up_to_a_study_ends_by_its_front_at_the_same_trial(tmp_path: Path) -> None:
    stop = {"hypervolume_gain": 0.01, "over_trials": 3}
    alone = in_parallel(1, tmp_path, "tpe", same_up_to=2, stop=stop)
    assert len(alone) < 12
    assert in_parallel(2, tmp_path, "tpe", same_up_to=2, stop=stop) == alone


def test_same_up_to_needs_trials_that_are_trained_once_and_to_their_end() -> None:
    with pytest.raises(ConfigError, match=r"with search\.repeats, but got 2"):
        tiny(search={"same_up_to": 2, "repeats": 2})
    with pytest.raises(ConfigError, match="stops trials as results come in, but got 2"):
        tiny(search={"same_up_to": 2}, scheduler={"name": "mo_asha"})
