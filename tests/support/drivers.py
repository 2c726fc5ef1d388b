"""A driver with records in memory instead of MLflow."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

from study.execution.driver.environment import Driver
from study.metrics.reports import TrialStatus
from study.tracking.records import Records
from study.tracking.study_record import StudyRead, StudyRecord, TrialRecord


class Remembered:
    """Records of studies, which all have the same trials."""

    def __init__(self, *studies: StudyRecord, trials: tuple[TrialRecord, ...] = ()) -> None:
        self._studies, self._trials = studies, trials
        self.client = SimpleNamespace(place="in MLflow", tracking_uri="sqlite:///x")

    def studies(self) -> tuple[StudyRecord, ...]:
        return self._studies

    def of_file(self, source: str) -> list[StudyRecord]:
        return [study for study in self._studies if study.source == source]

    def find_study(self, name: str) -> StudyRecord | None:
        return next((study for study in self._studies if study.name == name), None)

    def is_taken(self, name: str) -> bool:
        return self.find_study(name) is not None

    def absent(self, name: str) -> str:
        return f"there is no study {name!r}"

    def check_files(self, study: StudyRecord) -> None:
        pass

    def n_completed(self, study: StudyRecord) -> int:
        return self.read(study).states.count(TrialStatus.COMPLETED)

    def read(self, study: StudyRecord) -> StudyRead:
        return StudyRead(study, self._trials)


def driver(
    folder: Path | str, records: Remembered | None = None, said: list[str] | None = None
) -> Driver:
    """A driver with its storage in a folder; its messages are appended to `said`."""
    say = (said if said is not None else []).append
    of = cast(Records, records or Remembered())
    return Driver(of, str(folder), None, say, lambda name, _: f"resume {name}")
