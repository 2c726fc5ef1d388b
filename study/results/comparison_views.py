"""A comparison of studies: its sections, which are printed and drawn in its page; as JSON and as a
frame."""

import json
import shlex
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console

from study.metrics.definitions import TEST_ACCURACY, VAL_ACCURACY
from study.results.comparison import Comparison
from study.results.differences import Estimate, best_accuracy
from study.results.front import Mark
from study.results.report import goals, point_content
from study.results.tables import (
    Column,
    Section,
    metric_columns,
    print_section,
    reference_text,
    texts,
)

if TYPE_CHECKING:
    import pandas as pd

_BEST = f"best_{VAL_ACCURACY}"
_NO_FRONT = "no study has a network that a front admits"


def sections(
    comparison: Comparison, every: bool = False, uri_option: Sequence[str] = ()
) -> list[Section]:
    """The sections of a comparison, in the order in which they are printed.

    Args:
        every: also the networks that are not on the joint front.
        uri_option: of the command that is printed, before the place of MLflow; empty for none.
    """
    apart, reports = comparison.differences, comparison.reports
    names, objectives = list(reports), [objective.metric for objective in comparison.objectives]
    front, joint = comparison.front, comparison.ranked(every)
    admitted = [point for point in comparison.ranked(every=True) if point.is_admitted]
    drawn = dict.fromkeys([*objectives, VAL_ACCURACY, TEST_ACCURACY])
    is_empty = "" if front else _NO_FRONT
    notes, checked = list(_notes(comparison)), []
    if front:
        place = comparison.place_to_type(front[0])
        words = ["python", "-m", "study.verify", comparison.typed(front[0])]
        words += [*uri_option, place] if uri_option and place else []
        checked = [f"Check a proof again: {shlex.join(words)}"]
    volume = []
    if comparison.hypervolume is not None:
        volume = [
            f"hypervolume of the joint front {comparison.hypervolume:.4g}, reference point of all: "
            f"{reference_text(comparison.objectives)}"
        ]
    return [
        Section(
            "studies",
            {
                # A page is sent to others: no folder of this machine is in it.
                "studies": [
                    {key: value for key, value in of_study.items() if key != "tracking_uri"}
                    for of_study in studies_content(comparison)
                ],
                "hypervolume": comparison.hypervolume,
                "summary": notes,
            },
            title=f"{', '.join(names)}: {len(names)} studies",
            table=_studies_table(comparison),
            texts=notes,
        ),
        Section(
            "differences",
            {"differences": _differences_content(comparison), "note": apart.note},
            ""
            if any((*apart.hypervolume, *apart.best_accuracy))
            else "there are no two networks to compare",
            title="Differences",
            table=_differences_table(comparison),
            texts=[apart.note],
        ),
        Section(
            "recommended",
            title="Recommended networks of each study",
            texts=[
                f"{name}/{one.point.label}: {', '.join(one.aliases)}"
                for name, report in reports.items()
                for one in report.recommended
            ],
        ),
        Section(
            "joint",
            {
                "networks": [comparison.typed(point) for point in front],
                "uris": [comparison.place_to_type(point) for point in front],
                "run_pages": [comparison.run_page(point) for point in front],
            },
            is_empty if not joint else "",
            title="The joint front" + (", and all other networks" if every else ""),
            table=metric_columns(joint, comparison.objectives, every),
            texts=[*checked, *volume],
        ),
        Section(
            "trade",
            {
                "points": {
                    "network": [point.handle for point in admitted],
                    "study": [names.index(point.study) for point in admitted],
                    "is_joint": [point.mark is Mark.FRONT for point in admitted],
                    "metrics": {
                        name: [point.metrics.get(name) for point in admitted] for name in drawn
                    },
                },
            },
            is_empty if len(objectives) > 1 else "there is one objective",
        ),
        Section(
            "growth",
            absent=""
            if any(report.growth for report in reports.values())
            else "no trial has ended, or an objective has no reference value",
        ),
        Section(
            "settings",
            absent="" if comparison.settings else "no setting differs",
            title="Settings that differ",
            table=_settings_table(comparison),
        ),
    ]


def print_comparison(
    comparison: Comparison, every: bool, console: Console, uri_option: Sequence[str] = ()
) -> None:
    """Print the sections of a comparison; arguments as of `sections`."""
    titled = [one for one in sections(comparison, every, uri_option) if one.title]
    for number, section in enumerate(titled):
        if number:
            console.print()
        print_section(console, section)


