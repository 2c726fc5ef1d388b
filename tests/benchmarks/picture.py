"""The picture of the README: the top of a report page, as it opens.

python -m tests.benchmarks.picture REPORT.html OUT.png
"""

import argparse
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.conftest import CHROMIUM
from tests.support.browser import FLAGS


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("report", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1200, "height": 1330})
        page.goto(arguments.report.resolve().as_uri())
        page.locator("#front-plot .main-svg").first.wait_for()
        page.screenshot(path=arguments.out)
        browser.close()


if __name__ == "__main__":
    main()
