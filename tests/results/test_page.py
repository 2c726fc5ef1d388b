import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest
from plotly.offline import get_plotlyjs

from study.errors import FailedError
from study.metrics.reports import TrialStatus
from study.results.front import Mark
from study.results.report import read
from study.results.views.page import _unwrapped, page, write_page
from study.results.views.report_view import view
from study.results.views.sections import View
from study.tracking.records import Records
from study.tracking.server.client import Client
from tests.support.records import projection, trial, unread
from tests.support.report_page import content_of


class Parts(HTMLParser):
    """The elements of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))


def parts(text: str) -> tuple[Parts, dict[str, Any]]:
    parsed = Parts()
    parsed.feed(text)
    return parsed, content_of(text)


def drawn(view: View[Any]) -> str:
    return page(view, view.content())


def test_every_point_is_there_with_its_mark_and_no_value_that_is_not_finite() -> None:
    records = [
        trial(0, val_accuracy=0.9),
        projection(0, 0.3, val_accuracy=0.8, block_lipschitz_upper_bound=0.1),
        trial(1, reconstruction_error=math.inf, val_accuracy=0.2),
        trial(2, TrialStatus.STOPPED_EARLY, block_lipschitz_upper_bound=math.nan),
        replace(trial(3, TrialStatus.FAILED), metrics={}, reason="diverged"),
    ]
    _, content = parts(drawn(view(unread(records))))
    points = content["points"]
    assert dict(zip(points["network"], points["mark"], strict=True)) == {
        "tiny/0000": "front", "tiny/0000@0.3": "front", "tiny/0001": "dominated",
        "tiny/0002": "stopped_early", "tiny/0003": "failed",
    }  # fmt: skip
    by_label = {label: i for i, label in enumerate(points["network"])}
    assert points["reconstruction_error"][by_label["tiny/0001"]] is None
    assert points["block_lipschitz_upper_bound"][by_label["tiny/0002"]] is None
    assert points["val_accuracy"][by_label["tiny/0003"]] is None
    assert points["reason"][by_label["tiny/0003"]] == "diverged"
    assert points["coeff"][by_label["tiny/0000@0.3"]] == 0.5  # of its training
    assert points["projected_to"][by_label["tiny/0000@0.3"]] == 0.3
    assert content["run_page"] is content["compare_page"] is None
    assert content["growth"]["epochs"] == [3, 6, 9, 12]


def test_the_page_names_nothing_outside_itself() -> None:
    text = drawn(view(unread([trial(0)])))
    parsed, _ = parts(text)
    for tag, attributes in parsed.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base"), tag
        for key in ("src", "href", "action", "data"):
            assert (attributes.get(key) or "#").startswith("#"), (tag, attributes)
    style = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert not any("url(" in css or "@import" in css for css in style)
    (policy,) = [
        a["content"]
        for tag, a in parsed.elements
        if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert "http" not in policy


def test_plotly_is_without_its_wrapper_and_with_its_license() -> None:
    whole = get_plotlyjs()
    bare = _unwrapped(whole)
    assert bare != whole
    assert bare.startswith(whole[: whole.index("*/") + 2])
    assert _unwrapped("var Plotly = 1;") == "var Plotly = 1;"


def test_runs_are_pages_of_the_tracking_server() -> None:
    content = parts(drawn(view(unread([trial(0)], tracking_uri="https://host:8443/"))))[1]
    assert content["run_page"].startswith("https://host:8443/#/experiments/1/runs/{run_id}")
    assert content["compare_page"].startswith("https://host:8443/#/compare-runs?")


def test_a_report_of_nothing_is_a_page_too(tmp_path: Path) -> None:
    write_page(tmp_path / "r.html", view(unread([])))
    _, content = parts((tmp_path / "r.html").read_text())
    assert content["points"]["network"] == []


def test_files_that_are_gone_are_said_before_anything_is_written(finished: Path) -> None:
    records = Records(Client(f"sqlite:///{finished}/mlflow.db"))
    report = read(records, "tiny")
    report.check_files()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "artifacts", lambda run_id: set())
        with pytest.raises(FailedError, match=r"^html: the files of tiny/0.* they are gone$"):
            report.check_files()


def test_a_mark_has_one_symbol_which_three_dimensions_have_too() -> None:
    code = (files("study.results.views") / "page_files" / "report" / "11-points.js").read_text()
    symbols = re.findall(r'symbol: "([a-z-]+)"', code)
    assert len(symbols) == len(Mark)
    # Plotly draws eight in three dimensions, so two of the nine marks share one.
    assert len(set(symbols)) == 8
    for symbol in symbols:
        go.scatter3d.Marker(symbol=symbol)  # which raises for one that it has not
