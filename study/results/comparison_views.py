"""The sections of a comparison of studies, printed and drawn in its page."""

import shlex
from collections.abc import Iterator, Sequence

from rich.console import Console

from study.metrics.definitions import (
    TEST_ACCURACY,
    TEST_CERTIFIED_ACCURACY,
    VAL_ACCURACY,
    radius_text,
)
from study.metrics.goals import reference_text
from study.results.comparison import BEST, Comparison
from study.results.differences import Estimate
from study.results.front import Mark
from study.results.tables import (
    Column,
    Section,
    metric_columns,
    print_section,
    texts,
)

_NO_FRONT = "no study has a network that a front admits"


def sections(
    comparison: Comparison, every: bool = False, uri_option: Sequence[str] = ()
) -> list[Section]:
    """The sections of a comparison, in the order in which they are printed.

    Args:
        every: include networks that are not on the joint front.
        uri_option: option before MLflow's address in the printed command; empty for none.
    """
    apart, reports = comparison.differences, comparison.reports
    names, objectives = list(reports), [objective.metric for objective in comparison.objectives]
    front, joint = comparison.front, comparison.ranked(every)
    admitted = [point for point in comparison.ranked(every=True) if point.is_admitted]
    also = (VAL_ACCURACY, TEST_ACCURACY, TEST_CERTIFIED_ACCURACY)
    drawn = dict.fromkeys([*objectives, *(name for name in also if name in comparison.metrics)])
    is_empty = "" if front else _NO_FRONT
    notes, checked = list(_notes(comparison)), []
    if front:
        place = comparison.place_to_type(front[0])
        words = ["python", "-m", "study.verify", comparison.typed(front[0])]
        words += reports[front[0].study].study.config.to_verify
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
                # A page is sent to others: it names no folder of this machine.
                "studies": [
                    {key: value for key, value in of_study.items() if key != "tracking_uri"}
                    for of_study in comparison.studies_content()
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
            {"differences": comparison.differences_content(), "note": apart.note},
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
            table=metric_columns(joint, comparison.objectives, comparison.metrics, every),
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
    """Print the sections of a comparison; arguments as for `sections`."""
    titled = [one for one in sections(comparison, every, uri_option) if one.title]
    for number, section in enumerate(titled):
        if number:
            console.print()
        print_section(console, section)


def _studies_table(comparison: Comparison) -> list[Column]:
    rows = comparison.studies_content()
    return [
        Column("study", texts(rows, "name"), is_text=True),
        Column("networks", texts(rows, "n_networks")),
        Column("front", texts(rows, "n_front")),
        Column("on the joint front", texts(rows, "n_joint_front")),
        Column("hypervolume", texts(rows, "hypervolume", ".4g")),
        Column(f"best {VAL_ACCURACY}", texts(rows, BEST, ".4f")),
    ]


def _differences_table(comparison: Comparison) -> list[Column]:
    rows = comparison.differences_content()
    return [
        Column(f"minus {next(iter(comparison.reports))}", texts(rows, "study"), is_text=True),
        *(
            Column(title, [_difference(row[key], form) for row in rows], is_text=True)
            for title, key, form in (
                ("hypervolume", "hypervolume", ".3g"),
                (f"best {VAL_ACCURACY}", BEST, ".4f"),
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
    settings = comparison.settings
    return [
        Column("key", list(settings), is_text=True),
        *(
            Column(name, [values[number] or "-" for values in settings.values()], is_text=True)
            for number, name in enumerate(comparison.reports)
        ),
    ]


def _notes(comparison: Comparison) -> Iterator[str]:
    """The conditions that selected networks, where each study was read if they come from several
    places, and what is left out since radii differ, one sentence each."""
    for name, report in comparison.reports.items():
        if report.where:
            yield f"{name}: only networks with {report.where}"
        if comparison.is_of_several_places:
            called = "" if report.study.name == name else f"the study {report.study.name} "
            yield f"{name}: {called}in MLflow at {comparison.place(name)}"
    if len(comparison.radii) > 1:
        each = ", ".join(
            f"{radius_text(radius)} in {name}" for radius, name in comparison.radii.items()
        )
        yield f"accuracies within a radius are not shown, since evaluation.radius is {each}"
