from pathlib import Path

import pytest

from study.tracking.records import Records
from study.tracking.server.client import Client
from study.tracking.study_record import StudyRecord, TrialRecord
from tests.support.stored import Stored, copied


@pytest.fixture(scope="module")
def study_uri(finished: Path) -> str:
    return f"sqlite:///{finished}/mlflow.db"


@pytest.fixture(scope="module")
def study(study_uri: str) -> StudyRecord:
    record = Records(Client(study_uri)).find_study("tiny")
    assert record is not None
    return record


@pytest.fixture(scope="module")
def records(study_uri: str, study: StudyRecord) -> list[TrialRecord]:
    return Records(Client(study_uri)).trials_and_projections(study)


@pytest.fixture
def stored(study_uri: str, records: list[TrialRecord], tmp_path: Path) -> Stored:
    """A copy of the network of a trial. One that was projected is stored alike."""
    run_id = next(r.run_id for r in records if r.projected_to is None)
    return copied(study_uri, run_id, tmp_path)
