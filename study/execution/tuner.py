"""Tune's parts put together: a new tuner for a study, or the one that it had."""

from collections.abc import Mapping, Sequence
from typing import Any

from ray import tune

from study.config.study import StudyConfig
from study.errors import LaunchError
from study.execution.checkpoints import Checkpoints
from study.execution.failures import Failures
from study.execution.interrupt import Interrupt
from study.execution.messages import Messages
from study.execution.progress import Progress
from study.execution.recorder import Recorder
from study.execution.snapshots import Snapshots
from study.execution.trials import folder_name
from study.execution.worker import TrialTrainable
from study.search.scheduler import make_halving, make_scheduler
from study.search.searcher import OptunaSearcher
from study.search.stopping import Stopping
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
    study = record.config
    # Callbacks, searcher and scheduler are pickled together: what they share here they still share
    # after a --resume.
    halving, stopping, messages = make_halving(study), Stopping(study), Messages()
    progress = Progress(study, stopping, messages)
    recorder = Recorder(record.name, tracking_uri, messages, stopping)
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
            # Tune always tries again; the callback Failures decides.
            failure_config=tune.FailureConfig(max_failures=-1),
            checkpoint_config=tune.CheckpointConfig(
                checkpoint_frequency=1, checkpoint_at_end=True, num_to_keep=_N_CHECKPOINTS
            ),
            callbacks=[
                # First: at the end it gives the signals back before the recorder waits for MLflow.
                Interrupt(messages, at_once=(progress.leave, recorder.leave)),
                Failures(messages),
                progress,
                recorder,
                # Behind the others: it raises if it cannot write, and they handle the end first.
                snapshots,
                # Behind the snapshots: if those raise, it deletes nothing.
                Checkpoints(_N_CHECKPOINTS, snapshots, messages),
            ],
            verbose=0,
        ),
    )


def restored(record: StudyRecord, tracking_uri: str) -> tune.Tuner:
    """The tuner of a study that is resumed, from Tune's state."""
    tuner = tune.Tuner.restore(record.storage, trainable=_trainable(record.config))
    # Its callbacks come out of a pickle, and MLflow may have another address now.
    internal = tuner._local_tuner
    if internal is None:
        raise LaunchError("--address: a study cannot be resumed through the Ray client, ray://")
    for callback in internal.get_run_config().callbacks or ():
        if isinstance(callback, Recorder):
            callback.tracking_uri = tracking_uri
    return tuner


def _trainable(study: StudyConfig) -> Any:
    resources: Mapping[str, float] = {"cpu": study.resources.cpus, "gpu": study.resources.gpus}
    return tune.with_resources(tune.with_parameters(TrialTrainable, study=study), dict(resources))
