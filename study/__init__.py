"""Studies of invertible residual networks.

The parts of this package; tests/test_architecture.py says which of them each may import:

    launch, report, verify, delete    the commands; no command imports another
    console        the commands as one script
    api/           what `import study` offers; the commands use it
    cli            what the commands share
    errors         errors that a user can cause
    importing      imports of large libraries, faster
    metrics/       what a trial reports: metrics, reports, goals, files
    config/        the settings of a study
    pareto/        the mathematics of losses
    trial/         one training, with torch
    search/        what to train next, and which trials to stop
    tracking/      what MLflow keeps
    verification/  a stored network, proven and measured again
    execution/     a running study on Ray
    results/       what came out of a study
    head/          MLflow and PostgreSQL on the head of a cluster

`models/`, beside this package, has the networks; it imports only torch, safetensors and numpy.
Many repositories have a folder `models/`, so once this package is imported, `import models` finds
the one beside it, whatever is in the working directory or on Python's path.

Data flows one way: a study file -> StudyConfig -> searcher -> Suggestion -> TrialConfig, in a
worker -> training -> EpochReport -> Ray -> the scheduler decides, and the recorder writes to MLflow
-> records -> results. A second way leads through the checkpoints, which hold all reports of their
trials: see execution.worker.

Importing this package imports none of its parts: names are looked up on first use. The import turns
the telemetry of MLflow and Ray off, unless environment variables turn it on.
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

# MLflow and Ray report how they are used, unless this is set before they begin.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

_HOMES = {
    "study.api.study": "Study loop open run",
    "study.api.several": "compare",
    "study.config.study": "StudyConfig",
    "study.errors": "FailedError UserError",
    "study.execution.callbacks.own_callbacks": "Callback",
    "study.trial.data.own": "Dataset",
    "study.trial.data.tensors": "Augmentation normalized",
}
_OFFERED = {name: home for home, names in _HOMES.items() for name in names.split()}

_HOME = Path(__file__).parents[1]


class _ModelsBesideThis(MetaPathFinder):
    """Finds the package `models` beside this one."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "models":
            return None
        # On a node to which Ray shipped the packages, each package is in a folder of its own, and
        # these folders have the same parent.
        shipped = [entry for entry in sys.path if Path(entry).parent == _HOME.parent]
        return PathFinder.find_spec(name, [str(_HOME), *shipped])


# A copy of this `models`, which MLflow imports with a stored network, is accepted.
if "models" in sys.modules and not hasattr(sys.modules["models"], "IResNet"):
    raise ImportError(
        f"models must be the package in {_HOME}, but {sys.modules['models']!r} is imported "
        "already: import yours as part of a package, or under another name"
    )
sys.meta_path.insert(0, _ModelsBesideThis())


def __getattr__(name: str) -> Any:
    if name == "__all__":
        # pdoc and `help` ask for it, and then look into the module's dictionary alone.
        globals().update({each: __getattr__(each) for each in _OFFERED})
        return list(_OFFERED)
    if name not in _OFFERED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_OFFERED[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_OFFERED])
