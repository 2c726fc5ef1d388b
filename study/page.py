"""The report as a page: one file that opens without a network and without a server.

What the page says is put together here; how it is drawn stands in page_files/.
"""

import base64
import html
import json
import math
import string
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from plotly.offline import get_plotlyjs

from study.errors import UserError
from study.front import Mark, Point, Report
from study.growth import growth
from study.importance import MOST_TRIALS, importance
from study.metrics import METRICS, RECONSTRUCTION_ERROR, TrialStatus
from study.mlflow_pages import compare_page, run_page, server_address
from study.records import Records
from study.table1 import as_rows, note, table1

# Networks whose certificate, inverse and reconstructions are in the page.
_MOST_NETWORKS = 40
# MLflow's page that compares runs is of no use beyond some dozens.
_MOST_COMPARED = 50
_READING = (
    (
        "proven",
        "lipschitz_upper_bound, and with it that the inverse exists where it is below 1: for the "
        "zero-padded convolutions that the network applies, in float64 from the weights that its "
        "forward pass uses, in eval mode. python -m study.verify RUN_ID proves it again from the "
        "stored model.",
    ),
    (
        "not proven",
        "The rounding of the float32 forward pass; training mode with BatchNorm; anything about "
        "accuracy, which is measured on a validation split of the training data.",
    ),
    (
        "front",
        "Completed trials, and projections of them, with finite values, within the constraints, "
        "that no other such point is at least as good as in every objective and better in one.",
    ),
    (
        "0004 at 0.5",
        "A projection: the network of trial 0004, every layer scaled so that its proven bound is "
        "at most 0.5, with a model and a certificate of its own.",
    ),
)


def write_page(path: Path, records: Records, report: Report) -> None:
    """Write the page of a report.

    Raises:
        UserError: if the file cannot be written.
    """
    text = page(records, report)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"--html: the file must be writable, but {path} is not: {error}") from error


