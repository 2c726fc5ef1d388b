"""The results of the study that a command names."""

import math
from collections.abc import Sequence

from study.errors import TrackingError, UserError, quoted
from study.metrics.definitions import METRICS, Direction
from study.metrics.goals import Objective
from study.results import conditions
from study.results.certainty import with_certainty
from study.results.front import Results, collect
from study.tracking.records import Records, StudyRecord


def read(
    records: Records, name: str | None, where: str = "", objectives: Sequence[str] = ()
) -> Results:
    """The results of a study in MLflow.

    Args:
        name: of the study; None for the latest.
        where: conditions on trials and projections, see study.results.conditions.
        objectives: such as "val_loss:minimize", in place of the study's own.

    Raises:
        UserError: if there is no such study, or a filter or an objective cannot be read.
    """
    study = find_study(records, name)
    chosen = parse_objectives(objectives, study)
    wanted = conditions.parse(where, [key for key, _ in study.config.space])
    try:
        matching = records.trials_and_projections(study, wanted.of_mlflow)
    except TrackingError as error:
        if not wanted.as_typed or error.may_pass:
            raise
        filters = " and ".join(wanted.as_typed)
        raise UserError(f"--where: MLflow cannot read {quoted(filters)}: {error}") from error
    return with_certainty(collect(study, wanted.keep(matching), chosen, where=where), records)


def find_study(records: Records, name: str | None) -> StudyRecord:
    """The study of that name, or the latest.

    Raises:
        TrackingError: if there is none.
    """
    study = records.find_study(name) if name else next(records.studies(), None)
    if study is None:
        if name:
            raise TrackingError(f"STUDY: {records.absent(name)}")
        raise TrackingError(f"STUDY: a study must be {records.client.place}, but there is none")
    return study


def parse_objectives(texts: Sequence[str], study: StudyRecord) -> tuple[Objective, ...] | None:
    """--objective NAME:DIRECTION options; None without any, which means the study's own.

    Raises:
        UserError: if one cannot be read.
    """
    known = {o.metric: o for o in study.config.objectives}
    parsed = []
    for text in texts:
        metric, _, direction = text.partition(":")
        if metric not in METRICS or direction not in tuple(Direction):
            raise UserError(
                f"--objective: NAME:maximize or NAME:minimize must be given, with one of "
                f"{', '.join(METRICS)}, but got {quoted(text)}"
            )
        own = known.get(metric)
        if own is not None and own.direction == direction:
            parsed.append(own)
            continue
        worst = METRICS[metric].worst if METRICS[metric].direction == direction else None
        reference = math.nan if worst is None else worst
        parsed.append(Objective(metric, Direction(direction), reference))
    return tuple(parsed) or None
