"""Records of a study and its trials, with made-up figures."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rich.console import Console

from study.metrics.definitions import METRICS
from study.metrics.goals import Objective
from study.metrics.reports import TrialStatus
from study.results.report import Report, collect
from study.results.views.report_view import view
from study.tracking.records import Records
from study.tracking.server.client import Client
from study.tracking.study_record import StudyRecord, TrialRecord
from tests.support.studies import epoch_report, tiny


class Kept(Records):
    """Records with artifacts only: `files` maps run id -> file name -> content."""

    def __init__(
        self,
        files: Mapping[str, Mapping[str, bytes]] | None = None,
        tracking_uri: str = "sqlite:////nowhere/mlflow.db",
    ) -> None:
        super().__init__(Client(tracking_uri))
        self.files = {run_id: dict(of_run) for run_id, of_run in (files or {}).items()}

    def artifacts(self, run_id: str) -> set[str]:
        return set(self.files.get(run_id, ()))

    def artifact(self, run_id: str, name: str) -> bytes:
        return self.files[run_id][name]


def unread(
    trials: Sequence[TrialRecord],
    study: StudyRecord | None = None,
    tracking_uri: str = "sqlite:////nowhere/mlflow.db",
) -> Report:
    """A report of trials without artifacts."""
    return replace(collect(study or STUDY, trials), records=Kept(tracking_uri=tracking_uri))


STUDY = StudyRecord(
    "tiny", "1", "parent", tiny(), "/x/tiny.yaml", "/x/tiny", True, is_published=True
)


def trial(
    number: int,
    state: TrialStatus = TrialStatus.COMPLETED,
    sample: dict[str, Any] | None = None,
    **metrics: float,
) -> TrialRecord:
    """A trial, with the metrics of epoch_report unless given."""
    sample = sample or {"coeff": 0.5, "n_power_iterations": 1, "dropout": 0.1}
    return TrialRecord(
        trial_id=f"{number:04d}",
        run_id=f"run{number}",
        state=state,
        params={key: str(value) for key, value in sample.items()},
        metrics=epoch_report(3, **metrics).metrics(),
        sample=sample,
        repeat_of=f"{number:04d}",
        n_epochs=3,
        started=1000.0 * number,
        ended=1000.0 * number + 900,
    )


def sought(**references: float) -> tuple[Objective, ...]:
    """Objectives with these reference values, each in the direction of its metric."""
    return tuple(
        Objective(name, METRICS[name].direction, value) for name, value in references.items()
    )


def study_of(goals: tuple[Objective, ...], **changes: Any) -> StudyRecord:
    """STUDY with these objectives, and other changes of its config."""
    return replace(STUDY, config=replace(STUDY.config, objectives=goals, **changes))


def printed(
    results: Report, every: bool = False, width: int = 150, options: Sequence[str] = ()
) -> str:
    """The report as `study.report` prints it."""
    out = io.StringIO()
    view(results).print_to(Console(file=out, width=width), every, options)
    return out.getvalue()


def measured(number: int, accuracy: float, bound: float = 0.8, steps: float = 4.0) -> TrialRecord:
    """A trial with these objectives."""
    return trial(
        number, val_accuracy=accuracy, block_lipschitz_upper_bound=bound, inverse_steps=steps
    )


def projection(number: int, coeff: float, **metrics: float) -> TrialRecord:
    """A projection of a trial."""
    record = trial(number, **metrics)
    return replace(record, variant=coeff, run_id=f"run{number}-{coeff:g}", n_epochs=0)


def marks(results: Report) -> dict[str, str]:
    return {point.label: point.mark.value for point in results.points}


def projections(client: Client, study: StudyRecord) -> list[TrialRecord]:
    """The projections of a study in MLflow, by trial id and descending coefficient."""
    records = Records(client).trials_and_projections(study)
    return [record for record in records if record.projected_to is not None]
