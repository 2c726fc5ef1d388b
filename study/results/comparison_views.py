"""A comparison of studies as tables, as JSON, as a frame and as the content of a page."""

import bisect
import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console

from study.metrics.definitions import METRICS, TEST_ACCURACY, VAL_ACCURACY
from study.results.comparison import Compared, Comparison, Member
from study.results.differences import Estimate, Noise
from study.results.front import Mark, Numbers, finite
from study.results.spent import Growth
from study.results.tables import Column, goals, print_text, reference_text, table_of
from study.tracking.pages import server_address

if TYPE_CHECKING:
    import pandas as pd

# At so many equal numbers of epochs hypervolumes are printed.
_N_EPOCHS = 4
_BEST = f"best_{VAL_ACCURACY}"
_NO_IMAGES = (
    f" The hypervolume has none: {METRICS[VAL_ACCURACY].title} is none of its objectives, or a "
    "study has no network."
)


def print_comparison(
    comparison: Comparison,
    every: bool,
    console: Console,
    uri_option: Sequence[str] = (),
) -> None:
    """Print each study's front in short, the joint front, growth, differences and settings.

    Args:
        every: also the networks that are not on the joint front.
        uri_option: of the command that it prints, before the place of MLflow; empty for none.
    """

    def section(title: str, columns: Sequence[Column] = (), *texts: str) -> None:
        console.print()
        console.print(title, style="bold", markup=False)
        if columns:
            console.print(table_of(columns))
        for text in texts:
            print_text(console, text)

    studies = comparison.studies
    names = ", ".join(study.name for study in studies)
    console.print(f"{names}: {len(studies)} studies", style="bold", markup=False)
    console.print(table_of(_studies(comparison)))
    for line in [*summary(comparison), *legend(comparison)]:
        print_text(console, line)
    section("Differences", differences_table(comparison), what_intervals_cover(comparison))
    section("Recommended networks of each study")
    for study in studies:
        for one in study.report.recommended:
            handle = Member(study, one.point).handle
            console.print(f"{handle}: {', '.join(one.aliases)}", markup=False)
    title = "The joint front" + (", and all other networks" if every else "")
    texts = ["No study has a network that a front admits."]
    if comparison.joint_front:
        first = comparison.joint_front[0]
        uri = uri_for(comparison, first)
        words = ["python", "-m", "study.verify", first.point.handle]
        words += [*uri_option, uri] if uri_option and uri else []
        texts = [f"Check a proof again: {shlex.join(words)}"]
    if comparison.hypervolume is not None:
        texts.append(
            f"hypervolume of the joint front {comparison.hypervolume:.4g}, reference point of all: "
            f"{reference_text(comparison.objectives)}"
        )
    section(title, networks_table(comparison, every), *texts)
    if any(study.report.growth for study in studies):
        note = "Each training counts by itself here, and not the mean over repeats."
        points = [point for study in studies for point in study.report.points]
        repeated = any(len(point.records) > 1 for point in points)
        title = "Hypervolume after so many epochs of all trials"
        section(title, _growth(studies), *([note] if repeated else []))
    section(
        "Settings that differ" if comparison.settings else "No setting differs",
        settings_table(comparison) if comparison.settings else (),
    )


def _studies(comparison: Comparison) -> list[Column]:
    studies = comparison.studies
    volumes = [study.report.hypervolume for study in studies]
    best = [study.best_accuracy for study in studies]
    return [
        Column("study", [study.name for study in studies], is_text=True),
        Column("networks", [str(len(study.report.points)) for study in studies]),
        Column("front", [str(len(study.report.front)) for study in studies]),
        Column("on the joint front", [str(comparison.n_joint(study)) for study in studies]),
        Column("hypervolume", ["" if v is None else f"{v:.4g}" for v in volumes]),
        Column(f"best {VAL_ACCURACY}", ["" if a is None else f"{a:.4f}" for a in best]),
    ]


