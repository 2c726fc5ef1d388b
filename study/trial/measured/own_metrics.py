"""Metrics of the user's own: functions that give a number for a network."""

import math

import torch

from models import Certificate, IResNet
from study.config.imports import called, users_code
from study.config.trial import TrialConfig
from study.errors import OwnCodeError
from study.trial.data.tensors import Split, normalized
from study.trial.randomness import seeded


@torch.no_grad()
def measure_own(
    model: IResNet, val: Split, trial: TrialConfig, certificate: Certificate
) -> dict[str, float]:
    """Name -> value of a trial's own metrics, each `function(model, images, labels, certificate)`:
    the validation split as the network takes it, float32 (N, C, H, W) and int64 (N,), on the
    network's device. torch's random state is the same for each network of the trial, and no
    gradients are recorded. Raises OwnCodeError for the first that gives no finite number."""
    values, images = {}, None
    for name, path in trial.metrics:
        images = normalized(val.images) if images is None else images
        key, function = f"metrics.{name}", called(path)
        awaited_code = users_code("it must give a number", key, f"the metric {path}")
        with awaited_code, seeded(trial.seed, 0, images.device):
            value = float(function(model, images, val.labels, certificate))
        if not math.isfinite(value):
            raise OwnCodeError("it must give a finite number", key, value)
        values[name] = value
    return values
