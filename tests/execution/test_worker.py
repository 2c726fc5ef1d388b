"""The worker's steps, in this process and without Ray."""

import gc
import shutil
import time
import weakref
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from ray.tune import Checkpoint

from study.config.trial import DataConfig
from study.errors import GpuError, GpuMemoryError, StorageError
from study.execution.trials import reports_in
from study.execution.worker.batching import Batching
from study.execution.worker.trainable import TrialTrainable
from study.metrics.artifacts import REPORTS, TRAINING_STATE, read_reports
from study.metrics.reports import TrialReport, TrialStatus
from study.search.suggestion import Suggestion
from study.trial import ladder
from study.trial.data import sources
from study.trial.data.tensors import Dataset
from tests.support.studies import tiny

STUDY = tiny()
SAMPLE = {"coeff": 0.5, "n_power_iterations": 3, "dropout": 0.1}


class Worker(TrialTrainable):
    study = STUDY
    batching = Batching(0.0, frozenset())

    # Without what Tune would bring.
    def setup(self, config: dict[str, Any]) -> None:  # type: ignore[override]
        super().setup(config, self.study, self.batching)


def config(n: int = 0, **sample: Any) -> dict[str, Any]:
    return asdict(Suggestion(n, n, n, {**SAMPLE, **sample}))


def worker() -> TrialTrainable:
    return Worker(config())


def report_of(result: dict[str, Any]) -> Any:
    return TrialReport.from_result(result)


def saved(of: TrialTrainable, folder: Path) -> Path:
    folder.mkdir()
    of.save_checkpoint(str(folder))
    return folder


def test_a_restored_trial_sends_all_its_reports_again_before_it_trains(tmp_path: Path) -> None:
    first = worker()
    reports = [report_of(first.step()) for _ in range(2)]
    checkpoint = saved(first, tmp_path / "at_2")
    third = report_of(first.step())
    assert third.status is TrialStatus.COMPLETED
    at_end = saved(first, tmp_path / "at_3")

    again = worker()
    again.load_checkpoint(str(checkpoint))
    result = again.step()
    assert not result["done"]
    sent = report_of(result)
    assert sent.epoch == reports[1].epoch
    assert sent.earlier == (reports[0].epoch,)
    assert sent.is_repeated
    goes_on = report_of(again.step())
    assert goes_on.earlier == ()
    assert not goes_on.is_repeated
    assert goes_on.epoch.epoch == 3
    assert goes_on.epoch.val_loss == third.epoch.val_loss

    last = worker()
    last.load_checkpoint(str(at_end))
    result = last.step()
    assert result["done"]
    sent = report_of(result)
    assert [sent.status, *sent.earlier, sent.epoch] == [
        TrialStatus.COMPLETED,
        *read_reports((at_end / "reports.json").read_bytes()),
    ]
    assert sent.projections == third.projections


def cpu_hours(of: TrialTrainable) -> Any:
    return [report.cpu_hours for report in of._reports]


def test_a_trial_says_what_it_has_cost_and_goes_on_from_there(tmp_path: Path) -> None:
    """By the clock of this process, which is the worker."""
    start = time.process_time()
    first = worker()
    for _ in range(2):
        first.step()
    folder = saved(first, tmp_path / "at_2")
    until_second = (time.process_time() - start) / 3600
    before = cpu_hours(first)
    assert 0 < before[0] < before[1] <= until_second
    first.step()

    again = worker()
    again.load_checkpoint(str(folder))
    assert report_of(again.step()).epoch == first._reports[1]  # sent as it was
    start = time.process_time()
    last = report_of(again.step()).epoch
    spent = (time.process_time() - start) / 3600
    assert cpu_hours(again)[:2] == before
    assert last.cpu_hours - before[1] > 0.9 * spent  # and what came before the step
    assert (last.gpu_hours, last.device_use) == (None, {})


