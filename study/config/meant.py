"""What a key, a type or a parameter that cannot be read may have meant: a key of another section, a
word of Ray Tune's, or a value in the place of a parameter."""

from collections.abc import Iterator, Mapping
from dataclasses import fields

from study.config.study import FIXED, SEARCHABLE
from study.errors import unknown

_KEYS_OF_TUNE = {
    "max_t": "training.max_epochs",
    "metric": "objectives",
    "mode": "objectives",
    "num_samples": "search.n_trials",
    "config": "space",
    "param_space": "space",
    "resources_per_trial": "resources",
    "search_alg": "search.sampler",
    "time_budget_s": "search.max_hours",
}
# What other libraries call it.
_KEYS_OF_OTHERS = {"hyperparameters": "space", "parameters": "space", "search_space": "space"}
_EXAMPLE = "{type: float, low: 0.1, high: 0.9}"
_TYPES_OF_TUNE = {
    "choice": "{type: categorical, choices: [1, 2]}",
    "grid_search": "{type: categorical, choices: [1, 2]} with search.sampler: grid",
    "lograndint": "{type: int, low: 1, high: 9, log: true}",
    "loguniform": "{type: float, low: 0.1, high: 0.9, log: true}",
    "quniform": "{type: float, low: 0.1, high: 0.9, step: 0.1}",
    "randint": "{type: int, low: 1, high: 9}",
    "uniform": _EXAMPLE,
}


def unknown_key(key: str, known: tuple[str, ...]) -> str:
    """The message for a key that is none of those of its section."""
    message = f"unknown key '{key}'"
    if key in _KEYS_OF_TUNE:
        return f"{message}; Ray Tune's {key} is {_KEYS_OF_TUNE[key]} here"
    if key in _KEYS_OF_OTHERS:
        return f"{message}; it is {_KEYS_OF_OTHERS[key]} here"
    sections = list(_sections_with(key))
    if len(sections) == 1:
        return f"{message}; it belongs in {sections[0]}"
    return unknown(key, known)


def meant_type(name: object) -> str:
    """What to add to the message for a type of parameter that is not known; empty for nothing."""
    meant = _TYPES_OF_TUNE.get(str(name))
    return "" if meant is None else f"; Ray Tune's {name} is written like {meant} here"


def meant_parameter(given: object, section: str) -> str:
    """What to add to the message for what is no parameter.

    Args:
        section: where the key stands if it is not searched.
    """
    if isinstance(given, Mapping):
        types = [str(key) for key in given if str(key) in _TYPES_OF_TUNE]
        if types:
            return meant_type(types[0])
    elif isinstance(given, list):
        return "; it is written like {type: categorical, choices: [...]}"
    elif not isinstance(given, str):
        return f"; a value that is not searched belongs in {section}"
    return f"; it is written like {_EXAMPLE}"


def _sections_with(key: str) -> Iterator[str]:
    for section, kind in {**SEARCHABLE, **FIXED}.items():
        if key in (field.name for field in fields(kind)):
            yield section
