"""The rules of the layout: what each folder may import, of this project and of libraries."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from study.metrics import artifacts
from study.metrics.definitions import METRICS
from tests.support.launched import ROOT

SHARED = {"errors", "metrics"}
# Folders that have rooms of their own, from the top down.
ROOMS = {
    "models": (
        "storage", "proofs", "network", "heads", "blocks", "norms", "inverse", "layers", "floats",
        "isometries", "spec", "maps", "arguments",
    ),
    "study.execution": (
        "driver", "callbacks", "worker", "files", "trials", "callback", "provenance",
    ),
    "study.trial": (
        "check", "rehearsal", "ladder", "training", "head", "measured", "data", "optimizers",
        "orthogonalization", "randomness", "state_file", "device", "time_spent",
    ),
}  # fmt: skip
# Folder or module of `study` -> what of `study` it may import, and models. No command is in it.
MAY_IMPORT = {
    "errors": set(),
    "importing": set(),
    "metrics": set(),
    "cli": {"errors", "importing"},
    "config": {"models", *SHARED},
    "pareto": {"metrics"},
    "trial": {"models", "config", *SHARED},
    "search": {"config", "pareto", *SHARED},
    "tracking": {"models", "config", *SHARED},
    "verification": {"models", "config", "trial", "tracking", *SHARED},
    "execution": {
        "models", "config", "pareto", "trial", "search", "tracking", "importing", *SHARED,
    },
    "results": {"config", "pareto", "search", "tracking", *SHARED},
    "head": {"cli", "errors"},
    "api": {"models", "config", "execution", "results", "tracking", "verification", "errors"},
    "launch": {"api", "cli"},
    "report": {"api", "cli"},
    "verify": {"api", "cli"},
    "delete": {"api", "cli"},
    "console": {"launch", "report", "verify", "delete"},
}  # fmt: skip
COMMANDS = ("launch", "report", "verify", "delete")
# Library -> the folders that alone may import it.
MAY_BE_IMPORTED_BY = {
    "yaml": {"config", "verification"},
    "pydantic": {"config"},
    "optuna": {"search"},
    "mlflow": {"tracking"},
    # Search: storages of Optuna fail with its errors.
    "sqlalchemy": {"search", "tracking"},
    "ray": {"search", "execution"},
    "pyarrow": {"execution"},
    "torch": {"models", "trial", "execution"},
    "safetensors": {"models", "trial"},
    "torchvision": {"trial"},
    "filelock": {"tracking", "trial"},
    "fsspec": {"trial"},
    "pynvml": {"trial"},
    "moocore": {"pareto"},
    "scipy": {"pareto"},
    "plotly": {"results", "api"},
    "matplotlib": {"results", "api"},
    "pandas": {"results", "api"},
    "rich": {"execution", "results", "api"},
    "psycopg": {"head"},
    "sklearn": set(),
    "typer": {"cli", "console", "head", *COMMANDS},
}
# Library -> the only module of its folder that imports it.
DOORS = {
    "torchvision": "study.trial.data.sources",
    "pynvml": "study.trial.device",
    "moocore": "study.pareto.dominance",
    "scipy": "study.pareto.difference",
    "pydantic": "study.config.parser",
    "psycopg": "study.head.postgres",
}
# Who may look into the environment, besides the driver, and why.
READS_ENVIRONMENT = {
    "study.execution.driver.environment": "the door",
    "study": "MLflow and Ray take their telemetry's settings from there",
    "study.tracking.server.client": "MLflow takes its settings from there",
    "study.tracking.server.files": "the user names a bucket there, as for MLflow's server",
    "study.execution.driver.starting": "Ray takes its settings from there",
    "study.execution.driver.local_ray": "Ray takes its token from there",
    "study.trial.randomness": "cuBLAS takes its setting from there",
    "study.trial.check": "torch takes its compiler from there",
    "study.head.services": "what a service inherits",
}
# Names that say nothing of what is in a file.
EMPTY_NAMES = {"util", "utils", "helpers", "common", "base", "manager", "core", "misc"}


def modules() -> dict[str, Path]:
    found = {}
    for path in [*ROOT.glob("models/**/*.py"), *ROOT.glob("study/**/*.py")]:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path
    return found


MODULES = modules()
TREES = {name: ast.parse(path.read_text()) for name, path in MODULES.items()}


@cache
def imports(name: str) -> set[str]:
    """Every module that a module imports, inside functions too."""
    imported = set[str]()
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: imports are absolute"
            assert node.module is not None
            submodules = {f"{node.module}.{alias.name}" for alias in node.names} & MODULES.keys()
            imported.update(submodules or {node.module})
    return imported


def place(module: str) -> str:
    """models, a folder of study, or a module beside the folders."""
    parts = module.split(".")
    return parts[0] if parts[0] == "models" or len(parts) == 1 else parts[1]


def texts(name: str) -> Iterator[str]:
    """Every string of a module that is no docstring."""
    docstrings = {
        id(node.value)
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(TREES[name]):
        if not isinstance(node, ast.Constant) or id(node) in docstrings:
            continue
        if isinstance(node.value, str):
            yield node.value


def test_every_module_has_its_place() -> None:
    places = {place(name) for name in MODULES} - {"models", "study"}
    assert places == MAY_IMPORT.keys()


def test_imports_point_one_way() -> None:
    for name in MODULES:
        ours = {place(i) for i in imports(name) if i.split(".")[0] in ("models", "study")}
        # That the package is named, to ship its code, is no import of a part of it.
        others = ours - {place(name), "study"}
        assert others <= MAY_IMPORT.get(place(name), set()), name
        assert name == "study.console" or not others & set(COMMANDS), name


def test_studies_import_the_face_of_models_alone() -> None:
    for name in MODULES:
        if place(name) != "models":
            assert not {i for i in imports(name) if i.startswith("models.")}, name


@pytest.mark.parametrize("folder", ROOMS)
def test_each_room_imports_from_rooms_below(folder: str) -> None:
    rooms = ROOMS[folder]
    for name in MODULES:
        if not name.startswith(f"{folder}."):
            continue
        room, *below = (
            rooms.index(module.removeprefix(f"{folder}.").split(".")[0])
            for module in (name, *imports(name))
            if module.startswith(f"{folder}.")
        )
        assert all(other >= room for other in below), name


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {name: imports(name) & MODULES.keys() for name in MODULES}
    assert len(list(TopologicalSorter(graph).static_order())) == len(MODULES)


def test_each_library_is_imported_where_it_belongs() -> None:
    for library, places in MAY_BE_IMPORTED_BY.items():
        importers = {n for n in MODULES if any(i.split(".")[0] == library for i in imports(n))}
        assert bool(importers) is bool(places), library
        assert {place(name) for name in importers} <= places, library
        if library in DOORS:
            assert importers == {DOORS[library]}


def test_of_the_driver_the_worker_alone_imports_torch() -> None:
    importers = [n for n in MODULES if place(n) == "execution" and "torch" in imports(n)]
    assert importers == ["study.execution.worker"]


def test_models_import_torch_and_what_reads_tensors_only() -> None:
    for name in MODULES:
        if place(name) == "models":
            outside = {i.split(".")[0] for i in imports(name)} - {"models"}
            assert outside - set(sys.stdlib_module_names) <= {"torch", "numpy", "safetensors"}, name


def test_names_of_metrics_are_strings_in_one_place() -> None:
    for name in MODULES.keys() - {"study.metrics.definitions"}:
        if place(name) != "models":  # which has names of its own
            for text in texts(name):
                assert not set(re.findall(r"\w+", text)) & METRICS.keys(), (name, text)


def test_names_of_metrics_are_not_in_the_page_s_code() -> None:
    for path in (ROOT / "study" / "results" / "views" / "page_files").rglob("*.js"):
        assert not set(re.findall(r"\w+", path.read_text())) & METRICS.keys(), path.name


def test_names_of_files_are_strings_in_one_place() -> None:
    names = {v for k, v in vars(artifacts).items() if k.isupper() and "." in v}
    assert len(names) > 5
    for name in MODULES.keys() - {"study.metrics.artifacts"}:
        assert not names & set(texts(name)), name


def test_the_coefficient_is_a_string_in_one_place() -> None:
    users = [n for n in MODULES if place(n) != "models" and "coeff" in set(texts(n))]
    assert users == ["study.config.trial"]


def test_the_environment_is_read_at_the_door() -> None:
    readers = {
        name
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
    }
    assert readers == READS_ENVIRONMENT.keys()


def test_files_of_runs_pass_through_one_gate() -> None:
    ways = {
        "download_artifacts", "list_artifacts", "load_artifact", "load_dict", "load_image",
        "load_model", "load_text", "log_artifact", "log_artifacts", "log_dict", "log_figure",
        "log_image", "log_model_artifact", "log_model_artifacts", "log_table", "log_text",
    }  # fmt: skip
    users = {
        name
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr in ways
        and not (isinstance(node.value, ast.Name) and node.value.id == "files")
    }
    assert users == {"study.tracking.server.files"}


def test_names_say_what_is_in_a_file() -> None:
    for name in MODULES:
        assert not EMPTY_NAMES & set(name.split(".")), name


ABSENT = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ABSENT:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse())
"""


