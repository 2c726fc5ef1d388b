"""From nothing to a first front, and to a network that is chosen, verified and inverted: minutes,
and the number of commands, as a newcomer types them from the README.

    python -m tests.benchmarks.newcomer [DATA_ROOT]

Nothing else should run. In a temporary folder it clones this repository and types the README's own
commands: install and the default study, its front, the proof of its knee, and the Python that
inverts images. With DATA_ROOT, which has MNIST in torchvision's layout, the same for the README's
own study of MNIST. Packages come from pip's index or its cache, which pip says. About a quarter of
an hour on two cores; three minutes without DATA_ROOT. Exits 1 if a command fails.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from tests.benchmarks.alternating import machine
from tests.support import pages
from tests.support.launched import ROOT

# What a newcomer changes in the README's Python for MNIST.
_OF_DIGITS = {
    "from sklearn.datasets import load_digits": "from torchvision.datasets import MNIST",
    'study.open("digits")': 'study.open("mine")',
    "torch.tensor(load_digits().images[:8, None] / 16 - 0.5, dtype=torch.float32)": (
        "MNIST({root!r}).data[:8, None] / 255 - 0.5"
    ),
}


class Newcomer:
    """Types commands in a folder, and says what each took."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.n_commands = 0
        self.start = time.monotonic()

    def types(self, command: str) -> None:
        """Run a line in a shell; the environment of the clone is active if it is there."""
        path = f"{self.folder / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path}
        # A newcomer's Python keeps bytecode, and finds nothing but what was installed.
        for name in ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "VIRTUAL_ENV"):
            environment.pop(name, None)
        print(f"\n$ {command}", flush=True)
        start = time.monotonic()
        done = subprocess.run(
            ["bash", "-euc", command], cwd=self.folder, env=environment, check=False
        )
        self.n_commands += 1
        print(f"# {time.monotonic() - start:.0f} s, exit code {done.returncode}", flush=True)
        if done.returncode:
            sys.exit(1)

    def reached(self, what: str) -> None:
        minutes = (time.monotonic() - self.start) / 60
        print(f"\n== {what}: {minutes:.1f} minutes, {self.n_commands} commands ==", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Type the README's commands as a newcomer.")
    parser.add_argument("data_root", type=Path, nargs="?")
    data_root = parser.parse_args().data_root
    (install,) = (c for c in pages.commands() if re.match(r"python3 -m venv .*study\.launch$", c))
    (example,) = (block for block in pages.blocks("python") if "load_digits" in block)
    (mine,) = (b for b in pages.blocks("yaml") if yaml.safe_load(b)["name"] == "mine")
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        newcomer = Newcomer(Path(folder))
        newcomer.types(f"git clone -q {ROOT} .")
        newcomer.types(install)
        newcomer.reached("the first front")
        newcomer.types("python -m study.report digits")
        newcomer.types("python -m study.verify digits@knee")
        (newcomer.folder / "invert.py").write_text(example)
        newcomer.types("python invert.py")
        newcomer.reached("a network of the digits that is chosen, verified and inverted")
        if data_root is not None:
            root = str(data_root.resolve())
            (newcomer.folder / "mine.yaml").write_text(mine)
            newcomer.types(f"python -m study.launch mine.yaml --data-root {root}")
            newcomer.types("python -m study.report mine")
            newcomer.types("python -m study.verify mine@knee")
            for ours, theirs in _OF_DIGITS.items():
                assert ours in example
                example = example.replace(ours, theirs.format(root=root))
            (newcomer.folder / "invert_mine.py").write_text(example)
            newcomer.types("python invert_mine.py")
            newcomer.reached("a network of MNIST likewise")


if __name__ == "__main__":
    main()