def differences_table(comparison: Comparison) -> list[Column]:
    """How far each study but the first lies from the first."""
    apart = comparison.differences
    names = [study.name for study in comparison.studies]
    return [
        Column(f"minus {names[0]}", names[1:], is_text=True),
        *(
            Column(title, [_difference(one, form) for one in estimates], is_text=True)
            for title, estimates, form in (
                ("hypervolume", apart.hypervolume, ".3g"),
                (f"best {VAL_ACCURACY}", apart.best_accuracy, ".4f"),
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
    return f"{text} ({low} to {high})"


def networks_table(comparison: Comparison, every: bool) -> list[Column]:
    """The joint front, or all networks with their marks among those of all studies."""
    members = comparison.members(every)
    numbers = Numbers([member.point for member in members])
    names = dict.fromkeys([*(o.metric for o in comparison.objectives), TEST_ACCURACY])
    marks = [comparison.mark(member.point).value for member in members]
    return [
        Column("network", [member.handle for member in members], is_text=True),
        *([Column("mark", marks, is_text=True)] if every else []),
        *(
            Column(METRICS[name].short, [numbers.with_error(m.point, name) for m in members])
            for name in names
        ),
    ]


def _growth(studies: Sequence[Compared]) -> list[Column]:
    grown = [(study.name, study.report.growth) for study in studies if study.report.growth]
    least = min(one.epochs[-1] for _, one in grown)
    at = sorted({round(least * k / _N_EPOCHS) for k in range(1, _N_EPOCHS + 1)} - {0})
    ends = [f"{g.hypervolume[-1]:.4g} ({g.epochs[-1]}, {g.hours[-1]:.2g} h)" for _, g in grown]
    return [
        Column("study", [name for name, _ in grown], is_text=True),
        *(Column(str(n), [f"{after(one, n):.4g}" for _, one in grown]) for n in at),
        Column("at the end (epochs, hours)", ends),
    ]


def after(grown: Growth, n_epochs: int) -> float:
    """The hypervolume of all trials that had ended when so many epochs had been trained; 0 before
    the first of them."""
    n_trials = bisect.bisect_right(grown.epochs, n_epochs)
    return grown.hypervolume[n_trials - 1] if n_trials else 0.0


def settings_table(comparison: Comparison) -> list[Column]:
    """The settings that differ, as JSON."""
    settings = comparison.settings
    return [
        Column("key", list(settings), is_text=True),
        *(
            Column(
                study.name, [values[number] or "-" for values in settings.values()], is_text=True
            )
            for number, study in enumerate(comparison.studies)
        ),
    ]


def summary(comparison: Comparison) -> Iterator[str]:
    """By which conditions networks were chosen, and how each study stands to the first, a sentence
    each."""
    wheres = [study.report.where for study in comparison.studies]
    if len(set(wheres)) == 1 and wheres[0]:
        yield f"Only networks with {wheres[0]}."
    elif any(wheres):
        for study, where in zip(comparison.studies, wheres, strict=True):
            yield f"Of {study.name} {f'only networks with {where}' if where else 'all networks'}."
    apart = comparison.differences
    first, *others = comparison.studies
    best = f"best {METRICS[VAL_ACCURACY].title}"
    for study, volume, accuracy in zip(others, apart.hypervolume, apart.best_accuracy, strict=True):
        phrases = []
        if volume is not None:
            phrases.append(_phrase("hypervolume", volume, 1, ".3g", ""))
        if accuracy is not None:
            phrases.append(_phrase(best, accuracy, 100, ".2f", " percentage points"))
        if phrases:
            yield f"{study.name} beside {first.name}: {'; '.join(phrases)}."


def _phrase(what: str, estimate: Estimate, unit: float, form: str, unit_text: str) -> str:
    value = unit * estimate.value
    way = "larger" if value > 0 else "smaller"
    amount = f"{abs(value):{form}}{unit_text} {way}" if value else "the same"
    within = {True: ", within the noise", False: ", beyond the noise", None: ""}
    return f"{what} {amount}{within[estimate.is_within_noise]}"


def what_intervals_cover(comparison: Comparison) -> str:
    """What the intervals of the differences speak of, and what not."""
    apart = comparison.differences
    if apart.unsure is not None:
        return f"{apart.unsure[0].upper()}{apart.unsure[1:]}."
    if apart.noise is Noise.SEEDS:
        return (
            "95 % intervals cover the training seeds: where the difference of the same samples "
            "could lie, had each been trained with many seeds, by the spread of the repeats. They "
            "do not cover the choice of the validation images, nor another run of the search, "
            "which would try other samples."
        )
    n_images = {study.report.n_val_images for study in comparison.studies} - {None}
    number = f"{n_images.pop()} " if len(n_images) == 1 else ""
    only = "" if apart.hypervolume[0] is None or apart.hypervolume[0].interval else _NO_IMAGES
    return (
        f"95 % intervals cover the {number}validation images, which are the same for all studies: "
        "where the difference of these networks could lie on many images, the other objectives as "
        "they were measured. They do not cover other seeds of the trainings, nor another run of "
        "the search, which would try other samples. Where every study has repeats, intervals cover "
        f"the training seeds instead.{only}"
    )


def legend(comparison: Comparison) -> Iterator[str]:
    """Where each study was read, a sentence each; nothing where that is one place."""
    if comparison.n_servers > 1:
        for study in comparison.studies:
            own = study.report.study.name
            called = "" if own == study.name else f"the study {own} "
            yield f"{study.name}: {called}in MLflow at {_uri(study)}"


def _uri(study: Compared) -> str:
    """Where a study was read, without a password."""
    uri = study.report.files.client.tracking_uri
    return server_address(uri) or uri


def uri_for(comparison: Comparison, member: Member) -> str | None:
    """Where a network must be said to be, to a command that is given its handle; None where the
    place need not be said."""
    uri = server_address(member.study.report.files.client.tracking_uri)
    return _uri(member.study) if comparison.n_servers > 1 or uri is not None else None


def content(comparison: Comparison, every: bool) -> dict[str, Any]:
    """All of a comparison, for JSON; a value that is not finite is None.

    Args:
        every: also the networks that are not on the joint front.
    """
    apart = comparison.differences
    first, *others = comparison.studies
    return {
        "studies": [{"name": s.name, **_of_study(comparison, s)} for s in comparison.studies],
        **goals(comparison.objectives, first.report.constraints),
        "hypervolume": comparison.hypervolume,
        "points": [
            {
                "study": member.study.name,
                "network": member.point.handle,
                "run_id": member.point.first.run_id,
                "mark": comparison.mark(member.point).value,
                "metrics": {name: finite(value) for name, value in member.point.metrics.items()},
            }
            for member in comparison.members(every)
        ],
        "differences": [
            {
                "study": study.name,
                "minus": first.name,
                "hypervolume": volume and {"value": volume.value, "interval": volume.interval},
                _BEST: accuracy and {"value": accuracy.value, "interval": accuracy.interval},
            }
            for study, volume, accuracy in zip(
                others, apart.hypervolume, apart.best_accuracy, strict=True
            )
        ],
        "noise": None if apart.unsure is not None else apart.noise.value,
        "note": what_intervals_cover(comparison),
        "settings": {
            # NaN and infinities are null.
            key: [
                None if value is None else json.loads(value, parse_constant=lambda name: None)
                for value in values
            ]
            for key, values in comparison.settings.items()
        },
    }


def _of_study(comparison: Comparison, study: Compared) -> dict[str, Any]:
    report = study.report
    return {
        "study": report.study.name,
        "tracking_uri": _uri(study),
        "n_networks": len(report.points),
        "n_front": len(report.front),
        "n_joint_front": comparison.n_joint(study),
        "hypervolume": report.hypervolume,
        _BEST: study.best_accuracy,
        "recommended": report.handles,
        "growth": report.growth and asdict(report.growth),
    }


def frame(comparison: Comparison, every: bool) -> "pd.DataFrame":
    """A row a network of the joint front, or of all networks: which study it comes from, how it
    stands among all, and the columns of the report of one study."""
    import pandas as pd

    frames = []
    for study in comparison.studies:
        of_study = study.report.frame.copy()
        points = study.report.ranked(every=True)
        of_study["mark"] = [comparison.mark(point).value for point in points]
        of_study.insert(0, "study", study.name)
        frames.append(of_study)
    joined = pd.concat(frames, ignore_index=True)
    if not every:
        joined = joined[joined["mark"] == Mark.FRONT.value].reset_index(drop=True)
    return joined
