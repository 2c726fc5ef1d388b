"""Run the tour, .readme/tour.ipynb, and store what its cells give in it.

    python -m tests.benchmarks.tour [FOLDER]

It goes on from the study `digits` in FOLDER; without one the study runs in a temporary folder, two
minutes on two cores. Exits 1 if a cell fails.
"""

import argparse
import tempfile

import nbformat
from nbclient import NotebookClient

from tests.support.launched import ROOT

TOUR = ROOT / ".readme" / "tour.ipynb"


def main() -> None:
    parser = argparse.ArgumentParser(description="Run the tour and store its outputs.")
    parser.add_argument("folder", nargs="?")
    arguments = parser.parse_args()
    notebook = nbformat.read(TOUR, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(
            notebook,
            timeout=1800,
            kernel_name="python3",
            record_timing=False,  # which would be a change in every cell
            resources={"metadata": {"path": arguments.folder or folder}},
        ).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":  # warnings of the libraries name folders of this machine
            cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
    nbformat.write(notebook, TOUR)


if __name__ == "__main__":
    main()
