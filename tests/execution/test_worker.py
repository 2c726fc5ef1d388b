"""The worker's steps, in this process and without Ray."""

import gc
import itertools
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

from study.config.data import DataConfig
from study.errors import GpuError, GpuMemoryError, StorageError
from study.execution.trials import reports_in
from study.execution.worker import Batching, TrialTrainable, longest_wait
from study.metrics.artifacts import REPORTS, TRAINING_STATE, read_reports
from study.metrics.reports import EpochReport, TrialReport, TrialStatus
from study.search.suggestion import Suggestion
from study.trial import ladder
from study.trial.data import sources
from study.trial.data.tensors import Dataset
from tests.support.studies import epoch_report, tiny

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


@pytest.fixture(scope="module")
def after_one_epoch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that must not be changed."""
    of = worker()
    of.step()
    return saved(of, tmp_path_factory.mktemp("worker") / "checkpoint_000000")


@pytest.fixture
def stored(after_one_epoch: Path, tmp_path: Path) -> Path:
    """A copy of the same."""
    return Path(shutil.copytree(after_one_epoch, tmp_path / after_one_epoch.name))


def restored(folder: Path) -> None:
    worker().restore(Checkpoint.from_directory(str(folder)))


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA works here")
def test_a_worker_without_cuda_is_made_and_its_first_step_says_why(stored: Path) -> None:
    """Ray brings an error that is raised as a worker is made to the driver as text alone."""
    of = GpuWorker(config())
    for _ in range(2):
        with pytest.raises(GpuError, match=r"^node [0-9.]+: resources\.gpus: "):
            of.step()
        with pytest.raises(GpuError, match=r"^node [0-9.]+: resources\.gpus: "):
            of.restore(Checkpoint.from_directory(str(stored)))
        assert of.reset_config(config(1))


@pytest.mark.parametrize("where", ["step", "save", "restore"])
def test_a_gpu_that_runs_out_of_memory_says_where(
    where: str, stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = worker()

    def no_memory(*args: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(of._training()[0], "run_to_report", no_memory)
    monkeypatch.setattr(of, "save_checkpoint", no_memory)
    monkeypatch.setattr(of, "load_checkpoint", no_memory)
    checkpoint = Checkpoint.from_directory(str(stored))
    arguments = {"step": (), "save": (str(stored.parent),), "restore": (checkpoint,)}[where]
    with pytest.raises(GpuMemoryError, match=r"^node [0-9.]+: resources\.gpus: the GPU must have"):
        getattr(of, where)(*arguments)


def test_a_checkpoint_that_lacks_a_file_or_is_gone_is_an_error_of_the_storage(stored: Path) -> None:
    restored(stored)
    (stored / REPORTS).unlink()
    with pytest.raises(StorageError, match=r"^a checkpoint cannot be read: .*No such file"):
        restored(stored)
    shutil.rmtree(stored)
    with pytest.raises(StorageError, match=r"^a checkpoint cannot be read: .*not exist on storage"):
        restored(stored)


@pytest.mark.parametrize("name", [REPORTS, TRAINING_STATE])
@pytest.mark.parametrize("content", [b"", b"\x80garbage" * 10, b"3", b"[[]]"])
def test_a_checkpoint_with_garbage_in_a_file_names_the_file(
    name: str, content: bytes, stored: Path
) -> None:
    (stored / name).write_bytes(content)
    rule = (
        rf"^every file of a checkpoint must be whole, but {name} cannot be read: .*, in {stored};"
    )
    with pytest.raises(StorageError, match=rule):
        restored(stored)
    if name == REPORTS:
        with pytest.raises(StorageError, match=rule):
            reports_in(Checkpoint.from_directory(str(stored)))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_checkpoint_that_finds_the_disk_full_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = worker()
    monkeypatch.setattr(of, "save_checkpoint", lambda folder: Path("/dev/full").write_text("x"))
    with pytest.raises(StorageError, match=r"^a checkpoint cannot be written: the disk is full; "):
        of.save(str(tmp_path))


N_EPOCHS = 40


class Reporting:
    """Reports every few epochs, after so many seconds of a clock of its own."""

    def __init__(self, seconds: Iterator[float], every: int = 1) -> None:
        self._seconds, self._every = seconds, every
        self.now, self.epoch = 0.0, 0
        self.measured: dict[int, float] = {}

    def next_report(self) -> TrialReport:
        self.now += next(self._seconds)
        self.epoch = min(self.epoch + self._every, N_EPOCHS)
        self.measured[self.epoch] = self.now
        is_last = self.epoch == N_EPOCHS
        status = TrialStatus.COMPLETED if is_last else TrialStatus.RUNNING
        return TrialReport(status, epoch_report(self.epoch))


def batches(
    trial: Reporting, of: Batching, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[float, tuple[EpochReport, ...]]]:
    """When each batch of the trial was sent, and its reports."""
    monkeypatch.setattr(time, "monotonic", lambda: trial.now)
    sent = []
    while trial.epoch < N_EPOCHS:
        report = of.batch(trial.next_report, trial.epoch)
        sent.append((trial.now, report.epochs))
    return sent


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("wait", [0.0, 1.0, 4.0, 1e9])
@pytest.mark.parametrize("rungs", [(), (1, 3, 9, 27), (4, 16)])
def test_every_report_goes_once_none_late_and_none_past_a_rung(
    wait: float, rungs: tuple[int, ...], every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = Reporting(itertools.repeat(0.7), every)
    sent = batches(trial, Batching(wait, frozenset(rungs)), monkeypatch)
    epochs = [[report.epoch for report in reports] for _, reports in sent]
    assert list(itertools.chain(*epochs)) == list(trial.measured)
    for at, reports in sent:
        assert at - trial.measured[reports[0].epoch] <= wait
    # The first report at or behind a rung decides there, so it ends its batch.
    decisive = {next(e for e in trial.measured if e >= rung) for rung in rungs}
    assert decisive <= {batch[-1] for batch in epochs}
    # As many as fit: with one more the first would have been late, or a decision in between.
    for (at, reports), following in zip(sent, epochs[1:], strict=False):
        if reports[-1].epoch not in decisive:
            assert trial.measured[following[0]] - trial.measured[reports[0].epoch] > wait, at


def test_an_epoch_much_longer_than_the_one_before_is_not_waited_for_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trial = Reporting(itertools.chain([1.0, 1.0, 30.0], itertools.repeat(1.0)))
    sent = batches(trial, Batching(4.0, frozenset()), monkeypatch)
    assert [report.epoch for report in sent[0][1]] == [1, 2, 3]
    assert len(sent[1][1]) == 5


def test_a_failure_ends_a_batch_and_takes_the_reports_before_along() -> None:
    reports = iter(
        [
            TrialReport(TrialStatus.RUNNING, epoch_report(1)),
            TrialReport(TrialStatus.FAILED, reason="diverged"),
        ]
    )
    batch = Batching(1e9, frozenset()).batch(lambda: next(reports), 0)
    assert (batch.status, batch.epoch, batch.reason) == (TrialStatus.FAILED, None, "diverged")
    assert [report.epoch for report in batch.epochs] == [1]


def test_few_trials_report_at_once_and_many_within_seconds() -> None:
    assert longest_wait(1) < 0.1
    assert longest_wait(10**6) == longest_wait(1000) < 5
