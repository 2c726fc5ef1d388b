from collections import deque
from dataclasses import asdict
from pathlib import Path

import pytest
from ray.exceptions import ActorDiedError, OutOfMemoryError, RayActorError, RayTaskError
from ray.train._internal import storage
from ray.tune import Checkpoint
from ray.tune.experiment import Trial

from study.errors import DataNotFoundError, GpuError, GpuMemoryError, StorageError, UserError
from study.execution.callbacks.failures import MAX_RETRIES, Failures
from study.metrics.reports import TrialReport, TrialStatus
from study.search.suggestion import Suggestion
from tests.support.studies import epoch_report

DEAD_NODE = (
    "The actor died because its node has died. Node Id: abc\n\tthe actor's node was terminated"
)
DEAD_WORKER = (
    "The actor died unexpectedly before finishing this task.\nWorker exit type: SYSTEM_ERROR"
)


def of_code(cause: Exception) -> RayTaskError:
    """An exception of a worker as Ray brings it to the driver."""
    return RayTaskError("step", "Traceback ...", cause)  # type: ignore[arg-type]


class Failing:
    """A real trial that fails as often as it is told, as Tune's controller would have it."""

    def __init__(self, folder: Path) -> None:
        self.messages = deque[str]()
        self.failures = Failures(self.messages)
        self.failures.setup()
        context = storage.StorageContext(str(folder), "study", trial_dir_name="0007")
        self.trial = Trial(
            "unknown",
            stub=True,
            config=asdict(Suggestion(7, seed=7, repeat_of=7, sample={})),
            max_failures=-1,
            storage=context,
        )
        self.trial.create_placement_group_factory()  # without which it cannot be brought back
        Path(str(self.trial.local_path)).mkdir(parents=True, exist_ok=True)

    def fail(self, error: Exception, times: int = 1) -> None:
        for _ in range(times):
            self.trial.handle_error(error)
            assert self.trial.should_recover()
            self.failures.on_trial_recover(1, [self.trial], self.trial)
            self.failures.on_step_end(1, [self.trial])

    def report(self, is_repeated: bool = False) -> None:
        report = TrialReport(TrialStatus.RUNNING, epoch_report(), is_repeated=is_repeated)
        self.failures.on_trial_result(1, [self.trial], self.trial, report.to_result())

    def restart(self) -> None:
        """What Tune brings back of a trial when a driver starts again."""
        # In its files the state of a trial is text.
        described, metadata = self.trial.get_json_state()
        context = self.trial.storage
        self.trial = Trial.from_json_state(described, stub=True)
        self.trial.restore_run_metadata(metadata)
        self.trial.set_storage(context)
        self.failures = Failures(self.messages)
        self.failures.setup()

    def checkpoint(self) -> None:
        self.failures.on_checkpoint(1, [self.trial], self.trial, Checkpoint("/x"))

    @property
    def given_up(self) -> str | None:
        return Suggestion(**self.trial.config).failed


@pytest.fixture
def failing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Failing:
    # Where a driver puts its own files, without a Ray that would say it.
    monkeypatch.setattr(storage, "_get_ray_train_session_dir", lambda: str(tmp_path / "driver"))
    return Failing(tmp_path)


@pytest.mark.parametrize(
    "error", [RayActorError("a", DEAD_NODE), RayActorError("a", DEAD_WORKER, preempted=True)]
)
def test_nodes_may_go_as_often_as_they_like(failing: Failing, error: RayActorError) -> None:
    failing.fail(error, 10 * MAX_RETRIES)
    assert failing.given_up is None
    said = "trial 0007 lost its node; it goes on from its last checkpoint"
    assert failing.messages[0] == said


def test_errors_are_counted_in_all_and_lost_nodes_between_them_are_not(failing: Failing) -> None:
    """The count survives a restart of the driver."""
    error = of_code(RuntimeError("CUDA error: out of luck"))
    for _ in range(MAX_RETRIES):
        failing.fail(error)
        failing.fail(RayActorError("a", DEAD_NODE))
        failing.report()
        failing.restart()
    assert failing.given_up is None
    failing.fail(error)
    assert failing.given_up == "failed 4 times: RuntimeError: CUDA error: out of luck"


