import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from study.config.extension import Wanted
from study.errors import UserError
from study.execution.extending import extended
from study.tracking.records import Records, StudyRecord
from tests.support.records import STUDY
from tests.support.studies import tiny

DONE = replace(STUDY, config=tiny(search={"n_trials": 4, "max_hours": 2.0}))


class Stored:
    """Records of one study."""

    def __init__(self, end_of_search: str | None, hours: float) -> None:
        self._end, self._hours = end_of_search, hours

    def end_of_search(self, study: StudyRecord) -> str | None:
        return self._end

    def run(self, run_id: str) -> Any:
        return SimpleNamespace(data=SimpleNamespace(metrics={"hours": self._hours}))


def asked(
    study: StudyRecord = DONE, end: str | None = None, hours: float = 0.1, **wanted: Any
) -> StudyRecord:
    return extended(study, cast(Records, Stored(end, hours)), Wanted(**wanted))


def test_nothing_asked_for_changes_nothing() -> None:
    assert asked() is DONE


def test_more_trials_and_hours_are_those_of_the_study_then() -> None:
    study = asked(n_trials=9, max_hours=3.5)
    assert (study.config.search.n_trials, study.config.search.max_hours) == (9, 3.5)
    search = replace(study.config.search, n_trials=4, max_hours=2.0)
    config = replace(study.config, search=search)
    assert replace(study, config=config, n_searches=0, finished=True) == DONE
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
            "^trials: tiny, which is done, must get more than before, 4, but got 4$",
        ),
        ({"n_trials": 3}, "^trials: .* 4, but got 3"),
        ({"max_hours": 1.5}, "^max_hours: .* more than before, 2, but got 1.5"),
        ({"max_hours": math.nan}, "^max_hours: .* but got nan"),
        ({"max_hours": 3.0, "hours": 4.0}, "^max_hours: .* more than before, 4, but got 3"),
    ],
)
def test_what_cannot_be_asked_for_is_said_in_a_line(wanted: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says) as error:
        asked(**wanted)
    assert "\n" not in str(error.value)


def test_more_hours_are_of_use_only_where_samples_are_left() -> None:
    three = replace(STUDY, config=tiny(search={"n_trials": 3}))
    with pytest.raises(UserError, match=r"^max_hours: .* all of its 3"):
        asked(three, max_hours=1.0)
    # With repeats samples may be left to be trained again.
    for study in (
        asked(three, end="its hours are over", max_hours=1.0),
        asked(replace(three, finished=False), max_hours=1.0),
    ):
        assert study.config.search.max_hours == 1.0
        assert study.n_searches == 1


def test_a_grid_is_not_extended_beyond_its_size() -> None:
    space = {
        "coeff": {"type": "categorical", "choices": [0.5, 0.9]},
        "n_power_iterations": {"type": "int", "low": 1, "high": 3},
        "dropout": {"type": "categorical", "choices": [0.1]},
    }
    grid = replace(STUDY, config=tiny(space=space, search={"sampler": "grid", "n_trials": 4}))
    assert asked(grid, n_trials=6).config.n_trials == 6
    with pytest.raises(UserError, match=r"^trials: must be at most the size of the grid"):
        asked(grid, n_trials=7)
