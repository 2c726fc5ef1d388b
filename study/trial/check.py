"""Whether a trial could run, before anything is trained."""

import os
import shutil
from dataclasses import asdict

from models import check_arguments
from study.config.trial import TrialConfig
from study.errors import ConfigError
from study.trial import sources


def check(config: TrialConfig) -> None:
    """Raise DataNotFoundError if the data is not there, and ConfigError, in one line, if the
    network does not fit it or there is no C++ compiler for torch.compile."""
    in_shape, n_classes = sources.describe(config.data)
    compiler = os.environ.get("CXX", "g++")
    if config.training.compile and shutil.which(compiler) is None:
        raise ConfigError(
            f"a C++ compiler must be on the PATH, but got no {compiler}", "training.compile"
        )
    try:
        check_arguments(in_shape, n_classes, **asdict(config.model))
    except ValueError as error:
        raise ConfigError(f"must fit {config.data.name} images: {error}", "model") from error
