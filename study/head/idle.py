"""Wait until Ray has been idle for a while, by the job list of its dashboard."""

import http.client
import json
import time
import urllib.error
import urllib.request
from pathlib import Path


def wait_until_idle(minutes: float, dashboard: str) -> None:
    """Wait until no Ray job has been pending or running for `minutes`; `dashboard` is Ray's URL."""
    busy_at = time.monotonic()
    while time.monotonic() - busy_at < minutes * 60:
        time.sleep(min(minutes * 60 / 10, 60))  # between checks of the job list
        if _has_work(dashboard):
            busy_at = time.monotonic()


def _has_work(dashboard: str) -> bool:
    """Whether a Ray job is pending or running. False if the dashboard refuses the connection; True
    after any other error, since there may be one."""
    token = Path.home() / ".ray" / "auth_token"
    headers = {"Authorization": f"Bearer {token.read_text().strip()}"} if token.exists() else {}
    try:
        request = urllib.request.Request(f"{dashboard}/api/jobs/", headers=headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            jobs = json.load(answer)
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        return not isinstance(reason, ConnectionRefusedError)
    return any(job["status"] in ("PENDING", "RUNNING") for job in jobs)
