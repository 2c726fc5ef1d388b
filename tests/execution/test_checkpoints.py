import math
from collections import deque
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.train._internal import storage
from ray.train._internal.session import _TrainingResult
from ray.tune import Checkpoint, CheckpointConfig
from ray.tune.experiment import Trial

from study.execution.files import checkpoints
from study.execution.files.checkpoints import Checkpoints, choose
from study.execution.files.snapshots import Snapshots

N_KEPT = 3


def name(number: int) -> str:
    return f"checkpoint_{number:06d}"


@pytest.mark.parametrize("n_kept", [2, 3, 5])
def test_whatever_was_going_on_a_trial_goes_on_from_a_checkpoint_that_is_whole(n_kept: int) -> None:
    """Every state in which a driver can die while it writes one checkpoint and removes another."""
    for n_written, is_begun, room in product(
        range(1, 4 * n_kept), (False, True), ("there", "torn", "gone")
    ):
        oldest = n_written - n_kept - 1  # the one that makes room
        stored = [name(i) for i in range(max(0, oldest + 1), n_written)]
        whole = set(stored)
        if oldest >= 0 and room != "gone":
            stored.insert(0, name(oldest))
            if room == "there":
                whole.add(name(oldest))
        if is_begun:
            stored.append(name(n_written))
        for known in range(n_written):
            chosen = choose(name(known), stored, n_kept)
            if n_written == 1 and not is_begun:
                assert chosen == name(0)
            assert chosen in whole
            assert chosen >= name(known)
            if known > oldest + 1:
                assert chosen == name(known)


class Interrupted:
    """A real trial as Tune's state has it, and checkpoints that are stored beside it."""

    def __init__(self, folder: Path, known: int, stored: range) -> None:
        context = storage.StorageContext(str(folder), "study", trial_dir_name="0007")
        self.trial = Trial(
            "unknown",
            stub=True,
            config={"number": 7},
            storage=context,
            checkpoint_config=CheckpointConfig(num_to_keep=N_KEPT),
        )
        self.folder = Path(context.trial_fs_path)
        for number in range(max(0, known - N_KEPT + 1), known + 1):
            self._report(number)
        for path in self.folder.iterdir():
            path.rmdir()
        for number in stored:
            self._store(number)

    def _store(self, number: int) -> None:
        (self.folder / name(number)).mkdir(parents=True)

    def _report(self, number: int) -> None:
        self._store(number)
        context: Any = self.trial.storage
        checkpoint = Checkpoint(str(self.folder / name(number)), context.storage_filesystem)
        self.trial.on_checkpoint(_TrainingResult(checkpoint, {"training_iteration": number + 1}))

    def restart(self) -> None:
        checkpoints = Checkpoints(N_KEPT, Snapshots(), deque[str]())
        checkpoints.setup()
        checkpoints.on_step_begin(1, [self.trial])

    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())

    def train(self) -> None:
        """As a worker that was started now: its checkpoint goes where its copy of this counts."""
        context: Any = self.trial.storage
        self._report(context.current_checkpoint_index + 1)


@pytest.fixture(autouse=True)
def driver_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Where a driver puts its own files, without a Ray that would say it.
    monkeypatch.setattr(storage, "_get_ray_train_session_dir", lambda: str(tmp_path / "driver"))


@pytest.mark.parametrize(
    ("known", "stored", "goes_on_from"),
    [
        (4, range(2, 5), 4),  # nothing came since
        (4, range(3, 6), 4),
        (4, range(5, 10), 8),  # it made room, and the last may be cut off
        (4, range(4, 8), 6),  # it may be half gone
        (4, range(0), None),  # it starts again
    ],
)
def test_what_is_left_is_the_one_it_goes_on_from(
    tmp_path: Path, known: int, stored: range, goes_on_from: int | None
) -> None:
    interrupted = Interrupted(tmp_path, known, stored)
    interrupted.restart()
    if goes_on_from is None:
        assert interrupted.trial.checkpoint is None
        return
    assert interrupted.names() == [name(goes_on_from)]
    checkpoint = interrupted.trial.checkpoint
    assert checkpoint.path == str(interrupted.folder / name(goes_on_from))
    # From here on it keeps as many as ever, and writes over none.
    for _ in range(2 * N_KEPT):
        interrupted.train()
    last = goes_on_from + 2 * N_KEPT
    assert interrupted.names() == [name(i) for i in range(last - N_KEPT + 1, last + 1)]


