"""Texts, columns and addresses of a study in MLflow's own pages."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from study.config.study import StudyConfig
from study.metrics.artifacts import CERTIFICATE, PAGE
from study.metrics.definitions import (
    INVERSE_LIPSCHITZ_UPPER_BOUND,
    METRICS,
    TEST_ACCURACY,
    TEST_CERTIFIED_ACCURACY,
    Direction,
)
from study.metrics.reports import CONTROL, ProjectionReport
from study.metrics.rounding import number_text, radius_text
from study.tracking.tags import ALIAS, CERTIFIED, GIVEN, MARK, STATE
from study.tracking.values import PROJECTED_TO

VIEW = "study"
"""Name of the stored table of runs; see `views`."""
FRONT_VIEW = "front"
"""Name of the stored table of the front."""
# Without it MLflow shows its pages for language models.
_TRAINING = "workflowType=machine_learning"


def server_address(tracking_uri: str) -> str | None:
    """The address of the tracking server without a password; None if there is no server."""
    parts = urlsplit(tracking_uri)
    if parts.scheme not in ("http", "https"):
        return None
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])).rstrip("/")


def study_page(tracking_uri: str, experiment_id: str) -> tuple[str | None, str]:
    """Returns (command, page): the command that serves MLflow's pages, None if a server does; the
    address of the study's page."""
    served = server_address(tracking_uri)
    command = None if served else f"mlflow server --backend-store-uri {tracking_uri}"
    base = served or "http://127.0.0.1:5000"
    return command, (
        f"{base}/#/experiments/{experiment_id}/runs?{_TRAINING}&viewStateShareKey={VIEW}"
    )


def run_page(tracking_uri: str, experiment_id: str) -> str | None:
    """The address of a run's page, with {run_id} to be filled in; None without a server."""
    base = server_address(tracking_uri)
    return base and f"{base}/#/experiments/{experiment_id}/runs/{{run_id}}?{_TRAINING}"


def compare_page(tracking_uri: str, experiment_id: str, run_ids: Sequence[str]) -> str | None:
    """The address of the page that compares these runs; None without a server."""
    base = server_address(tracking_uri)
    runs, experiments = (quote(json.dumps(ids)) for ids in (list(run_ids), [experiment_id]))
    return base and f"{base}/#/compare-runs?runs={runs}&experiments={experiments}&{_TRAINING}"


def describe_study(config: StudyConfig) -> str:
    """A description of a study in Markdown, to show above the table of its runs."""
    space = ", ".join(f"`{key}`" for key, _ in config.space)
    goals = ", ".join(f"{o.direction.value} `{o.metric}`" for o in config.objectives)
    rules = ", ".join(c.phrase(f"`{c.metric}`") for c in config.constraints)
    radius, word = config.evaluation.radius, on_the_word_of(config.proven_by)
    within = [f"`{name}`" for name, metric in METRICS.items() if metric.is_within_radius]
    of_radius = (
        ""
        if radius is None
        else (
            f"{', '.join(within)}: within radius {radius_text(radius)}, l2, {config.data.unit}.\n\n"
        )
    )
    return (
        f"A study of invertible residual networks on **{config.data.name}**: {config.n_trainings} "
        f"trials over {space}, to {goals}{f', with {rules}{word}' if rules else ''}.\n\n{of_radius}"
        "A run each: the study, its trials, and below a trial the networks to which its own was "
        f"projected. Tag `{CERTIFIED}` says whether the inverse is proven to exist, and "
        f"`{INVERSE_LIPSCHITZ_UPPER_BOUND}` is a proven bound of its slope{word}. Trials carry "
        f"`{CERTIFICATE}`, pictures of it and of the inverse, and the model.\n\n"
        f"Once the study has ended, tag `{MARK}` says how each network stands in its results, and "
        f"`{ALIAS}` which are recommended: `tags.{MARK} = 'front'` is the front, as is "
        f"`python -m study.report {config.name}`. Check a proof again: "
        f"`{' '.join(['python -m study.verify', f'{config.name}@knee', *config.to_verify])}`."
    )