def page(records: Records, report: Report) -> str:
    """The page of a report as HTML: all of its points, with their marks."""
    parts = files("study") / "page_files"
    content = json.dumps(_content(records, report), allow_nan=False, separators=(",", ":"))
    template = string.Template((parts / "page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=html.escape(f"{report.study.name}: report"),
        css=(parts / "page.css").read_text(encoding="utf-8"),
        js=(parts / "page.js").read_text(encoding="utf-8"),
        plotly=get_plotlyjs(),
        # Text of the study, a name or a reason, must not end the element that it stands in.
        content=content.replace("<", "\\u003c"),
    )


def _content(records: Records, report: Report) -> dict[str, Any]:
    study = report.study
    grown = growth(report)
    table = table1(report)
    front = [point.first.run_id for point in report.front[:_MOST_COMPARED]]
    reference = ", ".join(f"{o.metric} {o.reference:g}" for o in report.objectives)
    return {
        "study": study.name,
        "summary": _summary(report),
        "made": f"Made by study.report at {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, from MLflow.",
        "server": server_address(records.tracking_uri),
        "run_page": run_page(records.tracking_uri, study.experiment_id),
        "compare_page": compare_page(records.tracking_uri, study.experiment_id, front)
        if front
        else None,
        "objectives": [
            {"name": o.metric, "direction": o.direction.value} for o in report.objectives
        ],
        "metrics": [
            {"name": name, "description": m.description, "direction": m.direction.value}
            for name, m in METRICS.items()
        ],
        "params": [{"name": key} for key, _ in study.config.space],
        "points": _columns(report),
        "reference_point": reference,
        "growth": None if grown is None else asdict(grown),
        **_importance(report),
        "networks": [_network(records, *shown) for shown in _shown_networks(report)],
        "table1": None
        if table is None
        else {
            "names": [column.name for column in table],
            "rows": as_rows(table),
            "note": note(report, table),
        },
        "reading": _READING,
    }


def _summary(report: Report) -> str:
    counts = Counter(point.mark for point in report.points)
    shown = ", ".join(
        f"{counts[mark]} {mark.value.replace('_', ' ')}" for mark in Mark if counts[mark]
    )
    config = report.study.config
    goals = ", ".join(f"{o.direction.value} {o.metric}" for o in report.objectives)
    rules = ", ".join(f"{c.metric} {c}" for c in report.constraints)
    volume = "" if report.hypervolume is None else f" Hypervolume {report.hypervolume:.4g}."
    return (
        f"Invertible residual networks on {config.data.name}: {goals}"
        f"{f', with {rules}' if rules else ''}. {len(report.points)} points: {shown}.{volume}"
    )


def _columns(report: Report) -> dict[str, Any]:
    """Every point, a list for each of its properties; a value that is not finite is null."""
    shown = report.shown(every=True)
    searched = [key for key, _ in report.study.config.space]
    objectives = [objective.metric for objective in report.objectives]
    errors = [point.standard_error or {} for point in shown]
    return {
        "label": [point.label for point in shown],
        "trial_id": [point.first.trial_id for point in shown],
        "run_id": [point.first.run_id for point in shown],
        "mark": [point.mark.value for point in shown],
        "projected_to": [point.first.projected_to for point in shown],
        "reason": [point.first.reason for point in shown],
        "front_share": [point.front_share for point in shown],
        "params": {key: [point.setting(key) for point in shown] for key in searched},
        "metrics": {name: [_finite(p.metrics.get(name)) for p in shown] for name in METRICS},
        "own": None
        if all(len(point.records) == 1 for point in shown)
        else {
            name: [_finite(point.first.metrics.get(name)) for point in shown] for name in METRICS
        },
        "standard_error": {name: [_finite(e.get(name)) for e in errors] for name in objectives},
    }


def _importance(report: Report) -> dict[str, Any]:
    """Of the trained networks: what projections add is no choice of a hyperparameter."""
    trials = [
        point
        for point in report.points
        if point.is_trial and point.first.state is TrialStatus.COMPLETED
    ]
    space = report.study.config.space
    found = {}
    for objective in report.objectives:
        pairs = [
            (point.first.sample, value)
            for point in trials
            if math.isfinite(value := point.metrics.get(objective.metric, math.nan))
        ]
        shares = importance(space, [s for s, _ in pairs], [v for _, v in pairs])
        if shares is not None:
            found[objective.metric] = shares
    n = min(len(trials), MOST_TRIALS)
    note = (
        f"Share of the variance that each hyperparameter accounts for by itself: fANOVA on {n} "
        "completed trials, an estimate, and a rough one where there are few."
    )
    return {"importance": found or None, "importance_note": note}


def _shown_networks(report: Report) -> list[tuple[str, Point]]:
    """Those of Table 1, by their names in the paper, if the study is that; else the front."""
    table = table1(report)
    if table is not None:
        return [(column.name, column.point) for column in table if column.point is not None]
    return [(point.label, point) for point in report.front[:_MOST_NETWORKS]]


def _network(records: Records, label: str, point: Point) -> dict[str, Any]:
    """What a network left behind."""
    run_id = point.first.run_id
    _, artifacts = records.metrics_and_artifacts(run_id)

    def read(name: str) -> Any:
        return json.loads(records.artifact(run_id, name)) if name in artifacts else None

    certificate = read("certificate.json")
    inverse = read("inverse.json")
    picture = "reconstructions.png"
    image = None
    if picture in artifacts:
        encoded = base64.b64encode(records.artifact(run_id, picture)).decode()
        image = f"data:image/png;base64,{encoded}"
    return {
        "label": label,
        "layers": [
            {"name": layer["name"], "upper_bound": _finite(layer["upper_bound"])}
            for layer in (certificate or {}).get("layers", ())
        ],
        "inverse": _inverse(inverse),
        "image": image,
        "reconstruction_error": _finite(point.metrics.get(RECONSTRUCTION_ERROR)),
    }


def _inverse(stored: dict[str, Any] | None) -> dict[str, Any]:
    if stored is None:
        return {"n_steps": [], "reconstruction_error": [], "predicted": None, "rtol": None}
    steps = stored["predicted_steps"]
    return {
        "n_steps": stored["n_steps"],
        "reconstruction_error": stored["reconstruction_error"],
        # None where one block has no proof.
        "predicted": None if None in steps else max(steps),
        "rtol": stored["rtol"],
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