class Ending:
    """A trial whose checkpoints are all there, a clock, and copies of the state made by it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        known = range(8 - N_KEPT, 8)
        self.stored = Interrupted(folder, known[-1], known)
        self.trial = self.stored.trial
        self.trial.set_status(Trial.RUNNING)
        self.all, self.last = self.stored.names(), [name(known[-1])]
        self.now = 100.0
        monkeypatch.setattr(checkpoints.time, "time", lambda: self.now)
        self.messages = deque[str]()
        self.snapshots = Snapshots()
        self.checkpoints = Checkpoints(N_KEPT, self.snapshots, self.messages)

    def begin(self) -> None:
        """A driver starts."""
        self.copies = [-math.inf] * 2
        self.snapshots.setup()
        self.checkpoints.setup()

    def step(self, *others: Trial) -> None:
        self.now += 1
        self.checkpoints.on_step_begin(1, [self.trial, *others])
        self.checkpoints.on_step_end(1, [self.trial, *others])

    def train(self) -> None:
        """As many checkpoints as are kept, with the one it went on from."""
        for number in range(8, 8 + N_KEPT - 1):
            self.stored.train()
            self.last = [name(number)]
        self.all = self.stored.names()

    def copy(self) -> None:
        """A state is written and copied."""
        self.now += 1
        self.copies = [self.copies[1], self.now]
        self.snapshots.in_both = self.copies[0]

    def end_study(self, *others: Trial) -> None:
        self.checkpoints.on_experiment_end([self.trial, *others])


@pytest.fixture
def ending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ending:
    made = Ending(tmp_path, monkeypatch)
    made.begin()
    return made


@pytest.mark.parametrize("status", [Trial.TERMINATED, Trial.ERROR])
def test_of_an_ended_trial_the_last_is_left_once_both_copies_of_the_state_know(
    ending: Ending, status: str
) -> None:
    for _ in range(3):
        ending.step()
        ending.copy()
    # What it goes on from if a driver starts now is left alone, and so is what came since.
    assert ending.stored.names() == ending.last
    ending.train()
    assert len(ending.all) == N_KEPT
    ending.trial.set_status(status)
    ending.step()  # the state of before does not know
    assert ending.stored.names() == ending.all
    ending.copy()
    ending.step()  # were this copy torn, the one before would have the trial go on
    assert ending.stored.names() == ending.all
    ending.copy()
    ending.step()
    assert ending.stored.names() == ending.last
    assert Path(ending.trial.checkpoint.path).name == ending.last[0]


@pytest.fixture
def ended(ending: Ending) -> Ending:
    """It has ended, and nobody knows yet."""
    ending.step()
    ending.train()
    ending.trial.set_status(Trial.TERMINATED)
    return ending


def paths_in_state(trial: Trial) -> list[str]:
    """The checkpoints of a trial, as a restart reads them."""
    _, metadata = trial.get_json_state()
    read = Trial("unknown", stub=True)
    read.restore_run_metadata(metadata)
    manager = read.run_metadata.checkpoint_manager
    known = [result.checkpoint for result in manager.best_checkpoint_results]
    return [checkpoint.path for checkpoint in known if checkpoint is not None]


def test_when_all_trials_have_ended_nothing_but_the_last_is_left(ended: Ending) -> None:
    """At once in Tune's state; in the storage once the study has ended."""
    without = Trial("unknown", stub=True, config={"number": 8})
    without.set_status(Trial.ERROR)
    ended.step(without)
    assert [Path(path).name for path in paths_in_state(ended.trial)] == ended.last
    ended.end_study(without)
    assert ended.stored.names() == ended.last
    assert without.checkpoint is None


def test_a_trial_that_is_interrupted_keeps_what_it_has(ending: Ending, tmp_path: Path) -> None:
    other = Interrupted(tmp_path / "other", 7, range(8 - N_KEPT, 8))
    other.trial.set_status(Trial.RUNNING)
    ending.step(other.trial)
    ending.stored.train()
    other.train()
    there = ending.stored.names(), other.names()
    other.trial.set_status(Trial.TERMINATED)
    ending.step(other.trial)
    ending.trial.set_status(Trial.TERMINATED)  # as Tune does with all of them
    ending.snapshots.in_both = math.inf
    ending.end_study(other.trial)
    assert ending.stored.names() == there[0]
    assert len(paths_in_state(ending.trial)) == 2
    assert other.names() == there[1][-1:]


def test_what_a_driver_before_had_no_time_for_is_done_by_the_next(ended: Ending) -> None:
    ended.begin()
    ended.step()
    ended.end_study()  # which does not wait for thousands of them
    assert ended.stored.names() == ended.all
    for _ in range(2):
        ended.copy()
    ended.step()
    assert ended.stored.names() == ended.last


def test_what_cannot_be_deleted_is_said_and_ends_nothing(
    ended: Ending, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: str) -> None:
        raise PermissionError(13, "no right to delete", folder)

    context: Any = ended.trial.storage
    files = context.storage_filesystem
    fake = SimpleNamespace(get_file_info=files.get_file_info, delete_dir=refuse)
    monkeypatch.setattr(context, "storage_filesystem", fake)
    ended.step()
    ended.end_study()
    assert ended.stored.names() == ended.all
    (line,) = ended.messages
    assert line.startswith("a checkpoint that nobody needs cannot be deleted: ")
    assert "no right to delete" in line
