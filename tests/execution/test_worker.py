"""The worker's steps, in this process and without Ray."""

from pathlib import Path
from typing import Any

from study.artifacts import read_reports
from study.execution.worker import TrialTrainable
from study.metrics import TrialReport, TrialStatus
from study.search.suggestion import Suggestion
from tests.support.studies import tiny

STUDY = tiny()
SAMPLE = {"coeff": 0.5, "n_power_iterations": 3, "dropout": 0.1}


class Worker(TrialTrainable):
    # Without the study, which Tune would bring.
    def setup(self, config: dict[str, Any]) -> None:  # type: ignore[override]
        super().setup(config, STUDY)


def worker() -> TrialTrainable:
    return Worker(Suggestion(0, 0, 0, SAMPLE).to_config())


def report_of(result: dict[str, Any]) -> TrialReport:
    report = TrialReport.from_result(result)
    assert report is not None
    return report


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
    assert goes_on.epoch is not None
    assert third.epoch is not None
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
