"""`python -m study.head`: start and stop PostgreSQL and MLflow, shut down an idle machine."""

import fcntl
import http.client
import json
import shlex
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Annotated

import typer

from study import cli
from study.head.services import Services

_FOLDER = Path.home() / ".iresnet-study"

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.command()
def start(
    storage_path: Annotated[
        str, typer.Option(help="Bucket or folder that all nodes reach: artifacts and studies.")
    ],
    port: Annotated[int, typer.Option(help="Port of MLflow.")] = 5000,
    database_port: Annotated[int, typer.Option(help="Port of PostgreSQL.")] = 5433,
) -> None:
    """Start what does not run, and wait until it answers."""
    services = Services(_FOLDER)
    with cli.one_line_errors(), services.alone():
        services.start(storage_path.rstrip("/"), port, database_port)
        typer.echo(f"PostgreSQL and MLflow run; the study's environment: {services.environment}")


@app.command()
def stop() -> None:
    """Stop both; their data stays."""
    services = Services(_FOLDER)
    with cli.one_line_errors(), services.alone():
        services.stop()


@app.command()
def stop_when_idle(
    minutes: Annotated[float, typer.Option(help="Minutes without a job of Ray.")] = 60,
    dashboard: Annotated[
        str, typer.Option(help="Address of Ray's dashboard.")
    ] = "http://127.0.0.1:8265",
    then: Annotated[str, typer.Option(help="Command to run then.")] = "sudo shutdown -h now",
) -> None:
    """Watch until Ray has had nothing to do for so long, stop both services, run a command."""
    services = Services(_FOLDER)
    with (_FOLDER / "idle.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # another process is already watching
        _wait_until_idle(60 * minutes, dashboard)
        typer.echo(f"no job for {minutes:g} minutes: {then}")
        try:
            with services.alone():
                services.stop()
        finally:
            # The machine costs money, so it stops even if a service could not be stopped.
            subprocess.run(shlex.split(then), check=True)


def _wait_until_idle(seconds: float, dashboard: str) -> None:
    busy_at = time.monotonic()
    while time.monotonic() - busy_at < seconds:
        time.sleep(min(seconds / 10, 60))  # between checks of the job list
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
            return any(job["status"] in ("PENDING", "RUNNING") for job in json.load(answer))
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        return not isinstance(reason, ConnectionRefusedError)


if __name__ == "__main__":
    app(prog_name="python -m study.head")
