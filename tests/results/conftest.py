from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.conftest import CHROMIUM

if TYPE_CHECKING:  # the fast tests do without
    from playwright.sync_api import Browser

    from tests.support.browser import Pages


@pytest.fixture(scope="session")
def _chromium() -> "Iterator[Browser]":
    from playwright.sync_api import sync_playwright

    from tests.support.browser import FLAGS

    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))


@pytest.fixture
def look(_chromium: "Browser") -> "Iterator[Pages]":
    """Opens pages from files; none may have an error, or ask for anything outside itself."""
    from tests.support.browser import Pages

    pages = Pages(_chromium)
    yield pages
    for context in _chromium.contexts:
        context.close()
    assert pages.heard == []
