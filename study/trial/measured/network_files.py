"""A network as files, written with its proof.

Where a proof goes: from the effective weights of a model, `certify` in `models` makes it; it is
written as CERTIFICATE into the trial's checkpoint, with the network, and from there into MLflow.
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from models import (
    Certificate,
    Effort,
    IResNet,
    NetworkSpec,
    certify,
    deployed,
    empirical_lipschitz,
    write_network,
)
from study.config.trial import ModelConfig, TrialConfig
from study.metrics.artifacts import (
    CERTIFICATE,
    INVERSE,
    LARGEST_PIXEL_ERROR,
    RECONSTRUCTIONS,
    TEST_RADII,
    VAL_RIGHT,
    packed,
    packed_radii,
)
from study.trial.data.tensors import Dataset, normalized
from study.trial.measured.evaluation import (
    N_CURVE_SAMPLES,
    N_JACOBIAN_SAMPLES,
    OnSplits,
    certified_curve,
    finite,
    inverse_curve,
    predicted_and_needed_steps,
    reconstructions,
)
from study.trial.measured.own import own_blocks
from study.trial.measured.reconstruction_image import save_reconstructions


def spec_of(config: ModelConfig, in_shape: tuple[int, int, int], n_classes: int) -> NetworkSpec:
    """The description of a config's network for these images. Raises SettingError if they do not
    fit it."""
    return NetworkSpec(in_shape=in_shape, n_classes=n_classes, **asdict(config))


def build_model(config: ModelConfig, in_shape: tuple[int, int, int], n_classes: int) -> IResNet:
    """The network of a config, with weights from torch's current random state."""
    return IResNet(spec_of(config, in_shape, n_classes))


@dataclass(frozen=True)
class Certified:
    """A network of plain convolutions, in eval mode, and its certificate.

    Plain, since under spectral normalization the last bits of a weight depend on sigma: a float32
    sum whose order depends on the processor and, on a GPU, on the number of layers.
    """

    model: IResNet
    certificate: Certificate

    @classmethod
    def of(cls, model: IResNet, effort: Effort = "full") -> "Certified":
        """Certify a plain copy of a model as it is now. Raises OwnCodeError if a block of the
        user's own gives no bounds."""
        plain = deployed(model).eval()
        with own_blocks():
            return cls(plain, certify(plain, effort))


def save_network(
    folder: Path,
    network: Certified,
    answers: OnSplits,
    trial: TrialConfig,
    dataset: Dataset,
    base: IResNet | None = None,
) -> None:
    """Write a network as `write_network` does, with CERTIFICATE, INVERSE, VAL_RIGHT,
    TEST_RADII and RECONSTRUCTIONS.

    Args:
        answers: of the network.
        trial: the one that trained it, on `dataset`.
        base: for a projection, the trained network that it was made from; for a member of a family,
            the network with the shared weights.
    """
    model, certificate = network.model, network.certificate
    val, settings = dataset.val, trial.evaluation
    description = {
        "architecture": architecture(trial.model, dataset.in_shape, dataset.n_classes),
        "data": {
            "name": trial.data.name,
            "n_train": len(dataset.train),
            "n_val": len(val),
            "n_test": len(dataset.test),
            "sha256": dataset.sha256,
            "normalization": dataset.normalization,
        },
        **trial.meaning,
    }
    write_network(folder, model, description, base)
    proof = {
        **certificate.to_dict(),
        "empirical_lipschitz": list(
            empirical_lipschitz(model, normalized(val.images[:N_JACOBIAN_SAMPLES]))
        ),
        "on_validation_split": certified_curve(answers.val),
        "on_test_split": certified_curve(answers.test),
    }
    images = normalized(val.images[:N_CURVE_SAMPLES])
    pictures = reconstructions(model, certificate, val, settings)
    inverse = {
        **inverse_curve(model, certificate, images),
        **predicted_and_needed_steps(model, certificate, images, settings),
        LARGEST_PIXEL_ERROR: finite(save_reconstructions(folder / RECONSTRUCTIONS, *pictures)),
    }
    right, certified = answers.val.right, answers.val.certified(trial.radius)
    kept = packed(right.tolist(), certified.tolist(), trial.radius)
    radii = packed_radii(answers.test.radii.numpy(), trial.radius)
    files = {CERTIFICATE: proof, INVERSE: inverse, VAL_RIGHT: kept, TEST_RADII: radii}
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=1) + "\n")


def architecture(
    config: ModelConfig, in_shape: tuple[int, int, int], n_classes: int
) -> dict[str, Any]:
    """The arguments of IResNet for a network as it is stored: with plain convolutions in place of
    spectrally normalized ones."""
    plain = replace(config, norm="none") if config.norm == "spectral" else config
    return {"in_shape": in_shape, "n_classes": n_classes, **asdict(plain)}
