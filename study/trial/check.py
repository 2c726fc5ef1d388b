"""Whether a trial could run, before anything is trained."""

import math
import os
import shutil
import tempfile
from pathlib import Path

import torch

from models import (
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
from study.config.trial import TrialConfig
from study.errors import ConfigError
from study.trial.data import sources
from study.trial.head import target_lipschitz
from study.trial.measured.network_files import architecture, build_model, spec_of
from study.trial.measured.own import check_attained, own_blocks


def check(config: TrialConfig) -> None:
    """Raise DataNotFoundError if the data is not there; ConfigError if the network does not fit the
    data or is too large, or torch.compile lacks a C++ compiler; and ConfigError or OwnCodeError if
    the user's own blocks do not work."""
    model, (in_shape, n_classes) = config.model, sources.describe(config.data)
    compiler = os.environ.get("CXX", "g++")
    if config.training.compile and shutil.which(compiler) is None:
        raise ConfigError(
            f"a C++ compiler must be on the PATH, but got no {compiler}", "training.compile"
        )
    try:
        spec = spec_of(model, in_shape, n_classes)
    except SettingError as error:
        raise ConfigError(f"must fit {config.data.name} images: {error}", "model") from error
    try:
        spec.check_size()
    except SettingError as error:
        raise ConfigError(error.rule, f"model.{error.name}", error.value) from error
    if is_import_path(model.block):
        _check_blocks(config, in_shape, n_classes)


def _check_blocks(config: TrialConfig, in_shape: tuple[int, int, int], n_classes: int) -> None:
    """Raise ConfigError or OwnCodeError unless the user's own blocks can be built, trained,
    inverted, certified, stored, and scaled if they define `scale`; keep the bounds that they state
    at eight images of noise; and have what the loss needs."""
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
        noise = torch.rand(8, *in_shape, generator=torch.Generator().manual_seed(0))
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
