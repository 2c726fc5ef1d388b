"""The report page in a real browser, opened from a file. What is in it: tests/test_page.py."""

import csv
import html
import io
import json
import math
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect
from typer.testing import CliRunner

from study.config.parser import parse as parse_study
from study.errors import UserError
from study.metrics.definitions import INVERSE_LIPSCHITZ_UPPER_BOUND as BOUND
from study.metrics.definitions import METRICS, number_text
from study.metrics.reports import TrialStatus
from study.report import app
from study.results.front import Numbers
from study.results.page import write_page
from study.results.report_view import view
from study.results.where import parse
from study.tracking.client import Client
from study.tracking.pages import study_page
from study.tracking.records import Records, TrialRecord
from study.tracking.values import settings
from tests.results.test_where import REFUSED
from tests.support.browser import Pages, check_legible, see_all
from tests.support.records import STUDY, projection, trial, unread
from tests.support.report_page import content_of
from tests.support.served import served
from tests.support.studies import CERTIFIED

pytestmark = pytest.mark.browser

# Width and color scheme of the pages that tests share.
DESKTOP, TABLET, PHONE = (1440, "light"), (768, "dark"), (390, "light")


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


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with every mark, 200 points."""
    generator = random.Random(0)
    completed, stopped, failed = list(TrialStatus)[1:4]
    records = []
    for number, state in enumerate([completed] * 160 + [stopped] * 20 + [failed] * 20):
        sample = {
            "coeff": generator.uniform(0.3, 0.99),
            "n_power_iterations": generator.randint(1, 20),
            "dropout": generator.uniform(0, 0.5),
        }
        metrics = {
            "val_accuracy": generator.random(),
            "lipschitz_upper_bound": math.exp(generator.uniform(-5, 0.3)),
            "inverse_steps": generator.uniform(2, 20),
        }
        record = trial(number, state, sample, **metrics)
        records.append(replace(record, metrics={}, reason="x") if state is failed else record)
    path = tmp_path_factory.mktemp("made-up") / "report.html"
    write_page(path, view(unread(records)))
    return path


def place(page: Page, label: str) -> tuple[float, float]:
    """Where a point of the two-dimensional figure is on the screen."""
    page.locator("#front-plot").scroll_into_view_if_needed()
    found = page.evaluate(
        """(label) => {
            const plot = document.getElementById("front-plot");
            for (const trace of plot.data) {
                const k = (trace.text || []).findIndex(
                    (text) => text.startsWith(`<b>${label}</b>`));
                if (k < 0) continue;
                const box = plot.getBoundingClientRect();
                const { xaxis, yaxis } = plot._fullLayout;
                return [box.x + xaxis._offset + xaxis.d2p(trace.x[k]),
                        box.y + yaxis._offset + yaxis.d2p(trace.y[k])];
            }
        }""",
        html.escape(label, quote=False),
    )
    return found[0], found[1]


def points_of(page: Page) -> dict[str, Any]:
    """The columns of a page's points."""
    points: dict[str, Any] = content_of(page.content())["points"]
    return points


def rows(page: Page, column: str = "network") -> list[str]:
    """The table's cells in a column, those of the page of the table that is shown."""
    names = page.locator("#point-table thead th").evaluate_all(
        "cells => cells.map(cell => cell.dataset.column)"
    )
    texts = page.locator(f"#point-table tbody tr td:nth-child({names.index(column) + 1})")
    return texts.all_inner_texts()


# First: the tests after it share these pages, each as those before left it.
# Colors do not follow the width, nor places the colors.
@pytest.mark.parametrize(
    ("which", "width", "scheme"),
    [("real", *DESKTOP), ("made_up", *TABLET), ("made_up", *PHONE)],
)
def test_all_is_legible_and_nothing_covered_or_cut(
    look: Pages, request: pytest.FixtureRequest, which: str, width: int, scheme: str
) -> None:
    given = request.getfixturevalue(which)
    path = given.path if isinstance(given, Real) else given
    check_legible(look.shared(path, width, scheme))


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


def test_the_best_compromise_and_the_first_figure_are_in_the_first_view(
    look: Pages, made_up: Path
) -> None:
    page = look(made_up)  # 1280 pixels wide
    for seen in (page.locator(".card.best"), page.locator("#front-plot")):
        box = seen.bounding_box()
        assert box is not None
        assert box["y"] + box["height"] <= 800


