import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from study.config.extension import Extension, MoreEpochs, Wanted
from study.errors import UserError
from study.execution.extending import extended
from study.metrics.reports import TrialStatus
from study.tracking.records import Records, StudyRecord, TrialRecord
from tests.support.records import STUDY, projection, trial
from tests.support.studies import tiny

DONE = replace(STUDY, config=tiny(search={"n_trials": 4, "max_hours": 2.0}))
TRIALS = [
    trial(0),
    projection(0, 0.3),
    trial(1, TrialStatus.STOPPED_EARLY),
    trial(2, TrialStatus.FAILED),
    replace(trial(3), continues="0000", n_epochs_before=3, n_epochs=2),
]


class Stored:
    """Records of one study."""

    client = None

    def __init__(self, study: StudyRecord, end_of_search: str | None, hours: float) -> None:
        self._study, self._end, self._hours = study, end_of_search, hours

    def end_of_search(self, study: StudyRecord) -> str | None:
        return self._end

    def run(self, run_id: str) -> Any:
        return SimpleNamespace(data=SimpleNamespace(metrics={"hours": self._hours}))

    def find_study(self, name: str) -> StudyRecord | None:
        return self._study if name == self._study.name else None

    def studies(self) -> list[StudyRecord]:
        return [self._study]

    def trials(self, study: StudyRecord) -> list[TrialRecord]:
        return [record for record in TRIALS if record.projected_to is None]

    def trials_and_projections(self, study: StudyRecord, where: str = "") -> list[TrialRecord]:
        return TRIALS


def asked(
    study: StudyRecord = DONE, end: str | None = None, hours: float = 0.1, **wanted: Any
) -> StudyRecord:
    return extended(study, cast(Records, Stored(study, end, hours)), Wanted(**wanted))


def test_nothing_asked_for_changes_nothing() -> None:
    assert asked() is DONE


def test_more_trials_and_hours_are_those_of_the_study_then() -> None:
    study = asked(n_trials=9, max_hours=3.5)
    assert (study.config.search.n_trials, study.config.search.max_hours) == (9, 3.5)
    search = replace(study.config.search, n_trials=4, max_hours=2.0)
    config = replace(study.config, search=search)
    assert replace(study, config=config, extension=Extension(), finished=True) == DONE
    assert (study.extension, study.finished) == (Extension(1), False)
    assert asked(replace(study, finished=True), n_trials=10).extension == Extension(2)


def test_what_was_asked_for_before_an_interruption_is_nothing_new() -> None:
    study = asked(n_trials=9)
    assert asked(study, n_trials=9) is study
    assert asked(study, n_trials=9, max_hours=2.0) is study
    assert asked(study, n_trials=10).config.n_trials == 10


def test_a_network_means_the_training_that_it_comes_from() -> None:
    study = asked(networks=("tiny/0000@0.3", "tiny/0001", "tiny/0000"), max_epochs=9)
    assert study.config == DONE.config
    assert study.extension == Extension(0, (MoreEpochs(0, 3, 9), MoreEpochs(1, 3, 9)))
    further = asked(study, networks=("tiny/0003",), max_epochs=6)
    assert further.extension.more_epochs == (*study.extension.more_epochs, MoreEpochs(3, 5, 6))
    with pytest.raises(UserError, match="--train: a training goes on once to so many epochs"):
        asked(further, networks=("tiny/0001",), max_epochs=9)
    assert Wanted(networks=("3f9c", "digits@knee"), max_epochs=9).study == "digits"


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (
            {"n_trials": 4},
            "--trials: tiny, which is done, must get more than before, 4, but got 4",
        ),
        ({"n_trials": 3}, "--trials: .* 4, but got 3"),
        ({"max_hours": 1.5}, "--max-hours: .* more than before, 2, but got 1.5"),
        ({"max_hours": math.nan}, "--max-hours: .* but got nan"),
        ({"max_hours": 3.0, "hours": 4.0}, "--max-hours: .* more than before, 4, but got 3"),
        ({"max_epochs": 9}, "--epochs: .* must say with --train .* got 9"),
        (
            {"networks": ("tiny/0000",)},
            "--train: .* with --epochs, but got 'tiny/0000' alone",
        ),
        ({"networks": ("tiny/0000",), "max_epochs": 3}, "--epochs: .* but got 3"),
        ({"networks": ("tiny/0003",), "max_epochs": 5}, "than the 5 that tiny/0003 has had"),
        ({"networks": ("tiny/0002",), "max_epochs": 9}, "--train: .* but tiny/0002 is failed"),
        ({"networks": ("tiny/0007",), "max_epochs": 9}, "NETWORK: it must be in tiny"),
        ({"networks": ("ab" * 16,), "max_epochs": 9}, "--train: a network must be one of tiny"),
    ],
)
def test_what_cannot_be_asked_for_is_said_in_a_line(wanted: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says) as error:
        asked(**wanted)
    assert "\n" not in str(error.value)


def test_more_hours_are_of_use_only_where_samples_are_left() -> None:
    three = replace(STUDY, config=tiny(search={"n_trials": 3}))
    with pytest.raises(UserError, match=r"--max-hours: .* all of its 3"):
        asked(three, max_hours=1.0)
    # With repeats samples may be left to be trained again.
    for study in (
        asked(three, end="its hours are over", max_hours=1.0),
        asked(replace(three, finished=False), max_hours=1.0),
    ):
        assert study.config.search.max_hours == 1.0
        assert study.extension.n_searches == 1


def test_a_grid_is_not_extended_beyond_its_size() -> None:
    space = {
        "coeff": {"type": "categorical", "choices": [0.5, 0.9]},
        "n_power_iterations": {"type": "int", "low": 1, "high": 3},
        "dropout": {"type": "categorical", "choices": [0.1]},
    }
    grid = replace(STUDY, config=tiny(space=space, search={"sampler": "grid", "n_trials": 4}))
    assert asked(grid, n_trials=6).config.n_trials == 6
    with pytest.raises(UserError, match=r"--trials: .* got n_trials=7, size=6"):
        asked(grid, n_trials=7)


def test_a_study_does_not_go_on_with_more_trainings_than_its_tag_holds() -> None:
    more = tuple(MoreEpochs(0, 3, 10 + n) for n in range(80))
    full = replace(DONE, extension=Extension(0, more))
    assert full.n_trainings == 84
    with pytest.raises(UserError, match="at most 80 trainings in all, but got 81"):
        asked(full, networks=("tiny/0000",), max_epochs=9)
