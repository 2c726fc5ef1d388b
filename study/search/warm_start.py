"""Which trials of earlier studies a new study may learn from."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from study.config.space import Parameter, Value
from study.config.study import SEARCHABLE, StudyConfig
from study.metrics.reports import TrialStatus
from study.pareto import points
from study.search.observation import Outcome


class RecordedTrial(Protocol):
    """A trial of another study or a projection of one, as its records say."""

    @property
    def trial_id(self) -> str: ...
    @property
    def projected_to(self) -> float | None: ...
    @property
    def state(self) -> TrialStatus: ...
    @property
    def sample(self) -> Mapping[str, Value]: ...
    @property
    def metrics(self) -> Mapping[str, float]: ...


@dataclass(frozen=True)
class EarlierTrial:
    """A completed trial of another study over the same space: its sample, and what it gave."""

    sample: Mapping[str, Value]
    outcome: Outcome


def usable(
    study: StudyConfig, trials: Sequence[RecordedTrial]
) -> tuple[list[EarlierTrial], Counter[str]]:
    """The trials of an earlier study, one without a `difference`, that a study may learn from.

    Args:
        trials: of the earlier study, each with its projections.

    Returns:
        The usable trials; for the others, reason -> how many.
    """
    taken, n_left = list[EarlierTrial](), Counter[str]()
    networks: dict[str, dict[float | None, Mapping[str, float]]] = {}
    for record in trials:
        if points.admitted(record.metrics, study.objectives, study.constraints):
            networks.setdefault(record.trial_id, {})[record.projected_to] = record.metrics
    for trial in (record for record in trials if record.projected_to is None):
        if trial.state is not TrialStatus.COMPLETED:
            n_left[trial.state.value] += 1
        elif not is_inside(study.space, trial.sample):
            n_left["outside this study's space"] += 1
        else:
            outcome = Outcome(trial.metrics, networks.get(trial.trial_id, {}))
            taken.append(EarlierTrial(trial.sample, outcome))
    return taken, n_left


def difference(study: StudyConfig, earlier: StudyConfig) -> str | None:
    """In one line, why trials of an earlier study cannot be compared with this one; None if they
    are.

    The objectives, the metrics of the constraints and the varied keys must be the same, and so must
    every setting of data, model, training and evaluation, and with a ladder its rungs and steps.
    The place of the data does not count.
    """
    with_ladder = bool(study.ladder)
    ours, theirs = _comparable(study, with_ladder), _comparable(earlier, with_ladder)
    for key in sorted(ours.keys() | theirs.keys()):
        if ours.get(key) != theirs.get(key):
            return f"{key} is {_text(theirs.get(key))} there and {_text(ours.get(key))} here"
    return None


def is_inside(space: tuple[tuple[str, Parameter], ...], sample: Mapping[str, Value]) -> bool:
    """Whether a study over this space could have proposed the sample."""
    return all(key in sample and parameter.contains(sample[key]) for key, parameter in space)


def _comparable(study: StudyConfig, with_ladder: bool) -> dict[str, object]:
    """What decides the meaning of what a sampler observes, by the key that a message names."""
    whole = study.to_dict()
    flat: dict[str, object] = {
        f"{section}.{key}": value
        for section in (*SEARCHABLE, "evaluation")
        for key, value in whole[section].items()
        if (section, key) not in (("data", "root"), ("data", "download"))
    }
    flat["space"] = sorted(key for key, _ in study.space)
    flat["objectives"] = whole["objectives"]
    if with_ladder:
        flat["search.ladder"] = list(study.ladder)
        flat["search.fine_tune_steps"] = study.search.fine_tune_steps
    flat["constraints"] = sorted(whole["constraints"])
    return flat


def _text(value: object) -> str:
    return "not set" if value is None else str(value)
