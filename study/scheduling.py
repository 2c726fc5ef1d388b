"""Which trials stop early."""

from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from study.config import StudyConfig
from study.metrics import Direction


def make_scheduler(study: StudyConfig) -> TrialScheduler:
    """The study's scheduler. asha halves on one objective, at epochs grace_period * k^i.

    Its rungs are not kept over a restart of the study: after --resume it begins with empty
    ones, so it may let a trial go on that it would have stopped.
    """
    settings = study.scheduler
    if settings.name == "fifo":
        return FIFOScheduler()
    direction = {o.metric: o.direction for o in study.objectives}[str(settings.metric)]
    return AsyncHyperBandScheduler(
        time_attr="epoch",
        metric=settings.metric,
        mode="max" if direction is Direction.MAXIMIZE else "min",
        max_t=study.training.max_epochs,
        grace_period=min(settings.grace_period, study.training.max_epochs),
        reduction_factor=settings.reduction_factor,
    )
