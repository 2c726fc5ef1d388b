"""The sections of a study's report, printed and in its page."""

import base64
import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from study.config.trial import TrialConfig
from study.metrics.artifacts import (
    CERTIFICATE,
    INVERSE,
    LARGEST_PIXEL_ERROR,
    RECONSTRUCTIONS,
)
from study.metrics.definitions import (
    ATTACKED_ACCURACY,
    BLOCK_LIPSCHITZ_UPPER_BOUND,
    CERTIFIED_ACCURACY,
    CPU_HOURS,
    DEVICE_HOURS,
    GPU_HOURS,
    HOURS,
    INVERSE_LIPSCHITZ_UPPER_BOUND,
    INVERSE_STEPS,
    METRICS,
    RECONSTRUCTION_ERROR,
    as_reported,
)
from study.metrics.rounding import radius_text
from study.results import paper, where
from study.results.correlations import FEWEST_TRIALS
from study.results.front import Point
from study.results.numbers import leading_metrics
from study.results.recommended import Recommendation
from study.results.report import MOST_NETWORKS, Report
from study.results.views.report_table import marks_of, networks, rounding_of, typeset
from study.results.views.sections import Section, View
from study.tracking.pages import (
    compare_page,
    describe_inverse,
    on_the_word_of,
    run_page,
    server_address,
)

# How bounds are rounded.
_UP = METRICS[BLOCK_LIPSCHITZ_UPPER_BOUND].resolution
GROWTH_TAKES = "a reference value of each objective, and two trials that ended"
CORRELATIONS_TAKE = f"{FEWEST_TRIALS} completed trials, and hyperparameters that vary"
_MOST_COMPARED = 50  # beyond some dozens of runs, MLflow's page that compares them is useless
# Metrics that the picker limits, after the objectives. `strict` excludes the limit itself: a bound
# of 1 proves nothing.
_PICKER_LIMITS = (
    {"name": BLOCK_LIPSCHITZ_UPPER_BOUND, "strict": True},
    {"name": INVERSE_STEPS, "strict": False},
    {"name": RECONSTRUCTION_ERROR, "strict": False},
)


def view(report: Report) -> View[Report]:
    """The report of a study, to print or as a page."""
    drawn = (
        _header, _recommended, _trade, _picker, _files, _growth, _hyperparameters, _points
    )  # fmt: skip
    title, table = f"{report.study.name}: report", ("points", "all points")
    return View(report, title, "report", table, (networks,), drawn, typeset, report.check_files)


def _header(report: Report) -> Section:
    content = {
        "study": report.study.name,
        "summary": _summary(report),
        "facts": _facts(report),
        "word": on_the_word_of(report.study.config.proven_by),
    }
    return Section("header", content)


def _recommended(report: Report) -> Section:
    cards = [_card(one, report) for one in report.recommended]
    content = {"recommended": cards, "violations": report.violations}
    return Section("recommended", content, "" if any(content.values()) else "the front is empty")


def _trade(report: Report) -> Section:
    uri, experiment_id = report.files.client.tracking_uri, report.study.experiment_id
    front = [point.first.run_id for point in report.front[:_MOST_COMPARED]]
    content = {
        "n_val_images": report.n_val_images,
        "to_verify": report.study.config.to_verify,
        "server": server_address(uri),
        "run_page": run_page(uri, experiment_id),
        "compare_page": compare_page(uri, experiment_id, front) if front else None,
    }
    return Section("front", content, _no_trade(report))


def _picker(report: Report) -> Section:
    return Section("pick", {"picker_limits": _PICKER_LIMITS}, _no_trade(report))


def _no_trade(report: Report) -> str:
    """Why networks cannot be compared by the objectives; empty if they can."""
    finite = {k for p in report.points for k, value in p.metrics.items() if math.isfinite(value)}
    missing = [one.metric for one in report.objectives if one.metric not in finite]
    return f"no network has a finite {' or '.join(missing)}" if missing else ""


