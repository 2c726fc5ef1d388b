"""What Python users meet that the notebook (tests/test_notebook.py) does not show."""

import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

import study
from study import api
from study.errors import FailedError, LaunchError
from study.execution import notify
from study.execution.session import Begun, Outcome
from tests.support.launched import ROOT
from tests.support.records import STUDY
from tests.support.studies import tiny


def test_importing_the_package_takes_a_tenth_of_a_second() -> None:
    """By the processor's time, the least of three: the machine may be busy."""
    code = (
        "import time; start = time.process_time(); import study; print(time.process_time() - start)"
    )
    seconds = [
        float(subprocess.check_output([sys.executable, "-c", code], cwd=ROOT)) for _ in range(3)
    ]
    assert min(seconds) < 0.1


def test_the_package_offers_what_it_lists_and_nothing_else() -> None:
    for name in ("run", "open", "compare", "Study", "StudyConfig", "UserError", "FailedError"):
        assert name in dir(study)
        assert getattr(study, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = study.nothing


def test_a_study_is_opened_by_its_name_and_its_networks_by_theirs(finished: Path) -> None:
    uri = f"sqlite:///{finished}/mlflow.db"
    opened = study.open(tracking_uri=uri)
    assert opened.name == "tiny"
    assert opened.is_done
    assert list(opened.front["network"]) == [
        opened.results.handle(point) for point in opened.results.front
    ]
    assert len(opened.points) == len(opened.results.points)
    for alias, handle in opened.recommended.items():
        runs = {opened._run_of(name) for name in (alias, f"tiny@{alias}", handle)}
        runs.add(opened._run_of(handle.removeprefix("tiny/")))
        assert runs == {opened._run_of(opened._run_of(handle))}
    for typed, says in (("kneee", "did you mean 'knee'"), ("zzz", "there are most-accurate, ")):
        with pytest.raises(
            study.UserError, match=f"^network: there is no network '{typed}'; {says}"
        ):
            opened.load(typed)
    narrower = study.open("tiny", where="val_accuracy > 2", tracking_uri=uri)
    assert narrower.points.empty
    assert "no network has val_accuracy > 2" in repr(narrower)
    with pytest.raises(study.UserError, match="to grow, a front must have"):
        narrower.figure("growth")
    alone = study.open("tiny", objectives=["val_loss:minimize"], tracking_uri=uri)
    with pytest.raises(study.UserError, match="a trade must have two objectives"):
        alone.figure("front")


def test_a_study_may_be_typed_and_errors_name_arguments(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished)
    with pytest.raises(LaunchError) as error:
        study.run(tiny(), name="tiny")
    assert str(error.value) == (
        "name: the name of a new study must be free, but 'tiny' is taken; take another, or go on "
        "with that study with resume"
    )
    with pytest.raises(LaunchError, match=r"^max_hours: a study must have samples left"):
        study.open("tiny").resume(max_hours=9)
    with pytest.raises(LaunchError, match=r"^epochs: a study that goes on must say with train"):
        study.open("tiny").resume(epochs=9)


@pytest.mark.parametrize(
    ("end", "state"),
    [
        (lambda: Outcome(STUDY, False, 3, 2, None), "interrupted"),
        (KeyboardInterrupt, "interrupted"),
        (FailedError, "failed"),
        (ZeroDivisionError, "failed"),
    ],
)
def test_somebody_is_told_however_a_study_ends(
    end: Callable[[], Any], state: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = []
    monkeypatch.setattr(notify, "notify", lambda *told_now: told.append(told_now))
    monkeypatch.chdir(tmp_path)
    runner = api.Runner(api.Place.of(), say=lambda line: None)
    monkeypatch.setattr(runner._session, "begun", None)

    def run() -> Outcome:
        runner._session.begun = Begun("tiny", "mail me")
        ended = end()
        if isinstance(ended, BaseException):
            raise ended
        assert isinstance(ended, Outcome)
        return ended

    raised = pytest.raises(end) if isinstance(end, type) else nullcontext()
    with raised:
        runner._ended(run)
    assert told == [("mail me", "tiny", state, [])]
