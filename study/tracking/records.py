"""MLflow -> records of studies, trials and projections.

A study is an experiment with a parent run, below that a run for each trial, and below a trial a run
for each of its projections. Code that needs the whole study reads one StudyRead, and hands it on.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace

from mlflow.entities import Experiment, Run

from study.config.parser import parse
from study.config.trial import MAX_EPOCHS
from study.errors import TrackingError, absent, escaped, printable
from study.metrics.definitions import HOURS
from study.metrics.reports import TrialStatus, Variant, is_control
from study.tracking import tags
from study.tracking.server import files
from study.tracking.server.client import Client
from study.tracking.server.locations import check_not_moved
from study.tracking.study_record import StudyRead, StudyRecord, TrialRecord
from study.tracking.values import as_json, metrics_of, network_of, sample_of, seconds, value_of

# MLflow's filter for trials and projections.
_NETWORKS = f"tags.`{tags.KIND}` != '{tags.STUDY}'"
_ORIGINS = (("told", tags.TOLD), ("given", tags.GIVEN))


class Records:
    """Studies and trials of a server or database. Methods raise TrackingError as Client's do."""

    def __init__(self, client: Client, keeps_files: bool = False) -> None:
        """`keeps_files`: keep each file that is read, and read it again only after `forget`."""
        self.client, self._call = client, client.call
        self._places: dict[str, str] = {}
        self._keeps_files = keeps_files
        self._files: dict[tuple[str, str], bytes] = {}

    def is_taken(self, name: str) -> bool:
        """Whether an experiment of that name exists, deleted or not."""
        return self._experiment(name) is not None

    def check_files(self, study: StudyRecord) -> None:
        """Raise TrackingError if the files of a study's runs cannot be written from here: a server
        keeps them and this is only its database, or the study was moved."""
        location = self.client.get_run(study.run_id).info.artifact_uri
        check_not_moved(self.client.tracking_uri, study.name, location)
        self.artifacts(study.run_id)

    def find_study(self, name: str) -> StudyRecord | None:
        """The study of that name; None if there is none."""
        experiment = self._experiment(name)
        if experiment is None or experiment.lifecycle_stage != "active":
            return None
        return next((study for study, _ in self._studies([experiment])), None)

    def studies(self) -> Iterator[StudyRecord]:
        """All studies, the latest first."""
        return (study for study, _ in self.studies_with_runs())

    def of_file(self, source: str) -> list[StudyRecord]:
        """The studies of a file, the latest first."""
        return [study for study in self.studies() if study.source == source]

    def absent(self, name: str) -> str:
        """The message for a missing study: the place, and the nearest name or those that exist."""
        known = [study.name for study in self.studies()]
        return f"a study must be {self.client.place}, but {absent(name, known, 'study')}"

    def studies_with_runs(self) -> Iterator[tuple[StudyRecord, Run]]:
        """All studies, the latest first, each with its own MLflow run."""
        return self._studies(self._experiments())

    def study_of(self, run: Run) -> StudyRecord | None:
        """The study of the run of a trial or projection; None if there is none."""
        experiment = self._call(self.client.api.get_experiment, run.info.experiment_id)
        return next((study for study, _ in self._studies([experiment])), None)

    def _experiment(self, name: str) -> Experiment | None:
        if self.client.is_absent():
            return None
        return self._call(self.client.api.get_experiment_by_name, name)

    def _experiments(self) -> list[Experiment]:
        if self.client.is_absent():
            return []
        return list(self._call(self.client.api.search_experiments))

    def _studies(self, experiments: Sequence[Experiment]) -> Iterator[tuple[StudyRecord, Run]]:
        names = {experiment.experiment_id: experiment.name for experiment in experiments}
        for run in self.client.search_runs([*names], f"tags.`{tags.KIND}` = '{tags.STUDY}'"):
            of_run = run.data.tags
            # Anybody may have changed these tags.
            n_searches = (as_json(of_run.get(tags.EXTENSION, ""), dict) or {}).get("n_searches")
            versions = as_json(of_run.get(tags.VERSIONS, ""), dict) or {}
            own_code = as_json(of_run.get(tags.OWN_CODE, ""), dict) or {}
            try:
                content = json.loads(of_run[tags.CONFIG])
                name = {"name": names[run.info.experiment_id]}
                config = parse(content, run.info.run_name, name)
                source, storage = of_run[tags.SOURCE], of_run[tags.STORAGE]
                state = TrialStatus(of_run[tags.STATE])
            except (KeyError, ValueError, RecursionError):
                continue  # of somebody else
            study = StudyRecord(
                name=config.name,
                experiment_id=run.info.experiment_id,
                run_id=run.info.run_id,
                config=config,
                source=source,
                storage=storage,
                finished=state is TrialStatus.COMPLETED,
                n_searches=n_searches if type(n_searches) is int else 0,
                commit=printable(of_run[tags.COMMIT]) if tags.COMMIT in of_run else None,
                is_clean=of_run.get(tags.TREE) != "changed",
                versions={printable(name): printable(str(of)) for name, of in versions.items()},
                is_told=of_run.get(tags.TOLD) == "true",
                own_code=own_code,
                is_published=of_run.get(tags.PUBLISHED) == "true",
                # Empty if the study was extended since.
                end_of_search=printable(of_run.get(tags.END_OF_SEARCH, "")) or None,
                hours=metrics_of(run).get(HOURS, 0.0),
            )
            yield study, run

    def read(self, study: StudyRecord) -> StudyRead:
        """A study as it is now, with all of its networks. Raises TrackingError if it is gone."""
        experiment = self._call(self.client.api.get_experiment, study.experiment_id)
        for now, _ in self._studies([experiment]):
            if now.run_id == study.run_id:
                return StudyRead(now, tuple(self.trials_and_projections(now)))
        raise TrackingError(self.absent(study.name), "study")

    def n_completed(self, study: StudyRecord) -> int:
        """The number of trials of a study that trained for all of their epochs, so far."""
        of_trials = f"tags.`{tags.KIND}` = '{tags.TRIAL}'"
        condition = f"{of_trials} and tags.`{tags.STATE}` = '{TrialStatus.COMPLETED}'"
        return sum(1 for _ in self.client.search_runs([study.experiment_id], condition))

    def trials(self, study: StudyRecord) -> list[TrialRecord]:
        """The trials of a study, by trial id."""
        records = self.trials_and_projections(study)
        return [record for record in records if record.variant is None]

    def trials_and_projections(self, study: StudyRecord, where: str = "") -> list[TrialRecord]:
        """The trials of a study by id, each followed by its projections, largest bound first;
        `where` is an MLflow search filter."""
        # One search: MLflow scans the experiment for each.
        condition = _NETWORKS + (f" and {where}" if where else "")
        runs = self.client.search_runs([study.experiment_id], condition)
        records = [_record(study, run) for run in runs if _is_of(study, run)]
        return sorted(
            _grouped(study, records),
            key=lambda r: (int(r.trial_id), *_place(r.variant)),
        )

    def ended(self, study: StudyRecord, since: float) -> set[tuple[str, float]]:
        """(run id, end) of the runs of trials that ended after `since`, and of the study's own run
        if it did too. Times are in seconds since 1970-01-01 UTC. Projections are left out: they end
        before their trial."""
        ended = f"attributes.end_time > {round(since * 1000)}"
        condition = f"{ended} and tags.`{tags.KIND}` != '{tags.PROJECTION}'"
        runs = self.client.search_runs([study.experiment_id], condition)
        return {
            (run.info.run_id, end)
            for run in runs
            if (run.info.run_id == study.run_id or _is_of(study, run))
            and (end := seconds(run.info.end_time)) is not None
        }

    def runs_beginning(self, beginning: str) -> list[Run]:
        """The runs of trials and projections whose id begins with `beginning`."""
        condition = f"attributes.run_id LIKE '{beginning}%' and {_NETWORKS}"
        ids = [experiment.experiment_id for experiment in self._experiments()]
        return list(self.client.search_runs(ids, condition))

    def artifacts(self, run_id: str) -> set[str]:
        """The names of a run's files. Raises LocationError as `files.allowed` does."""
        return files.names(self.client, self._place(run_id))

    def artifact(self, run_id: str, name: str) -> bytes:
        """The content of a run's file. Raises LocationError as `files.allowed` does."""
        file = self._files.get((run_id, name))
        if file is None:
            file = files.content(self.client, self._place(run_id), name)
            if self._keeps_files:
                self._files[run_id, name] = file
        return file

    def forget(self, run_ids: set[str]) -> None:
        """Forget the files of runs, which may have been replaced."""
        self._files = {key: file for key, file in self._files.items() if key[0] not in run_ids}

    def _place(self, run_id: str) -> str:
        """The address of the files of a run, also after a move."""
        if run_id not in self._places:
            self._places[run_id] = files.place_of(self.client, self.client.get_run(run_id))
        return self._places[run_id]


