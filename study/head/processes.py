"""Check services and ports of this machine."""

import socket
import time
from collections.abc import Callable
from pathlib import Path

from study.errors import UserError


def in_group(group: int, word: str) -> bool:
    """Whether a process of a process group has a word on its command line. The number of the group
    alone proves nothing: it may have been reused."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            ended, of = fields[0] == "Z", int(fields[2])
            if of == group and not ended and word in (stat.parent / "cmdline").read_text():
                return True
        except (FileNotFoundError, ProcessLookupError):
            continue
    return False


def refuse_if_taken(key: str, port: int) -> None:
    """Raise UserError about the argument `key` if something listens on the port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(5)
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise UserError(f"the port must be free, but something listens on {port}", key)


def wait(condition: Callable[[], bool], seconds: float, otherwise: str) -> None:
    """Wait for the condition; after `seconds` raise UserError with the text `otherwise`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise UserError(f"{otherwise} after {seconds:g} s")
        time.sleep(0.1)  # between checks of another process
