"""The notebook, run in a kernel of its own: what it shows, and an interruption and what follows."""

import os
import shutil
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell

from tests.support.launched import ROOT

NOTEBOOK = ROOT / "tests" / "notebooks" / "study.ipynb"
# As when somebody presses the kernel's stop button, while a trial trains.
INTERRUPTED = """
import os, signal, threading, time
from pathlib import Path

def interrupt():
    while not list(Path("ray_results/long").glob("0000_*/checkpoint_*")):
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt).start()
training = {**space["training"], "max_epochs": 15}
try:
    study.run({**space, "training": training}, name="long", trials=1)
except KeyboardInterrupt as error:
    print("interrupted:", error)
"""
GONE_ON_WITH = """
left = study.open("long")
print(left.is_done, left.resume().is_done)
"""
MISTAKES = """
for mistake in (
    lambda: study.run({**space, "name": "x", "search": {}}),
    lambda: study.open("nothing"),
    lambda: done.load("0099"),
    lambda: done.resume(trials=1),
    lambda: done.figure("x"),
):
    try:
        mistake()
    except study.UserError as error:
        print(error)
"""


@pytest.fixture(scope="module")
def outputs(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Source of each cell -> its outputs as text, by kind."""
    folder = tmp_path_factory.mktemp("notebook")
    shutil.copy(empty_database, folder / "mlflow.db")
    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    for source in (INTERRUPTED, GONE_ON_WITH, MISTAKES):
        notebook.cells.append(new_code_cell(source))  # type: ignore[no-untyped-call]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("RAY_TMPDIR", os.environ["RAY_TMPDIR"])
        client = NotebookClient(
            notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": folder}}
        )
        client.execute()
    return {cell.source: _texts(cell) for cell in notebook.cells if cell.cell_type == "code"}


def _texts(cell: Any) -> dict[str, str]:
    texts: dict[str, str] = {}
    for output in cell.outputs:
        for kind, text in output.get("data", {"stream": output.get("text", "")}).items():
            texts[kind] = texts.get(kind, "") + str(text)
    return texts


def of(outputs: dict[str, Any], beginning: str) -> dict[str, str]:
    (texts,) = (texts for source, texts in outputs.items() if source.startswith(beginning))
    return dict(texts)


def test_a_study_shows_its_trials_as_they_run_and_then_its_front(outputs: dict[str, Any]) -> None:
    ran = of(outputs, "import study")
    assert "notebook: 2 trials of 3 epochs on digits" in ran["stream"]
    assert "2/2 trials" in ran["text/html"]  # the last view, drawn in place of those before
    assert ran["text/html"].count("<pre>") == 1
    front = of(outputs, "done\n" if "done\n" in outputs else "done")["text/html"]
    assert "<table>" in front


def test_a_network_of_it_loads_and_inverts(outputs: dict[str, Any]) -> None:
    assert 0 < float(of(outputs, "proof")["text/plain"]) < 1
    assert 0 < float(of(outputs, "import torch")["text/plain"]) < 1e-5
