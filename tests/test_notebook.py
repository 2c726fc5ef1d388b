"""The tour, run in a kernel of its own with a smaller study: what it shows; and in the same kernel
what else a notebook meets: an interruption, what follows, and a comparison."""

import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell

import study as api
from study.tracking import studies
from study.tracking.server.client import Client
from study.tracking.tracker import Tracker
from tests.benchmarks.tour import TOUR
from tests.support.launched import ROOT
from tests.support.studies import tiny

# In place of the default study, which takes minutes. Somebody presses the kernel's stop button as
# its second trial starts. All studies share one Ray, since each start takes seconds.
INTERRUPTED = """
import os, signal, threading, time
from pathlib import Path

import study
from tests.support.one_ray import one_ray
from tests.support.studies import RAW

shared = one_ray()
shared.__enter__()
space = {
    **RAW,
    "name": "notebook",
    "data": {"name": "digits", "val_fraction": 0.2, "shift": 0},
    "model": {
        "blocks": [],
        "dense_blocks": 2,
        "bottleneck": 2,
        "channel_multiplier": 1,
        "head": "lipschitz",
    },
    "training": {"max_epochs": 3, "optimizer": "muon", "loss": "margin", "margin": 0.5},
    "space": {
        "coeff": {"type": "float", "low": 0.4, "high": 0.7},
        "dropout": {"type": "float", "low": 0.0, "high": 0.2},
    },
    "objectives": {"val_accuracy": "maximize", "certified_accuracy": "maximize"},
    "constraints": {"invertible": True},
    "search": {
        "sampler": "sobol",
        "n_trials": 2,
        "first": [{"coeff": 0.6, "dropout": 0.1}],
        "ladder": [0.3],
        "control": True,
    },
}

def interrupt():
    while not list(Path("ray_results/notebook").glob("0001_*")):
        time.sleep(0.05)  # between two looks at what another process writes
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt).start()
try:
    study.run(space)
except KeyboardInterrupt as error:
    print("interrupted:", error)
print(study.open("notebook").is_done)
"""
RESUMED = """
done = study.open("notebook").resume(trials=3)
"""
SHOWN = "done"
FIGURE = 'done.figure("front")'
COMPARED = "study.compare(done, plain)"
POINTS = 'done.points[["network", "mark", "val_accuracy"]]'
# Its architecture is not that of its trial's sample.
CONTROL_VERIFIED = 'print(study.open("notebook").verify("0000@0", data_root="data"))'
LEFT = "shared.__exit__(None, None, None)"


