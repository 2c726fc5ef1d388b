"""Waiting for another process."""

import time
from collections.abc import Callable


def wait(
    condition: Callable[[], object], seconds: float, otherwise: Callable[[], str] | str
) -> None:
    """Wait until the condition holds; fail after so many seconds, with the text `otherwise`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(otherwise if isinstance(otherwise, str) else otherwise())
        time.sleep(0.05)  # between two looks at another process
