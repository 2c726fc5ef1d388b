import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from study.config.file import Asked
from study.errors import UserError
from study.execution.driver.planning import (
    Resumption,
    check_same,
    extended,
    plan_new,
    planned_resume,
)
from study.metrics.reports import TrialStatus
from study.tracking.study_record import StudyRecord
from tests.support.drivers import Remembered, driver
from tests.support.records import STUDY, trial
from tests.support.studies import tiny

DONE = replace(STUDY, config=tiny(search={"n_trials": 4, "max_hours": 2.0}))
LEFT = replace(DONE, finished=False)
TRIALS = (trial(0), trial(1, TrialStatus.STOPPED_EARLY), trial(2, TrialStatus.FAILED))


def of_search(search: dict[str, Any]) -> dict[str, Any]:
    return {f"search.{key}": value for key, value in search.items()}


def asked(study: StudyRecord = DONE, **search: Any) -> StudyRecord:
    return extended(study, of_search(search))


def planned(
    folder: Path,
    *studies: StudyRecord,
    name: str | None = "tiny",
    source: str = "",
    **search: Any,
) -> Resumption:
    """The plan for studies that are kept below a folder."""
    kept = [replace(study, storage=f"{folder}/{study.name}") for study in studies]
    of = driver(folder, Remembered(*kept, trials=TRIALS))
    with planned_resume(of, name, source, of_search(search)) as plan:
        return plan


def test_nothing_asked_for_changes_nothing() -> None:
    assert asked() is DONE


def test_more_trials_and_hours_are_those_of_the_study_then() -> None:
    study = asked(n_trials=9, max_hours=3.5)
    assert (study.config.search.n_trials, study.config.search.max_hours) == (9, 3.5)
    search = replace(study.config.search, n_trials=4, max_hours=2.0)
    config = replace(study.config, search=search)
    before = {"config": config, "n_searches": 0, "finished": True, "is_published": True}
    assert replace(study, **before) == DONE
    assert (study.n_searches, study.finished) == (1, False)
    assert asked(replace(study, finished=True), n_trials=10).n_searches == 2


def test_what_was_asked_for_before_an_interruption_is_nothing_new() -> None:
    study = asked(n_trials=9)
    assert asked(study, n_trials=9) is study
    assert asked(study, n_trials=9, max_hours=2.0) is study
    assert asked(study, n_trials=10).config.n_trials == 10


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (
            {"n_trials": 4},
            "search.n_trials: tiny, which is done, must get more than before, 4, but got 4",
        ),
        ({"n_trials": 3}, "search.n_trials: .* 4, but got 3"),
        ({"max_hours": 1.5}, "search.max_hours: .* more than before, 2, but got 1.5"),
        ({"max_hours": math.nan}, "search.max_hours: .* but got nan"),
        (
            {"max_hours": 3.0, "study": replace(DONE, hours=4.0)},
            "search.max_hours: .* more than before, 4, but got 3",
        ),
    ],
)
def test_what_cannot_be_asked_for_is_said_in_a_line(wanted: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=f"^{says}") as error:
        asked(**wanted)
    assert "\n" not in str(error.value)


def test_more_hours_are_of_use_only_where_samples_are_left() -> None:
    three = replace(STUDY, config=tiny(search={"n_trials": 3}))
    with pytest.raises(UserError, match=r"^search.max_hours: .* all of its 3"):
        asked(three, max_hours=1.0)
    # With repeats samples may be left to be trained again.
    for study in (
        asked(replace(three, end_of_search="its hours are over"), max_hours=1.0),
        asked(replace(three, finished=False), max_hours=1.0),
    ):
        assert study.config.search.max_hours == 1.0
        assert study.n_searches == 1


def test_what_a_study_has_may_be_said_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root = str(tmp_path / "images")
    same = {"search.seed": 0, "training.max_epochs": 3, "resources.cpus": 1.0, "name": "tiny"}
    for given in (root, "images"):
        check_same(tiny(data={"root": root}), {**same, "data.root": given})


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("search.seed", 3, "must be 0, as tiny was begun with"),
        ("data.root", "/other", "must be 'data', as tiny was begun with"),
        ("data.download", True, "must be False, as tiny was begun with"),
        ("model.coeff", 0.5, "must be left out, since tiny searches it"),
    ],
)
def test_what_a_study_has_otherwise_is_named(key: str, value: Any, rule: str) -> None:
    with pytest.raises(UserError, match=f"^{key}: {rule}, but got {value!r}$"):
        check_same(tiny(), {key: value})


def test_a_grid_is_not_extended_beyond_its_size() -> None:
    space = {
        "coeff": {"type": "categorical", "choices": [0.5, 0.9]},
        "n_power_iterations": {"type": "int", "low": 1, "high": 3},
        "dropout": {"type": "categorical", "choices": [0.1]},
    }
    grid = replace(STUDY, config=tiny(space=space, search={"sampler": "grid", "n_trials": 4}))
    assert asked(grid, n_trials=6).config.n_trials == 6
    with pytest.raises(
        UserError, match=r"^search.n_trials: must be at most the size of the grid, 6, but got 7"
    ):
        asked(grid, n_trials=7)


