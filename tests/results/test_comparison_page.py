"""The page of several studies: what is in it, and in a real browser."""

import math
import random
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import expect

from study.results.comparison import Comparison, compare
from study.results.views.comparison_view import view
from study.results.views.page import write_page
from study.tracking.study_record import TrialRecord
from tests.results.test_comparison import compared, kept, report, study
from tests.results.test_page import drawn, parts
from tests.support.browser import Pages, check_legible, see_all
from tests.support.records import Kept, measured
from tests.support.report_page import content_of

NAMES = ("muon", "sgd", "a-study-with-a-name-of-more-length-than-there-is-room-for-beside-an-axis")


def many(seed: int, best: float) -> list[TrialRecord]:
    """Trials of all kinds, 40 of them."""
    rng = random.Random(seed)
    records = []
    for k in range(40):
        accuracy, bound = round(best - abs(rng.gauss(0, 0.1)), 4), math.exp(rng.uniform(-5, 0.3))
        one = measured(k, accuracy, bound, rng.uniform(2, 20))
        records.append(replace(one, run_id=f"{seed}-{k}"))
    return records


@pytest.fixture(scope="module")
def three() -> Comparison:
    """Three studies, the second on a server and with other settings."""
    sections = ({}, {"training": {"optimizer": "sgd", "lr": 0.2}}, {"data": {"shift": 1}})
    reports = []
    for seed, (name, changes) in enumerate(zip(NAMES, sections, strict=True)):
        of = many(seed, 0.99 - 0.02 * seed)
        uri = "https://host:8443/" if seed == 1 else "sqlite:////nowhere/mlflow.db"
        reports.append(report(study(name, **changes), of, files=Kept(kept(of).files, uri)))
    return compare(reports)


def test_the_content_is_that_of_the_comparison(three: Comparison) -> None:
    _, content = parts(drawn(view(three)))
    assert [one["name"] for one in content["studies"]] == list(NAMES)
    points = content["points"]
    joint = [label for label, is_joint in zip(points["network"], points["is_joint"], strict=True)
             if is_joint]  # fmt: skip
    tables = {name: {c["head"]: c["cells"] for c in columns}
              for name, columns in content["tables"].items()}  # fmt: skip
    assert joint == tables["joint"]["network"] == [point.handle for point in three.front]
    assert content["networks"] == [three.typed(point) for point in three.front]
    assert content["uris"] == [three.place_to_type(point) for point in three.front]
    assert {url is None for url in content["run_pages"]} == {True, False}
    for one, own in zip(content["studies"], three.reports.values(), strict=True):
        assert one["growth"]["hypervolume"] == own.growth.hypervolume
    assert tables["settings"]["key"] == list(three.settings)
    assert len(content["summary"]) == 3


# In Chromium

DESKTOP = 1440, "light"  # the page that tests share


@pytest.fixture(scope="module")
def page_of_three(three: Comparison, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("comparison") / "comparison.html"
    write_page(path, view(three))
    return path


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [DESKTOP, (390, "dark")])
def test_all_is_legible_and_nothing_covered_or_cut(
    look: Pages, page_of_three: Path, width: int, scheme: str
) -> None:
    check_legible(look.shared(page_of_three, width, scheme))


@pytest.mark.browser
def test_every_section_is_drawn_and_nothing_is_asked_for(
    look: Pages, page_of_three: Path, three: Comparison
) -> None:
    page = look.shared(page_of_three, *DESKTOP)
    see_all(page)
    for section in ("studies", "trade", "differences", "growth", "settings", "joint", "reading"):
        expect(page.locator(f"#{section}")).to_be_visible()
    for plot in page.locator(".plot").all():
        expect(plot.locator(".main-svg").first).to_be_visible()
    assert page.locator(".plot").count() == 4
    expect(page.locator(".card")).to_have_count(3)
    expect(page.locator("#differences-table tbody tr")).to_have_count(2)
    rows = page.locator("#joint-table tbody tr")
    expect(rows).to_have_count(len(three.front))
    for row, point in zip(rows.all(), three.front, strict=True):
        expect(row).to_contain_text(point.handle)
        place = three.place_to_type(point)
        command = f"study.verify {three.typed(point)} --tracking-uri {place}"
        expect(row).to_contain_text(command)
    # A color and a symbol for each study.
    looks = page.locator(".card .swatch").evaluate_all(
        "all => all.map(one => [one.textContent, one.style.color])"
    )
    assert len({symbol for symbol, _ in looks}) == len({color for _, color in looks}) == 3


@pytest.mark.browser
def test_the_staircase_is_that_of_the_studies_that_are_shown(
    look: Pages, page_of_three: Path, three: Comparison
) -> None:
    page = look.shared(page_of_three, *DESKTOP)

    def steps() -> list[list[float]]:
        trace = "data.find(t => t.mode === 'lines')"
        plot = "document.getElementById('trade-block-lipschitz-upper-bound-plot')"
        drawn: list[list[float]] = page.evaluate(
            f"(() => {{ const t = {plot}.{trace}; return t.x.map((x, k) => [x, t.y[k]]); }})()"
        )
        return drawn

    def expected(names: set[str]) -> list[list[float]]:
        """Of the joint front, those that no other shown one equals or beats in these two."""
        places = [
            (point.metrics["block_lipschitz_upper_bound"], point.metrics["val_accuracy"])
            for point in three.front
            if point.study in names
        ]
        return sorted(
            [b, a]
            for b, a in set(places)
            if not any(x <= b and y >= a and (x, y) != (b, a) for x, y in places)
        )

    assert steps() == expected(set(NAMES))
    page.locator("#shown input").nth(0).uncheck()
    assert steps() == expected(set(NAMES[1:]))
    page.locator("#shown input").nth(0).check()
    assert steps() == expected(set(NAMES))


@pytest.mark.browser
def test_studies_without_networks_are_a_page_too(look: Pages, tmp_path: Path) -> None:
    path = tmp_path / "comparison.html"
    write_page(path, view(compared(a=[], b=[])))
    page = look(path)
    expect(page.locator(".card")).to_have_count(2)
    expect(page.locator("#trade")).to_be_hidden()
    assert content_of(path.read_text())["run_pages"] == []