@pytest.fixture(scope="module")
def outputs(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Source of each cell -> its outputs as text, by kind."""
    folder = tmp_path_factory.mktemp("notebook")
    shutil.copy(empty_database, folder / "mlflow.db")
    notebook = nbformat.read(TOUR, as_version=4)
    (ran,) = (cell for cell in notebook.cells if "done = study.run(" in cell.source)
    ran.source = RESUMED
    notebook.cells.insert(0, new_code_cell(INTERRUPTED))
    (plain,) = (cell for cell in notebook.cells if "plain = study.run(" in cell.source)
    plain.source = plain.source.replace('"max_epochs": 10', '"max_epochs": 3')
    # Within a large radius every attack succeeds at once.
    measured = '"evaluation": {"radius": 4.0, "n_inverse_samples": 32}'
    plain.source = plain.source.replace('"search":', f'{measured}, "search":')
    for source in (SHOWN, FIGURE, COMPARED, POINTS, CONTROL_VERIFIED, LEFT):
        notebook.cells.append(new_code_cell(source))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("RAY_TMPDIR", os.environ["RAY_TMPDIR"])
        client = NotebookClient(
            notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": folder}}
        )
        client.execute()
    return {cell.source: _texts(cell) for cell in notebook.cells if _is_code(cell)}


def _is_code(cell: Any) -> bool:
    return bool(cell.cell_type == "code")


def _texts(cell: Any) -> dict[str, str]:
    texts: dict[str, str] = {}
    for output in cell.outputs:
        for kind, text in output.get("data", {"stream": output.get("text", "")}).items():
            texts[kind] = texts.get(kind, "") + str(text)
    return texts


def of(outputs: dict[str, Any], part: str) -> dict[str, str]:
    """What the one cell gave that has this in its source."""
    (texts,) = (texts for source, texts in outputs.items() if part in source)
    return dict(texts)


def test_a_study_shows_its_trials_as_they_run_and_then_its_front(outputs: dict[str, Any]) -> None:
    ran = outputs[RESUMED]["text/html"]
    assert ran.count("on the front") == 1  # the last view, in place of those before
    assert "3/3 trials" in ran
    assert "front" in ran
    front = outputs[SHOWN]["text/html"]
    n_front = int(re.findall(r"(\d+) front", front)[0])
    assert len(re.findall(r"^[^\n]*notebook/000\d[^\n:]*$", front, re.MULTILINE)) >= n_front
    assert "notebook/0000" in outputs[FIGURE]["application/vnd.plotly.v1+json"]


def test_a_control_is_verified_on_the_data(outputs: dict[str, Any]) -> None:
    said = outputs[CONTROL_VERIFIED]["stream"]
    assert "problems=()" in said
    assert "'val_accuracy', 'certified_accuracy'" in said


def test_the_tour_proves_inverts_and_draws(outputs: dict[str, Any]) -> None:
    chosen = of(outputs, "chosen = ")["text/plain"].strip("'")
    assert chosen in of(outputs, "recommended")["text/plain"]
    proof = of(outputs, "done.verify")["stream"]
    assert "problems: ()" in proof
    assert 0 < float(proof.split()[-1]) < 0.8
    error = float(re.findall(r"error (\S+),", of(outputs, "network = done.load")["stream"])[0])
    assert 0 < error < 1e-5
    proven, measured = re.findall(r"\d\.\de-\d+", of(outputs, "image_error_bound")["stream"])
    assert 0 < float(measured) <= float(proven)
    bound, *times = re.findall(r"at most (\S+) times", of(outputs, "inexact = ")["stream"])
    assert len(times) == 2
    assert all(0 < float(one) <= float(bound) for one in times)
    assert float(of(outputs, "load_sample_image")["stream"].split()[-1]) < 1e-4
    within, *_, far = re.findall(
        r": (\d+) of (\d+) withstand", of(outputs, "withstand the")["stream"]
    )
    assert within[0] == within[1] != "0"
    assert int(far[0]) < int(within[0])
    radii = of(outputs, "certified_radius")["stream"].partition(":")[2].split(",")
    assert len(radii) == 10
    assert sum(float(radius) > 0 for radius in radii) >= 5
    assert "infeasible" in of(outputs, "plain = study.run")["text/plain"]
    assert float(of(outputs, "other = plain.load")["stream"].split()[-1]) > 1e-3
    for drawn in ("plt.xlabel", "def show", "other = plain"):
        assert of(outputs, drawn)["image/png"]


def begun(folder: Path) -> Any:
    """What the tour begins with in this folder: a study, or "trained NAME" if it trains one."""
    own = folder / ".readme"
    own.mkdir()
    cell = next(c for c in nbformat.read(TOUR, as_version=4).cells if _is_code(c))
    names: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(own)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setattr(api, "run", lambda name: f"trained {name}")
        exec(cell.source, names)
        assert Path.cwd() == folder
    assert list(own.iterdir()) == []
    return names["done"]


def test_the_tour_goes_on_from_the_study_that_is_there(client: Client, tmp_path: Path) -> None:
    config = replace(tiny(), name="digits")
    Tracker(client, studies.create(client, config, "/x/digits.yaml", "/x/digits"))
    assert begun(tmp_path).name == "digits"


def test_without_one_the_tour_trains_it(tmp_path: Path) -> None:
    assert begun(tmp_path) == "trained digits"


def test_the_tour_is_stored_with_what_its_cells_give() -> None:
    cells = [cell for cell in nbformat.read(TOUR, as_version=4).cells if _is_code(cell)]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    # The first shows nothing where the study was there.
    assert all(cell.outputs for cell in cells[1:])


def test_two_studies_are_compared(outputs: dict[str, Any]) -> None:
    compared = outputs[COMPARED]["text/plain"]
    assert re.search(r"model\.norm +.spectral. +.batch.", compared)
    assert "95 %" in compared


def test_a_study_that_was_interrupted_goes_on(outputs: dict[str, Any]) -> None:
    said = outputs[INTERRUPTED]["stream"]
    assert "interrupted: notebook is unfinished: study.open('notebook').resume()" in said
    assert said.splitlines()[-1] == "False"
    points = outputs[POINTS]["text/plain"]
    assert sorted(re.findall(r"notebook/(\d{4}) ", points)) == ["0000", "0001", "0002"]
