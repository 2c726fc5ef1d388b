"""What a key or a type that is not known may have meant: a key of another section, or a word of Ray
Tune's."""

from collections.abc import Iterator
from dataclasses import fields

from study.config.study import FIXED, SEARCHABLE
from study.errors import unknown

_KEYS_OF_TUNE = {
    "max_t": "training.max_epochs",
    "metric": "objectives",
    "mode": "objectives",
    "num_samples": "search.n_trials",
    "param_space": "space",
    "resources_per_trial": "resources",
    "search_alg": "search.sampler",
    "time_budget_s": "search.max_hours",
}
_TYPES_OF_TUNE = {
    "choice": "categorical",
    "grid_search": "categorical, with search.sampler: grid",
    "lograndint": "int with log: true",
    "loguniform": "float with log: true",
    "quniform": "float with step",
    "randint": "int",
    "uniform": "float",
}


def unknown_key(key: str, known: tuple[str, ...]) -> str:
    """The message for a key that is none of those of its section."""
    message = f"unknown key '{key}'"
    if key in _KEYS_OF_TUNE:
        return f"{message}; Ray Tune's {key} is {_KEYS_OF_TUNE[key]} here"
    sections = list(_sections_with(key))
    if len(sections) == 1:
        return f"{message}; it belongs in {sections[0]}"
    return unknown(key, known)


def meant_type(name: object) -> str:
    """What to add to the message for a type of parameter that is not known; empty for nothing."""
    meant = _TYPES_OF_TUNE.get(str(name))
    return "" if meant is None else f"; Ray Tune's {name} is {meant} here"


def _sections_with(key: str) -> Iterator[str]:
    for section, kind in {**SEARCHABLE, **FIXED}.items():
        if key in (field.name for field in fields(kind)):
            yield section
