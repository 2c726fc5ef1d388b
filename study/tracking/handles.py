"""What a network is called, and which run is meant.

digits/0004       a trial
digits/0004@0.5   the network to which that trial's was projected at coefficient 0.5
digits@knee       a recommended one, once the study has ended
3f9c              the beginning of a run id
"""

import re

from mlflow.entities import Run

from study.errors import TrackingError, one_of, quoted, some
from study.tracking.records import Records, TrialRecord, network_of

_FORMS = (
    "STUDY/TRIAL, STUDY/TRIAL@COEFF, STUDY@knee, STUDY@most-accurate, STUDY@most-invertible "
    "or the beginning of a run id, 4 characters or more"
)
RUN_ID = re.compile(r"[0-9a-f]{4,32}")
"""A run id, or how one begins."""
_LENGTH_OF_ID = 32


def network_label(trial_id: str, projected_to: float | None) -> str:
    """A network within its study: "0004", or "0004@0.5"."""
    return trial_id if projected_to is None else f"{trial_id}@{projected_to:g}"


def run_of(records: Records, network: str) -> str:
    """The id of the run that a handle, or the beginning of a run id, means.

    Raises:
        TrackingError: if it means none, or more than one.
    """
    study, slash, label = network.partition("/")
    if slash:
        return _of_study(records, study, label)
    study, at, alias = network.partition("@")
    if at:
        return _of_alias(records, study, alias)
    if not RUN_ID.fullmatch(network):
        raise TrackingError(f"NETWORK: it must be {_FORMS}, but got {quoted(network)}")
    return _of_beginning(records, network)


def handle_of(records: Records, run_id: str) -> str:
    """The handle of the run of a trial or of a projection."""
    run, client = records.run(run_id), records.client
    study = client.call(client.api.get_experiment, run.info.experiment_id).name
    return f"{study}/{network_label(*network_of(run))}"


def _of_study(records: Records, study: str, label: str) -> str:
    trials = _trials(records, study)
    matching = [r for r in trials if network_label(r.trial_id, r.projected_to) == label]
    if not matching:
        trial_id = label.partition("@")[0]
        own = [r for r in trials if r.trial_id == trial_id]
        named = own or [r for r in trials if r.projected_to is None]
        have = some([network_label(r.trial_id, r.projected_to) for r in named])
        raise TrackingError(
            f"NETWORK: it must be in {study}, which has {have}, but got {quoted(label)}"
        )
    return matching[0].run_id


def _of_alias(records: Records, study: str, alias: str) -> str:
    known: dict[str, str] = {}
    for record in _trials(records, study):
        known.update(dict.fromkeys(record.aliases, record.run_id))
    if alias not in known:
        if not known:
            raise TrackingError(
                f"NETWORK: networks are recommended when a study ends, but got {quoted(alias)} of "
                f"{study}, which has none"
            )
        raise TrackingError(f"NETWORK: what stands behind {study}@ {one_of(alias, sorted(known))}")
    return known[alias]


def _trials(records: Records, name: str) -> list[TrialRecord]:
    study = records.find_study(name)
    if study is None:
        raise TrackingError(f"NETWORK: {records.absent(name)}")
    return records.trials_and_projections(study)


def _of_beginning(records: Records, beginning: str) -> str:
    if len(beginning) == _LENGTH_OF_ID:
        return beginning
    matching: list[Run] = records.runs_beginning(beginning)
    if len(matching) == 1:
        return str(matching[0].info.run_id)
    if not matching:
        raise TrackingError(
            f"NETWORK: a run must begin so {records.client.place}, but none begins with "
            f"{quoted(beginning)}"
        )
    ids = some([run.info.run_id for run in matching])
    raise TrackingError(
        f"NETWORK: one run must begin so, but got {quoted(beginning)}, and {ids} do"
    )
