"""A comparison of studies as tables, as JSON and as CSV."""

import bisect
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from study.metrics.definitions import METRICS, TEST_ACCURACY, VAL_ACCURACY
from study.results import comparison_text, tables
from study.results.comparison import Compared, Comparison, Member
from study.results.differences import Estimate
from study.results.front import Mark
from study.results.growth import Growth
from study.results.numbers import Numbers, finite
from study.results.recommended import handles, recommendations
from study.results.tables import print_text

if TYPE_CHECKING:
    import pandas as pd

# At so many equal numbers of epochs hypervolumes are printed.
_N_EPOCHS = 4


def print_comparison(comparison: Comparison, every: bool, console: Console) -> None:
    """Print each study's front in short, the joint front, growth, differences and settings."""
    names = ", ".join(study.name for study in comparison.studies)
    console.print(f"{names}: {len(comparison.studies)} studies", style="bold", markup=False)
    console.print(_table(["study", *_OF_STUDY], map(_study_row, comparison.studies)))
    for line in comparison_text.summary(comparison):
        print_text(console, line)
    for line in comparison_text.legend(comparison):
        print_text(console, line)
    _print_title(console, "Differences")
    _print_differences(comparison, console)
    _print_title(console, "Recommended networks of each study")
    for study in comparison.studies:
        for one in recommendations(study.results):
            handle = Member(study, one.point).handle
            console.print(f"{handle}: {', '.join(one.aliases)}", markup=False)
    _print_title(console, "The joint front" + (", and all other networks" if every else ""))
    _print_networks(comparison, every, console)
    if any(study.growth for study in comparison.studies):
        _print_title(console, "Hypervolume after so many epochs of all trials")
        _print_growth(comparison.studies, console)
    _print_title(console, "Settings that differ" if comparison.settings else "No setting differs")
    if comparison.settings:
        heads = ["key", *(study.name for study in comparison.studies)]
        rows = ([s.key, *(value or "-" for value in s.values)] for s in comparison.settings)
        console.print(_table(heads, rows))


_OF_STUDY = ("networks", "front", "on the joint front", "hypervolume", f"best {VAL_ACCURACY}")


def _study_row(study: Compared) -> list[str]:
    results = study.results
    return [
        study.name,
        str(len(results.points)),
        str(len(results.front)),
        str(study.n_joint),
        "" if results.hypervolume is None else f"{results.hypervolume:.4g}",
        "" if study.best_accuracy is None else f"{study.best_accuracy:.4f}",
    ]


def _print_title(console: Console, title: str) -> None:
    console.print()
    console.print(title, style="bold", markup=False)


def _print_differences(comparison: Comparison, console: Console) -> None:
    apart = comparison.differences
    heads = [f"minus {comparison.studies[0].name}", "hypervolume", f"best {VAL_ACCURACY}"]
    rows = [
        [
            study.name,
            comparison_text.difference_text(volume, ".3g"),
            comparison_text.difference_text(accuracy, ".4f"),
        ]
        for study, volume, accuracy in zip(
            comparison.studies[1:], apart.hypervolume, apart.best_accuracy, strict=True
        )
    ]
    console.print(_table(heads, rows))
    print_text(console, comparison_text.what_intervals_cover(comparison))


def _print_networks(comparison: Comparison, every: bool, console: Console) -> None:
    members = list(comparison.joint_front)
    listed = [*members, *(_others(comparison) if every else ())]
    numbers = Numbers([member.point for member in listed])
    names = [objective.metric for objective in comparison.objectives]
    names += [] if TEST_ACCURACY in names else [TEST_ACCURACY]
    heads = ["network", *(["mark"] if every else []), *(METRICS[name].short for name in names)]
    rows = [
        [
            member.handle,
            *([_mark(comparison, member)] if every else []),
            *(numbers.with_error(member.point, name) for name in names),
        ]
        for member in listed
    ]
    console.print(_table(heads, rows))
    print_text(
        console,
        "Check a proof again: " + comparison_text.verify_command(comparison, members[0])
        if members
        else "No study has a network that a front admits.",
    )
    if comparison.hypervolume is not None:
        reference = ", ".join(f"{o.metric} {o.reference:g}" for o in comparison.objectives)
        print_text(
            console,
            f"hypervolume of the joint front {comparison.hypervolume:.4g}, reference point of all: "
            f"{reference}",
        )


def _others(comparison: Comparison) -> Iterator[Member]:
    """Every network that is not on the joint front, by study."""
    for study in comparison.studies:
        for point in study.results.ranked(every=True):
            if not comparison.is_on_joint_front(point):
                yield Member(study, point)


def _mark(comparison: Comparison, member: Member) -> str:
    """How a network stands among those of all studies."""
    mark = member.point.mark
    is_joint = comparison.is_on_joint_front(member.point)
    return (Mark.DOMINATED if mark is Mark.FRONT and not is_joint else mark).value


