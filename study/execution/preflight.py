"""Whether the trials of a study could run, before any of them does."""

from itertools import product

from study.config.study import StudyConfig
from study.config.trial import MAX_EPOCHS, TrialConfig
from study.errors import ConfigError, DataNotFoundError
from study.trial import sources
from study.trial.check import check

# Settings that decide whether the data is there and the network fits the images.
_SHAPE_KEYS = ("name", "size", "blocks", "bottleneck", "channel_multiplier")


def longest_trial(study: StudyConfig) -> TrialConfig:
    """One of those that the study may run, with the most epochs."""
    sample = {key: p.extremes()[-1 if key == MAX_EPOCHS else 0] for key, p in study.space}
    return study.resolve(sample, seed=0)


def check_trials(study: StudyConfig, source: str) -> None:
    """Whether every trial could run: its data can be read, and its network fits the images.

    Args:
        source: names the study file in messages.

    Raises:
        ConfigError: in one line, the first problem.
    """
    varied = {key: p.grid() or [] for key, p in study.space if key in _SHAPE_KEYS}
    fixed = {key: p.extremes()[0] for key, p in study.space if key not in _SHAPE_KEYS}
    for shape in product(*varied.values()):
        sample = {**fixed, **dict(zip(varied, shape, strict=True))}
        trial = study.resolve(sample, seed=0)
        try:
            check(trial)
            # Reads each image, as every worker will: a file that is damaged would end all trials.
            sources.load(trial.data)
        except (ConfigError, DataNotFoundError) as error:
            raise ConfigError(error.rule, error.key, error.value, source) from error
