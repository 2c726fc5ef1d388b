"""What the figures of a stored network mean: its files state it, and its study must say the same.

The settings of a study are in a tag of its run, which no digest protects from a change. The file
NETWORK has a digest, so it also states the radius, precision, split and goals, as
`TrialConfig.meaning` returns them.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from models import NETWORK
from study.config.trial import GOALS, MEASURED, OBJECTIVES, TrialConfig, with_settings
from study.errors import quoted
from study.metrics.definitions import current_name, with_current_names
from study.tracking.stored_model import Stored

_LINEAR = ("scale", "offset")


def trial_of(stored: Stored) -> TrialConfig | None:
    """The trial of a network, from its sample and its study's settings: that of a classifier alone
    for a control, with its conditions for a member of a family; None if the study cannot be read.
    Raises ValueError if the sample or the conditions do not fit these settings."""
    if stored.study is None:
        return None
    try:
        trial = stored.study.config.resolve(stored.sample, seed=0)
        if stored.is_control:
            trial = trial.alone
        names = [name for name, _ in trial.family]
        conditions = {} if stored.member is None else zip(names, stored.member, strict=True)
        return with_settings(trial, dict(conditions))
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        sample = quoted(stored.sample)
        raise ValueError(f"its sample must be one of its study, but is {sample}") from error


def other_meaning(network: Mapping[str, Any], trial: TrialConfig) -> Iterator[str]:
    """Yield a sentence for each setting of a trial that differs from the one with which the figures
    of its network were measured, according to `network`, the content of NETWORK."""
    meant = json.loads(json.dumps(trial.meaning))
    stated = {**{key: network.get(key) for key in meant}, MEASURED: _measured(network)}
    for key, there, here in _apart(stated, meant):
        yield (
            f"its figures were measured with {key.removeprefix('measured.')} {there!s:.100}, by "
            f"{NETWORK}, but its study says {here!s:.100}"
        )


def in_words(network: Mapping[str, Any], trial: TrialConfig, measured: Collection[str]) -> str:
    """What the figures of a trial's network mean, to follow "measured" in a message: at which
    radius, in which precision, on which split, for which goals. `network` is the content of
    NETWORK, which must agree with the trial (see `other_meaning`); `measured` are metric names."""
    name, *split = (f"{key} {value}" for key, value in trial.split.items() if value is not None)
    again = [name for name in trial.objectives if name in measured]
    others = [name for name in trial.objectives if name not in measured]
    left = f", not for {', '.join(others)}" if others else ""
    return (
        f"at radius {trial.radius:.6g} (l2, {trial.data.unit}) in {trial.precision}, on "
        f"{name.removeprefix('name ')} with {', '.join([*split, *_normalization(network)])}, for "
        f"{', '.join(again) or 'no objective'}{left}"
    )


def _measured(network: Mapping[str, Any]) -> object:
    """How the figures were measured, according to NETWORK, with today's names of the metrics."""
    stated = network.get(MEASURED)
    if not isinstance(stated, dict):
        return stated
    objectives, goals = stated.get(OBJECTIVES), stated.get(GOALS)
    return {
        **stated,
        OBJECTIVES: [*map(current_name, objectives)]
        if isinstance(objectives, list)
        else objectives,
        GOALS: with_current_names(goals) if isinstance(goals, dict) else goals,
    }


def _normalization(network: Mapping[str, Any]) -> Iterator[str]:
    """Yield one phrase on how the images are normalized, if NETWORK says it."""
    data = network.get("data")
    given = data.get("normalization") if isinstance(data, dict) else None
    scale, offset = (given.get(key) if isinstance(given, dict) else None for key in _LINEAR)
    if isinstance(scale, float) and isinstance(offset, float):
        yield f"images times {scale:.4g} plus {offset:g}"


def _apart(
    stated: object, meant: Mapping[str, Any], above: str = ""
) -> Iterator[tuple[str, object, object]]:
    """Yield (key, stated, meant) for each value that differs: its key and the keys above it, joined
    by dots, and both values, None for a missing one."""
    if not isinstance(stated, dict):
        yield above.removesuffix("."), stated, meant
        return
    for key in [*meant, *sorted(stated.keys() - meant.keys())]:
        there, here = stated.get(key), meant.get(key)
        if isinstance(here, dict):
            yield from _apart(there, here, f"{above}{key}.")
        elif there != here:
            yield above + key, there, here
