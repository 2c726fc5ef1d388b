"""Members of families that are stored when they are asked for, after the end of their study."""

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from models import is_import_path
from study.config.trial import TrialConfig, with_settings
from study.errors import UserError
from study.metrics.reports import TrialStatus
from study.tracking import projection_run
from study.tracking.handles import network_label
from study.tracking.records import Records
from study.tracking.stored_model import data_digest
from study.tracking.study_record import StudyRead, TrialRecord
from study.trial.data import sources
from study.trial.data.tensors import Dataset
from study.trial.ladder import measured
from study.trial.measured.network_files import Certified, save_network
from study.verification.member import load_member


def add(
    records: Records,
    study: StudyRead,
    conditions: Mapping[str, float],
    data_root: str | None,
    trust: bool,
) -> None:
    """Store the member with these conditions of each family of a study, unless it is there; see
    `Study.add`. Raises UserError before anything is stored."""
    families = _families(study)
    # Of all families first: what the user got wrong is said before anything is written.
    members = [
        load_member(records, study, trial.run_id, conditions, trust).float() for trial in families
    ]
    family = study.record.config.family
    row, middle = tuple(conditions[name] for name, _ in family), tuple(s.middle for _, s in family)
    # A trial's own network is the member in the middle.
    there = {
        network_label(n.trial_id, middle if n.variant is None else n.variant): n
        for n in study.networks
    }
    client, dataset = records.client, None
    for trial, member in zip(families, members, strict=True):
        before = there.get(network_label(trial.trial_id, row))
        if before is not None and before.state is TrialStatus.COMPLETED:
            continue
        config = with_settings(study.record.config.resolve(trial.sample, seed=0), conditions)
        dataset = dataset or _dataset(records, trial, config, data_root, trust)
        if before is not None:  # from a command that was cut off
            client.delete_run(before.run_id)
        for one in measured(dataset, Certified.of(member), config, None, row):
            with tempfile.TemporaryDirectory() as temporary:
                folder, of_trial = Path(temporary), client.get_run(trial.run_id)
                save_network(folder, one.network, one.answers, config, dataset)
                of_study, epoch = study.record.config, trial.n_epochs
                projection_run.log(client, of_study, of_trial, one.report, folder, epoch, {})


def _families(study: StudyRead) -> list[TrialRecord]:
    """The trials of a study that trained a family. Raises UserError if it has not ended, or there
    are none."""
    name, of_study = study.record.name, study.record.config
    if not study.record.finished:
        raise UserError(f"a study must have ended, but {name} has not", "study")
    own = (trial for trial in study.networks if of_study.family and trial.variant is None)
    families = [trial for trial in own if trial.state is TrialStatus.COMPLETED]
    if not families:
        raise UserError(f"a study must have trained a family, but {name} has not", "study")
    return families


def _dataset(
    records: Records, trial: TrialRecord, config: TrialConfig, data_root: str | None, trust: bool
) -> Dataset:
    """The data that a trial was trained on. Raises UserError if other data is there, or it or a
    metric is by code that is not trusted."""
    own = (config.data.name, *dict(config.metrics).values())
    if not trust and any(map(is_import_path, own)):
        raise UserError("must be given, since the study has data or metrics of its own", "trust")
    root = config.data.root if data_root is None else data_root
    dataset = sources.load(replace(config.data, root=root, download=False))
    digest = data_digest(records, trial.run_id)
    if digest != dataset.sha256:
        rule = f"must have the data with the digest {digest!s:.8}, which the study was trained on"
        raise UserError(f"{rule}, but that in {root} has {dataset.sha256:.8}", "data_root")
    return dataset
