"""Imports point one way, and mathematics runs without the study system (see README, Layout)."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# What each module may import of this project.
ALLOWED = {
    "models.fixed_point": set(),
    "models.spectral_norm": set(),
    "models.rounding": set(),
    "models.iresnet": {"models.fixed_point", "models.rounding", "models.spectral_norm"},
    "models.gram_symbols": set(),
    "models.convolution_norm": {"models.gram_symbols", "models.spectral_norm"},
    "models.block_norm": {
        "models.convolution_norm", "models.gram_symbols", "models.spectral_norm",
    },
    "models.certificate": {
        "models.block_norm", "models.convolution_norm", "models.gram_symbols", "models.iresnet",
        "models.spectral_norm",
    },
    "models.empirical_lipschitz": {"models.iresnet"},
    "models.projection": {"models.certificate", "models.iresnet", "models.spectral_norm"},
    "models.fingerprint": set(),
    "models.pickled": {"models.iresnet", "models.spectral_norm"},
    "models": {
        "models.certificate", "models.empirical_lipschitz", "models.fingerprint",
        "models.fixed_point", "models.iresnet", "models.pickled", "models.projection",
    },
    "study": set(),
    "study.errors": set(),
    "study.metrics": set(),
    "study.trial_config": set(),
    "study.search_space": {"study.trial_config"},
    "study.study_config": {"study.metrics", "study.search_space", "study.trial_config"},
    "study.config": {
        "study.errors", "study.metrics", "study.search_space", "study.study_config",
        "study.trial_config",
    },
    "study.pareto": {"study.metrics"},
    "study.data": {"study.errors", "study.trial_config"},
    "study.training": {
        "models", "models.empirical_lipschitz", "models.fingerprint", "models.iresnet",
        "models.projection", "study.data", "study.errors", "study.metrics", "study.trial_config",
    },
    "study.ladder": {"models", "study.metrics", "study.training"},
    "study.figures": set(),
    "study.trainable": {
        "models", "study.data", "study.errors", "study.figures", "study.ladder", "study.metrics",
        "study.study_config", "study.training",
    },
    "study.points": {"study.metrics", "study.pareto", "study.study_config"},
    "study.repeats": {"study.pareto"},
    "study.stopping": {"study.metrics", "study.pareto", "study.points", "study.study_config"},
    "study.successive_halving": {"study.pareto"},
    "study.distributions": {"study.search_space"},
    "study.search": {
        "study.distributions", "study.metrics", "study.pareto", "study.points", "study.repeats",
        "study.search_space", "study.stopping", "study.study_config", "study.successive_halving",
    },
    "study.scheduling": {
        "study.metrics", "study.points", "study.study_config", "study.successive_halving",
    },
    "study.logged_model": {"models"},
    "study.mlflow_pages": {"study.metrics", "study.study_config"},
    "study.records": {
        "study.config", "study.errors", "study.logged_model", "study.metrics",
        "study.search_space", "study.study_config",
    },
    "study.tracking": {
        "models", "study.config", "study.logged_model", "study.metrics", "study.mlflow_pages",
        "study.records", "study.study_config", "study.trial_config",
    },
    "study.outbox": {"study.errors"},
    "study.ended": set(),
    "study.warm_start": {"study.search_space", "study.study_config"},
    "study.recorder": {
        "models", "study.ended", "study.errors", "study.metrics", "study.outbox", "study.records",
        "study.stopping", "study.tracking", "study.trainable",
    },
    "study.failures": {"study.errors", "study.recorder", "study.trainable"},
    "study.interrupt": set(),
    "study.checkpoints": {"study.ended", "study.snapshots"},
    "study.progress": {
        "study.ended", "study.metrics", "study.pareto", "study.points", "study.recorder",
        "study.stopping", "study.study_config",
    },
    "study.front": {
        "study.errors", "study.metrics", "study.pareto", "study.points", "study.repeats",
        "study.records", "study.search_space", "study.study_config",
    },
    "study.growth": {
        "study.front", "study.metrics", "study.pareto", "study.points", "study.records",
    },
    "study.importance": {"study.distributions", "study.search_space"},
    "study.table1": {"study.front", "study.metrics", "study.study_config"},
    "study.page": {
        "study.errors", "study.front", "study.growth", "study.importance", "study.metrics",
        "study.mlflow_pages", "study.records", "study.table1",
    },
    "study.proof": {"models", "study.logged_model"},
    "study.verify": {"study.errors", "study.metrics", "study.proof", "study.records"},
    "study.registry": {
        "study.errors", "study.front", "study.metrics", "study.pareto", "study.points",
        "study.tracking",
    },
    "study.report": {
        "study.errors", "study.front", "study.metrics", "study.page", "study.records",
        "study.registry", "study.repeats", "study.table1", "study.tracking", "study.verify",
    },
    "study.storage": {"study.errors"},
    "study.snapshots": {"study.errors", "study.storage"},
    "study.cluster": {
        "models", "study", "study.errors", "study.storage", "study.training", "study.trial_config",
    },
    "study.processes": {"study.errors"},
    "study.postgres": {"study.processes"},
    "study.head_services": {"study.errors", "study.postgres", "study.processes"},
    "study.launch": {
        "study.checkpoints", "study.cluster", "study.config", "study.errors", "study.failures",
        "study.front", "study.interrupt", "study.metrics", "study.mlflow_pages", "study.page",
        "study.progress", "study.recorder", "study.records", "study.report", "study.scheduling",
        "study.search", "study.search_space", "study.snapshots", "study.stopping",
        "study.storage", "study.study_config", "study.tracking", "study.trainable",
        "study.training", "study.trial_config", "study.warm_start",
    },
}  # fmt: skip
# Who alone may import a library.
SOLE_IMPORTERS = {
    "yaml": {"study.cluster", "study.config"},
    "pydantic": {"study.config"},
    "optuna": {"study.distributions", "study.importance", "study.search"},
    "mlflow": {"study.logged_model", "study.records", "study.tracking"},
    "matplotlib": {"study.figures"},
    "plotly": {"study.page"},
    "pandas": {"study.report"},
    "moocore": {"study.pareto"},
    "sklearn": {"study.data"},
    "torchvision": {"study.data"},
    "psycopg": {"study.postgres"},
}


def modules() -> dict[str, Path]:
    found = {}
    for path in [*ROOT.glob("models/*.py"), *ROOT.glob("study/*.py")]:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path
    return found


def imports(path: Path) -> set[str]:
    """Every module that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            assert node.module is not None
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            submodules = inner & modules().keys()
            found.update(submodules or {node.module})
    return found