def _studies_table(comparison: Comparison) -> list[Column]:
    rows = studies_content(comparison)
    return [
        Column("study", texts(rows, "name"), is_text=True),
        Column("networks", texts(rows, "n_networks")),
        Column("front", texts(rows, "n_front")),
        Column("on the joint front", texts(rows, "n_joint_front")),
        Column("hypervolume", texts(rows, "hypervolume", ".4g")),
        Column(f"best {VAL_ACCURACY}", texts(rows, _BEST, ".4f")),
    ]


def _differences_table(comparison: Comparison) -> list[Column]:
    """How far each study but the first lies from the first."""
    rows = _differences_content(comparison)
    return [
        Column(f"minus {next(iter(comparison.reports))}", texts(rows, "study"), is_text=True),
        *(
            Column(title, [_difference(row[key], form) for row in rows], is_text=True)
            for title, key, form in (
                ("hypervolume", "hypervolume", ".3g"),
                (f"best {VAL_ACCURACY}", _BEST, ".4f"),
            )
        ),
    ]


def _difference(estimate: Estimate | None, form: str) -> str:
    """A difference with its interval; empty for None."""
    if estimate is None:
        return ""
    text = f"{estimate.value:+{form}}"
    if estimate.interval is None:
        return text
    low, high = (f"{end:+{form}}" for end in estimate.interval)
    noise = ", within the noise" if estimate.is_within_noise else ""
    return f"{text} ({low} to {high}{noise})"


def _settings_table(comparison: Comparison) -> list[Column]:
    """The settings that differ, as JSON."""
    settings = comparison.settings
    return [
        Column("key", list(settings), is_text=True),
        *(
            Column(name, [values[number] or "-" for values in settings.values()], is_text=True)
            for number, name in enumerate(comparison.reports)
        ),
    ]


def _notes(comparison: Comparison) -> Iterator[str]:
    """The conditions that networks were chosen by, and where each study was read if they come from
    several places, a sentence each."""
    for name, report in comparison.reports.items():
        if report.where:
            yield f"{name}: only networks with {report.where}"
        if comparison.is_of_several_places:
            called = "" if report.study.name == name else f"the study {report.study.name} "
            yield f"{name}: {called}in MLflow at {comparison.place(name)}"


def content(comparison: Comparison, every: bool) -> dict[str, Any]:
    """All of a comparison, for JSON.

    Args:
        every: also the networks that are not on the joint front.
    """
    apart = comparison.differences
    return {
        "studies": studies_content(comparison),
        **goals(comparison),
        "hypervolume": comparison.hypervolume,
        "points": [
            {"study": point.study, **point_content(point), "network": comparison.typed(point)}
            for point in comparison.ranked(every)
        ],
        "differences": _differences_content(comparison),
        "noise": None if apart.unsure is not None else apart.noise.value,
        "note": apart.note,
        "settings": {
            key: [None if value is None else json.loads(value) for value in values]
            for key, values in comparison.settings.items()
        },
    }


def studies_content(comparison: Comparison) -> list[dict[str, Any]]:
    """Each study in short, for JSON."""
    return [
        {
            "name": name,
            "study": report.study.name,
            "tracking_uri": comparison.place(name),
            "n_networks": len(report.points),
            "n_front": len(report.front),
            "n_joint_front": comparison.n_joint(name),
            "hypervolume": report.hypervolume,
            _BEST: best_accuracy(report),
            "recommended": report.handles,
            "growth": report.growth,
        }
        for name, report in comparison.reports.items()
    ]


def _differences_content(comparison: Comparison) -> list[dict[str, Any]]:
    apart, (first, *others) = comparison.differences, comparison.reports
    return [
        {
            "study": name,
            "minus": first,
            "hypervolume": volume,
            _BEST: accuracy,
        }
        for name, volume, accuracy in zip(
            others, apart.hypervolume, apart.best_accuracy, strict=True
        )
    ]


def frame(comparison: Comparison, every: bool) -> "pd.DataFrame":
    """The joint front or, if `every` is set, all networks, a row each: the study, the mark among
    all studies, and the columns of a study's own report."""
    import pandas as pd

    marks = {point.handle: point.mark.value for point in comparison.points}
    frames = []
    for name, report in comparison.reports.items():
        of_study = report.frame.copy()
        ranked = report.ranked(every=True)
        of_study["mark"] = [marks[f"{name}/{point.label}"] for point in ranked]
        of_study.insert(0, "study", name)
        frames.append(of_study)
    joined = pd.concat(frames, ignore_index=True)
    if not every:
        joined = joined[joined["mark"] == Mark.FRONT.value].reset_index(drop=True)
    return joined
