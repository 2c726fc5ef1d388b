"""How much of a network's answers is certified: one training of dense potential blocks.

    python -m tests.benchmarks.certified DATA [--data-root DIR] [--seeds 1] [--threads 2]
        [--set KEY=VALUE ...] [--control KEY=VALUE ...]

DATA: digits, mnist, cifar10 or image_folder. KEY is a setting of `model` or `training` of
study/config/trial.py, such as coeff=0.5 dense_blocks=16 max_epochs=5 margin=1.58. For each seed the
network, unless it has no blocks, and the control of a study: rows on the pixels, with the same
settings but for those of --control, such as rows=50 max_epochs=40.
On the test set, in percent right and certified within some radii, rounding included; what the
attack of the study leaves within the radius of the data set; the largest bound of Lip(g) and that
of the inverse; steps and mean relative error of the inverse of 256 validation images; seconds of
the training. Where there is an inverse, every image of the test set is reconstructed from its
features in each precision, a quarter of an hour for MNIST: the largest distance from the image, l2,
pixels from 0 to 1, and what is proven of it, with the image at hand and from its features alone. Of
a classifier alone, also what is certified counting that images lie in [0, 1]; of a network with
one row a class, what the bounds of its certificate certify alone. A coeff above 1 has no inverse.
Exits 1 if an image is certified and attacked all the same, or is farther from its reconstruction
than proven. Nothing else should run.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml

from models import certified_radius, certify, deployed
from study.config.data import DataConfig
from study.config.trial import ModelConfig, TrainingConfig, TrialConfig
from study.metrics.reports import TrialStatus
from study.trial.data.tensors import Split, normalized
from study.trial.measured.attack import BrokenProofError
from study.trial.measured.evaluation import evaluate
from study.trial.measured.network_files import Certified
from study.trial.randomness import choose_algorithms
from study.trial.training import Training
from tests.benchmarks.alternating import machine

_RADII = {
    "digits": (0.25, 0.5, 1.0),
    "mnist": (0.5, 1.0, 1.58),
    "cifar10": (36 / 255, 72 / 255, 108 / 255),
    "image_folder": (36 / 255, 72 / 255, 108 / 255),
}
_MODEL = ModelConfig(
    blocks=(), dense_blocks=8, channel_multiplier=1, bottleneck=1, head="lipschitz", dropout=0.0
)
_TRAINING = TrainingConfig(
    max_epochs=20,
    optimizer="muon",
    other_lr=0.06,
    lr_schedule="one_cycle",
    loss="margin",
    weight_decay=0.0,
)


def trial(data: str, root: Path, settings: dict[str, Any]) -> TrialConfig:
    """The trial of some settings, on top of those above."""
    split = {"val_fraction": 0.2, "shift": 0} if data == "digits" else {}
    config = TrialConfig(
        data=DataConfig(data, root=str(root), **split),
        model=_MODEL,
        training=_TRAINING,
    )
    for section in ("data", "model", "training"):
        of_section = getattr(config, section)
        names = {field.name for field in fields(of_section)}
        changes = {key: value for key, value in settings.items() if key in names}
        config = replace(config, **{section: replace(of_section, **changes)})
    # A report in the middle would only cost time.
    training = replace(config.training, report_every=config.training.max_epochs)
    return replace(config, training=training)


def reconstructed(network: Certified, split: Split, dtype: torch.dtype) -> tuple[str, int]:
    """(the largest distance, l2, of an image of a split from its reconstruction in a precision, and
    the largest bounds that are proven of it, with the image at hand and from its features alone;
    how many images are farther than proven)."""
    model = deployed(network.model).to(dtype)
    certificate = certify(model)
    inverse = partial(model.inverse, rtol=torch.finfo(dtype).eps, certificate=certificate)
    distances, at_hand, alone = [], [], []
    for images in split.images.split(500):
        x = normalized(images).to(dtype)
        with torch.no_grad():
            z = model.features(x)
        solution = inverse(z)
        with_images = inverse(z, images=x, bound_error=False)
        assert solution.image_error_bound is not None
        assert with_images.image_error_bound is not None
        distances.append((solution.last_iterate.double() - x.double()).flatten(1).norm(dim=1))
        at_hand.append(with_images.image_error_bound)
        alone.append(solution.image_error_bound)
    distance, *bounds = (torch.cat(of) for of in (distances, at_hand, alone))
    n_farther = sum(int((distance > bound).sum()) for bound in bounds)
    largest = [of.max().item() for of in (distance, *bounds)]
    return (
        f"{dtype}: reconstructed to {largest[0]:.2g}; proven {largest[1]:.2g} with the image at "
        f"hand, {largest[2]:.2g} from its features alone, in the median "
        f"{(bounds[1] / distance).median().item():.2g} times the distance; farther than proven: "
        f"{n_farther} of {2 * len(distance)}"
    ), n_farther


def in_box(network: Certified, split: Split, radii: Sequence[float]) -> str:
    """The shares of a split, in percent, that are certified in float64 within some radii for images
    with pixels in [0, 1]."""
    found = []
    for images, labels in zip(split.images.split(500), split.labels.split(500), strict=True):
        x = normalized(images).double()
        box = -0.5, 0.5
        found.append(certified_radius(network.model, x, labels, network.certificate, box=box))
    within = torch.cat(found)
    return ", ".join(f"{r:.3g}: {100 * (within > r).double().mean().item():.2f}" for r in radii)


def by_lipschitz_bounds(network: Certified, split: Split, radii: Sequence[float]) -> str:
    """The shares of a split, in percent, that the bounds of a certificate alone certify within some
    radii, without rounding."""
    certificate, model = network.certificate, deployed(network.model).double()
    between = torch.tensor(certificate.logit_difference_bounds, dtype=torch.float64)
    found = []
    for images, labels in zip(split.images.split(500), split.labels.split(500), strict=True):
        with torch.no_grad():
            logits = model(normalized(images).double())
        rows = labels.unsqueeze(1)
        quotients = (logits.gather(1, rows) - logits) / between[labels]
        found.append(quotients.scatter(1, rows, torch.inf).amin(dim=1))
    within = torch.cat(found) / certificate.features_lipschitz_upper_bound
    return ", ".join(f"{r:.3g}: {100 * (within > r).double().mean().item():.2f}" for r in radii)


def trained(name: str, config: TrialConfig) -> tuple[list[float], bool]:
    """([accuracy, certified within each radius], whether a proof was broken), on the test set."""
    training, broken = Training(config), False
    try:
        report = training.run_to_report()
    except BrokenProofError as error:
        print(error)
        return [], True
    assert training.status is TrialStatus.COMPLETED, report.reason
    assert report.epoch is not None
    network, measured = training.certified(), report.epoch
    answers = evaluate(network.model, training.dataset.test, config.precision, network.certificate)
    radii = _RADII[config.data.name]
    seconds = measured.epoch_seconds * config.training.max_epochs
    shares = [answers.accuracy, *(answers.certified_accuracy(r) for r in radii)]
    print(
        f"{name} seed {config.seed}: {100 * shares[0]:.2f}, certified within "
        f"{', '.join(f'{r:.3g}: {100 * s:.2f}' for r, s in zip(radii, shares[1:], strict=True))}; "
        f"attacked {100 * (measured.attacked_accuracy or 0.0):.1f}; bound "
        f"{measured.block_lipschitz_upper_bound:.3f}, inverse "
        f"{measured.inverse_lipschitz_upper_bound or 0.0:.3g}, {measured.inverse_steps:.1f} steps, "
        f"error {measured.reconstruction_error:.2g}; {seconds:.0f} s",
        flush=True,
    )
    if not network.model.blocks:
        print(
            f"  counting that images lie in [0, 1]: {in_box(network, training.dataset.test, radii)}"
        )
    if network.model.blocks and config.model.head == "lipschitz":
        alone = by_lipschitz_bounds(network, training.dataset.test, radii)
        print(f"  by Lipschitz bounds alone: {alone}", flush=True)
    if network.model.blocks and network.certificate.invertible:
        for dtype in (torch.float32, torch.float64):
            said, n_farther = reconstructed(network, training.dataset.test, dtype)
            print(f"  {said}", flush=True)
            broken |= n_farther > 0
    return shares, broken


def given(settings: Sequence[str]) -> dict[str, Any]:
    """The settings of KEY=VALUE, the last of those with one key."""
    pairs = (setting.partition("=") for setting in settings)
    return {key: yaml.safe_load(value) for key, _, value in pairs}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", choices=tuple(_RADII))
    parser.add_argument("--data-root", type=Path, default=Path("data"))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--set", nargs="*", default=[], dest="settings", metavar="KEY=VALUE")
    parser.add_argument("--control", nargs="*", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    choose_algorithms(deterministic=True)
    print(machine())
    whole, control = (
        trial(arguments.data, arguments.data_root, given(settings))
        for settings in (arguments.settings, [*arguments.settings, *arguments.control])
    )
    configs = {"network": whole, "control": control.alone}
    if whole.model == whole.alone.model:
        del configs["network"]
    n_broken = 0
    rows: dict[str, list[list[float]]] = {name: [] for name in configs}
    for seed in range(arguments.seeds):
        for name, config in configs.items():
            shares, broken = trained(name, replace(config, seed=seed))
            n_broken += broken
            rows[name].append(shares)
    if n_broken == 0:
        for name, of_seeds in rows.items():
            medians = [statistics.median(of) for of in zip(*of_seeds, strict=True)]
            print(f"{name}, median: {', '.join(f'{100 * share:.2f}' for share in medians)}")
    return int(n_broken > 0)


if __name__ == "__main__":
    sys.exit(main())
