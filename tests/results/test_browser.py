"""The report page in a real browser, opened from a file. What is in it: tests/test_page.py."""

import csv
import io
import math
import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from study.metrics.reports import TrialStatus
from study.results.views.page import write_page
from study.results.views.report_view import view
from tests.support.browser import Pages, check_legible, points_of, rows
from tests.support.records import projection, trial, unread

pytestmark = pytest.mark.browser

# Width and color scheme of the pages that tests share.
DESKTOP, TABLET, PHONE = (1440, "light"), (768, "dark"), (390, "light")


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
            "block_lipschitz_upper_bound": math.exp(generator.uniform(-5, 0.3)),
            "inverse_steps": generator.uniform(2, 20),
        }
        record = trial(number, state, sample, **metrics)
        records.append(replace(record, metrics={}, reason="x") if state is failed else record)
    path = tmp_path_factory.mktemp("made-up") / "report.html"
    write_page(path, view(unread(records)))
    return path


# First: the tests after it share these pages, each as those before left it.
# Colors do not follow the width, nor places the colors.
@pytest.mark.parametrize(("width", "scheme"), [TABLET, PHONE])
def test_all_is_legible_and_nothing_covered_or_cut(
    look: Pages, made_up: Path, width: int, scheme: str
) -> None:
    check_legible(look.shared(made_up, width, scheme))


def test_the_best_compromise_and_the_first_figure_are_in_the_first_view(
    look: Pages, made_up: Path
) -> None:
    page = look(made_up)  # 1280 pixels wide
    for seen in (page.locator(".card.best"), page.locator("#front-plot")):
        box = seen.bounding_box()
        assert box is not None
        assert box["y"] + box["height"] <= 800


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
        page.locator("#pick-limits input[name=block_lipschitz_upper_bound]").fill(str(bound))
        page.locator("#pick-limits input[name=inverse_steps]").fill(str(steps))
        allowed = [
            i
            for i in range(200)
            if content["mark"][i] in ("front", "dominated")
            and content["block_lipschitz_upper_bound"][i] < bound
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


def test_a_slider_moves_along_the_networks_of_a_training(look: Pages, tmp_path: Path) -> None:
    rungs = {0.5: 0.8, 0.3: 0.85, 0.1: 0.7}
    records = [
        trial(0, val_accuracy=0.9, block_lipschitz_upper_bound=0.9),
        trial(1, val_accuracy=0.95, block_lipschitz_upper_bound=0.95),
        *(
            projection(0, rung, val_accuracy=accuracy, block_lipschitz_upper_bound=rung)
            for rung, accuracy in rungs.items()
        ),
    ]
    write_page(tmp_path / "report.html", view(unread(records)))
    page = look.at((tmp_path / "report.html").as_uri())
    slider, title = page.locator("#along"), page.locator("#detail h3")
    page.locator("#fold").set_checked(False)
    page.locator("#point-table button", has_text="tiny/0001").first.click()
    expect(slider).to_be_hidden()  # it is alone
    page.select_option("#axis-x", "val_accuracy")
    page.locator("#point-table button", has_text="tiny/0000@0.5").first.click()
    # From 0.7 to 0.9.
    names = [f"tiny/0000{rung}" for rung in ("@0.1", "@0.5", "@0.3", "")]
    assert int(slider.get_attribute("max") or 0) == 3
    assert slider.input_value() == "1"
    slider.focus()
    for key, number in (("ArrowRight", 2), ("ArrowRight", 3), ("Home", 0)):
        page.keyboard.press(key)
        expect(title).to_have_text(names[number])
        expect(slider).to_be_focused()
        expect(page.locator("#point-table tr.chosen")).to_contain_text(names[number])


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
