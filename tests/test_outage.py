"""A study that loses its server, a worker and its user, and goes on each time."""

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
    trial_workers,
    write_space,
)
from tests.support.one_ray import launch_here, one_ray
from tests.support.served import Server
from tests.support.studies import RAW as TINY
from tests.test_launch import needs_proc

N_TRIALS, N_EPOCHS = 2, 10
# Epochs long enough, and enough of them, that the first signal meets trials in the middle.
RAW = {
    **TINY,
    "model": {"blocks": [2, 2], "channel_multiplier": 8},
    "training": {**TINY["training"], "max_epochs": N_EPOCHS},
}


@pytest.fixture
def server(laid_out: None, tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    made.start()
    yield made
    made.kill()


def times(folder: Path) -> dict[str, dict[int, float]]:
    """Trial -> epoch -> when it was measured, by MLflow's database."""
    points = Books(folder).points("val_loss", column="timestamp")
    return {trial: {step: at / 1000 for step, at in of} for trial, of in points.items()}


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
            in_checkpoint = json.loads(Path(trial.checkpoint.path, "reports.json").read_text())
            found[f"{trial.config['number']:04d}"] = in_checkpoint[-1]["epoch"]
    return found


@needs_proc
def test_a_study_outlives_its_server_its_workers_and_its_user(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    # How often Tune writes its state, seconds.
    monkeypatch.setenv("TUNE_GLOBAL_CHECKPOINT_S", "1")
    monkeypatch.setenv("RAY_OVERRIDE_RESOURCES", '{"CPU": 2}')  # both trials at once
    space, study = write_space(tmp_path, RAW, n_trials=N_TRIALS), tmp_path / "ray_results" / "tiny"
    options = str(space), "--tracking-uri", server.uri

    def n_measured() -> int:
        return sum(map(len, reports(study).values()))

    def measure(launched: Launch, n_more: int) -> None:
        n_before = n_measured()
        launched.until(lambda: n_measured() >= n_before + n_more)

    # MLflow goes away, a worker dies, and then somebody presses Ctrl-C: it ends once MLflow is back
    # and has everything.
    with Launch(tmp_path, *options) as launched:
        launched.until(lambda: epochs_logged(tmp_path) >= 2)
        launched.until(lambda: len(trial_workers(launched.pid)) == N_TRIALS)
        server.kill()
        gone = time.time()
        measure(launched, 2)
        killed, held = workers = trial_workers(launched.pid)
        # However fast the machine, Ctrl-C then meets a trial in the middle.
        os.kill(held, signal.SIGSTOP)
        os.kill(killed, signal.SIGKILL)
        launched.until(lambda: not set(trial_workers(launched.pid)) <= set(workers))
        launched.until(lambda: any(study.glob("snapshots/*.zip")))
        at_signal = reports(study)
        launched.process.send_signal(signal.SIGINT)
        os.kill(held, signal.SIGCONT)
        server.start()
        back = time.time()
        out = launched.finish(130)
    for says in (
        "lost its worker; it goes on from its last checkpoint",
        "trials go on, what they report is sent later",
        "MLflow answers again",
        "the epochs that run are finished and checkpointed first",
        "python -m study.launch --resume --name tiny",
    ):
        assert says in out
    interrupted, known = reports(study), known_epochs(study)
    assert all(known[trial] >= len(epochs) for trial, epochs in at_signal.items())
    states = set(Books(tmp_path).runs().values())
    assert "KILLED" in states <= {"KILLED", "FINISHED"}
    # MLflow has every epoch, at the time when it was measured. One may have been measured twice: if
    # the worker died between its report and its checkpoint.
    logged, again = times(tmp_path), []
    assert {t: e.keys() for t, e in logged.items()} == {t: e.keys() for t, e in interrupted.items()}
    for trial, epochs in logged.items():
        for epoch, at in epochs.items():
            # As whole milliseconds, which round(seconds, 3) is not always.
            measured = round(1000 * interrupted[trial][epoch]) / 1000
            assert at <= measured, (trial, epoch)
            again += [(trial, epoch)] * (at < measured)
    assert len(again) <= 1
    assert len([at for e in logged.values() for at in e.values() if gone < at < back]) >= 2

    # It goes on from a copy of its state, to its end.
    (state,) = study.glob("experiment_state-*.json")
    state.write_bytes(state.read_bytes()[:-100])
    with one_ray():
        out = launch_here(tmp_path, *options, "--resume")
    assert f"{state} is missing or torn" in out
    assert "going on from the copy of" in out
    check_books(Books(tmp_path), "tiny", N_TRIALS, N_EPOCHS)
    # What the copy of the state knew was not trained again.
    after = reports(study)
    assert any(known.values())
    for trial, n_epochs in known.items():
        for epoch in range(1, n_epochs + 1):
            assert after[trial][epoch] == interrupted[trial][epoch]
    assert set(METRICS) == {
        m for (m,) in Books(tmp_path).query("SELECT DISTINCT key FROM metrics")
    } - {
        "test_accuracy", "test_certified_accuracy", "attacked_accuracy", "hypervolume", "n_front",
        "n_completed", "hours", "device_hours",
    }  # fmt: skip
