"""Check that the trials of a study can run, before any of them does."""

from collections.abc import Callable
from itertools import product

from models import SHAPE_SETTINGS, Block, block_class
from study.config.imports import called
from study.config.study import StudyConfig
from study.config.trial import MAX_EPOCHS, TrialConfig
from study.errors import ConfigError, DataNotFoundError, OwnCodeError
from study.execution.callbacks.own_callbacks import callback_class
from study.search.searcher import make_sampler
from study.trial.check import check
from study.trial.data import sources

# Settings on which the data and the shape of the network depend.
_SHAPE_KEYS = ("name", "size", *SHAPE_SETTINGS)


def longest_trial(study: StudyConfig) -> TrialConfig:
    """A trial of the search space with the most epochs."""
    sample = {key: p.extremes()[-1 if key == MAX_EPOCHS else 0] for key, p in study.space}
    return study.resolve(study.active(sample), seed=0)


def check_trials(study: StudyConfig, source: str) -> None:
    """Raise ConfigError if code of the user's own cannot be used, or a trial's data cannot be read,
    its network does not fit the images, or its blocks cannot have the ladder. `source` names the
    study file in the message."""
    try:
        _check_own_code(study)
        _check_networks(study)
        _check_ladder(study)
    except (ConfigError, DataNotFoundError, OwnCodeError) as error:
        raise ConfigError(error.rule, error.key, error.value, source) from error


def _check_own_code(study: StudyConfig) -> None:
    checks: dict[str, Callable[[str], object]] = {
        "callbacks": callback_class,
        "search.sampler": lambda _: make_sampler(study),
    }
    for key, path in study.import_paths:
        try:
            checks.get(key, called)(path)
        except (ConfigError, OwnCodeError) as error:
            raise ConfigError(error.rule, key, error.value) from error


def _check_ladder(study: StudyConfig) -> None:
    for path in study.proven_by:
        block = block_class(path)
        lacks = [
            name for name in ("scale", "bounds") if getattr(block, name) is getattr(Block, name)
        ]
        if not lacks:
            continue
        if study.search.ladder:
            ladder = study.to_dict()["search"]["ladder"]
            rule = f"must be left out with {path}, which defines no {lacks[0]}"
            raise ConfigError(rule, "search.ladder", ladder)


def _check_networks(study: StudyConfig) -> None:
    varied = {key: p.grid() or [] for key, p in study.space if key in _SHAPE_KEYS}
    fixed = {key: p.extremes()[0] for key, p in study.space if key not in _SHAPE_KEYS}
    for shape in product(*varied.values()):
        sample = {**fixed, **dict(zip(varied, shape, strict=True))}
        trial = study.resolve(study.active(sample), seed=0)
        check(trial)
        # Reads every image, as the workers will: a damaged file would end all trials.
        sources.load(trial.data)