def _place(variant: Variant) -> tuple[int, tuple[float, ...]]:
    """The place of a network among those of its trial."""
    if isinstance(variant, tuple):
        return (2 if is_control(variant) else 1), variant
    return (0, ()) if variant is None else (2, (-variant,))


def _is_of(study: StudyRecord, run: Run) -> bool:
    """Whether a run is a trial or projection of a study; users may put other runs beside them."""
    kind, parent = run.data.tags[tags.KIND], run.data.tags.get(tags.PARENT)
    return bool(kind == tags.PROJECTION or (kind == tags.TRIAL and parent == study.run_id))


def _grouped(study: StudyRecord, records: Sequence[TrialRecord]) -> Iterator[TrialRecord]:
    """Yield the records, without a `repeat_of` that cannot be true, since tags may be wrong: of a
    trial of another sample, or in a study without repeats."""
    texts = [json.dumps(record.sample, sort_keys=True) for record in records]
    of_trial = {record.trial_id: text for record, text in zip(records, texts, strict=True)}
    for record, text in zip(records, texts, strict=True):
        # A filter may have left out the first trial of a sample.
        is_same = of_trial.setdefault(record.repeat_of, text) == text
        is_repeat = is_same and study.config.search.repeats > 1
        yield record if is_repeat else replace(record, repeat_of=record.trial_id)