def on_the_word_of(authors: Sequence[str]) -> str:
    """The end of a sentence about a proof that rests on bounds which authors of blocks state, and
    nothing here checks; empty without such authors."""
    return f", on the word of {' and '.join(authors)}" if authors else ""


def describe_inverse(bound: float, authors: Sequence[str] = ()) -> str:
    """A sentence on what a bound of the inverse's Lipschitz constant proves, and on whose word."""
    if bound < math.inf:
        shown = METRICS[INVERSE_LIPSCHITZ_UPPER_BOUND].resolution.round(bound)
        proven = f"Proven to be invertible{on_the_word_of(authors)}"
        return f"{proven}: its inverse's Lipschitz constant is at most {number_text(shown)}."
    return "Nothing is proven of its inverse."


def describe_projection(
    trial_id: str, report: ProjectionReport, authors: Sequence[str] = ()
) -> str:
    """A sentence on how a further network of a trial was made."""
    bound = report.projected_to
    if bound == CONTROL:
        return f"The control of trial {trial_id}: its classifier alone, trained without blocks."
    if bound is None:
        return f"A member of the family that trial {trial_id} trained."
    return (
        f"The network of trial {trial_id}, scaled so that every block's proven bound of Lip(g) is "
        f"at most {bound:g}{on_the_word_of(authors)}."
    )


def name_sample(sample: Mapping[str, Any]) -> str:
    """A sample in one line, with rounded numbers."""
    rounded = {k: f"{v:.3g}" if isinstance(v, float) else str(v) for k, v in sample.items()}
    return " ".join(f"{key}={value}" for key, value in rounded.items())


def describe_results(experiment_id: str, run_id: str, why: Sequence[tuple[str, str, str]]) -> str:
    """The results of a study in Markdown, for its own run, with links within MLflow's pages.

    Args:
        run_id: of the study's own run, which has the report among its files.
        why: (handle, aliases, sentence) of each recommended network.
    """
    page = f"#/experiments/{experiment_id}/runs"
    lines = [f"- `{handle}`, {aliases}: {sentence}" for handle, aliases, sentence in why]
    return (
        f"[The report]({page}/{run_id}/artifacts/{PAGE}). "
        f"[The front]({page}?{_TRAINING}&viewStateShareKey={FRONT_VIEW}).\n\n" + "\n".join(lines)
    )


def views(config: StudyConfig) -> dict[str, str]:
    """Name -> JSON of a table of runs that MLflow's pages can show, of all runs or of the front,
    the best by the first objective first. Columns from the left: the first two objectives, the mark
    of the network, what it is recommended as, and the rest."""
    objectives = [f"metrics.`{objective.metric}`" for objective in config.objectives]
    shown = [key for key, _ in (*config.space, *config.family)]
    shown += [PROJECTED_TO] if config.search.ladder else []
    columns = [
        *objectives[:2],
        *(f"tags.`{tag}`" for tag in (MARK, ALIAS)),
        *objectives[2:],
        *(f"metrics.`{name}`" for name in (TEST_ACCURACY, TEST_CERTIFIED_ACCURACY)),
        *(f"params.`{key}`" for key in shown),
        *(f"tags.`{tag}`" for tag in (CERTIFIED, STATE)),
        *([f"tags.`{GIVEN}`"] if config.search.first else []),
    ]
    table = {
        "selectedColumns": columns,
        # Without these MLflow has all metrics first, and tags last, out of sight.
        "columnOrder": columns,
        "columnWidths": {**dict.fromkeys(columns, 100), **dict.fromkeys(objectives, 90)},
        "orderByKey": objectives[0],
        "orderByAsc": config.objectives[0].direction is Direction.MINIMIZE,
    }
    front = {**table, "searchFilter": f"tags.`{MARK}` = 'front'"}
    return {VIEW: json.dumps(table), FRONT_VIEW: json.dumps(front)}
