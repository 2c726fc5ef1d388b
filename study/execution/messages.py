"""Messages to the user of a running study: any part writes them, the live view prints them."""

from collections import deque
from collections.abc import Iterator


class Messages:
    """Lines in the order in which they were written; each is read once. Threads may write."""

    def __init__(self) -> None:
        self._lines = deque[str]()

    def write(self, line: str) -> None:
        """Add a line."""
        self._lines.append(line)

    def read(self) -> Iterator[str]:
        """The lines that were not read yet."""
        while self._lines:
            yield self._lines.popleft()
