"""Objectives that a user asks for in place of a study's own."""

import math
from collections.abc import Sequence

from study.errors import UserError
from study.metrics.definitions import Direction, current_name
from study.metrics.goals import Objective
from study.tracking.study_record import StudyRecord


def parse_objectives(texts: Sequence[str], study: StudyRecord) -> tuple[Objective, ...] | None:
    """Objectives from texts such as "val_loss:minimize"; None without texts, for the study's own.
    Raises UserError if one cannot be read."""
    known, metrics = {o.metric: o for o in study.config.objectives}, study.config.known_metrics
    parsed = []
    for text in texts:
        name, _, direction = text.partition(":")
        metric = current_name(name)
        if metric not in metrics or direction not in tuple(Direction):
            names = ", ".join(metrics)
            rule = f"must be NAME:maximize or NAME:minimize, with one of {names}"
            raise UserError(rule, "objectives", text)
        own = known.get(metric)
        if own is not None and own.direction == direction:
            parsed.append(own)
            continue
        worst = metrics[metric].worst if metrics[metric].direction == direction else None
        reference = math.nan if worst is None else worst
        parsed.append(Objective(metric, Direction(direction), reference))
    return tuple(parsed) or None
