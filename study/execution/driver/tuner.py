"""Build the Tune tuner of a new study, or restore the tuner of an earlier one."""

from collections import deque
from collections.abc import Mapping
from typing import Any

from ray import tune
from ray.tune import Callback
from ray.tune.schedulers import TrialScheduler

from study.errors import LaunchError
from study.execution.callbacks.failures import Failures
from study.execution.callbacks.interrupt import Interrupt
from study.execution.callbacks.own_callbacks import OwnCallbacks
from study.execution.callbacks.progress import Progress
from study.execution.callbacks.recorder import Recorder
from study.execution.files.checkpoints import N_KEPT, Checkpoints
from study.execution.files.snapshots import Snapshots
from study.execution.trials import folder_name
from study.execution.worker import Batching, TrialTrainable, longest_wait
from study.search.scheduler import make_halving, make_scheduler
from study.search.searcher import OptunaSearcher, StudyGenerator
from study.search.stopping import Stopping
from study.tracking.study_record import StudyRecord


def new(record: StudyRecord, tracking_uri: str, n_at_once: int) -> tune.Tuner:
    """The tuner of a new study; `n_at_once` trials can run once the cluster has grown."""
    generator, scheduler, callbacks = _parts(record, tracking_uri, n_at_once)
    return tune.Tuner(
        _trainable(record, n_at_once),
        tune_config=tune.TuneConfig(
            search_alg=generator,
            scheduler=scheduler,
            num_samples=record.config.n_trainings,
            reuse_actors=True,
            trial_dirname_creator=folder_name,
        ),
        run_config=tune.RunConfig(
            name=record.name,
            storage_path=record.storage.rpartition("/")[0],
            # Tune always retries; the callback Failures decides.
            failure_config=tune.FailureConfig(max_failures=-1),
            checkpoint_config=tune.CheckpointConfig(
                checkpoint_frequency=1, checkpoint_at_end=True, num_to_keep=N_KEPT
            ),
            callbacks=callbacks,
            verbose=0,
        ),
    )


def restored(record: StudyRecord, tracking_uri: str, n_at_once: int) -> tune.Tuner:
    """The tuner of a resumed study, from Tune's state and with the settings of `record`. Raises
    LaunchError if Ray is used through its client."""
    tuner = tune.Tuner.restore(record.storage, trainable=_trainable(record, n_at_once))
    internal = tuner._local_tuner
    if internal is None:
        raise LaunchError("a study cannot be resumed through the Ray client, ray://", "address")
    # The pickled parts have the study's old settings. The new ones load the searcher's state.
    config = internal._tune_config
    config.search_alg, config.scheduler, callbacks = _parts(record, tracking_uri, n_at_once)
    config.max_concurrent_trials = None  # the generator limits them
    internal.get_run_config().callbacks = callbacks
    return tuner


def _parts(
    record: StudyRecord, tracking_uri: str, n_at_once: int
) -> tuple[StudyGenerator, TrialScheduler, list[Callback]]:
    study = record.config
    halving, stopping = make_halving(study), Stopping(study)
    searcher = OptunaSearcher(study, halving, stopping, record.n_searches)
    # At most n_at_once at a time: with a higher limit Tune would draw one sample too early.
    generator = StudyGenerator(searcher, study.n_trainings, n_at_once)
    callbacks = _callbacks(record, tracking_uri, stopping)
    return generator, make_scheduler(study, halving), callbacks


def _callbacks(record: StudyRecord, tracking_uri: str, stopping: Stopping) -> list[Callback]:
    """The callbacks in the order in which Tune calls them at each event, which matters."""
    study, messages, snapshots = record.config, deque[str](), Snapshots()
    progress = Progress(study, stopping, messages)
    recorder = Recorder(record, tracking_uri, messages, stopping)
    interrupt = Interrupt(record.name, messages, at_once=(progress.leave, recorder.leave))
    own = [OwnCallbacks(study, messages, interrupt)] if study.callbacks else []
    return [
        # Before the recorder: at the end it restores the signal handlers, so that Ctrl-C can leave
        # the recorder, which waits for MLflow.
        interrupt,
        # Before the progress, which prints its messages in the same step.
        Failures(messages),
        progress,
        # Before the user's own callbacks, which may hang or take long.
        recorder,
        *own,
        # After all of these: it raises if it cannot write, and they must handle the end first.
        snapshots,
        # After the snapshots: if they raise, nothing is deleted; and it reads their age.
        Checkpoints(N_KEPT, snapshots, messages),
    ]


def _trainable(record: StudyRecord, n_at_once: int) -> Any:
    study = record.config
    resources: Mapping[str, float] = {"cpu": study.resources.cpus, "gpu": study.resources.gpus}
    halving, n_at_once = make_halving(study), min(n_at_once, study.n_trainings)
    batching = Batching(longest_wait(n_at_once), frozenset(halving.rungs if halving else ()))
    given = tune.with_parameters(TrialTrainable, study=study, batching=batching)
    return tune.with_resources(given, dict(resources))