def _files(report: Report) -> Section:
    """The proofs, inverses and pictures that are stored with networks: with all trained networks of
    a study of the paper's Table 1; otherwise with the recommended ones and the front."""
    points, n_chosen = report.searched, 6
    if not paper.is_table1(report.study.config):
        n_chosen = len(report.recommended)
        points = [*(one.point for one in report.recommended), *report.front]
        points = points[: n_chosen + MOST_NETWORKS]
    named = {point.handle: point for point in points}
    left = [network_content(report, point) for point in named.values()]
    content = {"networks": left, "n_chosen": n_chosen}
    is_there = any(one["layers"] for one in left)
    return Section("networks", content, "" if is_there else "no network left a certificate")


def _growth(report: Report) -> Section:
    grown = report.growth
    why = f"it takes {GROWTH_TAKES}"
    return Section("growth", {"growth": grown}, "" if grown and len(grown.epochs) > 1 else why)


def _hyperparameters(report: Report) -> Section:
    found = report.correlated
    note = (
        "Rank correlation (Spearman) of each hyperparameter with each objective over "
        f"{len(report.searched)} completed trials, with 95 % intervals. Where a line crosses 0, "
        "the trials do not say which way it goes."
    )
    why = f"it takes {CORRELATIONS_TAKE}"
    content = {"correlation": found, "correlation_note": note}
    return Section("hyperparameters", content, "" if found else why)


def _points(report: Report) -> Section:
    config, ranked = report.study.config, report.ranked(every=True)
    content = {
        "params": [{"name": key, "short": where.heading(key)} for key, _ in config.space],
        "points": _columns(report),
        "paper": [*paper.figures(config, ranked)],
        "table_metrics": leading_metrics(report.points, report.objectives),
        "where": where.grammar([point.first for point in ranked], report.metrics),
    }
    return Section("points", content)


def _summary(report: Report) -> str:
    sought = ", ".join(
        f"{o.direction.value} {report.metrics[o.metric].title}" for o in report.objectives
    )
    rules = "".join(
        f", with {c.phrase(report.metrics[c.metric].title)}" for c in report.constraints
    )
    rules += on_the_word_of(report.study.config.proven_by) if rules else ""
    volume = "" if report.hypervolume is None else f" Hypervolume {report.hypervolume:.4g}."
    if report.added_to_controls is not None:
        volume += f" Networks add {report.added_to_controls:.4g} to that of the controls."
    chosen = f" with {report.where}" if report.where else ""
    authors = ", ".join(report.study.config.proven_by)
    proofs = f" Bounds of blocks by {authors} are the word of their author." if authors else ""
    return (
        f"Invertible residual networks on {report.study.config.data.name}: {sought}{rules}. "
        f"{len(report.points)} networks{chosen}: {marks_of(report) or 'none'}"
        f"{rounding_of(report)}.{volume}{proofs}"
    )


def _facts(report: Report) -> list[str]:
    """When, how long, on what and with which code the study ran, one phrase each."""
    trials, costs, study = report.trainings, report.costs, report.study
    if not trials:
        return []
    start = datetime.fromtimestamp(min(trial.started for trial in trials), UTC)
    minutes = round(60 * costs[HOURS])
    duration = f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
    kind = "GPU" if study.config.resources.gpus else "core"
    spent = {GPU_HOURS: "h of GPU time", CPU_HOURS: "h of CPU time"}
    n_epochs = sum(trial.n_epochs for trial in trials)
    changes = "" if study.is_clean else " with changes"
    return [
        f"{start:%Y-%m-%d %H:%M} UTC",
        f"{duration} of training",
        f"{costs[DEVICE_HOURS]:.2g} {kind} hours",
        *(f"{costs[name]:.2g} {unit}" for name, unit in spent.items() if name in costs),
        f"{len(trials)} training runs, {n_epochs} epochs",
        *sorted({trial.device for trial in trials if trial.device}),
        *([f"commit {study.commit[:10]}{changes}"] if study.commit else []),
        *(f"{name} {version}" for name, version in study.versions.items() if name == "torch"),
    ]


