"""Servers and drivers that go away in the middle of a study, and come back."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import pytest
from ray.tune.experiment import Trial

from tests.support.launched import (
    METRICS,
    Books,
    Launch,
    check_books,
    epochs_logged,
    reports,
    run,
    trial_workers,
    write_space,
)
from tests.support.served import Server
from tests.support.studies import RAW as TINY
from tests.test_launch import needs_proc

N_TRIALS, N_EPOCHS = 2, 12
# Epochs long enough, and enough of them, that a signal meets trials in the middle.
RAW = {
    **TINY,
    "model": {"blocks": [2, 2, 2], "channel_multiplier": 8},
    "training": {**TINY["training"], "max_epochs": N_EPOCHS},
}


@pytest.fixture
def server(laid_out: None, tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    made.start()
    yield made
    made.kill()


def stored(folder: Path) -> dict[str, dict[int, float]]:
    """Trial -> epoch -> when it was measured, by the checkpoints of the study."""
    return reports(folder / "ray_results" / "tiny")


def times(folder: Path) -> dict[str, dict[int, float]]:
    """The same, by MLflow's database."""
    sql = (
        "SELECT substr(runs.name, 1, 4), step, metrics.timestamp FROM metrics JOIN runs USING "
        "(run_uuid) JOIN tags USING (run_uuid) WHERE metrics.key = 'val_loss' AND tags.key = "
        "'study.kind' AND tags.value = 'trial' AND lifecycle_stage = 'active'"
    )
    found: dict[str, dict[int, float]] = {}
    for trial, step, milliseconds in Books(folder).query(sql):
        found.setdefault(trial, {})[step] = milliseconds / 1000
    return found


def known_epochs(study: Path) -> dict[str, int]:
    """Trial -> its last epoch, by the newest whole copy of Tune's state."""
    copies = {}
    for path in study.glob("snapshots/*.zip"):
        try:
            with ZipFile(path) as copy:
                about = json.loads(copy.read("about.json"))
                (state,) = (name for name in copy.namelist() if name.startswith("experiment_state"))
                copies[about["time"]] = json.loads(copy.read(state))
        except BadZipFile:
            continue  # it was being written
    found: dict[str, int] = {}
    newest = copies[max(copies)]["trial_data"] if copies else []
    for described, metadata in newest:
        trial = Trial.from_json_state(described, stub=True)
        trial.restore_run_metadata(metadata)
        if trial.checkpoint is not None:
            found[f"{trial.config['number']:04d}"] = int(trial.checkpoint.path[-6:]) + 1
    return found


def check_times(folder: Path, before: dict[str, dict[int, float]]) -> None:
    """Every metric has the time at which it was measured; where an epoch was measured before a
    restart and again after it, one of the two."""
    after, logged = stored(folder), times(folder)
    assert {t: epochs.keys() for t, epochs in logged.items()} == {
        t: epochs.keys() for t, epochs in after.items()
    }
    for trial, epochs in logged.items():
        for epoch, at in epochs.items():
            measured = [after[trial][epoch], before.get(trial, {}).get(epoch, after[trial][epoch])]
            # As whole milliseconds, which round(seconds, 3) is not always.
            assert at in {round(1000 * seconds) / 1000 for seconds in measured}, (trial, epoch)


@needs_proc
def test_what_outages_kept_back_arrives_though_the_driver_died_and_its_state_is_torn(
    tmp_path: Path, server: Server
) -> None:
    def measured() -> int:
        return sum(map(len, stored(tmp_path).values()))

    space, study = write_space(tmp_path, RAW, n_trials=N_TRIALS), tmp_path / "ray_results" / "tiny"
    with Launch(tmp_path, str(space), "--tracking-uri", server.uri) as launched:
        launched.until(lambda: epochs_logged(tmp_path) >= 3)
        server.kill()
        n_logged = epochs_logged(tmp_path)
        launched.until(lambda: measured() >= n_logged + 5 and any(known_epochs(study).values()))
        launched.kill_all()
    before, known = stored(tmp_path), known_epochs(study)
    (state,) = tmp_path.glob("ray_results/tiny/experiment_state-*.json")
    state.write_bytes(state.read_bytes()[:-100])
    server.start()
    with Launch(tmp_path, str(space), "--resume", "--tracking-uri", server.uri) as launched:
        n_before = measured()
        launched.until(lambda: measured() > n_before)
        server.kill()
        gone, n_before = time.time(), measured()
        launched.until(lambda: measured() >= n_before + 5)
        server.start()
        back = time.time()
        out = launched.finish(0)
    assert f"{state} is missing or torn" in out
    assert "going on from the copy of" in out
    assert "trials go on, what they report is sent later" in out
    assert "MLflow answers again" in out
    check_books(Books(tmp_path), "tiny", N_TRIALS, N_EPOCHS)
    check_times(tmp_path, before)
    while_away = [
        at for epochs in times(tmp_path).values() for at in epochs.values() if gone < at < back
    ]
    assert len(while_away) >= 5
    # What the copy knew was not trained again.
    after = stored(tmp_path)
    assert any(known.values())
    for trial, last in known.items():
        for epoch in range(1, last + 1):
            assert after[trial][epoch] == before[trial][epoch]


@needs_proc
@pytest.mark.usefixtures("laid_out")
def test_a_study_outlives_ctrl_c_a_lost_worker_and_being_left_at_once(tmp_path: Path) -> None:
    space = write_space(tmp_path, RAW, n_trials=N_TRIALS)
    command = "python -m study.launch --resume --name tiny"
    with Launch(tmp_path, str(space)) as launched:
        launched.until(lambda: epochs_logged(tmp_path) >= 4)
        before = stored(tmp_path)
        launched.process.send_signal(signal.SIGINT)
        out = launched.finish(130)
    assert "the epochs that run are finished and checkpointed first" in out
    assert command in out
    assert set(Books(tmp_path).runs().values()) == {"KILLED"}
    first, known = stored(tmp_path), known_epochs(tmp_path / "ray_results" / "tiny")
    assert {t: len(e) for t, e in times(tmp_path).items()} == {t: len(e) for t, e in first.items()}
    assert all(known[trial] >= len(epochs) for trial, epochs in before.items())

    with Launch(tmp_path, str(space), "--resume") as launched:
        n_logged = epochs_logged(tmp_path)
        launched.until(lambda: epochs_logged(tmp_path) > n_logged)
        workers = trial_workers(launched.pid)
        os.kill(workers[0], signal.SIGKILL)
        launched.until(lambda: not set(trial_workers(launched.pid)) <= set(workers))
        os.kill(launched.pid, signal.SIGTERM)
        os.kill(launched.pid, signal.SIGINT)
        out = launched.finish(130)
    assert "lost its worker; it goes on from its last checkpoint" in out
    assert command in out

    run(tmp_path, str(space), "--resume")
    check_books(Books(tmp_path), "tiny", N_TRIALS, N_EPOCHS)
    after = stored(tmp_path)
    # What Ctrl-C let finish was trained once; what a trial went on with while another finished, and
    # Tune does not know of, may be trained again.
    for trial, last in known.items():
        for epoch in range(1, last + 1):
            assert after[trial][epoch] == first[trial][epoch]
    assert set(METRICS) == {
        m for (m,) in Books(tmp_path).query("SELECT DISTINCT key FROM metrics")
    } - {
        "test_accuracy", "hypervolume", "n_front", "n_completed", "hours", "device_hours",
    }  # fmt: skip
