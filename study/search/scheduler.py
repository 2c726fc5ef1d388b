"""Which trials stop early, behind Tune's interface for schedulers."""

import math
import time
from collections.abc import Iterable, Mapping
from typing import Any

from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from study.config.study import StudyConfig
from study.metrics.goals import Constraint, Objective
from study.metrics.reports import EpochReport, TrialReport, TrialStatus
from study.pareto import points
from study.search.halving import Entry, SuccessiveHalving
from study.search.suggestion import Suggestion

# Seconds, longer than a worker takes to start.
_START_SECONDS = 30.0


def make_halving(study: StudyConfig) -> SuccessiveHalving | None:
    """The empty rungs of a study's scheduler; None for fifo, which has none. The searcher saves
    them, since Tune does not save the state of a scheduler."""
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
    """The study's scheduler: fifo stops no trial, asha halves on one objective, mo_asha on all
    objectives and constraints. With a ladder or a family mo_asha ignores constraints: where the
    network of a trial breaks one, its projections or members may meet it."""
    if halving is None:
        return PatientScheduler()
    if study.scheduler.name == "asha":
        one = tuple(o for o in study.objectives if o.metric == study.scheduler.metric)
        return HalvingScheduler(halving, one, ())
    return HalvingScheduler(
        halving, study.objectives, () if study.gives_several else study.constraints
    )


class PatientScheduler(FIFOScheduler):
    """Stops no trial, and lets each have the worker that is started for it.

    Tune starts a worker for each waiting trial. A trial that the scheduler chooses takes over the
    worker of an ended trial, and the worker that was starting for it is stopped. If the scheduler
    always chose the first waiting trial, and trials were shorter than the start of a worker, all
    trials would run in one worker while the others start in vain.

    So a trial is chosen only once it has waited longer than a worker takes to start: it then waits
    for a free place. The worker that starts for it may still be stopped, but only once. When no new
    trial is proposed any more, Tune gives the workers of ended trials to waiting ones by itself.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Ray's is not annotated
        self._waits_since: dict[str, float] = {}

    def on_trial_add(self, tune_controller: TuneController, trial: Trial) -> None:
        """Forget a dead driver's decisions on this trial that were not carried out. Tune restores
        them, but the trial may go on from before the report that led to them."""
        controller: Any = tune_controller
        for decisions in ("_cached_trial_decisions", "_queued_trial_decisions"):
            getattr(controller._tune_controller, decisions).pop(trial.trial_id, None)

    def choose_trial_to_run(self, tune_controller: TuneController) -> Trial | None:
        live: Iterable[Trial] = tune_controller.get_live_trials()
        waiting = {trial.trial_id: trial for trial in live if trial.status == Trial.PENDING}
        now = time.monotonic()
        self._waits_since = {i: self._waits_since.get(i, now) for i in waiting}
        longest = min(
            waiting,
            key=lambda i: (self._waits_since[i], Suggestion(**waiting[i].config).number),
            default=None,
        )
        if longest is None or now - self._waits_since[longest] < _START_SECONDS:
            return None
        return waiting[longest]


class HalvingScheduler(PatientScheduler):
    """Stops trials by `halving`, which identifies them by number."""

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
        number = Suggestion(**trial.config).number
        self._record_earlier(number, report)
        if report is None or report.epoch is None or report.status is not TrialStatus.RUNNING:
            return str(TrialScheduler.CONTINUE)
        goes_on = self.halving.goes_on(number, report.epoch.epoch, self._entry(report.epoch))
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)

    def on_trial_complete(
        self, tune_controller: TuneController, trial: Trial, result: Mapping[str, Any]
    ) -> None:
        number = Suggestion(**trial.config).number
        self._record_earlier(number, TrialReport.from_result(result))

    def _record_earlier(self, number: int, report: TrialReport | None) -> None:
        """Record the earlier reports that come with one: of its batch, or of a restored trial."""
        for earlier in () if report is None else report.earlier:
            self.halving.record(number, earlier.epoch, self._entry(earlier))

    def _entry(self, report: EpochReport) -> Entry:
        metrics = report.metrics()
        # During training a bound may be infinite; such a network comes last, see `halving.best`.
        losses = [math.inf] * len(self._objectives)
        if all(math.isfinite(metrics[objective.metric]) for objective in self._objectives):
            losses = points.scaled_losses([metrics], self._objectives)[0].tolist()
        return Entry(
            losses=tuple(losses),
            violation=sum(c.relative_violation(metrics[c.metric]) for c in self._constraints),
        )
