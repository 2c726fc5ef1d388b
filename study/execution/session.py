"""Starts or resumes a study, and runs it to its end."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import product

import ray
from ray import tune

from study.config.extension import Wanted
from study.config.file import Asked
from study.config.own_settings import changed_in_file, check_same
from study.config.space import Value
from study.config.study import StudyConfig
from study.config.trial import MAX_EPOCHS, TrialConfig
from study.errors import (
    ConfigError,
    DataNotFoundError,
    FailedError,
    LaunchError,
    TrackingError,
    UserError,
    count_of,
    reason,
    some,
)
from study.execution import cluster, nodes, storage, tuner
from study.execution.extending import extended
from study.execution.provenance import provenance
from study.execution.relocation import keep_new_trials_in
from study.execution.snapshots import restore
from study.metrics.reports import TrialStatus
from study.search import warm_start
from study.search.warm_start import EarlierTrial
from study.tracking import studies
from study.tracking.client import Client
from study.tracking.records import Records, StudyRecord
from study.trial import sources
from study.trial.check import check
from study.trial.rehearsal import Rehearsal, rehearse

# Settings that decide whether the data is there and the network fits the images.
_SHAPE_KEYS = ("name", "size", "blocks", "bottleneck", "channel_multiplier")


@dataclass(frozen=True)
class Outcome:
    """How a study was left.

    Attributes:
        is_done: whether it came to its end; if not, it was interrupted and can be resumed.
        n_started: trials that were started.
        n_completed: trials that trained for all of their epochs.
        end_of_search: why it ended before its last possible trial; None if it did not.
    """

    record: StudyRecord
    is_done: bool
    n_started: int
    n_completed: int
    end_of_search: str | None


class Session:
    """One command's work on a study."""

    def __init__(
        self,
        client: Client,
        storage_path: str,
        address: str | None,
        say: Callable[[str], None],
        say_unfinished: Callable[[str], None],
    ) -> None:
        """
        Args:
            client: of the MLflow that keeps the records.
            storage_path: absolute path of the folder, or address of the bucket, below which each
                study has a folder.
            address: of Ray; None for a cluster on this host, or a start here.
            say: is given lines for the user.
            say_unfinished: is given the name of a study that was left before its end.
        """
        self._client = client
        self._records = Records(client)
        self._storage_path = storage_path
        self._address = address
        self._say = say
        self._say_unfinished = say_unfinished

    def check(self, study: StudyConfig, source: str) -> None:
        """Whether a study could run: the data of every trial can be read and its network fits the
        images, and the studies of search.warm_start are there.

        Args:
            source: names the study file in messages.

        Raises:
            UserError: in one line, the first problem.
        """
        _check_trials(study, source)
        for name in study.search.warm_start:
            if self._records.find_study(name) is None:
                raise LaunchError(f"search.warm_start: {self._records.absent(name)}")

    def of_file(self, source: str) -> list[StudyRecord]:
        """The studies of a file, the latest first."""
        return [record for record in self._records.studies() if record.source == source]

    def free_name(self, name: str) -> str:
        """The name, or the first of name-2, name-3, ... that no study has."""
        free, number = name, 2
        while self._records.is_taken(free) or storage.exists(self._folder(free)):
            free, number = f"{name}-{number}", number + 1
        return free

    def rehearse(self, study: StudyConfig) -> tuple[Rehearsal, int]:
        """Whether a study could begin now where it is to run and to be kept: Ray is reached or
        started, and left again.

        Returns:
            What one of its trials takes on this machine, and how many run at a time.

        Raises:
            UserError: in one line, the first problem.
        """
        storage.check(self._folder(study.name))
        n_at_once = self._start_ray(study)
        ray.shutdown()
        resources = study.resources
        trial = rehearse(_a_trial(study), max(1, int(resources.cpus)), resources.gpus > 0)
        return trial, min(n_at_once, study.n_trainings)

    def start(self, asked: Asked) -> Outcome:
        """Run a new study, whose name is free.

        Raises:
            UserError: if it cannot begin; nothing was started then.
            FailedError: if it began and cannot go on; it can be resumed.
        """
        study = asked.config
        earlier = self._earlier_trials(study)
        n_at_once = self._start_ray(study)
        folder = self._folder(study.name)
        try:
            # Free a moment ago, the name may be another launch's by now.
            with storage.new_folder(folder):
                record = studies.create(
                    self._client, study, asked.source, folder, provenance(), asked.options
                )
        except UserError:
            ray.shutdown()
            raise
        with storage.locked(record.storage):
            return self._run(
                record,
                lambda: tuner.new(record, self._client.tracking_uri, n_at_once, earlier),
            )

    def resume(
        self,
        name: str | None,
        source: str,
        wanted: Wanted | None = None,
        said: Mapping[str, Value] | None = None,
    ) -> Outcome:
        """Go on with the study of that name, or with the latest of a file: an unfinished one, or,
        where more is asked of it, one that is done.

        Args:
            source: path of the file; it does not count where a name is given.
            said: settings that it must have: key of a study file -> value.

        Raises:
            UserError: if there is none, or it cannot go on; nothing was started or changed then.
            FailedError: if it went on and failed; it can be resumed again.
        """
        wanted = wanted or Wanted()
        if name is not None:
            self._client.relocate(resumed=name)
        record = self._resumable(name, source, wanted, said or {})
        storage.make_folder(record.storage)
        with storage.locked(record.storage):
            # Read again: another command may have had it until now.
            record = self._records.find_study(record.name) or record
            goes_on = extended(record, self._records, wanted)
            damage = restore(record.storage)
            # Ended before Tune wrote anything, it has nothing to go on from.
            is_new = damage is None
            if is_new and self._has_ended_trials(record):
                raise _no_state(record)
            self._say(f"resuming {record.name}{self._others(name, record)}")
            self._say_changed(record)
            for line in damage or ():
                self._say(line)
            if not is_new:
                keep_new_trials_in(record.storage)
            earlier = self._earlier_trials(record.config) if is_new else None
            n_at_once = self._start_ray(goes_on.config)
            try:
                made = self._tuner(record, goes_on, n_at_once, earlier)
            except UserError:
                ray.shutdown()
                raise
            return self._run(goes_on, lambda: made)

    def rehearse_resume(
        self,
        name: str | None,
        source: str,
        wanted: Wanted,
        said: Mapping[str, Value],
    ) -> None:
        """Say which study `resume` would go on with, and what of it is there; nothing is started or
        changed.

        Args and raises: as `resume`.
        """
        moved = [study.name for study in self._client.relocate()]
        if name in moved:
            raise LaunchError(
                f"--dry-run: a study must be where it was begun, but {name} was moved; --resume "
                "alone goes on with it here"
            )
        record = self._resumable(name, source, wanted, said)
        with storage.locked(record.storage) if storage.exists(record.storage) else nullcontext():
            n_trials = extended(record, self._records, wanted).config.n_trainings
        self._say(
            f"would go on with {record.name}, of which {self._records.n_completed(record)} of "
            f"{n_trials} trials have completed{self._others(name, record)}"
        )
        self._say_changed(record)

    def _resumable(
        self,
        name: str | None,
        source: str,
        wanted: Wanted,
        said: Mapping[str, Value],
    ) -> StudyRecord:
        """The study that is to go on.

        Raises:
            UserError: if there is none, or it cannot go on.
        """
        record = self._find(name, source, may_be_done=wanted.is_something)
        check_same(record.config, said)
        self._records.check_files(record)
        if record.storage != self._folder(record.name):
            # What is there is unpickled, so it is not for MLflow to say where that is.
            raise LaunchError(
                f"--storage-path: it must be where {record.name} is kept, which MLflow says is in "
                f"{record.storage.rpartition('/')[0]}, but got {self._storage_path}"
            )
        _check_trials(record.config, record.name)
        if record.finished and not storage.exists(record.storage):
            raise _no_state(record)
        return record

    def _others(self, name: str | None, record: StudyRecord) -> str:
        """For a message: the other studies of a file, where no name said which is meant."""
        if name is not None:
            return ""
        others = [one.name for one in self.of_file(record.source) if one.name != record.name]
        return f"; --name goes on with another study of its file: {some(others)}" if others else ""

    def _say_changed(self, record: StudyRecord) -> None:
        """What the study's file says otherwise than when the study began."""
        changed = changed_in_file(
            record.config, record.source, record.options, record.n_searches > 0
        )
        if changed is not None:
            self._say(changed)

    def _tuner(
        self,
        record: StudyRecord,
        goes_on: StudyRecord,
        n_at_once: int,
        earlier: list[EarlierTrial] | None,
    ) -> tune.Tuner:
        """The tuner of a study that goes on, which MLflow knows then as it is asked for now.

        Args:
            earlier: trials that the sampler knows from the start, of a study that begins anew; None
                of one that has begun.
        """
        uri = self._client.tracking_uri
        try:
            if earlier is not None:
                made = tuner.new(goes_on, uri, n_at_once, earlier)
            else:
                made = tuner.restored(goes_on, uri, n_at_once)
        except OSError as error:  # of Tune
            raise LaunchError(
                f"--storage-path: the state of {record.name} must be readable and writable in "
                f"{record.storage}, but: {reason(error)}"
            ) from error
        if goes_on is not record:
            # From here on the study has not ended, whatever happens to this driver.
            studies.extend(self._client, record, goes_on)
        return made

    def _has_ended_trials(self, record: StudyRecord) -> bool:
        ended = (TrialStatus.COMPLETED, TrialStatus.STOPPED_EARLY)
        return any(trial.state in ended for trial in self._records.trials(record))

    def _find(self, name: str | None, source: str, may_be_done: bool) -> StudyRecord:
        if name is None:
            of_file = self.of_file(source)
            if not of_file:
                raise LaunchError(
                    f"--resume: a study of {source} must be {self._client.place}, but there is "
                    f"none{self._unfinished()}"
                )
            fitting = [record for record in of_file if may_be_done or not record.finished]
            if not fitting:
                raise self._is_done(of_file[0])
            return fitting[0]
        record = self._records.find_study(name)
        if record is None:
            raise LaunchError(f"--resume: {self._records.absent(name)}")
        if record.finished and not may_be_done:
            raise self._is_done(record)
        return record

    def _is_done(self, record: StudyRecord) -> LaunchError:
        return LaunchError(
            f"--resume: a study must be unfinished, but '{record.name}' is done; --trials or "
            f"--max-hours says what more of it is wanted{self._unfinished()}"
        )

    def _unfinished(self) -> str:
        """For a message: the studies that could be resumed; empty if there are none."""
        names = [record.name for record in self._records.studies() if not record.finished]
        return f"; unfinished, for --name: {some(names)}" if names else ""

    def _folder(self, name: str) -> str:
        return f"{self._storage_path.rstrip('/')}/{name}"

    def _earlier_trials(self, study: StudyConfig) -> list[EarlierTrial]:
        """What the study's sampler knows from the start; says what was taken and what was left."""
        taken: list[EarlierTrial] = []
        for name in study.search.warm_start:
            record = self._records.find_study(name)
            if record is None:
                continue  # deleted since the study was first launched
            difference = warm_start.difference(study, record.config)
            if difference is not None:
                self._say(f"warm start: nothing of {name}, since {difference}")
                continue
            records = self._records.trials_and_projections(record)
            usable, n_left = warm_start.usable(study, records)
            taken += usable
            left = ", ".join(f"{n} {why}" for why, n in n_left.items()) or "none"
            self._say(f"warm start: {len(usable)} trials of {name}; left: {left}")
        return taken

    def _start_ray(self, study: StudyConfig) -> int:
        """Connect to the cluster, or start Ray here; refuse what this machine, or a node, lacks.

        Returns how many trials may run at a time once the cluster has grown.
        """
        n_trials = study.n_trainings
        of_ray = cluster.connect(self._address, n_trials)
        have = of_ray.resources()
        wanted = {"CPU": study.resources.cpus, "GPU": study.resources.gpus}
        n_at_once, n_at_most = of_ray.n_at_once(wanted), of_ray.n_at_most(wanted)
        try:
            for kind, amount in wanted.items():
                if of_ray.is_local and amount > have[kind]:
                    raise LaunchError(
                        f"resources.{kind.lower()}s: a trial must fit the machine, but got "
                        f"{amount:g} of {have[kind]:g}"
                    )
            if study.resources.gpus > 0:
                nodes.check_gpus(of_ray)
            nodes.check_nodes(of_ray, self._storage_path, _a_trial(study))
        except LaunchError:
            ray.shutdown()
            raise
        on = "" if of_ray.is_local else f" on {len(of_ray.nodes)} nodes"
        self._say(
            f"{study.name}: {count_of(n_trials, 'trial')} of "
            f"{count_of(study.training.max_epochs, 'epoch')} on "
            f"{study.data.name}, {min(n_at_once, n_trials)} at a time "
            f"({have['CPU']:g} CPUs, {have['GPU']:g} GPUs{on})"
        )
        if n_at_once < n_trials:
            for node_type in of_ray.growth:
                self._say(f"the cluster can add {node_type}")
        if n_at_once == 0:
            each = ", ".join(f"{amount:g} {kind}" for kind, amount in wanted.items() if amount)
            self._say(f"no node has {each} for a trial now: the trials wait for one that has")
        return max(1, n_at_most)

    def _run(self, record: StudyRecord, make_tuner: Callable[[], tune.Tuner]) -> Outcome:
        """Run the study to its end, and close its records."""
        try:
            n_started = len(make_tuner().fit())
        except BaseException as error:
            # First, since MLflow may take its time.
            self._say_unfinished(record.name)
            self._close_interrupted(record)
            if isinstance(error, OSError):  # of Tune, on the driver's own disk
                place = f" in {error.filename}" if error.filename else ""
                raise FailedError(
                    f"the state of the study cannot be kept{place}: {reason(error)}"
                ) from error
            if isinstance(error, UserError):
                raise FailedError(str(error)) from error
            raise
        finally:
            ray.shutdown()
        try:
            return self._close(record, n_started)
        except TrackingError as error:
            self._say_unfinished(record.name)
            raise FailedError(str(error)) from error

    def _close_interrupted(self, record: StudyRecord) -> None:
        # While the study is locked: nobody else has resumed it yet.
        try:
            studies.close(self._client, record, TrialStatus.INTERRUPTED)
        except TrackingError:
            # MLflow may be what ended the study; --resume mends the records once it is back.
            self._say(f"MLflow at {self._client.tracking_uri} still shows it as running")

    def _close(self, record: StudyRecord, n_started: int) -> Outcome:
        """Close the records of a study of which so many trials were started."""
        trials = self._records.trials(record)
        states = [trial.state for trial in trials]
        n_left = states.count(TrialStatus.INTERRUPTED) + states.count(TrialStatus.RUNNING)
        # One that was interrupted as it waited for its worker has no run yet.
        n_left += max(0, n_started - len(trials))
        end_of_search = self._records.end_of_search(record)
        is_done = not n_left and (
            n_started >= record.config.n_trainings or end_of_search is not None
        )
        status = TrialStatus.COMPLETED if is_done else TrialStatus.INTERRUPTED
        studies.close(self._client, record, status)
        n_completed = states.count(TrialStatus.COMPLETED)
        return Outcome(record, is_done, n_started, n_completed, end_of_search)


def _no_state(record: StudyRecord) -> LaunchError:
    return LaunchError(
        f"--storage-path: the state of {record.name} must be in {record.storage}, but there is none"
    )


def _a_trial(study: StudyConfig) -> TrialConfig:
    """One of those that the study may run, with the most epochs."""
    sample = {key: p.extremes()[-1 if key == MAX_EPOCHS else 0] for key, p in study.space}
    return study.resolve(sample, seed=0)


def _check_trials(study: StudyConfig, source: str) -> None:
    """Whether every trial could run: its data can be read, and its network fits the images."""
    varied = {key: p.grid() or [] for key, p in study.space if key in _SHAPE_KEYS}
    fixed = {key: p.extremes()[0] for key, p in study.space if key not in _SHAPE_KEYS}
    for shape in product(*varied.values()):
        sample = {**fixed, **dict(zip(varied, shape, strict=True))}
        trial = study.resolve(sample, seed=0)
        try:
            check(trial)
            # Reads each image, as every worker will: a file that is damaged would end all trials.
            sources.load(trial.data)
        except DataNotFoundError as error:
            raise ConfigError(f"{source}: data.root: {error}") from error
        except ConfigError as error:
            raise ConfigError(f"{source}: {error}") from error
