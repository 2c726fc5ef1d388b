"""The settings of a trial as parameters of its run."""

from collections.abc import Mapping
from dataclasses import asdict

from study.config.space import Value
from study.config.trial import TrialConfig

FINE_TUNE_STEPS = "fine_tune_steps"
PROJECTED_TO = "projected_to"
"""Of a projection alone."""


def settings(sample: Mapping[str, Value], trial: TrialConfig) -> dict[str, object]:
    """The sample and the seed, then every setting: keys of `data` with that prefix."""
    return {
        **asdict(trial.model),
        **asdict(trial.training),
        **asdict(trial.evaluation),
        FINE_TUNE_STEPS: trial.fine_tune_steps,
        **{f"data.{key}": value for key, value in asdict(trial.data).items()},
        "seed": trial.seed,
        **sample,
    }
