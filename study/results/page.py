"""The results as a page: one file that opens without a network and without a server.

The content is put together here; page_files/ has the code that draws it, a file for each section,
joined in the order of their names.
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
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from plotly.offline import get_plotlyjs

from study.artifacts import CERTIFICATE, INVERSE, RECONSTRUCTIONS
from study.errors import UserError
from study.metrics import (
    INVERSE_STEPS,
    LIPSCHITZ_UPPER_BOUND,
    METRICS,
    RECONSTRUCTION_ERROR,
    TEST_ACCURACY,
)
from study.results import importance, table1
from study.results.front import Mark, Point, Results
from study.results.growth import growth
from study.tracking.pages import compare_page, run_page, server_address
from study.tracking.records import Records

# Networks whose certificate, inverse and reconstructions are in the page.
_MOST_NETWORKS = 40
# MLflow's page that compares runs is of no use beyond some dozens.
_MOST_COMPARED = 50
# Metrics that come first in the table, behind the objectives.
_TABLE_METRICS = (TEST_ACCURACY, RECONSTRUCTION_ERROR)
# Metrics that the picker limits, behind the objectives, and whether the limit itself is too much:
# a bound that is 1 proves nothing.
_PICKER_LIMITS = (
    (LIPSCHITZ_UPPER_BOUND, True),
    (INVERSE_STEPS, False),
    (RECONSTRUCTION_ERROR, False),
)
_READING = (
    (
        "proven",
        f"{LIPSCHITZ_UPPER_BOUND}, and with it that the inverse exists where it is below 1: for "
        "the zero-padded convolutions that the network applies, in float64 from the weights that "
        "its forward pass uses, in eval mode. python -m study.verify RUN_ID proves it again from "
        "the stored model.",
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
        "A projection: the network of trial 0004, the last layer of each block scaled so that the "
        "block's proven bound is at most 0.5^3, with a model and a certificate of its own.",
    ),
)


def write_page(path: Path, records: Records, results: Results) -> None:
    """Write the page of a study.

    Raises:
        UserError: if the file cannot be written.
    """
    text = page(records, results)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"--html: the file must be writable, but {path} is not: {error}") from error


def page(records: Records, results: Results) -> str:
    """The page of a study as HTML: all of its points, with their marks."""
    parts = files("study.results") / "page_files"
    content = json.dumps(_content(records, results), allow_nan=False, separators=(",", ":"))
    template = string.Template((parts / "page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=html.escape(f"{results.study.name}: report"),
        css=(parts / "page.css").read_text(encoding="utf-8"),
        js=_script(parts),
        plotly=get_plotlyjs(),
        # Text of the study, a name or a reason, must not end the element that it stands in.
        content=content.replace("<", "\\u003c"),
    )


def _script(parts: Traversable) -> str:
    """The page's code: what its sections share, the sections, and what puts them together."""
    sections = sorted(
        (part for part in parts.iterdir() if part.name.endswith(".js")), key=lambda part: part.name
    )
    code = "".join(section.read_text(encoding="utf-8") for section in sections)
    return f'"use strict";\n(() => {{\n{code}}})();\n'


def _content(records: Records, results: Results) -> dict[str, Any]:
    study = results.study
    grown = growth(results)
    table = table1.table1(results)
    front = [point.first.run_id for point in results.front[:_MOST_COMPARED]]
    reference = ", ".join(f"{o.metric} {o.reference:g}" for o in results.objectives)
    return {
        "study": study.name,
        "summary": _summary(results),
        "made": f"Made by study.report at {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, from MLflow.",
        "server": server_address(records.client.tracking_uri),
        "run_page": run_page(records.client.tracking_uri, study.experiment_id),
        "compare_page": compare_page(records.client.tracking_uri, study.experiment_id, front)
        if front
        else None,
        "objectives": [
            {"name": o.metric, "direction": o.direction.value} for o in results.objectives
        ],
        "metrics": [
            {"name": name, "description": m.description, "direction": m.direction.value}
            for name, m in METRICS.items()
        ],
        "table_metrics": _TABLE_METRICS,
        "picker_limits": [{"name": name, "strict": strict} for name, strict in _PICKER_LIMITS],
        "params": [{"name": key} for key, _ in study.config.space],
        "points": _columns(results),
        "reference_point": reference,
        "growth": None if grown is None else asdict(grown),
        "importance": importance.importances(results) or None,
        "importance_note": importance.note(results),
        "networks": [_network(records, *named) for named in _named_networks(results)],
        "table1": None
        if table is None
        else {
            "names": [column.name for column in table],
            "rows": table1.as_rows(table),
            "note": table1.note(table),
        },
        "reading": _READING,
    }


