"""Which trials run and which stop early: the study's scheduler behind Ray's interface."""

import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from study import points
from study.metrics import TrialReport, TrialStatus
from study.study_config import Constraint, Objective, StudyConfig
from study.successive_halving import Entry, SuccessiveHalving

# Longer than a worker takes to start, seconds.
_START_SECONDS = 30.0


def make_halving(study: StudyConfig) -> SuccessiveHalving | None:
    """The rungs of a study's scheduler, empty; None for fifo, which has none.

    They belong into the searcher's hands too, since Tune keeps its state and not a scheduler's.
    """
    settings = study.scheduler
    if settings.name == "fifo":
        return None
    return SuccessiveHalving(
        max_epochs=study.training.max_epochs,
        grace_period=settings.grace_period,
        reduction_factor=settings.reduction_factor,
        brackets=settings.brackets,
    )


def make_scheduler(study: StudyConfig, halving: SuccessiveHalving | None) -> TrialScheduler:
    """The study's scheduler.

    fifo stops none. mo_asha halves on all objectives and constraints, asha on one objective and
    no constraint.
    """
    if halving is None:
        return PatientScheduler()
    if study.scheduler.name == "asha":
        one = tuple(o for o in study.objectives if o.metric == study.scheduler.metric)
        return HalvingScheduler(halving, one, ())
    return HalvingScheduler(halving, study.objectives, study.constraints)


class PatientScheduler(FIFOScheduler):
    """Stops no trial, and lets each have the worker that is started for it.

    Whom a scheduler chooses takes over the worker of a trial that has ended, and the one that
    starts for it is stopped: where trials are shorter than the start of a worker, and the first
    that waits is always chosen, all of them run in one worker while others start in vain. So only
    who waits for longer is chosen, since then it waits for a place; where one comes at last, a
    worker that starts for it may still be stopped, once for each that waited. When no new trial is
    proposed Tune gives ended workers away by itself.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Ray's is not annotated
        self._waits_since: dict[str, float] = {}

    def choose_trial_to_run(self, tune_controller: TuneController) -> Trial | None:
        live: Iterable[Trial] = tune_controller.get_live_trials()
        waiting = {trial.trial_id: trial for trial in live if trial.status == Trial.PENDING}
        now = time.monotonic()
        self._waits_since = {i: self._waits_since.get(i, now) for i in waiting}
        longest = min(
            waiting,
            key=lambda i: (self._waits_since[i], waiting[i].config["number"]),
            default=None,
        )
        if longest is None or now - self._waits_since[longest] < _START_SECONDS:
            return None
        return waiting[longest]


class HalvingScheduler(PatientScheduler):
    """Stops the trials that `halving` lets not go on.

    A trial is known by its number in the study, which stays the same over a restart.
    """

    def __init__(
        self,
        halving: SuccessiveHalving,
        objectives: tuple[Objective, ...],
        constraints: tuple[Constraint, ...],
    ) -> None:
        super().__init__()
        self.halving = halving
        self._objectives = objectives
        self._constraints = constraints

    def on_trial_result(
        self, tune_controller: TuneController, trial: Trial, result: Mapping[str, Any]
    ) -> str:
        report = TrialReport.from_result(result)
        if report is None or report.epoch is None or report.status is not TrialStatus.RUNNING:
            return str(TrialScheduler.CONTINUE)
        metrics = report.epoch.metrics()
        entry = Entry(
            losses=tuple(points.losses([metrics], self._objectives)[0].tolist()),
            violation=sum(_violation(c, metrics[c.metric]) for c in self._constraints),
        )
        goes_on = self.halving.goes_on(trial.config["number"], report.epoch.epoch, entry)
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)


def _violation(constraint: Constraint, value: float) -> float:
    """0 where it holds; otherwise by how much it does not, as a part of its bound."""
    if constraint.holds(value):
        return 0.0
    missed = constraint.violation(value) / (abs(constraint.bound) or 1.0)
    # On the bound itself a strict constraint is missed by nothing, and does not hold.
    return max(missed, sys.float_info.min)
