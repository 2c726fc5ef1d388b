"""Tells that a study has come to an end: runs the command of search.notify.

The command stands in the study's folder, which a --resume unpickles files of in any case. It does
not stand in MLflow: whoever may write there could else run programs where studies are resumed.
"""

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

from study.errors import LaunchError
from study.execution.storage import filesystem

_FILE = "notify.json"
# Longer ones are stopped: a command that waits for ever would keep the study's command from ending.
_MOST_SECONDS = 60.0
# Linux takes 128 KiB for one variable.
_MOST_POINTS = 100


def check(command: str | None) -> None:
    """Whether the program of a command is there.

    Raises:
        LaunchError: if not.
    """
    if command is not None and shutil.which(shlex.split(command)[0]) is None:
        raise LaunchError(
            f"search.notify: its program must be on the PATH, but there is no "
            f"{shlex.split(command)[0]}"
        )


def remember(folder: str, command: str | None) -> None:
    """Keep the command of a study that begins in the study's folder."""
    if command is None:
        return
    files, path = filesystem(folder)
    with files.open_output_stream(f"{path}/{_FILE}") as stream:
        stream.write(json.dumps({"command": command}).encode())


def remembered(folder: str) -> str | None:
    """The command of the study in a folder; None if it has none."""
    files, path = filesystem(folder)
    try:
        with files.open_input_stream(f"{path}/{_FILE}") as stream:
            command: str = json.loads(stream.readall())["command"]
            return command
    except FileNotFoundError:
        return None


def notify(command: str, name: str, state: str, front: Sequence[dict[str, Any]]) -> str | None:
    """Run a command, by no shell, with the environment of this process and

        STUDY_NAME   of the study
        STUDY_STATE  completed, interrupted or failed
        STUDY_FRONT  JSON: the first hundred networks of the front, the best first, each with its
                     handle and objectives

    Returns:
        What went wrong, in one line; None if nothing did.
    """
    environment = {
        **os.environ,
        "STUDY_NAME": name,
        "STUDY_STATE": state,
        "STUDY_FRONT": json.dumps(front[:_MOST_POINTS]),
    }
    try:
        done = subprocess.run(
            shlex.split(command),
            env=environment,
            stdin=subprocess.DEVNULL,
            timeout=_MOST_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"search.notify: {command} was stopped after {_MOST_SECONDS:.0f} s"
    except OSError as error:
        return f"search.notify: {command} cannot be run: {error}"
    return (
        None if done.returncode == 0 else f"search.notify: {command} ended with {done.returncode}"
    )