def _record(study: StudyRecord, run: Run) -> TrialRecord:
    of_run, known = run.data.tags, study.config.known_metrics
    trial_id, variant = network_of(run)
    sample = sample_of(run, dict(study.config.space))
    state = value_of(run, tags.STATE, TrialStatus)
    if variant is not None:
        n_epochs = 0
    elif state is TrialStatus.COMPLETED:
        n_epochs = value_of(run, MAX_EPOCHS, int)
    else:
        n_epochs = value_of(run, tags.EPOCH, int, "0")
    return TrialRecord(
        trial_id=trial_id,
        run_id=run.info.run_id,
        state=state,
        params=run.data.params,
        metrics={
            name: value
            for name, value in metrics_of(run).items()
            if name in known and known[name].is_possible(value)
        },
        sample=sample,
        repeat_of=of_run.get(tags.REPEAT_OF, trial_id),
        variant=variant,
        reason=escaped(of_run[tags.REASON]) if tags.REASON in of_run else None,
        n_epochs=n_epochs,
        started=seconds(run.info.start_time) or 0.0,
        # A run that ended and was resumed keeps the time of its first end.
        ended=None if state is TrialStatus.RUNNING else seconds(run.info.end_time),
        mark=of_run.get(tags.MARK),
        aliases=tuple(printable(name) for name in of_run.get(tags.ALIAS, "").split(",") if name),
        why=escaped(of_run.get(tags.WHY, "")),
        device=printable(of_run[tags.DEVICE]) if tags.DEVICE in of_run else None,
        origin=next((name for name, tag in _ORIGINS if of_run.get(tag) == "true"), ""),
    )
