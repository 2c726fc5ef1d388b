"""Names of networks, and the runs that they mean.

digits/0004       a trial
digits/0004@0.5   that trial's network, scaled until each block's g has the bound 0.5
digits/0004@0.1,0.4   the member of that trial's family with the conditions 0.1 and 0.4, in the
                  order of its study file
digits@knee       a recommended network, once the study has ended
3f9c              the beginning of a run id
"""

import re
from collections.abc import Sequence

from study.errors import TrackingError, quoted, some
from study.metrics.reports import Variant
from study.tracking.records import Records
from study.tracking.study_record import TrialRecord
from study.tracking.values import network_of

_FORMS = (
    "STUDY/TRIAL, STUDY/TRIAL@BOUND, STUDY/TRIAL@CONDITIONS, STUDY@knee, STUDY@most-accurate, "
    "STUDY@most-certified, STUDY@most-invertible "
    "or the beginning of a run id, 4 characters or more"
)
RUN_ID = re.compile(r"[0-9a-f]{4,32}")
"""A run id or its beginning."""
_LENGTH_OF_ID = 32


def network_label(trial_id: str, variant: Variant) -> str:
    """The label of a network within its study: "0004", "0004@0.5" or "0004@0.1,0.4"."""
    if variant is None:
        return trial_id
    numbers = variant if isinstance(variant, tuple) else (variant,)
    return f"{trial_id}@{','.join(f'{number:g}' for number in numbers)}"


def run_of(records: Records, network: str) -> str:
    """The run id of a handle or an id prefix. Raises TrackingError unless it means just one run."""
    is_label = "/" in network
    name, separator, word = network.partition("/" if is_label else "@")
    if not separator:
        return _of_beginning(records, network)
    study = records.find_study(name)
    if study is None:
        raise TrackingError(records.absent(name), key="network")
    networks = records.trials_and_projections(study)
    runs = runs_by_label(networks, name) if is_label else _runs_by_alias(networks, name)
    if word in runs:
        return runs[word]
    if is_label:
        trial = word.partition("@")[0]
        # The networks of that trial if it exists, else the trials.
        near = [label for label in runs if label.partition("@")[0] == trial]
        have = some(near or [label for label in runs if "@" not in label])
        raise TrackingError(f"must be in {name}, which has {have}", key="network", value=word)
    if not runs:
        rule = f"{name} recommends none before it has ended, but got {quoted(word)}"
        raise TrackingError(rule, key="network")
    rule = f"what follows {name}@ must be one of {', '.join(sorted(runs))}"
    raise TrackingError(rule, key="network", value=word)


def handle_of(records: Records, run_id: str) -> str:
    """The handle of the run of a trial or projection."""
    run, client = records.client.get_run(run_id), records.client
    study = client.call(client.api.get_experiment, run.info.experiment_id).name
    return f"{study}/{network_label(*network_of(run))}"


def runs_by_label(networks: Sequence[TrialRecord], study: str) -> dict[str, str]:
    """Label -> run id of the networks of a study. Raises TrackingError if two have the same label:
    a printed label could then be used to verify the other network."""
    labels = [(network_label(n.trial_id, n.variant), n.run_id) for n in networks]
    return _only_runs(labels, f"{study}/")


def _runs_by_alias(networks: Sequence[TrialRecord], study: str) -> dict[str, str]:
    return _only_runs([(name, n.run_id) for n in networks for name in n.aliases], f"{study}@")


def _only_runs(named: Sequence[tuple[str, str]], before: str) -> dict[str, str]:
    """Name -> run id. Raises TrackingError if two runs share a name; its message puts `before` in
    front of the name."""
    runs: dict[str, str] = {}
    for name, run_id in named:
        if name in runs:
            rule = f"exactly one run must be {before}{name}, but {runs[name]} and {run_id} are"
            raise TrackingError(f"{rule}; delete one of them in MLflow", key="network")
        runs[name] = run_id
    return runs


def _of_beginning(records: Records, beginning: str) -> str:
    if not RUN_ID.fullmatch(beginning):
        raise TrackingError(f"must be {_FORMS}", key="network", value=beginning)
    if len(beginning) == _LENGTH_OF_ID:
        return beginning
    ids = [str(run.info.run_id) for run in records.runs_beginning(beginning)]
    if len(ids) != 1:
        have = some(ids) + " do" if ids else "none does"
        raise TrackingError(
            f"exactly one run {records.client.place} must have an id that begins with "
            f"{quoted(beginning)}, but {have}",
            key="network",
        )
    return ids[0]
