import pytest

from study.config.study import StudyConfig
from study.execution.driver.dry_run import Rehearsed
from study.trial.rehearsal import Rehearsal
from tests.support.studies import tiny

MEGABYTE = 10**6


def trial(seconds: float, n_reports: int) -> Rehearsal:
    return Rehearsal(1000, seconds, n_reports, MEGABYTE)


def many(n_trials: int) -> StudyConfig:
    return tiny(search={"n_trials": n_trials})


def test_reports_are_those_of_all_trials_and_wait_for_each_other_only_where_many_run() -> None:
    found = Rehearsed(many(1000), trial(300.0, 100), 100)
    assert found.reports_a_second == pytest.approx(100 / 3)
    # Two at a time: the second comes 3 s after the first, the third would after 6 s.
    assert found.messages_a_second == pytest.approx(50 / 3)
    few = Rehearsed(many(1000), trial(300.0, 100), 2)
    assert few.messages_a_second == few.reports_a_second == pytest.approx(2 / 3)
    long = Rehearsed(many(1000), trial(6000.0, 100), 100)
    assert long.messages_a_second == long.reports_a_second


def test_the_driver_is_too_slow_for_many_short_trials_and_for_no_few() -> None:
    study = many(10_000)
    shares = [Rehearsed(study, trial(300.0, 100), n).share for n in (1, 10, 100, 1000, 10_000)]
    assert shares == sorted(shares)
    assert not Rehearsed(study, trial(300.0, 100), 10).is_too_large
    assert Rehearsed(study, trial(300.0, 100), 10_000).is_too_large
    # Each costs the more the more there are.
    assert Rehearsed(many(10), trial(300.0, 100), 100).share < shares[2]


def test_the_storage_keeps_one_checkpoint_of_each_trial_and_more_of_those_that_run() -> None:
    found = Rehearsed(many(12), trial(60.0, 10), 4)
    assert found.storage_bytes == (12 + 4 * 4) * MEGABYTE