def test_a_plan_says_what_would_go_on_and_leaves_all_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    plan = planned(tmp_path, LEFT, n_trials=9)
    assert str(plan) == "would go on with tiny, of which 1 of 9 trials have completed"
    assert plan.record.config == LEFT.config
    # The file that is locked is all that a look at a study leaves.
    assert [path.name for path in tmp_path.rglob("*")] == ["tiny", "study.lock"]


def test_of_a_file_the_latest_unfinished_study_is_meant(tmp_path: Path) -> None:
    for name in ("tiny-2", "tiny"):
        (tmp_path / name).mkdir()
    latest = replace(DONE, name="tiny-2")
    of_file = {"name": None, "source": LEFT.source}
    plan = planned(tmp_path, latest, LEFT, **of_file)
    assert plan.record.name == "tiny"
    assert planned(tmp_path, latest, LEFT, n_trials=9, **of_file).record.name == "tiny-2"


def test_a_study_that_ended_before_its_results_were_published_goes_on_by_its_name(
    tmp_path: Path,
) -> None:
    (tmp_path / "tiny").mkdir()
    unpublished = replace(DONE, is_published=False)
    plan = planned(tmp_path, unpublished)
    assert plan.only_publishes
    assert plan.goes_on.config == DONE.config
    with pytest.raises(UserError, match="a study must be unfinished"):
        planned(tmp_path, unpublished, name=None, source=DONE.source)
    # Its data may be gone, which more trials would need.
    no_data = tiny(data={"name": "mnist", "root": str(tmp_path)}, search={"n_trials": 4})
    without = replace(unpublished, config=no_data)
    assert planned(tmp_path, without).only_publishes
    with pytest.raises(UserError, match="data set mnist must be in"):
        planned(tmp_path, without, n_trials=5)


@pytest.mark.parametrize(
    ("studies", "asked_for", "says"),
    [
        ((), {}, "^name: there is no study 'tiny'"),
        ((DONE,), {}, "^name: a study must be unfinished, but 'tiny' is done"),
        (
            (DONE,),
            {"name": None, "source": DONE.source},
            "^a study must be unfinished, but 'tiny' is done",
        ),
        (
            (replace(LEFT, name="tiny-2"),),
            {"name": None, "source": "/y.yaml"},
            "^a study of /y.yaml must be in MLflow, .*; unfinished, by their names: tiny-2",
        ),
        ((DONE,), {"n_trials": 9}, "^storage_path: the state of tiny must be in .*, but there is"),
        ((LEFT,), {"seed": 5}, "^search.seed: .* but got 5"),
    ],
)
def test_what_cannot_go_on_is_refused(
    tmp_path: Path, studies: tuple[StudyRecord, ...], asked_for: dict[str, Any], says: str
) -> None:
    for study in studies:
        if "n_trials" not in asked_for:
            (tmp_path / study.name).mkdir()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError, match=says):
        planned(tmp_path, *studies, **asked_for)
    assert sorted(tmp_path.iterdir()) == before


def test_mlflow_does_not_say_where_the_state_is_read(tmp_path: Path) -> None:
    elsewhere = replace(LEFT, storage="/elsewhere/tiny")
    of = driver(tmp_path, Remembered(elsewhere))
    with pytest.raises(UserError, match=rf"^storage_path: .* is in /elsewhere, but got {tmp_path}"):
        planned_resume(of, "tiny", "", {}).__enter__()


def test_nobody_else_runs_a_study_until_its_plan_is_left(tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    kept = replace(LEFT, storage=f"{tmp_path}/tiny")
    of = driver(tmp_path, Remembered(kept))
    first = planned_resume(of, "tiny", "", {})
    with first, pytest.raises(UserError, match="a study must not be running"):
        planned(tmp_path, LEFT)
    assert planned(tmp_path, LEFT).goes_on == kept


def begun(folder: Path, study: StudyRecord, source: str) -> list[str]:
    """What is said as a file is launched whose name a study has."""
    said: list[str] = []
    of = driver(folder, Remembered(study, trials=TRIALS), said)
    assert plan_new(of, Asked(tiny(), source, frozenset())).config.name == "tiny-2"
    return said


def test_a_file_whose_study_is_done_is_said_to_be_trained_again(tmp_path: Path) -> None:
    assert begun(tmp_path, DONE, DONE.source) == [
        "tiny is there already, with 1 completed trial; this study trains again, as tiny-2",
        "to show tiny instead: python -m study.report tiny --tracking-uri sqlite:///x",
        "to extend it instead, with more trials or hours: resume tiny",
    ]


def test_another_file_or_an_unfinished_study_is_not_trained_again(tmp_path: Path) -> None:
    taken = "the name tiny is taken; this study is tiny-2"
    unfinished = "tiny is unfinished; go on with it: resume tiny"
    assert begun(tmp_path, LEFT, LEFT.source) == [taken, unfinished]
    assert begun(tmp_path, DONE, "/x/another.yaml") == [taken]
