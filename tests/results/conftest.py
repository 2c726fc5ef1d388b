from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.conftest import CHROMIUM

if TYPE_CHECKING:  # the fast tests do without
    from tests.support.browser import Pages


@pytest.fixture(scope="session")
def _pages() -> "Iterator[Pages]":
    from playwright.sync_api import sync_playwright

    from tests.support.browser import FLAGS, Pages

    with sync_playwright() as playwright:
        yield Pages(playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS)))


@pytest.fixture
def look(_pages: "Pages") -> "Iterator[Pages]":
    """Opens pages from files; none may have an error, or ask for anything outside itself."""
    yield _pages
    _pages.close()
    heard, _pages.heard = _pages.heard, []
    assert heard == []