def test_the_cost_of_proofs_and_projections_is_in_the_last_report(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    of = worker()
    for _ in range(2):
        of.step()

    def projected(*_: object) -> Iterator[Any]:
        start = time.process_time()
        while time.process_time() - start < 0.5:
            pass
        yield from ()

    monkeypatch.setattr(ladder, "projections", projected)
    start = time.process_time()
    of.step()
    spent = (time.process_time() - start) / 3600
    hours = cpu_hours(of)
    assert hours[2] - hours[1] > 0.5 / 3600
    assert hours[2] - hours[1] == pytest.approx(spent, rel=0.1)


def test_a_worker_holds_one_trial_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU may not have the memory for two."""
    of = worker()
    while not of.step()["done"]:
        pass
    before = [weakref.ref(p) for p in of._training()[0].model.parameters()]
    n_left = []
    load = sources.load

    def loaded(data: DataConfig) -> Dataset:
        gc.collect()
        n_left.append(sum(p() is not None for p in before))
        return load(data)

    monkeypatch.setattr(sources, "load", loaded)
    assert of.reset_config(config(1))
    of.step()
    assert n_left == [0]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++")
def test_a_worker_compiles_more_trials_than_torch_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = torch.compile
    monkeypatch.setattr(torch, "compile", lambda m, **kw: compiled(m, backend="eager", **kw))
    study = tiny(training={"compile": True, "max_epochs": 1}, model={"blocks": [1]})
    of = Worker.__new__(Worker)
    of._study, of._batching = study, Worker.batching
    n_kept = 2
    with torch._dynamo.config.patch(recompile_limit=n_kept):
        for n in range(n_kept + 1):
            of._begin(config(n, dropout=0.05 + 0.02 * n))
            assert report_of(of.step()).status is TrialStatus.COMPLETED
    torch.compiler.reset()


class GpuWorker(Worker):
    study = tiny(resources={"gpus": 0.5})


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA works here")
def test_a_worker_without_cuda_is_made_and_its_first_step_says_why(tmp_path: Path) -> None:
    """Of an error as it is made, Ray brings a text alone to the driver."""
    checkpoint = worker()
    checkpoint.step()
    stored = Checkpoint.from_directory(str(saved(checkpoint, tmp_path / "at_1")))
    of = GpuWorker(config())
    for _ in range(2):
        with pytest.raises(GpuError, match=r"^node [0-9.]+: resources\.gpus: "):
            of.step()
        with pytest.raises(GpuError, match=r"^node [0-9.]+: resources\.gpus: "):
            of.restore(stored)
        assert of.reset_config(config(1))


@pytest.mark.parametrize("where", ["step", "save", "restore"])
def test_a_gpu_that_runs_out_of_memory_says_where(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = worker()
    of.step()
    checkpoint = Checkpoint.from_directory(str(saved(of, tmp_path / "at_1")))

    def no_memory(*args: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(of._training()[0], "run_to_report", no_memory)
    monkeypatch.setattr(of, "save_checkpoint", no_memory)
    monkeypatch.setattr(of, "load_checkpoint", no_memory)
    arguments = {"step": (), "save": (str(tmp_path / "at_2"),), "restore": (checkpoint,)}[where]
    with pytest.raises(GpuMemoryError, match=r"^node [0-9.]+: resources\.gpus: the GPU must have"):
        getattr(of, where)(*arguments)


def test_a_checkpoint_that_lacks_a_file_or_is_gone_is_an_error_of_the_storage(
    tmp_path: Path,
) -> None:
    of = worker()
    of.step()
    folder = saved(of, tmp_path / "at_1")
    checkpoint = Checkpoint.from_directory(str(folder))
    of.restore(checkpoint)
    (folder / REPORTS).unlink()
    with pytest.raises(StorageError, match=r"^a checkpoint cannot be read: .*No such file"):
        of.restore(checkpoint)
    shutil.rmtree(folder)
    with pytest.raises(StorageError, match=r"^a checkpoint cannot be read: .*not exist on storage"):
        of.restore(checkpoint)


@pytest.mark.parametrize("name", [REPORTS, TRAINING_STATE])
@pytest.mark.parametrize("content", [b"", b"\x80garbage" * 10, b"3", b"[[]]"])
def test_a_checkpoint_with_garbage_in_a_file_names_the_file(
    name: str, content: bytes, tmp_path: Path
) -> None:
    of = worker()
    of.step()
    folder = saved(of, tmp_path / "checkpoint_000000")
    checkpoint = Checkpoint.from_directory(str(folder))
    (folder / name).write_bytes(content)
    rule = (
        rf"^every file of a checkpoint must be whole, but {name} cannot be read: .*, in {folder};"
    )
    with pytest.raises(StorageError, match=rule):
        of.restore(checkpoint)
    if name == REPORTS:
        with pytest.raises(StorageError, match=rule):
            reports_in(checkpoint)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_checkpoint_that_finds_the_disk_full_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = worker()
    monkeypatch.setattr(of, "save_checkpoint", lambda folder: Path("/dev/full").write_text("x"))
    with pytest.raises(StorageError, match=r"^a checkpoint cannot be written: the disk is full; "):
        of.save(str(tmp_path))
