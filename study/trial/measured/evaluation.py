"""Measures a network in eval mode: its accuracy, certified radii and inverse."""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models import (
    Certificate,
    IResNet,
    Solution,
    certified_answers,
    deployed,
    predicted_steps,
    recompute_batch_norm,
)
from study.config.trial import EvaluationConfig, Precision, TrialConfig
from study.metrics.definitions import (
    CERTIFIED_ACCURACY,
    RECONSTRUCTION_ERROR,
    TEST_ACCURACY,
    TEST_CERTIFIED_ACCURACY,
)
from study.metrics.reports import Evaluation
from study.trial.data.tensors import OFFSET, Split, batches, normalized
from study.trial.measured.own import check_attained, measure_own

BATCH_SIZE = 500
# Images of the validation split at which the Jacobians of the blocks are taken.
N_JACOBIAN_SAMPLES = 8
# Training images for the statistics of the classifier.
_N_STATISTICS_IMAGES = 2_000
# The curve of reconstruction error against steps: number of images, largest number of steps, and a
# tolerance at which float32 rounds further steps away. One batch has each image once for each
# number of steps, and stops each as it converges: about the cost of inverting 256 images.
N_CURVE_SAMPLES, _CURVE_STEPS, _CURVE_RTOL = 12, 20, 1e-7
# Points of the curve of certified accuracy.
_N_CURVE_RADII = 65
# Images of the validation split that are kept beside their reconstructions.
_N_RECONSTRUCTIONS = 12


