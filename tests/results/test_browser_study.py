"""The page of a real study in a real browser, and MLflow's own pages of it."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect
from typer.testing import CliRunner

from study.metrics.definitions import INVERSE_LIPSCHITZ_UPPER_BOUND as BOUND
from study.metrics.rounding import number_text
from study.report import app
from study.tracking.pages import study_page
from study.tracking.records import Records
from study.tracking.server.client import Client
from tests.support.browser import Pages, check_legible, place, see_all
from tests.support.served import served

pytestmark = pytest.mark.browser

DESKTOP = 1440, "light"  # width and color scheme of the page that tests share


@dataclass(frozen=True)
class Real:
    """The page of a real study, and what the command says of it as JSON."""

    path: Path
    server: str
    content: dict[str, Any]

    def front(self) -> list[dict[str, Any]]:
        return [point for point in self.content["points"] if point["mark"] == "front"]


@pytest.fixture(scope="module")
def real(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Real]:
    path = tmp_path_factory.mktemp("page") / "report.html"
    with served(finished) as uri:
        arguments = ["tiny", "--all", "--format", "json", "--html", str(path)]
        done = CliRunner().invoke(app, [*arguments, "--tracking-uri", uri])
        assert done.exit_code == 0, done.output
        yield Real(path, uri, json.loads(done.stdout))


# First: the tests after it share this page, each as those before left it.
def test_all_is_legible_and_nothing_covered_or_cut(look: Pages, real: Real) -> None:
    check_legible(look.shared(real.path, *DESKTOP))


def test_which_to_take_is_there_before_anything_is_touched(look: Pages, real: Real) -> None:
    page = look.shared(real.path, *DESKTOP)
    page.evaluate("scrollTo(0, 0)")
    recommended = real.content["recommended"]
    networks = list(dict.fromkeys(one["network"] for one in recommended.values()))
    cards = page.locator(".card")
    expect(cards).to_have_count(len(networks))
    for card, network in zip(cards.all(), networks, strict=True):
        point = next(p for p in real.content["points"] if p["network"] == network)
        whys = {one["why"] for one in recommended.values() if one["network"] == network}
        for text in (network, *whys, f"{point['metrics']['val_accuracy']:.4f}"):
            expect(card).to_contain_text(text)
    expect(page.locator("#detail h3")).to_have_text(recommended["knee"]["network"])
    for card, network in zip(cards.all(), networks, strict=True):
        card.get_by_role("button", name="Its proof").click()
        point = next(p for p in real.content["points"] if p["network"] == network)
        for text in (
            f"at most {number_text(point['metrics'][BOUND])}.",
            f"{point['metrics']['certified_accuracy']:.1%} of the validation images",
            f"python -m study.verify {network} --tracking-uri {real.server}",
        ):
            expect(page.locator("#detail")).to_contain_text(text)
        expect(page.locator("#detail")).to_be_in_viewport()


def test_it_opens_from_a_file_and_asks_for_nothing(look: Pages, real: Real) -> None:
    page = look.shared(real.path, *DESKTOP)
    see_all(page)
    # Every figure is drawn once it is in sight.
    for name in ("front", "growth", "layers", "certified", "inverse"):
        expect(page.locator(f"#{name}-plot .main-svg").first).to_be_visible()
    images = page.locator("#reconstructions img")
    assert images.count() == len({r["network"] for r in real.content["recommended"].values()})
    assert all(images.evaluate_all("all => all.map(i => i.complete && i.naturalWidth > 100)"))
    # Plotly offers to send a chart to its makers, unless it is told not to.
    buttons = page.locator(".modebar-btn").evaluate_all("all => all.map(b => b.dataset.title)")
    assert "Zoom" in buttons
    assert not [title for title in buttons if re.search("share|cloud|send|studio", title, re.I)]
    # What is drawn can be saved.
    plot = page.locator("#certified-plot")
    plot.hover()
    with page.expect_download() as saved:
        plot.locator("[data-title='Save as SVG']").click()
    assert saved.value.suggested_filename == "certified-plot.svg"
    svg = saved.value.path().read_text()
    assert svg.startswith("<svg ")
    assert "certified test accuracy" in svg


def test_proofs_stand_beside_what_slopes_and_attacks_attain(look: Pages, real: Real) -> None:
    page = look.shared(real.path, *DESKTOP)
    see_all(page)
    drawn = {
        name: page.evaluate(f"document.getElementById('{name}-plot').data")
        for name in ("layers", "certified")
    }
    bars = [trace for trace in drawn["layers"] if trace["mode"] == "lines"]
    attained = [
        trace for trace in drawn["layers"] if trace.get("marker", {}).get("symbol") == "hexagon"
    ]
    assert len(attained) == len(bars) > 0
    for bar, found in zip(bars, attained, strict=True):
        # A bar has two ends and a gap.
        for bound, slope in zip(bar["y"][::3], found["y"], strict=True):
            assert 0 <= slope <= bound
    assert any(slope > 0 for found in attained for slope in found["y"])
    by_network = {point["network"]: point["metrics"] for point in real.content["points"]}
    lines = {line["name"]: line for line in drawn["certified"] if line["mode"] == "lines"}
    n_attacked = 0
    for network, line in lines.items():
        metrics = by_network[network]
        assert line["y"] == sorted(line["y"], reverse=True)
        # Of a network whose answers rounding changes for few images.
        assert 0 <= metrics["test_accuracy"] - line["y"][0] < 0.05
        n_attacked += "attacked_accuracy" in metrics
    crosses = [trace for trace in drawn["certified"] if trace["mode"] == "markers"]
    assert len(crosses) == n_attacked > 0
    measured = {metrics.get("attacked_accuracy") for metrics in by_network.values()}
    assert all(cross["x"] == [4.0] and cross["y"][0] in measured for cross in crosses)


def test_a_point_tells_all_of_it_and_leads_to_its_run(look: Pages, real: Real) -> None:
    page = look.shared(real.path, *DESKTOP)
    # The one that lies alone: those of small bounds are as accurate as others.
    point = max(real.front(), key=lambda point: point["metrics"]["val_accuracy"])
    page.mouse.move(*place(page, point["network"]))
    expect(page.locator("#front-plot .hovertext")).to_be_visible()
    beside = ("coeff", "n_power_iterations", "dropout", *point["metrics"])
    at_it = ("validation accuracy", "proven bound on Lip(g)", "steps of the inverse")
    for where, names in (("#front-plot .hovertext", at_it), ("#detail", beside)):
        text = page.locator(where).text_content() or ""
        for name in names:
            assert name in text, (where, name)
        assert point["network"] in text
        assert "front" in text
        assert f"{point['metrics']['val_accuracy']:.4g}" in text
    with page.expect_popup() as popup:
        page.mouse.click(*place(page, point["network"]))
    run = popup.value
    run.wait_for_url(lambda url: url.startswith(real.server))
    assert run.url.partition("?")[0].endswith(f"/runs/{point['run_id']}")
    expect(run.get_by_text(point["network"].partition("/")[2]).first).to_be_visible(timeout=30_000)
    run.close()
    # The same from the table, by the keyboard alone.
    page.locator("#point-table tbody a").first.focus()
    with page.expect_popup() as popup:
        page.keyboard.press("Enter")
    popup.value.wait_for_url(f"{real.server}/#/experiments/**", wait_until="commit")


def test_mlflows_own_pages_tell_the_story(look: Pages, real: Real) -> None:
    """The table of runs at the address that a study prints, and the comparison of its front."""
    page = look.browser.new_page(viewport={"width": DESKTOP[0], "height": 900})
    study = Records(Client(real.server)).find_study("tiny")
    assert study is not None
    page.goto(study_page(real.server, study.experiment_id)[1])
    # How each network stands is there without scrolling.
    objectives = [objective.metric for objective in study.config.objectives]
    boxes = []
    for name in (*objectives[:2], "study.mark", "study.alias"):
        head = page.get_by_role("columnheader").filter(has_text=re.compile(rf"^{name}$")).first
        expect(head).to_be_in_viewport(ratio=1, timeout=30_000)
        boxes.append((head.bounding_box() or {})["x"])
    assert boxes == sorted(boxes)
    best = max(real.content["points"], key=lambda p: p["metrics"]["val_accuracy"])
    name = best["network"].partition("/")[2]
    expect(page.get_by_role("link", name=re.compile(rf"^{name}")).first).to_be_visible()
    # Above the table: what came out, and the front by itself.
    n_front = len(real.front())
    with page.expect_popup() as popup:
        page.get_by_role("link", name="The front", exact=True).click()
    front = popup.value
    expect(front.get_by_text(f"{n_front} matching run")).to_be_visible(timeout=30_000)
    expect(front.get_by_text("val_accuracy").first).to_be_visible(timeout=30_000)
    front.close()
    with page.expect_popup() as popup:
        page.get_by_role("link", name="The report").click()
    framed = popup.value.frame_locator("iframe").last
    expect(framed.locator(".card").first).to_be_visible(timeout=60_000)
    framed.locator("#filter").fill("projected_to < 9")  # in a frame, whose address stays
    n_projections = sum(point["projected_to"] is not None for point in real.content["points"])
    expect(framed.locator("#count")).to_contain_text(f"{n_projections} of ")
    page = look.shared(real.path, *DESKTOP)
    with page.expect_popup() as popup:
        page.locator("#compare").click()
    expect(popup.value.get_by_text(f"Comparing {n_front} Runs")).to_be_visible(timeout=30_000)
    first = real.front()[0]["network"].partition("/")[2]
    expect(popup.value.get_by_text(first).first).to_be_visible()
