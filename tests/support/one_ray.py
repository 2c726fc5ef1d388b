"""One Ray for several studies that are launched in this process."""

from collections.abc import Iterator
from contextlib import ExitStack, chdir, contextmanager
from pathlib import Path

import pytest
import ray
from ray._private.node import Node
from typer.testing import CliRunner

from study import launch
from study.execution.driver import starting


@contextmanager
def one_ray() -> Iterator[None]:
    """Let studies in this process use a running Ray as if they had started it."""
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        # Nobody reads its logs, and no node is added.
        for program in ("start_log_monitor", "start_monitor", "start_api_server"):
            patch.setattr(Node, program, lambda *_, **options: None)
        assert starting._join_or_start(stack, "local", ())
        stack.callback(ray.shutdown)
        patch.setattr(starting, "_join_or_start", lambda *_: True)
        patch.setattr(ray, "shutdown", lambda: None)
        yield


def launch_here(folder: Path, *arguments: str, exit_code: int = 0) -> str:
    """Run the command in this process, in a folder; returns its output."""
    with chdir(folder):
        done = CliRunner().invoke(launch.app, list(arguments))
    assert done.exit_code == exit_code, (done.output, done.exception)
    return done.output
