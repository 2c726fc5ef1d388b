import json
import math
from urllib.parse import parse_qs

import pytest

from study.tracking.pages import (
    FRONT_VIEW,
    VIEW,
    compare_page,
    describe_inverse,
    describe_study,
    run_page,
    study_page,
    views,
)
from tests.support.studies import tiny


@pytest.mark.parametrize(
    ("uri", "server"),
    [
        ("sqlite:////data/mlflow.db", None),
        ("postgresql://me:secret@host/db", None),
        ("http://127.0.0.1:5000/", "http://127.0.0.1:5000"),
        ("https://me:secret@host:8443/ml", "https://host:8443/ml"),
    ],
)
def test_pages_are_where_the_server_is_or_will_be_and_hold_no_password(
    uri: str, server: str | None
) -> None:
    command, of_study = study_page(uri, "7")
    assert command == (None if server else f"mlflow server --backend-store-uri {uri}")
    base = f"{server or 'http://127.0.0.1:5000'}/#/experiments/7/runs"
    assert of_study.startswith(f"{base}?")
    assert of_study.endswith(f"={VIEW}")
    of_run, of_several = run_page(uri, "7"), compare_page(uri, "7", ["a", "b"])
    if server is None:
        assert of_run is of_several is None
        return
    assert (of_run or "").startswith(f"{base}/{{run_id}}?")
    page, _, query = (of_several or "").partition("?")
    assert page == f"{server}/#/compare-runs"
    asked = parse_qs(query)
    assert [json.loads(asked[key][0]) for key in ("runs", "experiments")] == [["a", "b"], ["7"]]


def test_a_study_is_described_by_what_it_varies_and_seeks() -> None:
    config = tiny()
    text = describe_study(config)
    of_all, of_front = (json.loads(views(config)[name]) for name in (VIEW, FRONT_VIEW))
    columns = of_all["selectedColumns"]
    assert of_front["selectedColumns"] == columns
    assert "searchFilter" not in of_all
    assert of_front["searchFilter"] == "tags.`study.mark` = 'front'"
    for key, _ in config.space:
        assert f"`{key}`" in text
        assert f"params.`{key}`" in columns
    for objective in config.objectives:
        assert f"{objective.direction.value} `{objective.metric}`" in text
        assert columns.count(f"metrics.`{objective.metric}`") == 1
    # How a network stands is beside its first objectives.
    assert columns[2:4] == ["tags.`study.mark`", "tags.`study.alias`"]
    assert columns[-2:] == ["tags.`study.certified`", "tags.`study.state`"]
    assert of_all["columnOrder"] == columns
    assert all(f"`{c.metric}` {c}" in text for c in config.constraints)


@pytest.mark.parametrize(
    ("bound", "proven"), [(0.25, True), (7.5, True), (math.inf, False), (math.nan, False)]
)
def test_only_a_finite_bound_is_called_a_proof(bound: float, proven: bool) -> None:
    assert describe_inverse(bound).startswith("Proven") is proven


@pytest.mark.parametrize("bound", [0.30560548204440147, 0.1, 1 / 3, 0.99994, 0.99996, 1e-9 / 7])
def test_a_note_says_no_less_than_what_is_proven(bound: float) -> None:
    said = float(describe_inverse(bound).rstrip(".").rpartition(" ")[2])
    assert bound <= said <= bound * 1.001
