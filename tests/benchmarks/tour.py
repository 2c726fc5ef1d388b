"""Run the tour, .readme/tour.ipynb, and store what its cells give in it.

    python -m tests.benchmarks.tour

Its study runs in a temporary folder, which has nothing of another one. Two minutes on two
cores. Exits 1 if a cell fails.
"""

import argparse
import tempfile

import nbformat
from nbclient import NotebookClient

from tests.support.launched import ROOT

TOUR = ROOT / ".readme" / "tour.ipynb"


def main() -> None:
    argparse.ArgumentParser(description="Run the tour and store its outputs.").parse_args()
    notebook = nbformat.read(TOUR, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(
            notebook,
            timeout=1800,
            kernel_name="python3",
            record_timing=False,  # which would be a change in every cell
            resources={"metadata": {"path": folder}},
        ).execute()
    nbformat.write(notebook, TOUR)


if __name__ == "__main__":
    main()
