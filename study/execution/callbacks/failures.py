"""Which failures a trial survives, which end it, and which end the study.

    a node is lost             the trial goes on elsewhere; never counted
    a worker died              retried; given up after too many deaths without an epoch in between
    an exception in a worker   retried; given up after too many in total
    no memory, no storage      retried; after too many the study ends and can be resumed
    CUDA does not work         the study ends: every trial on that node would fail alike
    it is given up, but fails  the study ends: the next worker had only to report why

Tune counts all failures alike, so it is set to always recover, and the callback decides.
"""

import pickle
from collections import Counter, deque
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ray.exceptions import RayActorError, RayTaskError
from ray.tune import Checkpoint
from ray.tune.experiment import Trial

from study.errors import DataNotFoundError, GpuError, GpuMemoryError, StorageError, UserError
from study.execution.callback import ReportCallback
from study.execution.trials import error_text, suggestion
from study.metrics.reports import TrialReport

MAX_RETRIES = 3
"""How often a trial is retried after errors of its own."""
# Ray marks these two only in the message: a worker whose node died, and one that Ray's memory
# monitor killed.
_NODE_DIED = "its node has died"
_NO_MEMORY = "low on memory"


@dataclass(eq=False)
class Failures(ReportCallback):
    """Decides after each failure of a worker whether its trial goes on, and tells the user.

    A trial's suggestion holds the number of its errors and, if the trial is given up, the reason,
    so that both survive a restart. The next worker of such a trial only reports the reason.
    """

    messages: deque[str]

    def setup(self, *args: Any, **info: Any) -> None:
        self._n_deaths = Counter[str]()
        self._n_unsaved = Counter[str]()
        self._fatal: UserError | None = None

    def on_report(self, trial: Trial, report: TrialReport, node: str | None) -> None:
        # The first report of a restored trial proves nothing: its worker may die while training.
        if not report.is_repeated:
            del self._n_deaths[trial.trial_id]

    def on_checkpoint(
        self,
        iteration: int,
        trials: list[Trial],
        trial: Trial,
        checkpoint: Checkpoint,
        **info: Any,
    ) -> None:
        del self._n_unsaved[trial.trial_id]

    def on_trial_recover(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        error, text = _last_failure(trial)
        cause = error.cause if isinstance(error, RayTaskError) else error
        why = _in_one_line(cause, text)
        of_trial = suggestion(trial)
        name, goes_on = f"trial {of_trial.trial_id}", "it goes on from its last checkpoint"
        is_death = isinstance(error, RayActorError) and not error.actor_init_failed
        if isinstance(error, RayActorError) and (error.preempted or _NODE_DIED in text):
            self.messages.append(f"{name} lost its node; {goes_on}")
            return
        if of_trial.failed is not None:
            self._fatal = UserError(
                f"{name} was given up, since it {of_trial.failed}; and the worker that was to "
                f"say so failed: {why}"
            )
            return
        if isinstance(cause, GpuError):
            self._fatal = UserError(f"{name} cannot run: {cause}")
            return
        verb, between, detail = "failed", "", f": {why}"
        if is_death or _NO_MEMORY in text or isinstance(cause, GpuMemoryError):
            self._n_deaths[trial.trial_id] += 1
            n_failures = self._n_deaths[trial.trial_id]
            verb, between, detail = "lost its worker", " without an epoch in between", ""
            if isinstance(cause, GpuMemoryError):
                verb = "ran out of GPU memory"
        elif isinstance(cause, StorageError | DataNotFoundError):
            self._n_unsaved[trial.trial_id] += 1
            n_failures = self._n_unsaved[trial.trial_id]
            between = " without a checkpoint in between"
        else:
            of_trial = replace(of_trial, n_errors=of_trial.n_errors + 1)
            trial.set_config(asdict(of_trial))
            n_failures = of_trial.n_errors
        what = f"{verb} {n_failures} times{between}"
        if n_failures <= MAX_RETRIES:
            self.messages.append(f"{name} {verb}{detail}; {goes_on}")
        elif isinstance(cause, StorageError | DataNotFoundError | GpuMemoryError):
            self._fatal = UserError(f"{name} {what}: {cause}")
        elif _NO_MEMORY in text:
            self._fatal = UserError(
                f"{name} {what}, since its node ran out of memory: fewer trials must run at a "
                "time there, so a trial must ask for more CPUs",
                "resources.cpus",
            )
        else:
            given_up = replace(of_trial, failed=f"{what}: {why}")
            trial.set_config(asdict(given_up))
            self.messages.append(f"{name} {what}, and is given up")

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        # Not raised in `on_trial_recover`: there Tune would take it for an error of the trial.
        if self._fatal is not None:
            raise self._fatal


def _last_failure(trial: Trial) -> tuple[BaseException | None, str]:
    """The failure that Tune just recorded: (the exception, None if Tune has not kept it; text)."""
    error = None
    if trial.pickled_error_file is not None:
        error = pickle.loads(Path(trial.pickled_error_file).read_bytes())
        # Tune keeps some errors only as text; the next of those must not be read from this file.
        trial.run_metadata.pickled_error_filename = None
    return error, (error_text(trial) or "").rpartition("Failure # ")[2].partition("\n")[2]


def _in_one_line(cause: BaseException | None, text: str) -> str:
    """A worker's error without its traceback."""
    if cause is None or isinstance(cause, RayActorError):
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return lines[-1][:500] if lines else "an unknown error"
    return f"{type(cause).__name__}: {' '.join(str(cause).split())}"[:500]
