"""A comparison of studies as a page: one file, in the form of the page of one study. See
study.results.page; page_files/comparison/ has the code that draws it."""

from collections.abc import Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

from study.metrics.definitions import METRICS, TEST_ACCURACY, VAL_ACCURACY
from study.results import comparison_text
from study.results.comparison import Compared, Comparison, Member
from study.results.differences import Estimate
from study.results.front import Mark
from study.results.numbers import finite
from study.results.page import READING, assembled, made, metrics_of, write_file
from study.results.recommended import recommendations
from study.tracking.pages import run_page

_SKIP = ("joint", "the joint front")
_READING = (
    *(entry for entry in READING if entry[0] in ("proven", "not proven", "knee", "TRIAL@0.5")),
    (
        "joint front",
        "The networks of all studies that no other one of any study equals or beats in all "
        "objectives as they are reported; of equal ones that of the first study.",
    ),
    (
        "by the first study",
        "Objectives, constraints and reference point of the first study count for all of them.",
    ),
)


def write_comparison_page(path: Path, comparison: Comparison) -> None:
    """Write the page of a comparison.

    Raises:
        UserError: if the file cannot be written.
    """
    write_file(path, comparison_page(comparison))


def comparison_page(comparison: Comparison) -> str:
    """The page of a comparison as HTML."""
    parts = files("study.results") / "page_files" / "comparison"
    names = ", ".join(study.name for study in comparison.studies)
    return assembled(f"{names}: comparison", _content(comparison), parts, _SKIP)


def _content(comparison: Comparison) -> dict[str, Any]:
    apart = comparison.differences
    placed = [
        Member(study, point)
        for study in comparison.studies
        for point in study.results.ranked(every=True)
        if point.mark in (Mark.FRONT, Mark.DOMINATED)
    ]
    goals = [objective.metric for objective in comparison.objectives]
    shown = dict.fromkeys([*goals, VAL_ACCURACY, TEST_ACCURACY])
    reference = ", ".join(
        f"{METRICS[o.metric].title} {o.reference:g}" for o in comparison.objectives
    )
    return {
        "summary": list(comparison_text.summary(comparison)),
        "legend": list(comparison_text.legend(comparison)),
        "made": made(),
        "objectives": [
            {"name": o.metric, "direction": o.direction.value} for o in comparison.objectives
        ],
        "metrics": metrics_of([member.point for member in placed]),
        "accuracy": VAL_ACCURACY,
        "reference_point": None if comparison.hypervolume is None else reference,
        "hypervolume": comparison.hypervolume,
        "studies": [_study(study) for study in comparison.studies],
        "points": {
            "label": [member.handle for member in placed],
            "study": [comparison.studies.index(member.study) for member in placed],
            "mark": [member.point.mark.value for member in placed],
            "is_joint": [comparison.is_on_joint_front(member.point) for member in placed],
            "metrics": {
                name: [finite(member.point.metrics.get(name)) for member in placed]
                for name in shown
            },
        },
        "joint_front": [
            {
                "label": member.handle,
                "command": comparison_text.verify_command(comparison, member),
                "run_page": _run_page(member),
            }
            for member in comparison.joint_front
        ],
        "differences": [
            {"hypervolume": _estimate(volume), "best_accuracy": _estimate(accuracy)}
            for volume, accuracy in zip(apart.hypervolume, apart.best_accuracy, strict=True)
        ],
        "intervals": comparison_text.what_intervals_cover(comparison),
        "settings": [[setting.key, *setting.values] for setting in comparison.settings],
        "reading": _READING,
    }


def _study(study: Compared) -> dict[str, Any]:
    results = study.results
    return {
        "name": study.name,
        "n_networks": len(results.points),
        "n_front": len(results.front),
        "n_joint": study.n_joint,
        "hypervolume": results.hypervolume,
        "best_accuracy": study.best_accuracy,
        "recommended": [
            {"label": Member(study, one.point).handle, "aliases": one.aliases}
            for one in recommendations(results)
        ],
        "growth": study.growth and asdict(study.growth),
    }


def _run_page(member: Member) -> str | None:
    study = member.study
    uri, experiment_id = study.records.client.tracking_uri, study.results.study.experiment_id
    page = run_page(uri, experiment_id)
    return page and page.replace("{run_id}", member.point.first.run_id)


def _estimate(estimate: Estimate | None) -> Sequence[float | None] | None:
    """Value, and the ends of its interval."""
    if estimate is None:
        return None
    return [estimate.value, *(estimate.interval or (None, None))]