def test_workers_that_die_are_counted_between_two_epochs(failing: Failing) -> None:
    for _ in range(5):
        failing.fail(RayActorError("a", DEAD_WORKER), MAX_RETRIES)
        failing.report()
    assert failing.given_up is None
    for _ in range(MAX_RETRIES + 1):
        failing.report(is_repeated=True)  # as each worker does before it trains
        failing.fail(RayActorError("a", DEAD_WORKER))
    assert failing.given_up == (
        "lost its worker 4 times without an epoch in between: Worker exit type: SYSTEM_ERROR"
    )


def test_an_error_as_a_worker_is_made_is_one_of_its_code(failing: Failing) -> None:
    failing.fail(ActorDiedError(of_code(ImportError("no module"))), MAX_RETRIES + 1)
    assert failing.given_up is not None
    assert "failed 4 times" in failing.given_up


FULL = of_code(StorageError("a checkpoint cannot be written: disk full"))
NO_MEMORY = r"resources.cpus: .* lost its worker 4 times without an epoch .* ran out of memory"


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (FULL, "trial 0007 failed 4 times without a checkpoint in between: a checkpoint cannot"),
        (
            of_code(DataNotFoundError("it must be readable", "data.root")),
            "trial 0007 failed 4 times",
        ),
        (OutOfMemoryError("Task was killed due to the node running low on memory."), NO_MEMORY),
        (RayActorError("a", "killed due to the node running low on memory"), NO_MEMORY),
        # Another trial on the same GPU may be what took it.
        (
            of_code(GpuMemoryError("node 10.0.0.7: resources.gpus: the GPU must have the memory")),
            r"trial 0007 ran out of GPU memory 4 times without an epoch .*: node 10\.0\.0\.7: .*",
        ),
    ],
)
def test_what_is_the_machines_fault_stops_the_study_and_not_the_trial(
    failing: Failing, error: Exception, says: str
) -> None:
    failing.fail(error, MAX_RETRIES)
    with pytest.raises(UserError, match=f"^({says})"):
        failing.fail(error)
    assert failing.given_up is None


def test_a_full_disk_uses_up_none_of_a_trials_own_tries(failing: Failing) -> None:
    failing.fail(FULL, MAX_RETRIES)
    with pytest.raises(UserError):
        failing.fail(FULL)
    failing.restart()  # --resume, once there is room
    for _ in range(MAX_RETRIES):
        failing.fail(of_code(RuntimeError("x")))
        failing.fail(FULL)
        failing.report()
        failing.checkpoint()
    assert failing.given_up is None
    failing.fail(of_code(RuntimeError("x")))
    assert failing.given_up is not None


def test_a_disk_that_is_full_at_each_epoch_stops_the_study(failing: Failing) -> None:
    """The epoch is reported each time, and only then cannot be stored."""
    for _ in range(MAX_RETRIES):
        failing.report()
        failing.fail(FULL)
    failing.report()
    with pytest.raises(UserError, match="failed 4 times without a checkpoint in between"):
        failing.fail(FULL)


@pytest.mark.parametrize(
    "error", [of_code(ImportError("no module")), RayActorError("a", DEAD_WORKER)]
)
def test_a_trial_that_cannot_even_be_given_up_stops_the_study(
    failing: Failing, error: Exception
) -> None:
    failing.fail(of_code(RuntimeError("x")), MAX_RETRIES + 1)
    assert failing.given_up is not None
    failing.fail(RayActorError("a", DEAD_NODE))  # that is no reason
    with pytest.raises(UserError, match=r"0007 was given up, since it failed 4 times: Runtime"):
        failing.fail(error)


def test_an_error_that_tune_keeps_as_text_is_not_taken_for_the_one_before(failing: Failing) -> None:
    failing.fail(of_code(RuntimeError("first")))
    failing.fail(OutOfMemoryError("the node running low on memory"))
    assert failing.messages[-1] == "trial 0007 lost its worker; it goes on from its last checkpoint"


def test_cuda_that_does_not_work_ends_the_study_at_once(failing: Failing) -> None:
    error = of_code(GpuError("node 10.0.0.7: resources.gpus: NVIDIA's driver must be newer"))
    with pytest.raises(UserError, match=r"^trial 0007 cannot run: node 10\.0\.0\.7: .*newer$"):
        failing.fail(error)
    assert failing.given_up is None  # --resume runs it again
