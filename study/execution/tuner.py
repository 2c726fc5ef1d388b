"""Tune's parts put together: a new tuner for a study, or the one that it had."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from ray import tune
from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from study.errors import LaunchError
from study.execution.checkpoints import Checkpoints
from study.execution.failures import Failures
from study.execution.interrupt import Interrupt
from study.execution.messages import Messages
from study.execution.progress import Progress
from study.execution.recorder import Recorder
from study.execution.snapshots import Snapshots
from study.execution.trials import folder_name, last_checkpoint, reports_in, suggestion
from study.execution.worker import TrialTrainable
from study.search.generator import StudyGenerator
from study.search.scheduler import make_halving, make_scheduler
from study.search.searcher import Continuation, OptunaSearcher
from study.search.stopping import Stopping
from study.search.suggestion import Origin, trial_id
from study.search.warm_start import EarlierTrial
from study.tracking.records import StudyRecord

# Checkpoints of a trial that are kept: Tune's state may be behind by several short epochs.
_N_CHECKPOINTS = 5


def new(
    record: StudyRecord, tracking_uri: str, n_at_once: int, earlier: Sequence[EarlierTrial]
) -> tune.Tuner:
    """The tuner of a study that begins.

    Args:
        n_at_once: trials that may run at a time once the cluster has grown.
        earlier: trials that the sampler knows from the start.
    """
    parts = _parts(record, tracking_uri, n_at_once, earlier)
    return tune.Tuner(
        _trainable(record),
        tune_config=tune.TuneConfig(
            search_alg=parts.generator,
            scheduler=parts.scheduler,
            num_samples=record.n_trainings,
            reuse_actors=True,
            trial_dirname_creator=folder_name,
        ),
        run_config=tune.RunConfig(
            name=record.name,
            storage_path=record.storage.rpartition("/")[0],
            # Tune always tries again; the callback Failures decides.
            failure_config=tune.FailureConfig(max_failures=-1),
            checkpoint_config=tune.CheckpointConfig(
                checkpoint_frequency=1, checkpoint_at_end=True, num_to_keep=_N_CHECKPOINTS
            ),
            callbacks=parts.callbacks,
            verbose=0,
        ),
    )


def restored(
    record: StudyRecord, tracking_uri: str, n_at_once: int, is_extended: bool
) -> tune.Tuner:
    """The tuner of a study that goes on, from Tune's state, with what is asked of it now.

    Args:
        n_at_once: trials that may run at a time once the cluster has grown.
        is_extended: whether more is asked of the study than before. All of it must be possible
            then; else what is not yet, since an older state had to be taken, is left for later.

    Raises:
        LaunchError: through the Ray client, or if a training cannot go on from Tune's state.
    """
    tuner = tune.Tuner.restore(record.storage, trainable=_trainable(record))
    internal = tuner._local_tuner
    if internal is None:
        raise LaunchError("--address: a study cannot be resumed through the Ray client, ray://")
    # Those that come out of Tune's pickle know the study as it was begun. The new ones take in what
    # the searcher has saved.
    analysis = internal._experiment_analysis
    continuations = _continuations(record, [] if analysis is None else analysis.trials)
    if is_extended and len(continuations) < len(record.extension.more_epochs):
        more = record.extension.more_epochs[len(continuations)]
        raise LaunchError(
            f"--train: the state of {record.name} must have {trial_id(more.trial)} trained to its "
            f"end, {more.n_epochs} epochs, but it is older; finish the study first, with --resume "
            "alone"
        )
    parts = _parts(record, tracking_uri, n_at_once, continuations=continuations)
    internal._tune_config.search_alg = parts.generator
    internal._tune_config.scheduler = parts.scheduler
    internal._tune_config.max_concurrent_trials = None  # the generator's part
    internal.get_run_config().callbacks = parts.callbacks
    return tuner


@dataclass(frozen=True)
class _Parts:
    """What Tune runs a study with."""

    generator: StudyGenerator
    scheduler: TrialScheduler
    callbacks: list[Callback]


def _parts(
    record: StudyRecord,
    tracking_uri: str,
    n_at_once: int,
    earlier: Sequence[EarlierTrial] = (),
    continuations: Sequence[Continuation] = (),
) -> _Parts:
    study = record.config
    halving, stopping, messages = make_halving(study), Stopping(study), Messages()
    searcher = OptunaSearcher(study, halving, stopping, earlier, record.extension, continuations)
    progress = Progress(study, stopping, messages, record.extension.more_epochs)
    recorder = Recorder(record.name, tracking_uri, messages, stopping)
    snapshots = Snapshots()
    return _Parts(
        # Asked for as many at a time as may run, and no more: Tune would draw one sample too early.
        StudyGenerator(searcher, record.n_trainings, n_at_once),
        make_scheduler(study, halving),
        [
            # First: at the end it gives the signals back before the recorder waits for MLflow.
            Interrupt(record.name, messages, at_once=(progress.leave, recorder.leave)),
            Failures(messages),
            progress,
            recorder,
            # Behind the others: it raises if it cannot write, and they handle the end first.
            snapshots,
            # Behind the snapshots: if those raise, it deletes nothing.
            Checkpoints(_N_CHECKPOINTS, snapshots, messages),
        ],
    )


def _continuations(record: StudyRecord, trials: Iterable[Trial]) -> list[Continuation]:
    """The trainings that the study's extension asks to go on with, from where Tune left them, up to
    the first that did not end so for Tune: its state may be older than MLflow."""
    ended = {suggestion(trial).number: trial for trial in trials if trial.is_finished()}
    continuations = list[Continuation]()
    for more in record.extension.more_epochs:
        trial = ended.get(more.trial)
        checkpoint = None if trial is None else last_checkpoint(trial)
        if trial is None or checkpoint is None:
            break
        reports = reports_in(checkpoint)
        if not reports or reports[-1].epoch != more.n_epochs:
            break
        path = PurePosixPath(checkpoint.path)
        below_study = f"{path.parent.name}/{path.name}"
        origin = Origin(more.trial, more.n_epochs, below_study, more.max_epochs)
        of_trial = suggestion(trial)
        continuations.append(Continuation(origin, of_trial.seed, of_trial.sample))
    return continuations


def _trainable(record: StudyRecord) -> Any:
    study = record.config
    resources: Mapping[str, float] = {"cpu": study.resources.cpus, "gpu": study.resources.gpus}
    given = tune.with_parameters(TrialTrainable, study=study, folder=record.storage)
    return tune.with_resources(given, dict(resources))
