"""Run a study: `python -m study.launch`. Reads the command line and puts the parts together."""

import os
import shlex
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import ray
import typer
from ray import tune
from rich.console import Console

from study import cluster, config, storage, training
from study.checkpoints import Checkpoints
from study.errors import (
    ConfigError,
    DataNotFoundError,
    LaunchError,
    StorageError,
    TrackingError,
    UserError,
    shown,
)
from study.failures import Failures
from study.front import Mark, Report, make_report
from study.interrupt import Interrupt
from study.metrics import TrialStatus
from study.mlflow_pages import study_page
from study.page import write_page
from study.progress import Progress
from study.recorder import Recorder, folder_name
from study.records import StudyRecord, default_tracking_uri
from study.report import print_table, wide_console
from study.scheduling import make_halving, make_scheduler
from study.search import EarlierTrial, OptunaSearcher
from study.search_space import Value
from study.snapshots import Snapshots, put_back
from study.stopping import Stopping
from study.study_config import StudyConfig
from study.tracking import Tracker
from study.trainable import TrialTrainable
from study.trial_config import TrialConfig
from study.warm_start import difference, is_inside

DEFAULT_SPACE = Path("search_spaces/digits.yaml")
# Checkpoints of a trial that are kept: Tune's snapshot may be behind, and short epochs come
# several a second.
_N_CHECKPOINTS = 5
_INTERRUPTED = 130
# Settings that decide whether the data is there and the network fits the images.
_SHAPE_KEYS = ("name", "size", "blocks", "bottleneck", "channel_multiplier")

app = typer.Typer(add_completion=False)


@app.command()
def main(
    space: Annotated[Path, typer.Argument(help="The study file.")] = DEFAULT_SPACE,
    name: Annotated[str | None, typer.Option(help="Name of the study; else the file's.")] = None,
    trials: Annotated[int | None, typer.Option(help="In place of search.n_trials.")] = None,
    epochs: Annotated[int | None, typer.Option(help="In place of training.max_epochs.")] = None,
    seed: Annotated[int | None, typer.Option(help="In place of search.seed.")] = None,
    data_root: Annotated[str | None, typer.Option(help="In place of data.root.")] = None,
    cpus: Annotated[
        float | None, typer.Option(help="Of a trial, in place of resources.cpus.")
    ] = None,
    gpus: Annotated[
        float | None, typer.Option(help="Of a trial, in place of resources.gpus.")
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(help="Of Ray; else RAY_ADDRESS, a cluster on this host, or a start here."),
    ] = None,
    tracking_uri: Annotated[
        str | None, typer.Option(help="Else MLFLOW_TRACKING_URI, else sqlite:///mlflow.db.")
    ] = None,
    storage_path: Annotated[
        str | None,
        typer.Option(
            help="Folder or bucket for checkpoints and the state of studies; else "
            "STUDY_STORAGE_PATH, else ray_results.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an unfinished study.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, print the study, run nothing.")
    ] = False,
) -> None:
    """Run a study of invertible ResNets on Ray, tracked in MLflow."""
    given: dict[str, tuple[str, Value]] = {
        "name": ("--name", name),
        "search.n_trials": ("--trials", trials),
        "training.max_epochs": ("--epochs", epochs),
        "search.seed": ("--seed", seed),
        "data.root": ("--data-root", data_root),
        "resources.cpus": ("--cpus", cpus),
        "resources.gpus": ("--gpus", gpus),
    }
    overrides = {key: option for key, option in given.items() if option[1] is not None}
    try:
        launch = _Launch(
            space=space,
            given_tracking_uri=tracking_uri,
            tracking_uri=tracking_uri or default_tracking_uri(),
            storage_path=storage.absolute(
                storage_path or os.environ.get("STUDY_STORAGE_PATH") or "ray_results"
            ),
            storage_is_given=storage_path is not None,
            address=address,
            console=wide_console(),
        )
        if resume:
            changed = [option for key, (option, _) in overrides.items() if key != "name"]
            if changed or dry_run:
                raise LaunchError(
                    "--resume: a study must go on with its own settings, but got "
                    f"{', '.join(changed or ['--dry-run'])}"
                )
            exit_code = launch.resume(name)
        else:
            study = config.load(space, overrides)
            # Workers have working directories of their own.
            root = str(Path(study.data.root).resolve())
            study = replace(study, data=replace(study.data, root=root))
            _check_trials(str(space), study)
            launch.check_earlier_studies(study)
            if dry_run:
                typer.echo(config.to_yaml(study).rstrip())
                return
            exit_code = launch.start(study, name)
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        raise typer.Exit(_INTERRUPTED) from None
    except EOFError as error:
        # Typer would say "Aborted.", as if somebody had left a prompt, and nothing else.
        raise RuntimeError("a file ended before its time") from error
    raise typer.Exit(exit_code)