def without(libraries: set[str], code: str) -> str:
    """What a process prints in which these libraries cannot be imported."""
    done = subprocess.run(
        [sys.executable, "-c", f"ABSENT = {libraries}{ABSENT}{code}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_models_and_training_run_with_torch_torchvision_and_safetensors_alone() -> None:
    """Training, certificate and inverse, in a process that refuses every other library."""
    libraries = MAY_BE_IMPORTED_BY.keys() - {
        "torch",
        "torchvision",
        "safetensors",
        "filelock",  # torch needs it, and fsspec
        "fsspec",
        "pandas",
        "sklearn",  # whose images are read without it
    }
    code = """
import models
from study.config.trial import ModelConfig, TrainingConfig, TrialConfig
from study.trial.training import Training
config = TrialConfig(
    model=ModelConfig(blocks=(1,), channel_multiplier=4), training=TrainingConfig(max_epochs=1)
)
training = Training(config)
print(training.run_to_report().status)
models.empirical_lipschitz(training.model, training.dataset.val.images[:2] / 255)
assert "torch._dynamo" not in sys.modules
assert not {*ABSENT, "sklearn"} & {name.split(".")[0] for name in sys.modules}
"""
    assert without(libraries, code) == "completed\n"


@pytest.mark.slow
def test_help_and_mistakes_wait_for_nothing(tmp_path: Path) -> None:
    """A process in which what takes long to import is refused."""
    space = tmp_path / "space.yaml"
    space.write_text("name: x\nnonsense: 1\n")
    code = f"""
from typer.testing import CliRunner
from study import delete, launch, report, verify
from study.head import __main__ as head
for command in (launch, report, verify, delete, head):
    done = CliRunner().invoke(command.app, ["--help"])
    assert done.exit_code == 0, done.output
for arguments, says in (
    (["{space}"], "unknown key 'nonsense'"),
    (["nowhere"], "there is no such file"),
    (["--trials", "0"], "--trials: must be greater than or equal to 1, but got 0"),
    (["--resume", "--all"], "--all requires --dry-run, without --resume"),
):
    done = CliRunner().invoke(launch.app, arguments)
    assert done.exit_code == 2, done.output
    assert says in done.stderr, done.stderr
    assert done.stderr.count("\\n") == 1
print("all answered")
"""
    slow = MAY_BE_IMPORTED_BY.keys() - {"yaml", "pydantic", "typer", "rich", "psycopg"}
    assert without(slow, code) == "all answered\n"


@pytest.mark.slow
def test_the_package_imports_nothing() -> None:
    code = """
import study
print(sorted(name for name in sys.modules if name.startswith("study")))
"""
    assert without(set(MAY_BE_IMPORTED_BY), code) == "['study']\n"