def _print_growth(studies: Sequence[Compared], console: Console) -> None:
    least = min(study.growth.epochs[-1] for study in studies if study.growth)
    at = sorted({round(least * k / _N_EPOCHS) for k in range(1, _N_EPOCHS + 1)} - {0})
    rows = []
    for study in studies:
        grown = study.growth
        if grown is not None:
            end = f"{grown.hypervolume[-1]:.4g} ({grown.epochs[-1]}, {grown.hours[-1]:.2g} h)"
            rows.append([study.name, *(f"{after(grown, n):.4g}" for n in at), end])
    console.print(_table(["study", *map(str, at), "at the end (epochs, hours)"], rows))
    if any(len(point.records) > 1 for study in studies for point in study.results.points):
        print_text(console, "Each training counts by itself here, and not the mean over repeats.")


def after(grown: Growth, n_epochs: int) -> float:
    """The hypervolume of all trials that had ended when so many epochs had been trained; 0 before
    the first of them."""
    n_trials = bisect.bisect_right(grown.epochs, n_epochs)
    return grown.hypervolume[n_trials - 1] if n_trials else 0.0


def _table(heads: Sequence[str], rows: Iterator[list[str]] | Sequence[list[str]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for index, head in enumerate(heads):
        # What is typed is never cut.
        table.add_column(head, justify="right" if index else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))  # which is no markup
    return table


def as_json(comparison: Comparison, every: bool) -> str:
    """One JSON object; a value that is not finite is null."""
    apart = comparison.differences
    first = comparison.studies[0].name
    others = [*_others(comparison)] if every else []
    content = {
        "studies": [
            {
                "name": study.name,
                "study": study.results.study.name,
                "tracking_uri": comparison_text.shown_uri(study),
                "n_networks": len(study.results.points),
                "n_front": len(study.results.front),
                "n_joint_front": study.n_joint,
                "hypervolume": study.results.hypervolume,
                f"best_{VAL_ACCURACY}": study.best_accuracy,
                "recommended": handles(study.results),
                "growth": study.growth and asdict(study.growth),
            }
            for study in comparison.studies
        ],
        "objectives": {o.metric: o.direction.value for o in comparison.objectives},
        "constraints": {c.metric: str(c) for c in comparison.constraints},
        "reference_point": {o.metric: finite(o.reference) for o in comparison.objectives},
        "hypervolume": comparison.hypervolume,
        "points": [
            {
                "study": member.study.name,
                "network": member.study.results.handle(member.point),
                "run_id": member.point.first.run_id,
                "mark": _mark(comparison, member),
                "metrics": {name: finite(value) for name, value in member.point.metrics.items()},
            }
            for member in [*comparison.joint_front, *others]
        ],
        "differences": [
            {
                "study": study.name,
                "minus": first,
                "hypervolume": _as_plain(volume),
                f"best_{VAL_ACCURACY}": _as_plain(accuracy),
            }
            for study, volume, accuracy in zip(
                comparison.studies[1:], apart.hypervolume, apart.best_accuracy, strict=True
            )
        ],
        "noise": None if apart.unsure is not None else apart.noise.value,
        "note": comparison_text.what_intervals_cover(comparison),
        "settings": {
            setting.key: [
                None if value is None else json.loads(value, parse_constant=_no_number)
                for value in setting.values
            ]
            for setting in comparison.settings
        },
    }
    return json.dumps(content, indent=1, allow_nan=False)


def _as_plain(estimate: Estimate | None) -> dict[str, object] | None:
    if estimate is None:
        return None
    return {"value": estimate.value, "interval": estimate.interval}


def as_frame(comparison: Comparison, every: bool) -> "pd.DataFrame":
    """A row a network of the joint front, or of all networks: which study it comes from, how it
    stands among all, and the columns of the report of one study."""
    import pandas as pd

    frames = []
    for study in comparison.studies:
        frame = tables.as_frame(study.results, every=True)
        members = [Member(study, point) for point in study.results.ranked(every=True)]
        frame["mark"] = [_mark(comparison, member) for member in members]
        frame.insert(0, "study", study.name)
        frames.append(frame)
    joined = pd.concat(frames, ignore_index=True)
    if not every:
        joined = joined[joined["mark"] == Mark.FRONT.value].reset_index(drop=True)
    return joined


def as_csv(comparison: Comparison, every: bool) -> str:
    """A line a network, with the columns of as_frame."""
    out = io.StringIO()
    as_frame(comparison, every).to_csv(out, index=False, lineterminator="\n")
    return out.getvalue().rstrip("\n")


def _no_number(name: str) -> None:
    """NaN and infinities are null."""
