import itertools
from collections.abc import Iterator

import pytest

from study.execution import worker
from study.execution.worker import Batching, longest_wait
from study.metrics.reports import EpochReport, TrialReport, TrialStatus
from tests.support.studies import epoch_report

N_EPOCHS = 40


class Trial:
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
    trial: Trial, of: Batching, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[float, tuple[EpochReport, ...]]]:
    """When each batch of the trial was sent, and its reports."""
    monkeypatch.setattr(worker.time, "monotonic", lambda: trial.now)
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
    trial = Trial(itertools.repeat(0.7), every)
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
    trial = Trial(itertools.chain([1.0, 1.0, 30.0], itertools.repeat(1.0)))
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
