"""What Python users meet that the notebook (tests/test_notebook.py) does not show."""

import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

import study
from study.api.named import run_named
from study.errors import LaunchError
from tests.support.studies import tiny


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
    assert list(opened.front["network"]) == [point.handle for point in opened.results.front]
    assert len(opened.points) == len(opened.results.points)
    run_of = partial(run_named, opened.driver.records, opened.results)
    for alias, handle in opened.recommended.items():
        label = handle.removeprefix("tiny/")
        runs = {run_of(name) for name in (alias, f"tiny@{alias}", handle, label)}
        assert runs == {run_of(run_of(handle))}
    for typed, says in (("kneee", "did you mean 'knee'"), ("zzz", "there are most-accurate, ")):
        with pytest.raises(
            study.UserError, match=f"^network: there is no network '{typed}'; {says}"
        ):
            opened.load(typed)
    # The digits need no folder.
    measured = opened.verify("0001", data_root=finished)
    assert measured.problems == ()
    assert {"val_accuracy", "inverse_steps", "test_accuracy"} < set(measured.measured)
    assert not opened.verify("0001").measured
    narrower = study.open("tiny", where="val_accuracy > 2", tracking_uri=uri)
    assert narrower.points.empty
    assert "no network has val_accuracy > 2" in repr(narrower)
    alone = study.open("tiny", objectives=["val_loss:minimize"], tracking_uri=uri)
    with pytest.raises(study.UserError, match="a study must have two objectives"):
        alone.figure("front")


def test_a_study_may_be_typed_and_errors_name_arguments(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished)
    with pytest.raises(LaunchError) as error:
        study.run(tiny(), name="tiny")
    assert str(error.value) == (
        "name: the name of a new study must be free, but 'tiny' is taken; take another, or resume "
        "that study"
    )
    with pytest.raises(LaunchError, match=r"^max_hours: a study must have samples left"):
        study.open("tiny").resume(max_hours=9)


@pytest.mark.slow
@pytest.mark.usefixtures("study")
def test_errors_of_every_call_name_its_arguments(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    opened = study.open("tiny", tracking_uri=uri)
    absent = f"a study must be in MLflow at {uri}, but there is no study 'nope'; there are tiny"
    calls: list[tuple[Callable[[], object], str]] = [
        (lambda: study.open("nope", tracking_uri=uri), f"name: {absent}"),
        (lambda: opened.load("nope/0001"), f"network: {absent}"),
        (lambda: opened.verify("tiny/0001"), "network: must be"),
        (
            lambda: opened.write_figures(tmp_path / "figures"),
            "folder: a study must have networks to draw, but has none",
        ),
        (
            lambda: opened.figure("pie"),
            "kind: must be one of front, growth, hyperparameters, proofs, radii, inverse, but got",
        ),
        (
            lambda: opened.write_page(tmp_path / "no" / "x.html"),
            "path: the file must be writable, but ",
        ),
        (lambda: study.compare(opened), "studies: two studies or more must be named, but got 1"),
        (lambda: study.open(tracking_uri="http://x:y@z"), "tracking_uri: an"),
        (lambda: study.open(where="x > 1", tracking_uri=uri), "where: unk"),
        (
            lambda: study.open(objectives=["x"], tracking_uri=uri),
            "objectives: must be NAME:maximize",
        ),
    ]
    for call, here in calls:
        with pytest.raises(study.UserError) as raised:
            call()
        assert str(raised.value).startswith(here)


def test_an_error_comes_from_a_worker_as_it_is() -> None:
    error = study.UserError("it must fit", "resources.cpus", 3.0, "x.yaml")
    assert str(error) == "x.yaml: resources.cpus: it must fit, but got 3.0"
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), vars(again)) == (str(error), vars(error))