def test_a_number_is_written_in_one_way(look: Pages, tmp_path: Path) -> None:
    """In the figures of a card and in its sentence, and in the table: of large and small bounds."""
    study = replace(STUDY, config=parse_study(CERTIFIED, "study.yaml"))
    values = [15750.0, 1234567.0, 0.0001234, 301.0, 1.0]
    records = [
        trial(k, val_accuracy=0.9 - 0.01 * k, inverse_lipschitz_upper_bound=value)
        for k, value in enumerate(values)
    ]
    report = unread(records, study)
    path = tmp_path / "report.html"
    write_page(path, view(report))
    page = look(path)
    texts = ["15750", "1.235e+06", "0.0001234", "301", "1"]
    assert [number_text(METRICS[BOUND].resolution.round(value)) for value in values] == texts
    assert set(rows(page, BOUND)) == set(texts)
    best, *others = page.locator(".card").all()
    expect(best.locator("dd").nth(2)).to_have_text("15750")
    for card in others:
        expect(card).to_contain_text(
            f"of {card.locator('dd').nth(2).inner_text()} instead of 15750"
        )


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
        assert 0 <= metrics["val_accuracy"] - line["y"][0] < 0.05
        n_attacked += "attacked_accuracy" in metrics
    crosses = [trace for trace in drawn["certified"] if trace["mode"] == "markers"]
    assert len(crosses) == n_attacked > 0
    measured = {metrics.get("attacked_accuracy") for metrics in by_network.values()}
    assert all(cross["x"] == [4.0] and cross["y"][0] in measured for cross in crosses)


def test_a_figure_of_many_points_has_some_and_then_all_of_them(look: Pages, tmp_path: Path) -> None:
    generator, path = random.Random(0), tmp_path / "report.html"
    records = [
        trial(number, val_accuracy=generator.random(), inverse_steps=generator.uniform(2, 20))
        for number in range(1600)
    ]
    write_page(path, view(unread(records)))
    page = look.browser.new_page(viewport={"width": DESKTOP[0], "height": 900})
    page.add_init_script(
        """globalThis.counts = [];
        new MutationObserver(() => {
            const data = document.getElementById("front-plot")?.data;
            if (!data) return;
            counts.push(new Set(data.flatMap((trace) => trace.customdata || [])).size);
        }).observe(document, { childList: true, subtree: true });"""
    )
    page.goto(path.as_uri())
    page.wait_for_function("counts.at(-1) === 1600")
    n_front = page.evaluate("document.querySelector('[data-mark=front]').parentElement.textContent")
    first = page.evaluate("counts.find((count) => count > 0)")
    assert int(re.findall(r"\d+", n_front)[0]) < first < 600
    # A page that was left draws nothing over the newer one.
    drawn = page.evaluate(
        """async () => {
            const content = JSON.parse(await unpacked("content"));
            const waiting = [];
            const later = globalThis.requestAnimationFrame;
            globalThis.requestAnimationFrame = (what) => waiting.push(what);
            drawn.leave = ((leave) => () => ({ ...leave(), isWhole: false }))(drawn.leave);
            show(content);
            drawn.leave();
            globalThis.requestAnimationFrame = later;
            const before = document.getElementById("front-plot").data;
            waiting.forEach((what) => what());
            await new Promise((done) => { setTimeout(done, 300); });
            return [waiting.length, document.getElementById("front-plot").data === before];
        }"""
    )
    assert drawn[0] > 0
    assert drawn[1]


def test_a_point_tells_all_of_it_and_leads_to_its_run(look: Pages, real: Real) -> None:
    page = look.shared(real.path, *DESKTOP)
    point = real.front()[0]
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


