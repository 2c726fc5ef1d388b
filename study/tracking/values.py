"""Settings, numbers and tags, as written to MLflow and read back; anybody may have changed them."""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TypeVar

from mlflow.entities import Run

from study.config.space import Parameter, Value
from study.config.study import StudyConfig
from study.config.trial import TrialConfig
from study.errors import TrackingError, quoted
from study.metrics.definitions import with_current_names
from study.metrics.reports import Variant, variant_of
from study.tracking import tags

FINE_TUNE_STEPS = "fine_tune_steps"
PROJECTED_TO = "projected_to"
"""Parameter that only projections have."""

# MLflow stores an infinite metric as the largest double.
_LARGEST = 1.7976931348623157e308
# Milliseconds from 1970 to 2200: not all of Python accepts much later dates.
_END_OF_TIME = 7.26e12
_TRIAL_ID = re.compile(r"[0-9]{4,9}")
_T = TypeVar("_T")


def settings(sample: Mapping[str, Value], trial: TrialConfig) -> dict[str, object]:
    """The parameters of a trial: all settings; the names of data settings begin with `data.`."""
    return {
        **asdict(trial.model),
        **asdict(trial.training),
        **asdict(trial.evaluation),
        "precision": trial.precision,
        FINE_TUNE_STEPS: trial.fine_tune_steps,
        **{f"data.{key}": value for key, value in asdict(trial.data).items()},
        "seed": trial.seed,
        **sample,
    }


def objectives_first(config: StudyConfig, metrics: Mapping[str, float]) -> list[tuple[str, float]]:
    """Metrics, the study's objectives first: MLflow's pages show them in the order of logging."""
    objectives = {objective.metric for objective in config.objectives}
    return sorted(metrics.items(), key=lambda item: item[0] not in objectives)


def stored(value: float) -> float:
    """A number as MLflow will return it."""
    return math.copysign(_LARGEST, value) if math.isinf(value) else value


def restored(value: float) -> float:
    """The number that MLflow was given, from the number that it returns."""
    return math.copysign(math.inf, value) if abs(value) >= _LARGEST else value


def metrics_of(run: Run) -> dict[str, float]:
    """The last values of a run's metrics; without those that are not numbers, since anybody may
    have written to the database."""
    values = with_current_names(run.data.metrics).items()
    return {name: restored(v) for name, v in values if isinstance(v, int | float)}


def seconds(milliseconds: object) -> float | None:
    """A time of MLflow's in seconds since 1970-01-01 UTC; None unless it is from 1970 to 2200."""
    if not isinstance(milliseconds, int | float) or not 0 <= milliseconds < _END_OF_TIME:
        return None
    return milliseconds / 1000


def as_json(text: str | bytes, kind: type[_T]) -> _T | None:
    """The content of a JSON text; None if it is not JSON, or its type is not `kind`."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, kind) else None


def network_of(run: Run) -> tuple[str, Variant]:
    """(trial id, variant) of a network's run. Raises TrackingError if its tags are missing or
    invalid."""
    trial_id = value_of(run, tags.TRIAL_ID, _trial_id)
    has = run.data.tags
    bound = value_of(run, tags.PROJECTED_TO, float) if tags.PROJECTED_TO in has else None
    member = value_of(run, tags.MEMBER, member_of) if tags.MEMBER in has else None
    return trial_id, variant_of(bound, member)


def sample_of(run: Run, space: Mapping[str, Parameter] | None = None) -> dict[str, Value]:
    """The sample that a run was trained with. Raises TrackingError if its tag is invalid, or is no
    sample of the `space` of its study, where that is known."""

    def read(text: str) -> dict[str, Value]:
        sample = json.loads(text)
        if not isinstance(sample, dict):
            raise ValueError(text)
        for key, value in sample.items():
            if space is not None and (key not in space or not space[key].contains(value)):
                raise ValueError(f"{key} is not in the space")
        return sample

    return value_of(run, tags.SAMPLE, read)


def value_of(run: Run, name: str, read: Callable[[str], _T], default: str = "") -> _T:
    """A tag or parameter of a run, parsed by `read`, whose ValueError becomes TrackingError."""
    text = run.data.tags.get(name, run.data.params.get(name, default))
    try:
        return read(text)
    except (ValueError, RecursionError) as error:
        raise TrackingError(
            f"run {run.info.run_id}: {name} must be as its study wrote it, but is {quoted(text)}; "
            "set it right in MLflow, or delete the run"
        ) from error


def member_of(text: str) -> tuple[float, ...]:
    """The conditions in a tag MEMBER. Raises ValueError if they cannot be read."""
    conditions = json.loads(text)
    if not isinstance(conditions, list) or not all(isinstance(v, float) for v in conditions):
        raise ValueError(text)
    return tuple(conditions)


def _trial_id(text: str) -> str:
    if not _TRIAL_ID.fullmatch(text):
        raise ValueError(text)
    return text
