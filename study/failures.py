"""Which failures a trial survives, which end it, and which end the study.

    a node is gone             the trial goes on elsewhere; it costs nothing, however often
    a worker died              tried again; given up after so many deaths without an epoch between
    an exception in a worker   tried again; given up after so many in all
    no memory, no storage      tried again; after so many the study stops, to be resumed
    a trial cannot be ended    as one that is given up fails once more: the study stops

Tune counts all of them alike, so it is told to recover always, and this decides.
"""

import pickle
from collections import Counter, deque
from pathlib import Path
from typing import Any

from ray.exceptions import RayActorError, RayTaskError
from ray.tune import Callback, Checkpoint
from ray.tune.experiment import Trial

from study.errors import StorageError, UserError
from study.recorder import trial_id
from study.trainable import FAILED

MAX_RETRIES = 3
"""How often a trial is tried again after errors of its own."""
_N_ERRORS = "n_errors"
# What Ray says, which has no other sign of it, of a worker whose node died, and of one that its
# memory monitor killed.
_NODE_DIED = "its node has died"
_NO_MEMORY = "low on memory"


class MemoryExhaustedError(UserError):
    """A node has not the memory for the trials that run on it."""


class Failures(Callback):
    """Decides after each failure of a worker; says what it decided.

    How often a trial failed by itself stands in its config, so that a restart remembers. Once it is
    given up its config says why, and its next worker reports that instead of training.
    """

    def __init__(self, news: deque[str]) -> None:
        """news: gets a line for whoever watches at each failure."""
        self._news = news
        self._n_deaths: Counter[str] = Counter()
        self._n_unsaved: Counter[str] = Counter()
        self._fatal: UserError | None = None

    def __getstate__(self) -> dict[str, Any]:
        counts = {"_n_deaths": Counter[str](), "_n_unsaved": Counter[str]()}
        return {"_news": self._news, "_fatal": None, **counts}

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
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
        error, text = _last_error(trial)
        name = f"trial {trial_id(trial)}"
        goes_on = "it goes on from its last checkpoint"
        is_death = isinstance(error, RayActorError) and not error.actor_init_failed
        if isinstance(error, RayActorError) and (error.preempted or _NODE_DIED in text):
            self._news.append(f"{name} lost its node; {goes_on}")
            return
        if FAILED in trial.config:
            self._fatal = UserError(
                f"{name} was given up, since it {trial.config[FAILED]}; and the worker that was to "
                f"say so failed: {_in_one_line(error, text)}"
            )
            return
        if is_death or _NO_MEMORY in text:
            self._n_deaths[trial.trial_id] += 1
            n_failures = self._n_deaths[trial.trial_id]
            what = f"lost its worker {n_failures} times without an epoch in between"
            said = "lost its worker"
        elif isinstance(_cause(error), StorageError):
            self._n_unsaved[trial.trial_id] += 1
            n_failures = self._n_unsaved[trial.trial_id]
            what = f"failed {n_failures} times without a checkpoint in between"
            said = f"failed: {_in_one_line(error, text)}"
        else:
            n_failures = trial.config.get(_N_ERRORS, 0) + 1
            trial.set_config({**trial.config, _N_ERRORS: n_failures})
            what = f"failed {n_failures} times"
            said = f"failed: {_in_one_line(error, text)}"
        if n_failures <= MAX_RETRIES:
            self._news.append(f"{name} {said}; {goes_on}")
        elif isinstance(_cause(error), StorageError):
            self._fatal = StorageError(f"{name} {what}: {_in_one_line(error, text)}")
        elif _NO_MEMORY in text:
            self._fatal = MemoryExhaustedError(
                f"{name} {what}, since its node ran out of memory: fewer trials must run at a "
                "time there, which --cpus makes them"
            )
        else:
            trial.set_config({**trial.config, FAILED: f"{what}: {_in_one_line(error, text)}"})
            self._news.append(f"{name} {what}, and is given up")

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        # Tune would take it for an error of the trial where it was found.
        if self._fatal is not None:
            raise self._fatal


def _last_error(trial: Trial) -> tuple[BaseException | None, str]:
    """What Tune has just written down, as an exception where it keeps it, and as text."""
    # The files in the driver's own folder: those in the storage may be older.
    error = None
    if trial.pickled_error_file is not None:
        error = pickle.loads(Path(trial.pickled_error_file).read_bytes())
        # Tune keeps some kinds of errors as text alone, and would leave this one in its place.
        trial.run_metadata.pickled_error_filename = None
    failures = Path(trial.error_file).read_text() if trial.error_file is not None else ""
    return error, failures.rpartition("Failure # ")[2].partition("\n")[2]


def _cause(error: BaseException | None) -> BaseException | None:
    return error.cause if isinstance(error, RayTaskError) else error


def _in_one_line(error: BaseException | None, text: str) -> str:
    """An error of a worker, without its trace."""
    cause = _cause(error)
    if cause is None or isinstance(error, RayActorError):
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return lines[-1][:500] if lines else "an unknown error"
    return f"{type(cause).__name__}: {' '.join(str(cause).split())}"[:500]