def _summary(results: Results) -> str:
    counts = Counter(point.mark for point in results.points)
    marked = ", ".join(
        f"{counts[mark]} {mark.value.replace('_', ' ')}" for mark in Mark if counts[mark]
    )
    config = results.study.config
    goals = ", ".join(f"{o.direction.value} {o.metric}" for o in results.objectives)
    rules = ", ".join(f"{c.metric} {c}" for c in results.constraints)
    volume = "" if results.hypervolume is None else f" Hypervolume {results.hypervolume:.4g}."
    return (
        f"Invertible residual networks on {config.data.name}: {goals}"
        f"{f', with {rules}' if rules else ''}. {len(results.points)} points: {marked}.{volume}"
    )


def _columns(results: Results) -> dict[str, Any]:
    """Every point, a list for each of its properties; a value that is not finite is null."""
    listed = results.ranked(every=True)
    searched = [key for key, _ in results.study.config.space]
    objectives = [objective.metric for objective in results.objectives]
    errors = [point.standard_error or {} for point in listed]
    return {
        "label": [point.label for point in listed],
        "trial_id": [point.first.trial_id for point in listed],
        "run_id": [point.first.run_id for point in listed],
        "mark": [point.mark.value for point in listed],
        "projected_to": [point.first.projected_to for point in listed],
        "reason": [point.first.reason for point in listed],
        "front_share": [point.front_share for point in listed],
        "params": {key: [point.setting(key) for point in listed] for key in searched},
        "metrics": {name: [_finite(p.metrics.get(name)) for p in listed] for name in METRICS},
        "own": None
        if all(len(point.records) == 1 for point in listed)
        else {
            name: [_finite(point.first.metrics.get(name)) for point in listed] for name in METRICS
        },
        "standard_error": {name: [_finite(e.get(name)) for e in errors] for name in objectives},
    }


def _named_networks(results: Results) -> list[tuple[str, Point]]:
    """Those of Table 1, by their names in the paper, if the study is that; else the front."""
    table = table1.table1(results)
    if table is not None:
        return [(column.name, column.point) for column in table if column.point is not None]
    return [(point.label, point) for point in results.front[:_MOST_NETWORKS]]


def _network(records: Records, label: str, point: Point) -> dict[str, Any]:
    """What a network left: its certificate, inverse and reconstructions."""
    run_id = point.first.run_id
    artifacts = records.artifacts(run_id)

    def read(name: str) -> Any:
        return json.loads(records.artifact(run_id, name)) if name in artifacts else None

    certificate, inverse = read(CERTIFICATE), read(INVERSE)
    image = None
    if RECONSTRUCTIONS in artifacts:
        encoded = base64.b64encode(records.artifact(run_id, RECONSTRUCTIONS)).decode()
        image = f"data:image/png;base64,{encoded}"
    return {
        "label": label,
        "layers": [
            {"name": layer["name"], "upper_bound": _finite(layer["upper_bound"])}
            for layer in (certificate or {}).get("layers", ())
        ],
        "inverse": _inverse(inverse),
        "image": image,
        "error": _finite(point.metrics.get(RECONSTRUCTION_ERROR)),
    }


def _inverse(stored: dict[str, Any] | None) -> dict[str, Any]:
    if stored is None:
        return {"n_steps": [], "errors": [], "predicted": None, "rtol": None}
    steps = stored["predicted_steps"]
    return {
        "n_steps": stored["n_steps"],
        "errors": stored[RECONSTRUCTION_ERROR],
        # None where one block has no proof.
        "predicted": None if None in steps else max(steps),
        "rtol": stored["rtol"],
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
