from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.conftest import CHROMIUM

if TYPE_CHECKING:  # the fast tests do without
    from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def _chromium() -> "Iterator[Browser]":
    from tests.support.browser import chromium

    with chromium(CHROMIUM) as launched:
        yield launched


@pytest.fixture
def browser(_chromium: "Browser") -> "Iterator[Browser]":
    """A browser whose pages are closed in the end."""
    yield _chromium
    for context in _chromium.contexts:
        context.close()
