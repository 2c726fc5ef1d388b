"""The results as a page: one file that opens without a network and without a server.

The content is put together here; page_files/ has the code that draws it, a file for each section,
joined in the order of their names with those in page_files/shared/, which other pages have too.
"""

import base64
import html
import json
import math
import shlex
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from plotly.offline import get_plotlyjs

from study.config.space import FloatParameter, IntParameter, Parameter
from study.errors import FailedError, UserError
from study.metrics.artifacts import CERTIFICATE, INVERSE, RECONSTRUCTIONS
from study.metrics.definitions import (
    CPU_HOURS,
    DEVICE_HOURS,
    GPU_HOURS,
    HOURS,
    INVERSE_STEPS,
    LIPSCHITZ_UPPER_BOUND,
    METRICS,
    RECONSTRUCTION_ERROR,
    TEST_ACCURACY,
    VAL_ACCURACY,
    as_reported,
)
from study.results import conditions, importance, table1
from study.results.costs import costs
from study.results.front import Mark, Point, Results
from study.results.growth import growth
from study.results.headings import heading
from study.results.numbers import Numbers, finite
from study.results.recommended import Recommendation, interval, recommendations
from study.tracking.pages import compare_page, run_page, server_address
from study.tracking.records import Records

# Networks whose certificate, inverse and reconstructions are in the page.
_MOST_NETWORKS = 40
# Trainings whose accuracy over their epochs is in the page.
_MOST_CURVES = 20
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
_SKIP = ("points", "all points")
READING = (
    (
        "proven",
        f"{LIPSCHITZ_UPPER_BOUND}, and with it that the inverse exists where it is below 1: for "
        "the zero-padded convolutions that the network applies, in float64 from the weights that "
        "its forward pass uses, in eval mode. python -m study.verify NETWORK proves it again from "
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
        "that no other such point equals or beats in all objectives as they are reported. Of "
        "equal ones the first.",
    ),
    (
        "on front",
        "How likely a point is on the front if the validation images were drawn anew: a bootstrap "
        "over the images that each network classifies right. Where samples were trained "
        "repeatedly, how often it stays there with the spread of the repeats. What is better than "
        "a more accurate point by 5 % or less, in bound or steps alone, does not count.",
    ),
    (
        "knee",
        "The point that costs the most to leave: whichever other one is taken instead, what is "
        "given up is at least so many times what is gained, each objective in units of its range "
        "on the front, and accuracy in no smaller unit than its noise (the trade-off measure of "
        "Rachmawati and Srinivasan, 2009). What is better than a more accurate point by 5 % or "
        "less, in bound or steps alone, is left out.",
    ),
    (
        "TRIAL@0.5",
        "A projection: the network of that trial, the last layer of each block scaled so that the "
        "block's proven bound is at most 0.5^3, with a model and a certificate of its own.",
    ),
)


def check_files(records: Records, results: Results) -> None:
    """Whether the networks of the front still have their files.

    Raises:
        FailedError: if one has none, which says that they were deleted.
    """
    for point in results.front[:_MOST_NETWORKS]:
        if not records.artifacts(point.first.run_id):
            raise FailedError(
                f"--html: the files of {results.handle(point)} must be where MLflow keeps them, "
                f"{records.run(point.first.run_id).info.artifact_uri}, but they are gone"
            )


def write_page(path: Path, records: Records, results: Results) -> None:
    """Write the page of a study.

    Raises:
        UserError: if the file cannot be written.
    """
    write_file(path, page(records, results))


