"""The settings of a trial as MLflow keeps them: parameters, and a dataset."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict

from mlflow.entities import Dataset, DatasetInput, InputTag

from study.config.space import Value
from study.config.trial import MAX_EPOCHS, DataConfig, TrialConfig

FINE_TUNE_STEPS = "fine_tune_steps"
PROJECTED_TO = "projected_to"
"""Of a projection alone."""
_DATA = "data."
DATA_ROOT = f"{_DATA}root"
"""The parameter that names the folder of the data."""


def settings(sample: Mapping[str, Value], trial: TrialConfig) -> dict[str, object]:
    """The sample and the seed, then every setting: keys of `data` with that prefix."""
    return {
        **asdict(trial.model),
        **asdict(trial.training),
        **asdict(trial.evaluation),
        FINE_TUNE_STEPS: trial.fine_tune_steps,
        **{f"{_DATA}{key}": value for key, value in asdict(trial.data).items()},
        "seed": trial.seed,
        **sample,
        # A training that goes on has others than its sample.
        MAX_EPOCHS: trial.training.max_epochs,
    }


def dataset(config: DataConfig) -> DatasetInput:
    """The images of a trial as an input of its run; known by the settings that choose them."""
    text = json.dumps(asdict(config), sort_keys=True)
    images = Dataset(config.name, dataset_digest(text), source_type="local", source=text)
    return DatasetInput(images, [InputTag("mlflow.data.context", "training")])


def dataset_digest(source: str) -> str:
    """By which MLflow tells data sets of one name apart."""
    return hashlib.sha256(source.encode()).hexdigest()[:8]
