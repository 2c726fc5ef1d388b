"""Whether studies can be compared: on the same data and validation split, by the same measurements.

How images are augmented and how many a study trains on is part of what is compared.
"""

from collections.abc import Sequence

from study.errors import UserError, quoted
from study.metrics.definitions import INVERSE_STEPS, RECONSTRUCTION_ERROR
from study.metrics.goals import Constraint, Objective
from study.metrics.reports import TrialStatus
from study.results.front import Results
from study.tracking.records import Records, StudyRecord

# Of the data, those that decide which images are for validation, and what they look like.
_SPLIT = ("name", "val_fraction", "test_fraction", "split_seed", "size")
# What depends on how the inverse is measured.
_OF_THE_INVERSE = {INVERSE_STEPS, RECONSTRUCTION_ERROR}
# Its name says nothing of what is in its files.
_OF_FILES = "image_folder"


def check_settings(
    studies: Sequence[StudyRecord],
    names: Sequence[str],
    objectives: Sequence[Objective],
    constraints: Sequence[Constraint],
) -> None:
    """Whether studies are different ones that are measured alike, by their settings.

    Args:
        names: what messages call them.

    Raises:
        UserError: if not, in one line.
    """
    if len(studies) < 2:
        raise UserError(f"STUDY: two studies or more must be named, but got {len(studies)}")
    known = set[str]()
    for study in studies:
        if study.run_id in known:
            raise UserError(
                f"STUDY: each study must be named once, but got {quoted(study.name)} twice"
            )
        known.add(study.run_id)
    for key in _SPLIT:
        _check_same(studies, names, "data", key, "studies must have the same data and split")
    measured = {o.metric for o in objectives} | {c.metric for c in constraints}
    for metric in sorted(measured & _OF_THE_INVERSE):
        for key in studies[0].config.to_dict()["evaluation"]:
            _check_same(studies, names, "evaluation", key, f"studies must measure {metric} alike")


def _check_same(
    studies: Sequence[StudyRecord], names: Sequence[str], section: str, key: str, rule: str
) -> None:
    """Whether a setting is the same in all studies, and varied in none."""

    def value(study: StudyRecord) -> str:
        if key in dict(study.config.space):
            return "varied"
        return quoted(study.config.to_dict()[section][key])

    values = [value(study) for study in studies]
    for name, one in zip(names, values, strict=True):
        if one != values[0] or one == "varied":
            in_first = f"{values[0]} in {names[0]} and " if name != names[0] else ""
            raise UserError(f"STUDY: {rule}, but {section}.{key} is {in_first}{one} in {name}")


def check_measured(
    results: Sequence[Results], names: Sequence[str], objectives: Sequence[Objective]
) -> None:
    """Whether the trials of each study have the metrics of some objectives.

    Raises:
        UserError: if a study has completed trials, and none of them has it.
    """
    for study, name in zip(results, names, strict=True):
        completed = [p for p in study.points if p.first.state is TrialStatus.COMPLETED]
        for objective in objectives:
            if completed and not any(objective.metric in p.metrics for p in completed):
                raise UserError(
                    f"STUDY: every study must have measured the objectives, but no trial of {name} "
                    f"has {objective.metric}"
                )


def check_files(
    results: Sequence[Results], records: Sequence[Records], names: Sequence[str]
) -> None:
    """Whether images that were read from folders are the same, where settings do not say so, and
    networks of the fronts do.

    Raises:
        UserError: if they are not.
    """
    if results[0].study.config.data.name != _OF_FILES:
        return
    # It waits for torch, which nothing else here does.
    from study.tracking.stored_model import data_digest

    # Of training images too, of which a study may take a part.
    known = dict[int | None, tuple[str, str]]()
    for one, where, name in zip(results, records, names, strict=True):
        digest = data_digest(where, one.front[0].first.run_id) if one.front else None
        if digest is None or "max_train" in dict(one.study.config.space):
            continue
        other, same = known.setdefault(one.study.config.data.max_train, (name, digest))
        if digest != same:
            raise UserError(
                f"STUDY: studies must have the same data and split, but the SHA-256 of the images "
                f"is {same[:12]} in {other} and {digest[:12]} in {name}"
            )
