"""Open a page in a real browser, and check that its text is legible."""

import html
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Page, Request

from tests.support.report_page import content_of

# WebGL is rendered in software. The page itself is painted without Chromium's GPU process, which
# would emulate a GPU and take three times as long. Chromium itself sends no requests.
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader", "--disable-quic",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run",
)  # fmt: skip


@dataclass
class Pages:
    """Opens pages from files; `heard` collects console errors and requests outside the page."""

    browser: Browser
    heard: list[str] = field(default_factory=list)
    _shared: dict[object, Page] = field(default_factory=dict)

    def shared(self, path: Path, width: int, scheme: str) -> Page:
        """A page as the tests before this one left it, since loading one takes seconds."""
        key = path, width, scheme
        if key not in self._shared:
            self._shared[key] = self(path, width, color_scheme=scheme)
        return self._shared[key]

    def close(self) -> None:
        """Close all pages that are not shared."""
        for page in [page for context in self.browser.contexts for page in context.pages]:
            if page not in self._shared.values():
                page.close()

    def __call__(self, path: Path, width: int = 1280, fragment: str = "", **options: Any) -> Page:
        return self.at(path.as_uri(), width, fragment, **options)

    def at(self, url: str, width: int = 1280, fragment: str = "", **options: Any) -> Page:
        """A page at an address, and whatever is below it."""
        page = self.browser.new_page(viewport={"width": width, "height": 900}, **options)

        def hear(message: ConsoleMessage) -> None:
            if message.type == "error":  # WebGL warns that software rendering is slow
                self.heard.append(message.text)

        def ask(request: Request) -> None:
            if not request.url.startswith((url, "data:", "blob:")):
                self.heard.append(request.url)

        page.on("console", hear)
        page.on("pageerror", lambda error: self.heard.append(str(error)))
        page.on("request", ask)
        page.goto(url + fragment)
        page.wait_for_function("document.title && document.getElementById('name')?.textContent")
        return page


def see_all(page: Page) -> None:
    """Scroll through the page, which draws every figure."""
    for section in page.locator("main > section:visible").all():
        section.scroll_into_view_if_needed()
        page.wait_for_timeout(100)  # figures take a frame to be drawn


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


# Box, size and contrast (WCAG 2.2, 1.4.3) of all text, and elements whose content is cut off.
_WRITTEN = """() => {
    const seen = (element) => {
        const box = element.getBoundingClientRect();
        const style = getComputedStyle(element);
        return box.width > 0 && box.height > 0 && style.visibility !== "hidden"
            && Number(style.opacity) > 0;
    };
    const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
    const luminance = (color) => {
        const [r, g, b] = numbers(color).slice(0, 3).map((c) => c / 255)
            .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (element) => {
        for (let e = element; e; e = e.parentElement) {
            const color = getComputedStyle(e).backgroundColor;
            const parts = numbers(color);
            if (parts.length === 3 || parts[3] === 1) return color;
        }
        return "rgb(255, 255, 255)";
    };
    const of = (element, color) => {
        const [a, b] = [luminance(color), luminance(behind(element))];
        const box = element.getBoundingClientRect();
        return {
            text: element.textContent.trim().slice(0, 60),
            size: parseFloat(getComputedStyle(element).fontSize),
            drawn: element.classList.contains("swatch"),
            bold: Number(getComputedStyle(element).fontWeight) >= 700,
            contrast: (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05),
            box: [box.left, box.top, box.right, box.bottom],
        };
    };
    const leaves = [...document.querySelectorAll("header *, main *, footer *")].filter(
        (e) => !e.closest("svg, .plot, [hidden], noscript, option") && seen(e)
            && [...e.childNodes].some((node) => node.nodeType === 3 && node.data.trim()));
    const plots = [...document.querySelectorAll(".plot")].filter(seen);
    return {
        leaves: leaves.filter((e) => !e.disabled).map((e) => of(e, getComputedStyle(e).color)),
        plots: plots.map((plot) => ({
            id: plot.id,
            box: (({ left, top, right, bottom }) => [left, top, right, bottom])(
                plot.getBoundingClientRect()),
            texts: [...plot.querySelectorAll("svg text")]
                .filter((e) => seen(e) && e.textContent.trim()
                    && parseFloat(getComputedStyle(e).fontSize) > 1)
                .map((e) => of(e, getComputedStyle(e).fill)),
        })),
        cut: [...document.querySelectorAll("main *")].filter(
            (e) => !e.closest(".plot, .scroll, #network-choice, select, input")
                && e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX !== "visible"
                && e.clientWidth > 0).map((e) => e.tagName + e.id),
    };
}"""


def overlaps(a: list[float], b: list[float]) -> bool:
    """Whether two boxes overlap by more than rounding of pixels."""
    across = min(a[2], b[2]) - max(a[0], b[0])
    down = min(a[3], b[3]) - max(a[1], b[1])
    return across > 2 and down > 2


def check_legible(page: Page) -> None:
    """Check that all text is large enough, has contrast, and is neither covered nor cut off, and
    that the page is not wider than the screen."""
    see_all(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    written = page.evaluate(_WRITTEN)
    assert len(written["leaves"]) > 50
    assert written["cut"] == []
    for one in [*written["leaves"], *(t for plot in written["plots"] for t in plot["texts"])]:
        is_large = one["size"] >= 24 or (one["bold"] and one["size"] >= 18.66)
        assert one["contrast"] >= (3.0 if is_large or one["drawn"] else 4.5), one
        assert one["size"] >= 11, one
    for plot in written["plots"]:
        for text, other in combinations(plot["texts"], 2):
            assert not overlaps(text["box"], other["box"]), (plot["id"], text, other)
        for text in plot["texts"]:
            left, top, right, bottom = plot["box"]
            x0, y0, x1, y1 = text["box"]
            inside = x0 >= left - 1 and x1 <= right + 1 and y0 >= top - 1 and y1 <= bottom + 1
            assert inside, (plot["id"], text)