def test_each_mark_can_be_hidden_and_shown(look: Pages, made_up: Path) -> None:
    page = look.shared(made_up, *TABLET)
    boxes = page.locator("#marks input")
    marks = boxes.evaluate_all("all => all.map(box => box.dataset.mark)")
    assert set(marks) == {"front", "dominated", "infeasible", "stopped_early", "failed"}
    counts = {mark: points_of(page)["mark"].count(mark) for mark in marks}
    shown = dict.fromkeys(marks, True)

    def check() -> None:
        n = sum(counts[mark] for mark in marks if shown[mark])
        expect(page.locator("#count")).to_have_text(f"{n} of 200 networks")
        drawn = page.evaluate(
            "document.getElementById('front-plot').data.flatMap(t => t.customdata || []).length"
        )
        # Failed trials have no value on the axes.
        assert drawn == n - (counts["failed"] if shown["failed"] else 0)

    check()
    for is_shown in (False, True):
        for index, mark in enumerate(marks):
            boxes.nth(index).set_checked(is_shown)
            shown[mark] = is_shown
            check()
    # Where nothing was projected there is no such axis.
    assert "projected_to" not in page.locator("#axis-x option").all_inner_texts()


def test_axes_are_chosen_in_two_and_three_dimensions_and_no_title_is_cut(
    look: Pages, made_up: Path
) -> None:
    # On a phone titles have the least room.
    page = look.shared(made_up, *PHONE)
    page.locator("#axis-x").select_option("coeff")

    def state(expression: str) -> Any:
        return page.evaluate(f"(() => {{ const plot = document.getElementById('front-plot'); "
                             f"return {expression}; }})()")  # fmt: skip

    assert state("plot.layout.xaxis.title.text").startswith("coeff")
    # The longest of all.
    for axis, name in zip("xyz", ("train_accuracy", "n_power_iterations", "reconstruction_error"),
                          strict=True):  # fmt: skip
        page.locator(f"#axis-{axis}").select_option(name)
    assert set(state("plot.data.map(t => t.type)")) == {"scatter3d"}
    expect(page.locator("#front-plot canvas").first).to_be_visible()
    plot = page.locator("#front-plot")
    # Pure red, green and blue: each title by itself.
    titles = plot.evaluate(
        """async (plot) => {
            const axes = ["xaxis", "yaxis", "zaxis"];
            for (const [k, color] of ["#ff0000", "#00ff00", "#0000ff"].entries()) {
                await Plotly.relayout(plot, { [`scene.${axes[k]}.title.font.color`]: color });
            }
            return axes.map((axis) => plot.layout.scene[axis].title.text);
        }"""
    )
    assert titles == ["train acc ↑", "n_pow", "rec error ↓"]
    page.wait_for_timeout(500)  # WebGL draws in the next frames
    with Image.open(io.BytesIO(plot.screenshot())) as shot:
        pixels = np.asarray(shot.convert("RGB"), dtype=int)
    for channel, title in enumerate(titles):
        others = [k for k in range(3) if k != channel]
        inked = (pixels[..., [channel]] - pixels[..., others] > 120).all(axis=2)
        assert inked.sum() > 10 * len(title)
        edges = inked[[0, 1, -2, -1]].any() or inked[:, [0, 1, -2, -1]].any()
        assert not edges, title
    page.locator("#axis-z").select_option("")
    assert set(state("plot.data.map(t => t.type)")) == {"scatter"}