def write_file(path: Path, text: str) -> None:
    """Write a page.

    Raises:
        UserError: if the file cannot be written.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"--html: the file must be writable, but {path} is not: {error}") from error


def page(records: Records, results: Results) -> str:
    """The page of a study as HTML: all of its points, with their marks."""
    parts = files("study.results") / "page_files"
    title = f"{results.study.name}: report"
    return assembled(title, _content(records, results), parts, _SKIP)


def assembled(
    title: str, content: dict[str, Any], parts: Traversable, skip: tuple[str, str]
) -> str:
    """A page as HTML: its content, and the sections of a folder, in what all pages share.

    Args:
        skip: id of the section that a reader may skip to, and of what its table is.
    """
    shared = files("study.results") / "page_files" / "shared"
    template = string.Template((shared / "page.html").read_text(encoding="utf-8"))
    as_json = json.dumps(content, allow_nan=False, separators=(",", ":"))
    return template.substitute(
        title=html.escape(title),
        table=skip[0],
        table_of=skip[1],
        sections=(parts / "sections.html").read_text(encoding="utf-8"),
        css=(shared / "page.css").read_text(encoding="utf-8"),
        js=_script(shared, parts),
        plotly=get_plotlyjs(),
        # Text of the study, a name or a reason, must not end the element that it stands in.
        content=as_json.replace("<", "\\u003c"),
    )


def _script(*folders: Traversable) -> str:
    """The page's code: what its sections share, the sections, and what puts them together, in the
    order of their names."""
    sections = sorted(
        (part for folder in folders for part in folder.iterdir() if part.name.endswith(".js")),
        key=lambda part: part.name,
    )
    code = "".join(section.read_text(encoding="utf-8") for section in sections)
    return f'"use strict";\n(() => {{\n{code}}})();\n'


def _content(records: Records, results: Results) -> dict[str, Any]:
    study = results.study
    grown = growth(results)
    table = table1.table1(results)
    recommended = recommendations(results)
    front = [point.first.run_id for point in results.front[:_MOST_COMPARED]]
    reference = ", ".join(f"{METRICS[o.metric].title} {o.reference:g}" for o in results.objectives)
    return {
        "study": study.name,
        "summary": _summary(results),
        "facts": _facts(results),
        "made": made(),
        "server": server_address(records.client.tracking_uri),
        "run_page": run_page(records.client.tracking_uri, study.experiment_id),
        "compare_page": compare_page(records.client.tracking_uri, study.experiment_id, front)
        if front
        else None,
        "recommended": [_card(records, results, one) for one in recommended],
        "accuracy": VAL_ACCURACY,
        "n_val_images": results.n_val_images,
        "objectives": [
            {"name": o.metric, "direction": o.direction.value} for o in results.objectives
        ],
        "metrics": metrics_of(results.points),
        "table_metrics": _TABLE_METRICS,
        "picker_limits": [{"name": name, "strict": strict} for name, strict in _PICKER_LIMITS],
        "params": [_axis(key, parameter) for key, parameter in study.config.space],
        "where": conditions.grammar([point.first for point in results.ranked(every=True)]),
        "points": _columns(results),
        "reference_point": reference,
        "box": _box(results),
        "growth": None if grown is None else asdict(grown),
        "curves": _curves(records, results),
        "importance": _importance(results),
        "importance_note": importance.note(results),
        "networks": [_network(records, *named) for named in _named_networks(results, recommended)],
        "n_recommended": len(recommended),
        "table1": None
        if table is None
        else {
            "names": [column.name for column in table],
            "rows": table1.as_rows(table),
            "note": table1.note(table),
        },
        "reading": READING,
    }


def _summary(results: Results) -> str:
    counts = Counter(point.mark for point in results.points)
    marked = ", ".join(
        f"{counts[mark]} {mark.value.replace('_', ' ')}" for mark in Mark if counts[mark]
    )
    config = results.study.config
    goals = ", ".join(f"{o.direction.value} {METRICS[o.metric].title}" for o in results.objectives)
    rules = ", ".join(f"{METRICS[c.metric].title} {c}" for c in results.constraints)
    box = _box(results)
    volume = ""
    if results.hypervolume is not None:
        part = f", {results.hypervolume / box:.0%} of the box" if box else ""
        volume = f" Hypervolume {results.hypervolume:.4g}{part}."
    chosen = f" with {results.where}" if results.where else ""
    return (
        f"Invertible residual networks on {config.data.name}: {goals}"
        f"{f', with {rules}' if rules else ''}. {len(results.points)} networks{chosen}: "
        f"{marked or 'none'}.{volume}"
    )


def _facts(results: Results) -> list[str]:
    """When, how long, on what and with which code the study ran, a phrase each."""
    trials = results.trainings
    if not trials:
        return []
    of_study = costs(results)
    start = datetime.fromtimestamp(min(trial.started for trial in trials), UTC)
    facts = [f"{start:%Y-%m-%d %H:%M} UTC", f"{_duration(of_study[HOURS])} of training"]
    kind = "GPU" if results.study.config.resources.gpus else "core"
    facts.append(f"{of_study[DEVICE_HOURS]:.2g} {kind} hours")
    facts += [
        f"{of_study[name]:.2g} {unit}"
        for name, unit in ((GPU_HOURS, "h of GPU time"), (CPU_HOURS, "h of CPU time"))
        if name in of_study
    ]
    n_epochs = sum(trial.n_epochs for trial in trials)
    facts.append(f"{len(trials)} trainings, {n_epochs} epochs")
    facts += sorted({trial.device for trial in trials if trial.device})
    study = results.study
    if study.commit:
        facts.append(f"commit {study.commit[:10]}{'' if study.is_clean else ' with changes'}")
    facts += [f"{name} {version}" for name, version in study.versions.items() if name == "torch"]
    return facts


def _duration(hours: float) -> str:
    minutes = round(60 * hours)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def _box(results: Results) -> float | None:
    """Volume between the reference point and the best that there could be; None where an objective
    has no reference, or is sought in the direction that is worse."""
    volume = 1.0
    for objective in results.objectives:
        metric = METRICS[objective.metric]
        if not math.isfinite(objective.reference) or objective.direction is not metric.direction:
            return None
        volume *= abs(objective.reference - metric.best)
    return volume or None


def _card(records: Records, results: Results, one: Recommendation) -> dict[str, Any]:
    """One of the networks to take."""
    handle = results.handle(one.point)
    # The first network's own, which the handle means, and not a mean over repeats.
    bound = one.point.first.metrics[LIPSCHITZ_UPPER_BOUND]
    at_most = f"{METRICS[LIPSCHITZ_UPPER_BOUND].resolution.round(bound):.4g}"
    proof = (
        f"Proven: Lip(g) <= {at_most} in every block, so the inverse exists, and each step of "
        f"plain fixed-point iteration leaves at most {at_most} of a block's error."
        if bound < 1
        else "Not proven to be invertible."
    )
    server = server_address(records.client.tracking_uri)
    uri = ["--tracking-uri", server] if server else []
    return {
        "aliases": one.aliases,
        "label": handle,
        "sentence": one.sentence,
        "proof": proof,
        "command": shlex.join(["python", "-m", "study.verify", handle, *uri]),
    }


def made() -> str:
    """When the page was made, a sentence."""
    return f"Made by study.report at {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, from MLflow."


def metrics_of(points: Sequence[Point]) -> list[dict[str, Any]]:
    """What each metric is, and in how many digits the points have it."""
    numbers = Numbers(points)
    return [
        {
            "name": name,
            "title": metric.title,
            "short": metric.short,
            "description": metric.description,
            "direction": metric.direction.value,
            "decimals": numbers.decimals(name),
        }
        for name, metric in METRICS.items()
    ]


def _axis(key: str, parameter: Parameter) -> dict[str, Any]:
    """A searched parameter and the scale of its space."""
    axis: dict[str, Any] = {"name": key, "short": heading(key)}
    if isinstance(parameter, FloatParameter | IntParameter):
        axis |= {"low": parameter.low, "high": parameter.high, "log": parameter.log}
    return axis


def _columns(results: Results) -> dict[str, Any]:
    """Every point, a list for each of its properties; a value that is not finite is null, and text
    in `not_finite`, by its index."""
    listed = results.ranked(every=True)
    searched = [key for key, _ in results.study.config.space]
    objectives = [objective.metric for objective in results.objectives]
    errors = [point.standard_error or {} for point in listed]
    ends = [interval(results, point) or (None, None) for point in listed]
    return {
        "label": [results.handle(point) for point in listed],
        "trial_id": [point.first.trial_id for point in listed],
        "run_id": [point.first.run_id for point in listed],
        "mark": [point.mark.value for point in listed],
        "projected_to": [point.first.projected_to for point in listed],
        "origin": [point.first.origin for point in listed],
        "reason": [point.first.reason for point in listed],
        "front_share": [point.front_share for point in listed],
        "low": [low for low, _ in ends],
        "high": [high for _, high in ends],
        "params": {key: [point.first.sample.get(key) for point in listed] for key in searched},
        "metrics": {name: [finite(p.metrics.get(name)) for p in listed] for name in METRICS},
        "not_finite": {
            name: {
                i: str(point.metrics[name])
                for i, point in enumerate(listed)
                if name in point.metrics and not math.isfinite(point.metrics[name])
            }
            for name in METRICS
        },
        "own": None
        if all(len(point.records) == 1 for point in listed)
        else {
            name: [finite(as_reported(point.first.metrics).get(name)) for point in listed]
            for name in METRICS
        },
        "standard_error": {name: [finite(e.get(name)) for e in errors] for name in objectives},
    }


def _importance(results: Results) -> dict[str, dict[str, list[float]]] | None:
    """Objective -> parameter -> (least, value, most) of its share; None where nothing is said."""
    return {
        objective: {key: [one.low, one.value, one.high] for key, one in shares.items()}
        for objective, shares in importance.importances(results).items()
    } or None


def _curves(records: Records, results: Results) -> list[dict[str, Any]]:
    """Validation accuracy over the epochs of the trainings that the front comes from."""
    own = {p.first.trial_id: p.first for p in results.points if p.is_trial}
    wanted = dict.fromkeys(point.first.trial_id for point in results.front)
    curves = []
    for trial_id in list(wanted)[:_MOST_CURVES]:
        if trial_id in own:  # a filter may have left the projection and not its trial
            history = records.history(own[trial_id].run_id, VAL_ACCURACY)
            epochs, values = [epoch for epoch, _ in history], [finite(v) for _, v in history]
            label = f"{results.study.name}/{trial_id}"
            curves.append({"label": label, "epochs": epochs, "values": values})
    return curves


def _named_networks(results: Results, recommended: list[Recommendation]) -> list[tuple[str, Point]]:
    """Those of Table 1, by their names in the paper, if the study is that; else the recommended
    ones, and then the front."""
    table = table1.table1(results)
    if table is not None:
        return [(column.name, column.point) for column in table if column.point is not None]
    first = {results.handle(one.point): one.point for one in recommended}
    front = {results.handle(point): point for point in results.front}
    return list({**first, **front}.items())[:_MOST_NETWORKS]


def _network(records: Records, label: str, point: Point) -> dict[str, Any]:
    """What a network left: its certificate, inverse and reconstructions."""
    run_id = point.first.run_id
    artifacts = records.artifacts(run_id)

    def read(name: str) -> Any:
        return json.loads(records.artifact(run_id, name)) if name in artifacts else None

    certificate, inverse = read(CERTIFICATE) or {}, read(INVERSE)
    image = None
    if RECONSTRUCTIONS in artifacts:
        encoded = base64.b64encode(records.artifact(run_id, RECONSTRUCTIONS)).decode()
        image = f"data:image/png;base64,{encoded}"
    return {
        "label": label,
        "layers": _bounds(certificate, "layers"),
        "blocks": _bounds(certificate, "blocks"),
        "inverse": _inverse(inverse),
        "image": image,
        "error": finite(point.metrics.get(RECONSTRUCTION_ERROR)),
    }


def _bounds(certificate: dict[str, Any], parts: str) -> list[dict[str, Any]]:
    """Name and proven bound of each layer or block of a certificate, rounded up."""
    rounded = METRICS[LIPSCHITZ_UPPER_BOUND].resolution.round
    bounds = {part["name"]: part["upper_bound"] for part in certificate.get(parts, ())}
    return [
        {"name": name, "upper_bound": None if bound is None else finite(rounded(bound))}
        for name, bound in bounds.items()
    ]


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