def _a_trial(study: StudyConfig) -> TrialConfig:
    """One of those that the study may run."""
    return study.settle({key: p.extremes()[0] for key, p in study.space}, seed=0)


def _check_trials(source: str, study: StudyConfig) -> None:
    """Whether every trial could run: its data is there, and its network fits the images."""
    varied = {key: p.grid() or [] for key, p in study.space if key in _SHAPE_KEYS}
    fixed = {key: p.extremes()[0] for key, p in study.space if key not in _SHAPE_KEYS}
    for shape in product(*varied.values()):
        sample = {**fixed, **dict(zip(varied, shape, strict=True))}
        try:
            training.check(study.settle(sample, seed=0))
        except DataNotFoundError as error:
            raise ConfigError(f"{source}: data.root: {error}") from error
        except ConfigError as error:
            raise ConfigError(f"{source}: {error}") from error


@dataclass(frozen=True)
class _Launch:
    """Where a study's records and state go, and what was typed to get here."""

    space: Path
    given_tracking_uri: str | None
    tracking_uri: str
    storage_path: str
    storage_is_given: bool
    address: str | None
    console: Console

    @property
    def source(self) -> str:
        """What a study remembers its file by."""
        return str(self.space.resolve())

    def start(self, study: StudyConfig, name: str | None) -> int:
        """Run a new study; returns the exit code."""
        tracker = Tracker(self.tracking_uri)
        earlier = self._earlier_trials(tracker, study)
        study = self._with_free_name(tracker, study, explicit=name is not None)
        n_at_once = self._start_ray(study)
        storage.make_folder(self._folder(study.name))
        record = tracker.create_study(study, self.source, self._folder(study.name))
        with storage.locked(record.storage):
            return self._fit(tracker, record, lambda: self._new_tuner(record, n_at_once, earlier))

    def resume(self, name: str | None) -> int:
        """Go on with the unfinished study of that name, or with the latest of this file."""
        tracker = Tracker(self.tracking_uri)
        record = self._unfinished(tracker, name)
        if record.storage != self._folder(record.name):
            # What is there is unpickled, so it is not for MLflow to say where that is.
            raise LaunchError(
                f"--storage-path: it must be where {record.name} is kept, which MLflow says is in "
                f"{record.storage.rpartition('/')[0]}, but got {self.storage_path}"
            )
        _check_trials(record.name, record.config)
        storage.make_folder(record.storage)
        with storage.locked(record.storage):
            told = put_back(record.storage)
            self._say(f"resuming {record.name}")
            for line in told or ():
                self._say(line)
            earlier = [] if told is not None else self._earlier_trials(tracker, record.config)
            n_at_once = self._start_ray(record.config)

            def make_tuner() -> tune.Tuner:
                # Ended before Tune wrote anything, there is nothing to go on from.
                if told is None:
                    return self._new_tuner(record, n_at_once, earlier)
                return tune.Tuner.restore(record.storage, trainable=_trainable(record.config))

            return self._fit(tracker, record, make_tuner)

    def check_earlier_studies(self, study: StudyConfig) -> None:
        """Whether the studies of search.warm_start are there.

        Raises:
            LaunchError: the first that is not.
        """
        tracker = Tracker(self.tracking_uri)
        for name in study.search.warm_start:
            if tracker.find_study(name) is None:
                raise LaunchError(
                    f"search.warm_start: a study must be in MLflow at {self.tracking_uri}, but "
                    f"there is no {shown(name)}"
                )

    def _earlier_trials(self, tracker: Tracker, study: StudyConfig) -> list[EarlierTrial]:
        """What the study's sampler is to know from the start; says what was taken and left."""
        found: list[EarlierTrial] = []
        for name in study.search.warm_start:
            record = tracker.find_study(name)
            if record is None:
                continue  # deleted since the study was first launched
            left = difference(study, record.config)
            if left is not None:
                self._say(f"warm start: nothing of {name}, since {left}")
                continue
            n_before, n_left = len(found), Counter[str]()
            for trial in tracker.trials(record):
                if trial.state is not TrialStatus.COMPLETED:
                    n_left[trial.state.value] += 1
                elif not is_inside(study.space, trial.sample):
                    n_left["outside this study's space"] += 1
                else:
                    found.append(EarlierTrial(trial.sample, trial.metrics))
            left = ", ".join(f"{n} {why}" for why, n in n_left.items()) or "none"
            self._say(f"warm start: {len(found) - n_before} trials of {name}; left: {left}")
        return found

    def _say(self, text: str) -> None:
        self.console.print(text, soft_wrap=True, markup=False)

    def _with_free_name(self, tracker: Tracker, study: StudyConfig, explicit: bool) -> StudyConfig:
        def taken(name: str) -> bool:
            return tracker.is_taken(name) or storage.exists(self._folder(name))

        if not taken(study.name):
            return study
        if explicit:
            raise LaunchError(
                f"--name: the name of a new study must be free, but '{study.name}' is taken; "
                "take another, or go on with that study with --resume"
            )
        number = 2
        while taken(f"{study.name}-{number}"):
            number += 1
        free = f"{study.name}-{number}"
        self.console.print(f"the name {study.name} is taken; this study is {free}")
        unfinished = [
            r.name for r in tracker.studies() if r.source == self.source and not r.finished
        ]
        if unfinished:
            self._say_unfinished(unfinished[0])
        return replace(study, name=free)

    def _unfinished(self, tracker: Tracker, name: str | None) -> StudyRecord:
        if name is not None:
            record = tracker.find_study(name)
            if record is None:
                raise LaunchError(f"--resume: a study must be there, but there is no {shown(name)}")
            if record.finished:
                raise LaunchError(f"--resume: a study must be unfinished, but '{name}' is done")
            return record
        of_file = (r for r in tracker.studies() if r.source == self.source and not r.finished)
        record = next(of_file, None)
        if record is None:
            raise LaunchError(
                f"--resume: a study of {self.source} must be unfinished, but there is none in "
                f"MLflow at {self.tracking_uri}"
            )
        return record

    def _folder(self, name: str) -> str:
        return f"{self.storage_path.rstrip('/')}/{name}"

    def _start_ray(self, study: StudyConfig) -> int:
        """Connect to the cluster, or start Ray here; refuse what this machine, or a node, lacks.

        Returns how many trials may run at a time once the cluster has grown.
        """
        found = cluster.connect(self.address, study.n_trainings)
        have = found.resources()
        wanted = {"CPU": study.resources.cpus, "GPU": study.resources.gpus}
        n_at_once, n_at_most = found.n_at_once(wanted), found.n_at_most(wanted)
        try:
            for kind, amount in wanted.items():
                if found.is_local and amount > have[kind]:
                    raise LaunchError(
                        f"resources.{kind.lower()}s: a trial must fit the machine, but got "
                        f"{amount:g} of {have[kind]:g}"
                    )
            cluster.check_nodes(found, self.storage_path, _a_trial(study))
        except LaunchError:
            ray.shutdown()
            raise
        on = "" if found.is_local else f" on {len(found.nodes)} nodes"
        self._say(
            f"{study.name}: {study.n_trainings} trials of {study.training.max_epochs} epochs on "
            f"{study.data.name}, {min(n_at_once, study.n_trainings)} at a time "
            f"({have['CPU']:g} CPUs, {have['GPU']:g} GPUs{on})"
        )
        if n_at_once < study.n_trainings:
            for node_type in found.growth:
                self._say(f"the cluster can add {node_type}")
        if n_at_once == 0:
            each = ", ".join(f"{amount:g} {kind}" for kind, amount in wanted.items() if amount)
            self._say(f"no node has {each} for a trial now: the trials wait for one that has")
        return max(1, n_at_most)

    def _new_tuner(
        self, record: StudyRecord, n_at_once: int, earlier: Sequence[EarlierTrial]
    ) -> tune.Tuner:
        study = record.config
        halving, stopping = make_halving(study), Stopping(study)
        news = deque[str]()
        progress = Progress(study, stopping, news)
        recorder = Recorder(record.name, training.load_model, news, stopping)
        snapshots = Snapshots()
        return tune.Tuner(
            _trainable(study),
            tune_config=tune.TuneConfig(
                search_alg=OptunaSearcher(study, halving, stopping, earlier),
                scheduler=make_scheduler(study, halving),
                num_samples=study.n_trainings,
                # Without it Tune draws one sample too early, and starts one worker at a time.
                max_concurrent_trials=n_at_once,
                reuse_actors=True,
                trial_dirname_creator=folder_name,
            ),
            run_config=tune.RunConfig(
                name=record.name,
                storage_path=record.storage.rpartition("/")[0],
                # Always tried again, as far as Tune is concerned: see study.failures.
                failure_config=tune.FailureConfig(max_failures=-1),
                checkpoint_config=tune.CheckpointConfig(
                    checkpoint_frequency=1, checkpoint_at_end=True, num_to_keep=_N_CHECKPOINTS
                ),
                callbacks=[
                    Interrupt(news, at_once=(progress.leave, recorder.leave)),
                    Failures(news),
                    progress,
                    recorder,
                    # Last: where it cannot write, the others are still told of the end.
                    snapshots,
                    # But for this, which then must not delete anything.
                    Checkpoints(_N_CHECKPOINTS, snapshots, news),
                ],
                verbose=0,
            ),
        )

    def _fit(
        self, tracker: Tracker, record: StudyRecord, make_tuner: Callable[[], tune.Tuner]
    ) -> int:
        """Run the study to its end, close its books, say what came out; returns the exit code."""
        # Tune keeps the recorder with the experiment, so it learns the address from here.
        os.environ["MLFLOW_TRACKING_URI"] = self.tracking_uri
        try:
            results = make_tuner().fit()
        except BaseException as error:
            self._say_unfinished(record.name)
            try:
                tracker.close_study(record, TrialStatus.INTERRUPTED)
            except TrackingError:
                # It may be what ended the study; --resume mends the books once it is back.
                self.console.print(f"MLflow at {self.tracking_uri} still shows it as running")
            if isinstance(error, OSError):  # of Tune, on the driver's own disk
                error = StorageError(f"the state of the study cannot be kept: {error}")
            if isinstance(error, UserError):
                typer.echo(f"error: {error}", err=True)
                return 1
            raise
        finally:
            ray.shutdown()
        try:
            return self._conclude(tracker, record, len(results))
        except TrackingError as error:
            self._say_unfinished(record.name)
            typer.echo(f"error: {error}", err=True)
            return 1

    def _conclude(self, tracker: Tracker, record: StudyRecord, n_trials: int) -> int:
        """Close the books of a study of which so many trials were started, and say what came out;
        returns the exit code."""
        trials = tracker.trials(record)
        n_left = sum(t.state in (TrialStatus.INTERRUPTED, TrialStatus.RUNNING) for t in trials)
        ended = tracker.end_of_search(record)
        if n_left or (n_trials < record.config.n_trainings and ended is None):
            tracker.close_study(record, TrialStatus.INTERRUPTED)
            self._say_unfinished(record.name)
            return _INTERRUPTED
        tracker.close_study(record, TrialStatus.COMPLETED)
        if ended is not None:
            self._say(f"{n_trials} of {record.config.n_trainings} trials: {ended}")
        report = make_report(record, tracker.records(record))
        self._say_result(report)
        self._log_page(tracker, report)
        return 0 if any(t.state is TrialStatus.COMPLETED for t in trials) else 1

    def _log_page(self, tracker: Tracker, report: Report) -> None:
        """Put the page of a study beside its records."""
        try:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "report.html"
                write_page(path, tracker, report)
                tracker.log_file(report.study.run_id, path)
        except UserError as error:
            # The study is done all the same, and its page can be made at any time.
            self._say(f"its page was not put into MLflow: {error}")

    def _say_result(self, report: Report) -> None:
        print_table(report, every=False, console=self.console)
        for point in report.points:
            if point.mark is Mark.FAILED:
                self._say(f"trial {point.label} failed: {point.first.reason}")
        command, page = study_page(self.tracking_uri, report.study.experiment_id)
        again = shlex.join(["study.report", report.study.name, "--all", *self._uri_option()])
        self.console.print(f"all trials:  python -m {again}", markup=False)
        page_of = shlex.join(["study.report", report.study.name, *self._uri_option()])
        self.console.print(f"its page:    python -m {page_of} --html report.html", markup=False)
        if command:
            self.console.print(f"the runs:    {command}", markup=False)
            self.console.print(f"             then open {page}", markup=False)
        else:
            self.console.print(f"the runs:    {page}", markup=False)

    def _say_unfinished(self, name: str) -> None:
        command = self._resume_command(name)
        text = f"{name} is unfinished; go on with it: {command}"
        self._say(text)

    def _uri_option(self) -> list[str]:
        return ["--tracking-uri", self.given_tracking_uri] if self.given_tracking_uri else []

    def _resume_command(self, name: str) -> str:
        address = ["--address", self.address] if self.address else []
        storage_path = ["--storage-path", self.storage_path] if self.storage_is_given else []
        arguments = [
            str(self.space), "--resume", "--name", name, *self._uri_option(), *address,
            *storage_path,
        ]  # fmt: skip
        return shlex.join(["python", "-m", "study.launch", *arguments])


def _trainable(study: StudyConfig) -> Any:
    resources: Mapping[str, float] = {"cpu": study.resources.cpus, "gpu": study.resources.gpus}
    return tune.with_resources(tune.with_parameters(TrialTrainable, study=study), dict(resources))


if __name__ == "__main__":
    app(prog_name="python -m study.launch")