def test_the_table_filters_and_sorts_and_leaves_as_csv(
    look: Pages, made_up: Path, tmp_path: Path
) -> None:
    page = look.shared(made_up, *TABLET)
    content = points_of(page)
    accuracy, coeff = content["val_accuracy"], content["coeff"]
    page.locator("#filter").fill("coeff < 0.6 and val acc >= 0.25")
    expected = [
        i for i in range(200) if coeff[i] < 0.6 and accuracy[i] is not None and accuracy[i] >= 0.25
    ]
    assert 25 < len(expected) < 100
    assert rows(page) == [content["network"][i] for i in expected[:25]]
    header = page.locator("#point-table th[data-column=val_accuracy]")
    for order in ("descending", "ascending"):
        header.locator("button").click()
        expect(header).to_have_attribute("aria-sort", order)
        expected.sort(key=lambda i: accuracy[i], reverse=order == "descending")
        assert rows(page) == [content["network"][i] for i in expected[:25]]
    with page.expect_download() as download:
        page.locator("#csv").click()
    assert download.value.suggested_filename == "tiny.csv"
    download.value.save_as(tmp_path / "points.csv")
    with (tmp_path / "points.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["network"] for line in lines] == [content["network"][i] for i in expected]
    assert [float(line["val_accuracy"]) for line in lines] == [accuracy[i] for i in expected]
    assert [line["run_id"] for line in lines] == [content["run_id"][i] for i in expected]
    page.locator("#filter").fill("")
    assert len(rows(page)) == 25  # a page of the table
    page.get_by_role("button", name="Next").click()
    expect(page.locator("#pages")).to_contain_text("page 2 of 8")


def test_the_picker_finds_what_brute_force_finds(look: Pages, made_up: Path) -> None:
    page = look.shared(made_up, *TABLET)
    content = points_of(page)
    for bound, steps in ((0.5, 10), (0.05, 6), (0.02, 20)):
        page.locator("#pick-limits input[name=lipschitz_upper_bound]").fill(str(bound))
        page.locator("#pick-limits input[name=inverse_steps]").fill(str(steps))
        allowed = [
            i
            for i in range(200)
            if content["mark"][i] in ("front", "dominated")
            and content["lipschitz_upper_bound"][i] < bound
            and content["inverse_steps"][i] <= steps
        ]
        best = max(allowed, key=lambda i: content["val_accuracy"][i])
        expect(page.locator("#picked button")).to_have_text(content["network"][best])
        expect(page.locator("#picked-code")).to_contain_text(content["run_id"][best])
        expect(page.locator("#picked-code")).to_contain_text(f"verify {content['network'][best]}\n")
    page.locator("#pick-limits input[name=inverse_steps]").fill("0.1")
    expect(page.locator("#picked")).to_have_text("No network meets these limits.")


def test_a_point_is_chosen_by_the_keyboard(look: Pages, made_up: Path) -> None:
    page = look.shared(made_up, *TABLET)
    buttons = page.locator("#point-table tbody button")
    buttons.nth(2).focus()
    for number in (2, 3):
        page.keyboard.press("Enter")
        chosen = buttons.nth(number).inner_text()
        expect(page.locator("#detail h3")).to_have_text(chosen)
        expect(page.locator("#point-table tr.chosen")).to_contain_text(chosen)
        # All of it is below its row, too, and the keyboard goes on from there.
        expect(page.locator("#point-table tr.detail h3")).to_have_text(chosen)
        page.keyboard.press("Tab")
        expect(page.locator("#point-table tr.detail summary")).to_be_focused()
        page.keyboard.press("Tab")


def brightness(page: Page, what: str) -> float:
    """Of a color of the body, in [0, 1]."""
    color = page.evaluate(f"getComputedStyle(document.body).{what}")
    red, green, blue = (int(part) for part in color[4:-1].split(",")[:3])
    return (0.2126 * red + 0.7152 * green + 0.0722 * blue) / 255


def test_it_follows_light_and_dark_and_prints_on_white(look: Pages, made_up: Path) -> None:
    page = look.shared(made_up, *TABLET)
    assert brightness(page, "backgroundColor") < 0.2 < 0.7 < brightness(page, "color")
    # As when printing begins: figures are drawn for paper before the media change.
    ticks = page.locator("#front-plot .xtick text").first
    color = "getComputedStyle(document.querySelector('#front-plot .xtick text')).fill"
    expect(ticks).to_be_visible()
    assert page.evaluate(color) != "rgb(0, 0, 0)"
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate(color) == "rgb(0, 0, 0)"
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate(color) != "rgb(0, 0, 0)"
    page.emulate_media(color_scheme="light")
    assert brightness(page, "color") < 0.2 < 0.9 < brightness(page, "backgroundColor")
    page.emulate_media(color_scheme="dark", media="print")
    assert brightness(page, "color") < 0.2 < 0.9 < brightness(page, "backgroundColor")
    assert not page.locator("#filter").is_visible()
    page.emulate_media(color_scheme="dark", media="screen")  # for the tests after this one


def test_an_address_brings_its_view_back(look: Pages, made_up: Path) -> None:
    page = look.shared(made_up, *TABLET)
    page.locator("#axis-x").select_option("coeff")
    page.locator("#marks input[data-mark=failed]").uncheck()
    page.locator("#filter").fill("coeff<0.8 and val_accuracy>=0.25")
    page.locator("#point-table th[data-column=val_accuracy] button").click()
    page.get_by_role("button", name="Next").click()
    page.locator("#point-table tbody button").nth(3).click()
    page.locator("#pick-limits input[name=inverse_steps]").fill("9")
    page.locator("#sections a").nth(2).click()  # goes there, and keeps the view

    def view(page: Page) -> list[Any]:
        texts = ("#count", "#pages", "#detail", "#picked")
        return [
            page.locator("#axis-x").input_value(),
            page.locator("#marks input").evaluate_all("all => all.map(box => box.checked)"),
            page.locator("#filter").input_value(),
            *(page.locator(name).inner_text() for name in texts),
            page.locator("#point-table tr[data-point]").all_inner_texts(),
            page.evaluate("document.getElementById('front-plot').layout.xaxis.title.text"),
        ]

    assert "page 2 of" in page.locator("#pages").inner_text()
    again = look(made_up, TABLET[0], fragment=page.evaluate("location.hash"))
    expect(again.locator("#count")).to_have_text(page.locator("#count").inner_text())
    assert view(again) == view(page)
    # Another address of the same page, by the hash alone. What an address says and the page does
    # not know is left out.
    again.goto(
        f"{made_up.as_uri()}#x=nosuch&hide=,x&sort=nosuch&network=no&limit=a:b&range=coeff:x:1"
    )
    expect(again.locator("#count")).to_have_text("200 of 200 networks", timeout=30_000)
    assert view(again) != view(page)


def full(record: TrialRecord) -> TrialRecord:
    """A record with all parameters that MLflow has of it."""
    every = settings(record.sample, STUDY.config.resolve(record.sample, seed=1))
    if record.projected_to is not None:
        every["projected_to"] = record.projected_to
    return replace(record, params={key: str(value) for key, value in every.items()})


def conditions() -> list[str]:
    """All names, as they are and as the table has them, with all operators; values of each kind."""
    of_text = [
        "norm = spectral", "norm != 'none'", "nesterov = true", "nesterov != True", "norm = NONE",
        "blocks = '(1, 1)'", "max_train = null", "max_train != None", "norm > 3",
    ]  # fmt: skip
    generator = random.Random(0)
    names = [*METRICS, *(metric.short for metric in METRICS.values()), "coeff", "dropout"]
    names += ["n_power_iterations", "n_pow", "projected_to", "pro_to", "val_fraction", "seed"]
    texts = []
    for name in names:
        for operator in ("<", "<=", ">", ">=", "=", "==", "!="):
            value = generator.choice(["0.5", "1e-1", "'3'", ".25", "5.", "-2", "inf", "'1'", "0.2"])
            blank = generator.choice(["", " ", "  "])
            quote = generator.choice(["", "`", '"'])
            texts.append(f"{blank}{quote}{name}{quote}{blank}{operator}{blank}{value}")
    pairs = [
        generator.choice([" and ", " AND ", "  and  "]).join(generator.sample(texts, 2))
        for _ in range(50)
    ]
    either = [" or ".join(generator.sample([*texts, *pairs], 2)) for _ in range(30)]
    printed = [
        "coeff = 0.123",
        "coeff != .1235",
        "coeff <= 0.123",
        "val acc = 0.1235",
        "seed = 1e3",
    ]
    printed += ["val_accuracy = 0.12345", "bound = 0.3333", "bound > .3333", "coeff = 0.1"]
    named = ["network = 0003", "network = 'tiny/0003@0.5'", "network != tiny/0001", "mark != front"]
    named += [
        "mark = front or coeff between 0.4 and 0.9",
        "bound between .1 and .2 and mark = front",
    ]
    return ["", " ", *of_text, *texts, *pairs, *either, *printed, *named]


def test_the_filter_and_where_keep_and_refuse_the_same(look: Pages, tmp_path: Path) -> None:
    generator = random.Random(1)
    records = []
    for number in range(8):
        record = trial(
            number,
            sample={
                "coeff": generator.choice([0.1, 0.123456, 0.5, 0.9]),
                "n_power_iterations": generator.choice([1, 3, 5]),
                "dropout": generator.choice([0.0, 0.25]),
            },
            val_accuracy=generator.choice([0.25, 0.5, 0.123454]),
            lipschitz_upper_bound=generator.choice([0.1, 0.2, 1 / 3, 0.50001, math.inf]),
            reconstruction_error=generator.choice([1e-7, math.inf, math.nan]),
        )
        records.append(full(record))
        records.append(full(projection(number, generator.choice([0.2, 0.5]), val_accuracy=0.5)))
    records.append(full(replace(trial(8, TrialStatus.FAILED), metrics={})))
    path = tmp_path / "report.html"
    report = unread(records)
    write_page(path, view(report))
    page = look(path)
    networks = {point.first.run_id: point.handle for point in report.points}
    marks = {point.first.run_id: point.mark.value for point in report.points}
    readable, refused = conditions(), [text for text, _ in REFUSED] + ["constructor = 1"]
    answers = page.evaluate(
        """(texts) => {
            Plotly.react = (plot) => { plot.on = () => {}; };  // figures take their time
            document.getElementById("fold").click();
            const filter = document.getElementById("filter");
            return texts.map((text) => {
                filter.value = text;
                filter.dispatchEvent(new Event("input"));
                const cells = document.querySelectorAll("#point-table tbody td:first-child");
                return [
                    [...cells].map((cell) => cell.textContent),
                    document.getElementById("filter-problem").textContent,
                ];
            });
        }""",
        [*readable, *refused],
    )
    n_kept = set()
    for text, (shown, problem) in zip(readable, answers, strict=False):
        kept = [networks[r.run_id] for r in parse(text).keep(records, report.study.name, marks)]
        assert (sorted(shown), problem) == (sorted(kept), ""), text
        n_kept.add(len(kept))
    assert {0, len(records)} < n_kept
    # What is refused, in the same words.
    searched = [key for key, _ in report.study.config.space]
    for text, (shown, problem) in zip(refused, answers[len(readable) :], strict=True):
        with pytest.raises(UserError) as error:
            parse(text, searched)
        assert problem.rstrip(".") == str(error.value).replace("where: ", "Filter: "), text
        assert shown == []
    # What only MLflow can check.
    for text in ("tags.study.mark = 'front'", "run_name = '0003'"):
        assert parse(text).of_mlflow == text
        page.locator("#filter").fill(f"coeff < 0.5 and {text}")
        says = f"report --where alone, but got '{text}'"
        expect(page.locator("#filter-problem")).to_contain_text(says)


def test_the_page_rounds_as_the_table_does(look: Pages, tmp_path: Path) -> None:
    # Every number of 32 images that are right: many lie halfway between two of four decimals.
    report = unread([trial(n, val_accuracy=n / 32) for n in range(1, 26)])
    # Each is halfway between two percent, but for how it is stored.
    shares = [(8 * n + 1) / 200 for n in range(25)]
    points = [replace(p, front_share=s) for p, s in zip(report.points, shares, strict=True)]
    path = tmp_path / "report.html"
    write_page(path, view(replace(report, points=tuple(points))))
    numbers = Numbers(points)
    expected = {numbers.text("val_accuracy", point.metrics["val_accuracy"]) for point in points}
    assert {"0.4062", "0.4688"} < expected
    page = look(path)
    assert set(rows(page, "val_accuracy")) == expected
    expected = {f"{share:.0%}".replace("%", " %") for share in shares}
    assert {"0 %", "8 %"} < expected
    assert set(rows(page, "front_share")) == expected


def test_text_of_a_study_runs_nothing(look: Pages, tmp_path: Path) -> None:
    hostile = "</script><img src=x onerror=document.title='run'><b>x</b>"
    records = [
        trial(0, sample={"coeff": 0.5, "n_power_iterations": hostile, "dropout": 0.1}),
        trial(1, val_accuracy=0.9),
        replace(trial(2, TrialStatus.FAILED), reason=hostile),
        replace(trial(3, TrialStatus.FAILED), reason="=1+1"),
    ]
    path = tmp_path / "report.html"
    write_page(path, view(unread(records, replace(STUDY, name=hostile))))
    page = look(path)
    assert page.title() == f"{hostile}: report"
    expect(page.locator("h1")).to_have_text(hostile)
    page.mouse.move(*place(page, f"{hostile}/0000"))
    expect(page.locator("#detail")).to_contain_text(hostile)
    assert page.locator("img").count() == 0
    # Nor does a spreadsheet run it.
    with page.expect_download() as download:
        page.locator("#csv").click()
    download.value.save_as(tmp_path / "points.csv")
    with (tmp_path / "points.csv").open() as file:
        reasons = {line["reason"] for line in csv.DictReader(file)}
    assert reasons == {"", hostile, "'=1+1"}
