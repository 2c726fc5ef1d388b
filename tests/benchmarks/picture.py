"""The picture of the README: the top of a report page, a point of the front under the pointer.

python -m tests.benchmarks.picture REPORT.html OUT.png
"""

import argparse
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.conftest import CHROMIUM
from tests.results.test_browser import FLAGS, place


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("report", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.goto(arguments.report.resolve().as_uri())
        page.evaluate("scrollTo(0, 0)")
        hover = page.locator("#front-plot .hovertext")
        for label in page.locator("#point-table tbody button").all_inner_texts():
            page.mouse.move(0, 0)
            hover.wait_for(state="detached")
            page.mouse.move(*place(page, label))
            hover.wait_for()
            # Of points that lie on one another the figure shows one.
            if label in hover.inner_text() and "dominated" not in hover.inner_text():
                break
        else:
            raise RuntimeError("every point of the front is covered by one that is not on it")
        page.screenshot(path=arguments.out)
        browser.close()


if __name__ == "__main__":
    main()
