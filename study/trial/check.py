"""Whether a trial could run, before anything is trained."""

import math
import os
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path

import torch

from models import (
    NetworkSpec,
    SettingError,
    certified_radius,
    certify,
    deployed,
    is_import_path,
    project,
    read_network,
    write_network,
)
from study.config.imports import users_code
from study.config.trial import ModelConfig, TrialConfig
from study.errors import ConfigError
from study.trial.data import sources
from study.trial.losses import target_lipschitz
from study.trial.measured.network_files import architecture, build_model
from study.trial.measured.own_blocks import check_attained, own_blocks

# Images of noise at which blocks of the user's own are held against their bounds.
_N_ATTACKED = 8

_MOST_FEATURES, _MOST_WEIGHTS = 10_000_000, 1_000_000_000


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
        NetworkSpec(in_shape=in_shape, n_classes=n_classes, **asdict(config.model))
    except SettingError as error:
        raise ConfigError(f"must fit {config.data.name} images: {error}", "model") from error
    _check_size(config.model, in_shape)
    if is_import_path(config.model.block):
        _check_blocks(config, in_shape, n_classes)


def _check_size(model: ModelConfig, in_shape: tuple[int, int, int]) -> None:
    """Raise ConfigError if the features of a network, or the weights of its dense blocks, are so
    many that building it would fill the memory."""
    n_features = math.prod(in_shape) * model.channel_multiplier
    if n_features > _MOST_FEATURES:
        rule = f"features of an image must be at most {_MOST_FEATURES} numbers"
        raise ConfigError(rule, "model.channel_multiplier", n_features)
    inner = max(1, n_features // (model.dense_bottleneck or model.bottleneck))
    n_weights = model.dense_blocks * n_features * inner
    if n_weights > _MOST_WEIGHTS:
        rule = f"dense blocks must have at most {_MOST_WEIGHTS} weights together"
        raise ConfigError(rule, "model.dense_blocks", n_weights)


def _check_blocks(config: TrialConfig, in_shape: tuple[int, int, int], n_classes: int) -> None:
    """Raise ConfigError or OwnCodeError unless blocks of the user's own can be built, trained,
    inverted, certified, scaled if they say so, and stored; attain no more at noise than they prove;
    and have what the loss needs."""
    path, key = config.model.block, "model.block"
    with users_code(f"{path} must be one that runs", key, f"the block {path}"), own_blocks():
        model = build_model(config.model, in_shape, n_classes)
        images = torch.zeros(2, *in_shape)
        model(images).sum().backward()
        model.eval()
        model.inverse(model.features(images), max_steps=1)
        lipschitz = target_lipschitz(model)
        plain = deployed(model)
        certificate = certify(plain)
        certified_radius(plain, images, torch.zeros(2, dtype=torch.int64), certificate)
        noise = torch.rand(_N_ATTACKED, *in_shape, generator=torch.Generator().manual_seed(0))
        check_attained(plain, noise - 0.5, certificate)
        with tempfile.TemporaryDirectory() as name:
            described = architecture(config.model, in_shape, n_classes)
            write_network(Path(name), plain, {"architecture": described})
            read_network(Path(name), trust=True)
        scalable = all(block.why_not_scalable() is None for block in plain.blocks)
        if scalable and 0 < certificate.lipschitz_upper_bound < math.inf:
            project(plain, lipschitz=min(0.5, certificate.lipschitz_upper_bound / 2))
    for name, tensor in model.named_parameters():
        if tensor.grad is None and name.startswith("body."):
            raise ConfigError(
                f"every parameter must be trained, but {name} of {path} is not used", key
            )
    if config.training.loss == "margin" and math.isinf(lipschitz):
        raise ConfigError(
            f"must be another with {path}, which has no target_lipschitz", "training.loss", "margin"
        )
