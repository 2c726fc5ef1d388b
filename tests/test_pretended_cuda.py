"""The tests of the CUDA path on a pretended device, in a process of their own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(torch.version.cuda is not None, reason="torch is built with CUDA here")
@pytest.mark.skipif(shutil.which("g++") is None, reason="the pretended device needs g++")
def test_the_cuda_path_on_a_pretended_device() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.pretended_cuda", "-q", "-p", "no:cacheprovider"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTEST_XDIST_WORKER": "none"},
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert "passed" in done.stdout
