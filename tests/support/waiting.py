"""Waiting for another process."""

import time
from collections.abc import Callable


def wait(
    condition: Callable[[], object], seconds: float, otherwise: Callable[[], str] | str
) -> None:
    """Wait for the condition; after `seconds` fail with the text `otherwise`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(otherwise if isinstance(otherwise, str) else otherwise())
        time.sleep(0.05)  # between checks of another process