def _card(one: Recommendation, report: Report) -> dict[str, Any]:
    # The handle means the first network, so the card shows its figures, not the mean over repeats.
    first = one.point.first
    trial = report.study.config.resolve(first.sample, seed=0)
    return {
        "aliases": one.aliases,
        "network": one.point.handle,
        "sentence": one.sentence,
        "proof": _proof(first.metrics, trial),
    }


def _proof(metrics: Mapping[str, float], trial: TrialConfig) -> str:
    """What is proven of a trial's network, and on whose word, in a sentence or two."""
    inverse, authors = metrics[INVERSE_LIPSCHITZ_UPPER_BOUND], trial.proven_by
    return (
        f"{describe_inverse(inverse, authors)} For {metrics[CERTIFIED_ACCURACY]:.1%} of the "
        f"validation images the answer is right, and no change of up to "
        f"{radius_text(trial.radius)} (l2, {trial.data.unit}) alters it{on_the_word_of(authors)}."
    )


def _columns(report: Report) -> dict[str, Any]:
    """The report's frame, a list per column. JSON has null for infinite values, so `infinite` has
    them as text, by row. If any sample was trained repeatedly, `own` has the metrics of each
    sample's first training."""
    columns = {str(name): values.tolist() for name, values in report.frame.items()}
    firsts = [as_reported(point.first.metrics) for point in report.ranked(every=True)]
    return {
        **columns,
        **paper.figures(report.study.config, report.ranked(every=True)),
        "infinite": {
            name: {i: str(v) for i, v in enumerate(columns[name]) if v and math.isinf(v)}
            for name in report.metrics
        },
        "own": {name: [of.get(name) for of in firsts] for name in report.metrics}
        if any(len(point.records) > 1 for point in report.points)
        else None,
    }


def network_content(report: Report, point: Point) -> dict[str, Any]:
    """The certificate, radii, inverse and reconstructions of a network."""
    run_id = point.first.run_id
    artifacts = report.files.artifacts(run_id)

    def read(name: str) -> bytes | None:
        return report.files.artifact(run_id, name) if name in artifacts else None

    certificate = json.loads(read(CERTIFICATE) or "{}")
    inverse = json.loads(read(INVERSE) or "{}")
    image = read(RECONSTRUCTIONS)
    curve = certificate.get("on_test_split", {})
    attained = certificate.get("empirical_lipschitz", [])
    trial = report.study.config.resolve(point.first.sample, seed=0)
    attacked = point.first.metrics.get(ATTACKED_ACCURACY)
    return {
        "label": point.handle,
        "word": on_the_word_of(trial.proven_by),
        "unit": trial.data.unit,
        "layers": _bounds(certificate, "layers"),
        "blocks": _bounds(certificate, "blocks"),
        "attained": [float(f"{value:.4g}") for value in attained],
        "certified": {
            # Rounded down: what is proven within a radius is also proven within a smaller one.
            "radii": [-_UP.round(-radius) for radius in curve.get("radius", [])],
            "accuracies": [
                METRICS[CERTIFIED_ACCURACY].resolution.round(fraction)
                for fraction in curve.get(CERTIFIED_ACCURACY, [])
            ],
        },
        "attack": None if attacked is None else {"radius": trial.radius, "accuracy": attacked},
        "inverse": {
            "n_steps": inverse.get("n_steps", []),
            "errors": inverse.get(RECONSTRUCTION_ERROR, []),
        },
        "largest_pixel_error": inverse.get(LARGEST_PIXEL_ERROR),
        "image": image and f"data:image/png;base64,{base64.b64encode(image).decode()}",
        "error": point.metrics.get(RECONSTRUCTION_ERROR),
    }


def _bounds(certificate: dict[str, Any], parts: str) -> list[dict[str, Any]]:
    """Name and proven bound of each layer or block of a certificate, rounded up."""
    bounds = {part["name"]: part["upper_bound"] for part in certificate.get(parts, ())}
    return [
        {"name": name, "upper_bound": None if bound is None else _UP.round(bound)}
        for name, bound in bounds.items()
    ]