def statistics_images(train: Split) -> list[Tensor]:
    """Batches of training images, without augmentation or labels, that set the statistics of the
    classifier's BatchNorm before a network is evaluated."""
    images = train.images[:_N_STATISTICS_IMAGES]
    n_batches = -(-len(images) // BATCH_SIZE)
    return [normalized(batch) for batch in images.tensor_split(n_batches)]


def refresh_statistics(model: IResNet, train: Split) -> None:
    """Recompute the statistics of the classifier's BatchNorm, if it has one, from training images:
    the running ones of training are averages over past weights, with dropout."""
    if any(isinstance(module, nn.BatchNorm2d) for module in model.classifier):
        recompute_batch_norm(model, statistics_images(train))


def in_precision(model: IResNet, precision: Precision) -> IResNet:
    """The network in a precision: the model itself for float32, a copy of it for float64."""
    return model if precision == "float32" else deployed(model).double()


@dataclass(frozen=True)
class Answers:
    """A classifier's answers on a split.

    Attributes:
        loss: the mean cross entropy, in nats.
        right: bool (N,) on the CPU, whether each image is classified right.
        radii: float64 (N,) on the CPU: the proven radii, from `certified_radius`.
        unrounded: float64 (N,) on the CPU: the radii that exact arithmetic would give.
    """

    loss: float
    right: Tensor
    radii: Tensor
    unrounded: Tensor

    @property
    def accuracy(self) -> float:
        """The fraction of the images that are classified right, in [0, 1]."""
        return _fraction(self.right)

    def certified(self, radius: float) -> Tensor:
        """Whether each image is classified right with a proven radius above `radius` >= 0, l2, in
        pixels of [0, 1]: bool (N,) on the CPU."""
        return self.radii > radius

    def certified_accuracy(self, radius: float) -> float:
        """The fraction of the images that are `certified`, in [0, 1]."""
        return _fraction(self.certified(radius))

    def lost_to_rounding(self, radius: float) -> float:
        """The fraction of the images that are not `certified`, but would be in exact arithmetic.
        Images whose radius is -inf, since their rounding has no bound, do not count."""
        return _fraction(
            (self.unrounded > radius) & (self.radii <= radius) & (self.radii > -math.inf)
        )


def _fraction(of_images: Tensor) -> float:
    return int(of_images.sum()) / len(of_images)


@dataclass(frozen=True)
class OnSplits:
    """Answers of one network on the validation split and on the test split."""

    val: Answers
    test: Answers


@torch.no_grad()
def evaluate(
    model: IResNet, split: Split, precision: Precision, certificate: Certificate
) -> Answers:
    """The answers, with proven radii, of a model in eval mode on a split, in a precision."""
    assert not model.training
    dtype, device = getattr(torch, precision), split.labels.device
    total_loss = torch.zeros((), device=device, dtype=torch.float64)
    right = torch.empty(len(split), dtype=torch.bool, device=device)
    radii, unrounded = torch.empty(2, len(split), dtype=torch.float64, device=device)
    for rows in batches(split, BATCH_SIZE):
        labels = split.labels[rows]
        images = normalized(split.images[rows]).to(dtype)
        certified = certified_answers(model, images, labels, certificate)
        radii[rows], unrounded[rows], logits = certified
        if logits is None:
            logits = in_precision(model, precision)(images)
        total_loss += F.cross_entropy(logits, labels, reduction="sum")
        right[rows] = logits.argmax(1) == labels
    return Answers(total_loss.item() / len(split), right.cpu(), radii.cpu(), unrounded.cpu())


def measure(
    model: IResNet, val: Split, trial: TrialConfig, certificate: Certificate
) -> tuple[Evaluation, Answers]:
    """Measure a trial's network, in eval mode, on the validation split. Returns (evaluation,
    answers): all that is measured and proven; its answers on the split. Raises OwnCodeError if the
    user's own metric gives no finite number, or the user's own block exceeds a bound it states."""
    check_attained(model, normalized(val.images[:N_JACOBIAN_SAMPLES]), certificate)
    answers = evaluate(model, val, trial.precision, certificate)
    images = normalized(val.images[: trial.evaluation.n_inverse_samples])
    inverse_steps, reconstruction_error, noise_error = measure_inverse(
        model, images, certificate, trial.evaluation
    )
    evaluation = Evaluation(
        val_loss=answers.loss,
        val_accuracy=answers.accuracy,
        certified_accuracy=answers.certified_accuracy(trial.radius),
        median_radius=answers.radii.median().item(),
        lost_to_rounding=answers.lost_to_rounding(trial.radius),
        logit_lipschitz_upper_bound=certificate.logit_lipschitz_upper_bound,
        inverse_lipschitz_upper_bound=certificate.inverse_lipschitz_upper_bound,
        block_lipschitz_upper_bound=certificate.lipschitz_upper_bound,
        inverse_steps=inverse_steps,
        reconstruction_error=reconstruction_error,
        noise_error=noise_error,
        own=measure_own(model, val, trial, certificate),
    )
    return evaluation, answers


def measure_test(
    model: IResNet, test: Split, trial: TrialConfig, certificate: Certificate
) -> tuple[dict[str, Any], Answers]:
    """({metric: accuracy in [0, 1]}, answers) of a network in eval mode on the test split."""
    answers = evaluate(model, test, trial.precision, certificate)
    accuracies = {
        TEST_ACCURACY: answers.accuracy,
        TEST_CERTIFIED_ACCURACY: answers.certified_accuracy(trial.radius),
    }
    return accuracies, answers


def certified_curve(answers: Answers) -> dict[str, Any]:
    """The curve of certified accuracy against the radius, up to the largest proven radius."""
    largest = answers.radii.clamp(min=0).nan_to_num(posinf=0.0).max().item()
    grid = torch.linspace(0, largest, _N_CURVE_RADII, dtype=torch.float64).tolist()
    return {
        "n_images": len(answers.radii),
        "radius": grid,
        CERTIFIED_ACCURACY: [answers.certified_accuracy(radius) for radius in grid],
    }


@torch.no_grad()
def measure_inverse(
    model: IResNet, images: Tensor, certificate: Certificate, settings: EvaluationConfig
) -> tuple[float, float, float]:
    """Returns (inverse_steps, reconstruction_error, noise_error), as study.metrics defines them, of
    a network in eval mode on normalized images."""
    rtol, max_steps = settings.inverse_rtol, settings.inverse_max_steps
    features = model.features(images)
    exact, rounded = (
        _inverted(model, certificate, z, rtol, max_steps)
        for z in (features, features.bfloat16().to(features.dtype))
    )
    n_steps = torch.where(exact.converged, exact.n_steps, max_steps)
    return (
        n_steps.sum().item() / max(1, n_steps.numel()),
        _relative_error(exact.last_iterate, images),
        _relative_error(rounded.last_iterate, images),
    )


@torch.no_grad()
def inverse_curve(model: IResNet, certificate: Certificate, images: Tensor) -> dict[str, Any]:
    """Reconstruction error after 1, 2, ... 20 steps in every block (paper, Figure 4): the mean over
    the images of ||x - x_hat||_2 / ||x||_2; None where it is not finite."""
    limits = torch.arange(1, _CURVE_STEPS + 1, device=images.device)
    n = len(images)
    z = model.features(images).repeat(_CURVE_STEPS, 1, 1, 1)
    solution = _inverted(model, certificate, z, _CURVE_RTOL, limits.repeat_interleave(n))
    errors = (_relative_error(part, images) for part in solution.last_iterate.split(n))
    return {
        "n_samples": n,
        "n_steps": limits.tolist(),
        RECONSTRUCTION_ERROR: list(map(finite, errors)),
    }


@torch.no_grad()
def predicted_and_needed_steps(
    model: IResNet, certificate: Certificate, images: Tensor, settings: EvaluationConfig
) -> dict[str, Any]:
    """For each block, the steps after which plain fixed-point iteration is proven to stop
    (`predicted_steps`) and those that the inverse needed (`needed_steps_mean`, `needed_steps_max`);
    and proven bounds, l2, of the distance of the reconstruction from the exact preimage of the
    features (`error_bound`) and from the image (`image_error_bound`). All but the mean are the
    largest over the images."""
    rtol, max_steps = settings.inverse_rtol, settings.inverse_max_steps
    first_errors, x = [], images
    blocks = set(model.blocks)
    for module in model.body:
        image = module(x)
        if module in blocks:
            # The first error of inverting the block alone, from its exact output.
            first_errors.append((image - x).flatten(1).norm(dim=1) / x.flatten(1).norm(dim=1))
        x = image
    solution = model.inverse(x, rtol=rtol, max_steps=max_steps, certificate=certificate)
    assert solution.error_bound is not None
    assert solution.image_error_bound is not None
    return {
        "rtol": rtol,
        "predicted_steps": [
            predicted_steps(bound, rtol, errors.max().item())
            for bound, errors in zip(certificate.block_bounds, first_errors, strict=True)
        ],
        "needed_steps_mean": solution.n_steps.double().mean(dim=1).tolist(),
        "needed_steps_max": solution.n_steps.amax(dim=1).tolist(),
        # A body without blocks inverts nothing.
        "error_bound": finite(max(solution.error_bound[:1].flatten().tolist(), default=0.0)),
        "image_error_bound": finite(solution.image_error_bound.max().item()),
    }


@torch.no_grad()
def reconstructions(
    model: IResNet, certificate: Certificate, val: Split, settings: EvaluationConfig
) -> tuple[Tensor, Tensor]:
    """Returns (images, reconstructions) of the validation split: float (N, C, H, W) on the CPU, 0
    black and 1 white. Reconstructions are last iterates, converged or not, and may have NaN."""
    images, rtol = normalized(val.images[:_N_RECONSTRUCTIONS]), settings.inverse_rtol
    z = model.features(images)
    solution = _inverted(model, certificate, z, rtol, settings.inverse_max_steps)
    return (images - OFFSET).cpu(), (solution.last_iterate - OFFSET).cpu()


def finite(value: float) -> float | None:
    """The value, or None for infinities and NaN, which JSON cannot hold."""
    return value if math.isfinite(value) else None


def _inverted(
    model: IResNet, certificate: Certificate, z: Tensor, rtol: float, max_steps: int | Tensor
) -> Solution:
    """Invert features z. The certificate is passed on only where convergence needs it: for blocks
    that are invertible but not contractions."""
    needs = certificate.invertible and not certificate.contraction
    return model.inverse(
        z,
        rtol=rtol,
        max_steps=max_steps,
        certificate=certificate if needs else None,
        bound_error=False,
    )


def _relative_error(reconstruction: Tensor, images: Tensor) -> float:
    """Mean over samples of ||x - x_hat||_2 / ||x||_2; infinite where x_hat is not finite."""
    difference = (reconstruction - images).flatten(1).double().norm(dim=1)
    error = (difference / images.flatten(1).double().norm(dim=1)).mean().item()
    return error if math.isfinite(error) else math.inf
