"""Check that a Ray cluster answers, before Ray is imported."""

import os
import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit

from study.errors import LaunchError, quoted, reason

_ANSWER_SECONDS = 3.0
# `ray start` writes the cluster's address there; it stays if the cluster is killed.
_CURRENT_CLUSTER = "ray/ray_current_cluster"


def check_answers(address: str | None) -> None:
    """Raise LaunchError unless a Ray cluster answers within seconds; Ray itself tries for a minute.

    Args:
        address: None for the cluster last started on this host, if any. An address without a port,
            such as "auto", is not checked.
    """
    rule, hint = "a Ray cluster must answer", ""
    if address is None:
        # Like Ray, which reads TMPDIR only on Linux.
        own = os.environ.get("TMPDIR") if sys.platform == "linux" else None
        path = Path(os.environ.get("RAY_TMPDIR") or own or "/tmp") / _CURRENT_CLUSTER
        if not path.is_file():
            return
        address = path.read_text().strip()
        rule = "the Ray cluster that was started on this host must answer"
        hint = "; 'ray stop --force' forgets it, and the address 'local' starts Ray here"
    elif ":" not in address:
        return
    try:
        parts = urlsplit(address if "://" in address else f"ray://{address}")
        place = parts.hostname, parts.port
    except ValueError:
        place = None, None
    if None in place:
        raise LaunchError("it must be HOST:PORT", "address", address)
    try:
        socket.create_connection(place, timeout=_ANSWER_SECONDS).close()
    except OSError as error:
        raise LaunchError(
            f"{rule} at {quoted(address)}, but: {reason(error)}{hint}", "address"
        ) from error
