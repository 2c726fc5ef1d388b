"""A network as files: written with its proof, and read back without running code of theirs.

How a weight comes to its certificate: the effective weights of a model -> `certify` in `models` ->
CERTIFICATE, which goes with NETWORK into the trial's checkpoint, and from there into MLflow.
"""

import copy
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import models
from models import IResNet, certify, code_sha256, empirical_lipschitz, weights_sha256
from study.artifacts import CERTIFICATE, INVERSE, NETWORK, WEIGHTS
from study.config.trial import ModelConfig, TrialConfig
from study.trial.data import NORMALIZATION, Dataset, normalized
from study.trial.evaluation import N_CURVE_SAMPLES, inverse_curve, predicted_and_needed_steps

# Images of the validation split at which the Jacobians of the blocks are taken.
_JACOBIAN_SAMPLES = 8


def build_model(config: ModelConfig, in_shape: tuple[int, int, int], n_classes: int) -> IResNet:
    """The network that a config means; its weights come from torch's current random state."""
    return IResNet(in_shape, n_classes, **asdict(config))


def save_network(
    folder: Path, model: IResNet, config: ModelConfig, trial: TrialConfig, dataset: Dataset
) -> None:
    """Write a network: WEIGHTS and NETWORK, from which `load_network` builds it, CERTIFICATE and
    INVERSE.

    Args:
        model: its mode becomes eval.
        config: what `load_network` shall build for its weights.
        trial: the one that trained it.
        dataset: the trial's.
    """
    model.eval()
    _write_json(folder / NETWORK, _identity(model, config, trial, dataset))
    torch.save(model.state_dict(), folder / WEIGHTS)
    # Of the network as it is stored: on another device the last bits of sigma differ.
    certificate = certify(copy.deepcopy(model).cpu(), "full")
    sampled = empirical_lipschitz(model, normalized(dataset.val.images[:_JACOBIAN_SAMPLES]))
    _write_json(
        folder / CERTIFICATE, {**certificate.to_dict(), "empirical_lipschitz": list(sampled)}
    )
    images = normalized(dataset.val.images[:N_CURVE_SAMPLES])
    steps = predicted_and_needed_steps(
        model,
        certificate,
        images,
        rtol=trial.evaluation.inverse_rtol,
        max_steps=trial.evaluation.inverse_max_steps,
    )
    _write_json(folder / INVERSE, {**inverse_curve(model, images), **steps})


def _identity(
    model: IResNet, config: ModelConfig, trial: TrialConfig, dataset: Dataset
) -> dict[str, Any]:
    """Which network it is, so that a proof of it can be checked again."""
    return {
        "architecture": {
            "in_shape": dataset.in_shape,
            "n_classes": dataset.n_classes,
            **asdict(config),
        },
        "data": {
            "name": trial.data.name,
            "n_train": len(dataset.train),
            "n_val": len(dataset.val),
            "n_test": len(dataset.test),
            "sha256": dataset.sha256,
            "normalization": NORMALIZATION,
        },
        "code_sha256": code_sha256(Path(models.__file__).parent),
        "weights_sha256": weights_sha256(model),
    }


def load_network(folder: Path) -> IResNet:
    """The network that `save_network` wrote, in eval mode, on the CPU; runs no code of the
    files."""
    architecture = json.loads((folder / NETWORK).read_text())["architecture"]
    with torch.random.fork_rng(devices=[]):  # the initial weights are replaced at once
        model = IResNet(**architecture)
    weights = torch.load(folder / WEIGHTS, map_location="cpu", weights_only=True)
    model.load_state_dict(weights)
    return model.eval()


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n")