def test_every_module_has_its_place() -> None:
    assert modules().keys() == ALLOWED.keys()


@pytest.mark.parametrize("name", sorted(ALLOWED))
def test_imports_point_one_way(name: str) -> None:
    ours = {i for i in imports(modules()[name]) if i.split(".")[0] in ("models", "study")}
    assert ours <= ALLOWED[name]


@pytest.mark.parametrize("library", sorted(SOLE_IMPORTERS))
def test_each_library_has_one_door(library: str) -> None:
    importers = {
        name
        for name, path in modules().items()
        if any(i.split(".")[0] == library for i in imports(path))
    }
    assert importers <= SOLE_IMPORTERS[library]


def test_models_import_torch_only() -> None:
    for name, path in modules().items():
        if name.startswith("models"):
            outside = {i.split(".")[0] for i in imports(path)} - {"models"}
            assert outside - set(sys.stdlib_module_names) <= {"torch"}, name


def test_models_and_training_run_where_only_torch_and_torchvision_are() -> None:
    """A process in which every other library of ours is refused trains, certifies and inverts."""
    code = """
import sys
ABSENT = {
    "ray", "mlflow", "optuna", "yaml", "pydantic", "typer", "rich", "moocore", "plotly",
    "matplotlib",
}
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ABSENT:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse())
import models
from study.training import train
from study.trial_config import ModelConfig, TrainingConfig, TrialConfig
config = TrialConfig(
    model=ModelConfig(blocks=(1,), channel_multiplier=4), training=TrainingConfig(max_epochs=1)
)
(report,) = train(config)
print(report.status)
assert not ABSENT & {name.split(".")[0] for name in sys.modules}
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout == "completed\n", done.stderr
