"""Which trials of earlier studies a new study may learn from."""

import json
from collections.abc import Mapping

from study.search_space import CategoricalParameter, Parameter, Value
from study.study_config import SEARCHABLE, StudyConfig


def difference(study: StudyConfig, earlier: StudyConfig) -> str | None:
    """In one line, why no trial of an earlier study tells what one of this study would measure;
    None if each may.

    The objectives, the constraints' metrics and the varied keys must be the same, and so must
    every setting of data, model, training and evaluation: a number from another network, data set
    or length of training is the answer to another question. Where the data lies does not count.
    """
    ours, theirs = _comparable(study), _comparable(earlier)
    for key in sorted(ours.keys() | theirs.keys()):
        if ours.get(key) != theirs.get(key):
            return f"{key} is {_shown(theirs.get(key))} there and {_shown(ours.get(key))} here"
    return None


def is_inside(space: tuple[tuple[str, Parameter], ...], sample: Mapping[str, Value]) -> bool:
    """Whether this study could have proposed the sample."""

    def holds(parameter: Parameter, value: Value) -> bool:
        if isinstance(parameter, CategoricalParameter):
            # As text, which is what the sampler knows them by: 0 is not 0.0 there.
            return json.dumps(value) in [json.dumps(choice) for choice in parameter.choices]
        if not isinstance(value, int | float) or isinstance(value, bool):
            return False
        if not parameter.low <= value <= parameter.high:
            return False
        if parameter.step is None:
            return True
        steps = (value - parameter.low) / parameter.step
        return abs(steps - round(steps)) < 1e-9

    return all(key in sample and holds(parameter, sample[key]) for key, parameter in space)


def _comparable(study: StudyConfig) -> dict[str, object]:
    """What decides the meaning of a trial's objectives, by the key that a message names."""
    whole = study.to_dict()
    flat: dict[str, object] = {
        f"{section}.{key}": value
        for section in (*SEARCHABLE, "evaluation")
        for key, value in whole[section].items()
        if (section, key) not in (("data", "root"), ("data", "download"))
    }
    flat["space"] = sorted(key for key, _ in study.space)
    flat["objectives"] = whole["objectives"]
    flat["constraints"] = sorted(whole["constraints"])
    return flat


def _shown(value: object) -> str:
    return "not set" if value is None else str(value)
