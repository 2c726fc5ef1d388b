"""The notebook, run in a kernel of its own: what it shows, and an interruption and what follows."""

import os
import re
import shutil
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell

from tests.support.launched import ROOT

NOTEBOOK = ROOT / "tests" / "notebooks" / "study.ipynb"
# Before the study goes on: somebody presses the kernel's stop button as its third trial starts.
INTERRUPTED = """
import os, signal, threading, time
from pathlib import Path

def interrupt():
    while not list(Path("ray_results/notebook").glob("0002_*")):
        time.sleep(0.05)  # between two looks at what another process writes
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt).start()
try:
    done.resume(trials=3)
except KeyboardInterrupt as error:
    print("interrupted:", error)
print(study.open("notebook").is_done)
"""
MISTAKES = """
for mistake in (
    lambda: study.run({**space, "name": "x", "search": {}}),
    lambda: study.open("nothing"),
    lambda: done.load("0099"),
    lambda: done.resume(trials=2),
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
    (last,) = (n for n, cell in enumerate(notebook.cells) if ".resume(" in cell.source)
    notebook.cells.insert(last, new_code_cell(INTERRUPTED))  # type: ignore[no-untyped-call]
    notebook.cells.append(new_code_cell(MISTAKES))  # type: ignore[no-untyped-call]
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
    ran = of(outputs, "import study")["text/html"]
    assert ran.count("<pre>") == 1  # the last view, in place of those before
    assert "2/2 trials" in ran
    assert "front" in ran
    front = outputs["done"]["text/html"]
    assert front.count("<tr>") - 1 == int(re.findall(r"(\d+) front", front)[0])
    assert "given" in front
    figure = of(outputs, 'done.figure("front")')["application/vnd.plotly.v1+json"]
    assert "notebook/0000" in figure


def test_a_network_of_it_is_verified_loads_and_inverts(outputs: dict[str, Any]) -> None:
    assert 0 < float(of(outputs, "proof")["text/plain"]) < 1
    assert 0 < float(of(outputs, "import torch")["text/plain"]) < 1e-5


def test_two_studies_are_compared(outputs: dict[str, Any]) -> None:
    compared = of(outputs, "sgd")["text/plain"]
    assert re.search(r"training\.optimizer +.muon. +.sgd.", compared)
    assert "95 %" in compared


def test_a_study_that_was_interrupted_goes_on_and_a_training_of_it(outputs: dict[str, Any]) -> None:
    said = outputs[INTERRUPTED]["stream"]
    assert "interrupted: notebook is unfinished: study.open('notebook').resume()" in said
    assert said.splitlines()[-1] == "False"
    points = of(outputs, "done = done.resume(")["text/plain"]
    trials = re.findall(r"notebook/(\d{4}) +\w+ +(\w+) ", points)
    assert sorted(trial for trial, _ in trials) == ["0000", "0001", "0002", "0003"]
    assert dict(trials)["0003"] in {"0000", "0001"}  # what was the most accurate


def test_mistakes_are_exceptions_of_one_line(outputs: dict[str, Any]) -> None:
    lines = outputs[MISTAKES]["stream"].splitlines()
    expected = ("search.n_trials", "'nothing'", "'0099'", "3, but got 2", "front, growth")
    assert len(lines) == len(expected)
    for line, says in zip(lines, expected, strict=True):
        assert says in line
