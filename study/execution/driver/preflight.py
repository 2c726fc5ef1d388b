"""Check that the trials of a study can run, before any of them does."""

from collections.abc import Callable
from itertools import product

from models import Block, block_class
from study.config.imports import called
from study.config.study import StudyConfig
from study.config.trial import MAX_EPOCHS, TrialConfig
from study.errors import ConfigError, DataNotFoundError, OwnCodeError
from study.execution.callbacks.own_callbacks import callback_class
from study.search.searcher import make_sampler
from study.trial.check import check
from study.trial.data import sources

# Settings on which the data and the shape of the network depend.
_SHAPE_KEYS = ("name", "size", "block", "blocks", "patch", "bottleneck", "channel_multiplier")


def longest_trial(study: StudyConfig) -> TrialConfig:
    """A trial of the search space with the most epochs."""
    sample = {key: p.extremes()[-1 if key == MAX_EPOCHS else 0] for key, p in study.space}
    return study.resolve(study.active(sample), seed=0)


def check_trials(study: StudyConfig, source: str) -> None:
    """Raise ConfigError for the first code of the user's own that cannot be imported, or trial
    whose data cannot be read or whose network does not fit the images; `source` names the study
    file in the message."""
    checks: dict[str, Callable[[str], object]] = {
        "callbacks": callback_class,
        "search.sampler": lambda _: make_sampler(study),
    }
    for key, path in study.import_paths:
        try:
            checks.get(key, called)(path)
        except (ConfigError, OwnCodeError) as error:
            raise ConfigError(error.rule, key, error.value, source) from error
    varied = {key: p.grid() or [] for key, p in study.space if key in _SHAPE_KEYS}
    fixed = {key: p.extremes()[0] for key, p in study.space if key not in _SHAPE_KEYS}
    for shape in product(*varied.values()):
        sample = {**fixed, **dict(zip(varied, shape, strict=True))}
        trial = study.resolve(study.active(sample), seed=0)
        try:
            check(trial)
            # Reads every image, like the workers: a damaged file would end all trials.
            sources.load(trial.data)
        except (ConfigError, DataNotFoundError, OwnCodeError) as error:
            raise ConfigError(error.rule, error.key, error.value, source) from error


def check_ladder(study: StudyConfig, source: str) -> None:
    """Raise ConfigError if a study has a ladder or a control, and blocks of the user's own with
    which there would be none. Of new studies alone: those that are stored must still be resumed."""
    for path in study.proven_by:
        block = block_class(path)
        no_scale, no_bounds = (
            f"with {path}, which defines no {method}" if getattr(block, method) is of_all else None
            for method, of_all in (("scale", Block.scale), ("bounds", Block.bounds))
        )
        reason = no_scale or no_bounds
        if study.search.ladder and reason:
            raise ConfigError(
                f"must be left out {reason}",
                "search.ladder",
                study.to_dict()["search"]["ladder"],
                source,
            )
        if study.search.control and no_scale:
            raise ConfigError(f"must be false {no_scale}", "search.control", True, source)
