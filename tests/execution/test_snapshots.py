import json
import math
import os
import pickle
import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyarrow.fs import LocalFileSystem

from study.errors import LaunchError
from study.execution.files import snapshots
from study.execution.files.snapshots import Snapshots

SESSION = "2026-01-02_03-04-05"
NAMES = (
    f"experiment_state-{SESSION}.json",
    f"search_gen_state-{SESSION}.json",
    f"searcher-state-{SESSION}.pkl",
)

TUNER = pickle.dumps("the tuner")


def state(number: int) -> dict[str, bytes]:
    """What Tune would write: a number for each, so that files of two states can be told apart."""
    content = (
        json.dumps({"trial_data": number}).encode(),
        pickle.dumps(number),
        pickle.dumps(number),
    )
    return dict(zip(NAMES, content, strict=True))


def restore(folder: str, is_needed: bool = False) -> Any:
    return snapshots.restore(folder, is_needed)


class Study:
    """A study's folder, its driver's own one, and the callback that keeps copies."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "study"
        self.staging = folder / "staging"
        self.staging.mkdir()
        self.folder.mkdir()
        (self.folder / "tuner.pkl").write_bytes(TUNER)
        storage = SimpleNamespace(
            experiment_driver_staging_path=str(self.staging),
            experiment_fs_path=str(self.folder),
            storage_filesystem=LocalFileSystem(),
        )
        self.trials: list[Any] = [SimpleNamespace(storage=storage)]
        self.n_steps = 0
        self.begin()

    def begin(self) -> None:
        self.snapshots = Snapshots()
        self.snapshots.setup()

    def step(self, number: int) -> None:
        """Tune writes a state, copies it to the storage, and the callback sees it."""
        for name, content in state(number).items():
            (self.staging / name).write_bytes(content)
            (self.folder / name).write_bytes(content)
        # A clock of a second would not tell two states apart.
        os.utime(self.staging / NAMES[0], ns=(number, number))
        self.snapshots._next = 0.0
        self.snapshots.on_step_end(number, self.trials)

    def in_place(self) -> dict[str, bytes]:
        return {name: (self.folder / name).read_bytes() for name in NAMES}


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path)


def test_a_study_that_trained_nothing_has_nothing_to_go_on_from(study: Study) -> None:
    assert restore(str(study.folder)) is None
    assert restore(str(study.folder / "nowhere")) is None
    (study.folder / NAMES[0]).write_text("{")  # cut off as Tune wrote it for the first time
    assert restore(str(study.folder)) is None
    with pytest.raises(LaunchError, match=r"must be whole, but .*, and there is no copy"):
        restore(str(study.folder), is_needed=True)


def test_files_of_two_ages_become_those_of_one(study: Study) -> None:
    """As after a crash while Tune copies one after the other."""
    for number in range(3):
        study.step(number)
    (study.folder / NAMES[2]).write_bytes(state(1)[NAMES[2]])
    assert restore(str(study.folder)) == []
    assert study.in_place() == state(2)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def corrupt(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0xFF
    path.write_bytes(content)


torn_files = pytest.mark.parametrize(
    ("name", "harm"), list(product([*NAMES, "tuner.pkl"], [truncate, empty, Path.unlink]))
)


@torn_files
def test_a_torn_state_is_said_and_made_good(
    study: Study, name: str, harm: Callable[[Path], None]
) -> None:
    study.step(1)
    study.step(2)
    harm(study.folder / name)
    told = restore(str(study.folder))
    assert told[0].endswith(" is missing or torn")
    assert (name in told[0]) is (name != NAMES[0] or harm is not Path.unlink)
    assert study.in_place() == state(2)
    assert (study.folder / "tuner.pkl").read_bytes() == TUNER


@pytest.mark.parametrize("harm", [truncate, empty, corrupt, Path.unlink])
@pytest.mark.parametrize("last", [4, 5])
def test_of_two_copies_one_is_enough(study: Study, harm: Callable[[Path], None], last: int) -> None:
    for number in range(last + 1):
        study.step(number)
    harm(study.folder / "snapshots" / f"{last % 2}.zip")
    told = restore(str(study.folder))
    assert study.in_place() == state(last - 1)
    if harm is not Path.unlink:
        assert f"snapshots/{last % 2}.zip is missing or torn" in told[0]
        assert "with 1 trials" in told[-1]


def test_a_tuner_that_tune_writes_over_at_that_moment_is_not_copied(study: Study) -> None:
    """Tune's thread does in a resumed study, from the driver's folder, and empties it first."""
    (study.staging / "tuner.pkl").write_bytes(TUNER)
    empty(study.folder / "tuner.pkl")
    study.step(1)
    told = restore(str(study.folder))
    assert told[0].endswith("tuner.pkl is missing or torn")
    assert (study.folder / "tuner.pkl").read_bytes() == TUNER


def test_a_copy_of_a_torn_file_is_not_gone_on_from(study: Study) -> None:
    study.step(1)
    study.begin()  # it reads the tuner again
    truncate(study.folder / "tuner.pkl")
    study.step(2)
    told = restore(str(study.folder))
    assert "snapshots/1.zip is missing or torn" in told[0]
    assert study.in_place() == state(1)
    assert (study.folder / "tuner.pkl").read_bytes() == TUNER


def test_a_state_of_a_later_session_gives_way_to_the_copy(study: Study) -> None:
    """A resumed study that was killed before its first copy: Tune would take the later one."""
    study.step(1)
    later = study.folder / "experiment_state-2026-01-03_00-00-00.json"
    later.write_text("{")
    assert restore(str(study.folder))
    assert not later.exists()
    assert study.in_place() == state(1)


@pytest.mark.parametrize("last", [4, 5])
def test_a_driver_that_starts_again_does_not_write_over_the_newest_copy(
    study: Study, last: int
) -> None:
    for number in range(last + 1):
        study.step(number)
    study.begin()
    study.step(last + 1)
    # It died as it wrote the next: of the two before, one is there.
    truncate(study.folder / "snapshots" / f"{(last + 1) % 2}.zip")
    truncate(study.folder / NAMES[0])
    assert restore(str(study.folder))
    assert study.in_place() == state(last)


def test_copies_that_are_both_torn_do_not_harm_a_state_that_is_whole(study: Study) -> None:
    for number in range(3):
        study.step(number)
    (study.folder / "0000_abc" / "checkpoint_000000").mkdir(parents=True)
    for path in (study.folder / "snapshots").iterdir():
        truncate(path)
    assert restore(str(study.folder)) == []
    assert study.in_place() == state(2)
    truncate(study.folder / NAMES[0])
    with pytest.raises(LaunchError, match="is missing or torn, and there is no copy"):
        restore(str(study.folder))


@torn_files
def test_without_copies_a_whole_state_goes_on_and_a_torn_one_is_said(
    study: Study, name: str, harm: Callable[[Path], None]
) -> None:
    (study.folder / "0000_abc" / "checkpoint_000000").mkdir(parents=True)
    for whole, content in state(1).items():
        (study.folder / whole).write_bytes(content)
    assert restore(str(study.folder)) == []
    harm(study.folder / name)
    named = name if (study.folder / NAMES[0]).exists() else r"experiment_state-\*.json"
    with pytest.raises(LaunchError, match=f"{named} is missing or torn, and there is no copy"):
        restore(str(study.folder))


def test_a_state_that_has_not_changed_is_not_copied_again(study: Study) -> None:
    study.step(1)
    copy = study.folder / "snapshots" / "0.zip"
    before = copy.stat().st_mtime_ns
    study.snapshots._next = 0.0
    study.snapshots.on_step_end(1, study.trials)
    study.snapshots.on_experiment_end(study.trials)
    assert copy.stat().st_mtime_ns == before
    assert not (study.folder / "snapshots" / "1.zip").exists()


def test_it_says_what_both_copies_know(study: Study) -> None:
    """States are written at the seconds 1, 2, ...; what cannot be copied is not known."""
    known = [study.snapshots.in_both]
    for second in range(1, 4):
        study.step(second * 1_000_000_000)
        known.append(study.snapshots.in_both)
    assert known == [-math.inf, -math.inf, 1, 2]
    shutil.rmtree(study.folder / "snapshots")
    (study.folder / "snapshots").write_text("a file where the folder should be")
    with pytest.raises(LaunchError, match=r"^storage_path: it must be writable"):
        study.step(4 * 1_000_000_000)
    assert study.snapshots.in_both == 2


def test_a_state_of_another_version_is_said_in_a_line(study: Study) -> None:
    study.step(1)
    gone = b"cstudy.no_such_module\nThing\n."  # a pickle that names it
    for copy in (study.folder / "snapshots").iterdir():
        copy.unlink()
    (study.folder / "tuner.pkl").write_bytes(gone)
    with pytest.raises(LaunchError, match=r"must be of this version .*no_such_module"):
        restore(str(study.folder))
