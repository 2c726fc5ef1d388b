"""One trial, from settings to numbers: train a network, evaluate, certify and invert it.

Needs torch and torchvision, and knows nothing of Ray, MLflow or Optuna:

    for report in train(TrialConfig(...)):
        print(report)
"""

import bisect
import copy
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import models
from models import (
    Certificate,
    IResNet,
    certify,
    code_sha256,
    empirical_lipschitz,
    predicted_steps,
    weights_sha256,
)
from models.iresnet import check_arguments
from models.projection import recompute_batch_norm
from study import data
from study.errors import ConfigError
from study.metrics import (
    VAL_LOSS,
    EpochReport,
    Evaluation,
    TrialReport,
    TrialStatus,
    first_non_finite,
)
from study.trial_config import EvaluationConfig, ModelConfig, TrainingConfig, TrialConfig

_EVALUATION_BATCH_SIZE = 500
# Training images from which the statistics of the classifier are taken.
_N_STATISTICS_IMAGES = 2_000
# The curve of reconstruction error against steps: images, and the most steps. All numbers of
# steps are one batch, and samples stop as they converge, so that the curve costs about what
# inverting 256 images does.
_CURVE_SAMPLES = 12
_CURVE_STEPS = 20
# The steps of a sample are no longer seen in float32 below this.
_CURVE_RTOL = 1e-7
# The largest learning rate of fine-tuning, as a part of the training's.
_FINE_TUNE_LR = 0.1
# Images of the validation split that are kept beside their reconstructions.
_N_RECONSTRUCTIONS = 12
# Where the Jacobians of the blocks are looked at: images of the validation split.
_JACOBIAN_SAMPLES = 8


def train(config: TrialConfig, device: str | torch.device = "cpu") -> Iterator[TrialReport]:
    """Train from the start and yield a report after each reporting epoch, to the last."""
    choose_algorithms(config.training.deterministic)
    training = Training(config, device)
    while training.status is TrialStatus.RUNNING:
        yield training.run_to_report()


def choose_algorithms(deterministic: bool) -> None:
    """For the whole process: algorithms that give the same bits each time, or any; and
    float32 that means float32, not the TF32 of newer GPUs, whose 10 bits no inverse survives."""
    # cuBLAS reads it when CUDA starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


class Training:
    """A trial in the making: call run_to_report until `status` is no longer running.

    The randomness of epoch e depends on (seed, e) alone, so a training that is restored
    from state_dict() goes on exactly as it would have gone on.

    Args:
        config: all that decides the numbers.
        device: where to train.
        dataset: what config.data means, if it is at hand; loaded otherwise.
    """

    def __init__(
        self,
        config: TrialConfig,
        device: str | torch.device = "cpu",
        dataset: data.Dataset | None = None,
    ) -> None:
        self.config = config
        self.device = torch.device(device)
        self.dataset = (dataset or data.load(config.data)).to(self.device)
        with _seeded(config.seed, 0, self.device):
            model = build_model(config.model, self.dataset.in_shape, self.dataset.n_classes)
        self.model = model.to(self.device)
        # Shares the parameters and buffers of the model.
        self._forward = (
            torch.compile(self.model, fullgraph=True) if config.training.compile else self.model
        )
        self.optimizer = _optimizer(self.model, config.training)
        self.epoch = 0
        self.status = TrialStatus.RUNNING

    def run_to_report(self) -> TrialReport:
        """Train to the next reporting epoch and measure; failed if it diverged on the way."""
        assert self.status is TrialStatus.RUNNING
        settings = self.config.training
        n_epochs = min(settings.report_every, settings.max_epochs - self.epoch)
        start = time.perf_counter()
        for _ in range(n_epochs):
            train_loss, train_accuracy = self._train_epoch()
            self.epoch += 1
            if not math.isfinite(train_loss):
                return self._failed(f"diverged: train_loss is {train_loss} in epoch {self.epoch}")
        seconds = time.perf_counter() - start
        last = self.epoch == settings.max_epochs
        report = self._measure(train_loss, train_accuracy, seconds / n_epochs, last)
        not_finite = first_non_finite(report.metrics(), (VAL_LOSS, *self.config.objectives))
        if not_finite:
            return self._failed(f"{not_finite} after epoch {self.epoch}")
        if last:
            self.status = TrialStatus.COMPLETED
        return TrialReport(self.status, report)

    def _failed(self, reason: str) -> TrialReport:
        self.status = TrialStatus.FAILED
        return TrialReport(self.status, reason=reason)

    def _train_epoch(self) -> tuple[float, float]:
        """(mean loss, accuracy) over the steps of one epoch."""
        settings = self.config.training
        split = self.dataset.train
        generator = torch.Generator().manual_seed(_mixed(self.config.seed, self.epoch + 1))
        batches = data.batches(split, settings.batch_size, generator)
        drawn = self.dataset.augmentation.draw(len(split), generator, self.device)
        # Summed on the device: nothing waits for it before the epoch ends.
        total_loss = torch.zeros((), device=self.device)
        n_right = torch.zeros((), device=self.device)
        self.model.train()
        with _seeded(self.config.seed, self.epoch + 1, self.device):
            for step, rows in enumerate(batches):
                progress = (self.epoch + step / len(batches)) / settings.max_epochs
                for group in self.optimizer.param_groups:
                    group["lr"] = learning_rate(settings, progress)
                images = self.dataset.augmentation(split.images[rows], drawn[rows])
                labels = split.labels[rows]
                loss, logits = self._step(self.model, self._forward, self.optimizer, images, labels)
                total_loss += loss * len(labels)
                n_right += (logits.argmax(1) == labels).sum()
        return total_loss.item() / len(split), n_right.item() / len(split)

    def _step(
        self,
        model: IResNet,
        forward: Callable[[Tensor], Tensor],
        optimizer: torch.optim.Optimizer,
        images: Tensor,
        labels: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """One optimizer step on uint8 images; (loss, logits) before it, without a graph."""
        bf16 = self.config.training.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            logits = forward(data.normalized(images))
            loss = F.cross_entropy(logits, labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        model.update_spectral_norm()
        return loss.detach(), logits.detach()

    def fine_tune(self, model: IResNet, n_steps: int, seed: int) -> None:
        """Train a network like the trial's own further, in place, on this trial's data.

        The learning rate decays along a cosine from _FINE_TUNE_LR of the trial's to zero.

        Args:
            model: its mode becomes that of training.
            n_steps: optimizer steps, >= 0.
            seed: of batches, augmentation and dropout, together with the trial's seed.
        """
        settings, split = self.config.training, self.dataset.train
        optimizer = _optimizer(model, settings)
        generator = torch.Generator().manual_seed(_mixed(self.config.seed, seed))
        model.train()
        with _seeded(self.config.seed, seed, self.device):
            rows: list[Tensor] = []
            for step in range(n_steps):
                rows = rows or list(data.batches(split, settings.batch_size, generator))
                batch = rows.pop()
                drawn = self.dataset.augmentation.draw(len(batch), generator, self.device)
                decay = 0.5 * (1 + math.cos(math.pi * step / n_steps))
                for group in optimizer.param_groups:
                    group["lr"] = settings.lr * _FINE_TUNE_LR * decay
                images = self.dataset.augmentation(split.images[batch], drawn)
                self._step(model, model, optimizer, images, split.labels[batch])

    def _measure(
        self, train_loss: float, train_accuracy: float, epoch_seconds: float, last: bool
    ) -> EpochReport:
        self.model.eval()
        # What training left are averages over past weights, under dropout.
        recompute_batch_norm(self.model, self.statistics_images())
        measured = measure(self.model, self.dataset.val, self.config.evaluation)
        return EpochReport(
            epoch=self.epoch,
            timestamp=time.time(),
            train_loss=train_loss,
            train_accuracy=train_accuracy,
            **asdict(measured),
            epoch_seconds=epoch_seconds,
            # The test data is read once, for a trial that is done.
            test_accuracy=evaluate(self.model, self.dataset.test)[1] if last else None,
        )

    def state_dict(self) -> dict[str, Any]:
        """All that load_state_dict needs to go on from here; tensors and plain values only."""
        return {
            "epoch": self.epoch,
            "status": self.status.value,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state_dict() of a training with the same config."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch = state["epoch"]
        self.status = TrialStatus(state["status"])

    def statistics_images(self) -> list[Tensor]:
        """Batches of training images, neither augmented nor labelled, that set the statistics of
        the classifier's BatchNorm before a network is evaluated."""
        images = self.dataset.train.images[:_N_STATISTICS_IMAGES]
        n_batches = -(-len(images) // _EVALUATION_BATCH_SIZE)
        return [data.normalized(batch) for batch in images.tensor_split(n_batches)]

    def save_outcome(self, directory: Path) -> None:
        """Write what a completed trial leaves, as save_network does."""
        assert self.status is TrialStatus.COMPLETED
        self.save_network(directory, self.model, self.config.model)

    def save_network(self, directory: Path, model: IResNet, config: ModelConfig) -> None:
        """Write a network on this trial's data: weights.pt and network.json, from which load_model
        builds it, certificate.json and inverse.json.

        Args:
            model: its mode becomes eval.
            config: what load_model shall build for its weights.
        """
        model.eval()
        dataset = self.dataset
        architecture = {
            "in_shape": dataset.in_shape,
            "n_classes": dataset.n_classes,
            **asdict(config),
        }
        on_data = {
            "name": self.config.data.name,
            "n_train": len(dataset.train),
            "n_val": len(dataset.val),
            "n_test": len(dataset.test),
            "sha256": dataset.sha256,
            "normalization": data.NORMALIZATION,
        }
        identity = {
            "architecture": architecture,
            "data": on_data,
            "code_sha256": code_sha256(Path(models.__file__).parent),
            "weights_sha256": weights_sha256(model),
        }
        _write_json(directory / "network.json", identity)
        torch.save(model.state_dict(), directory / "weights.pt")
        # Of the network as it is stored: on another device sigma has other last bits.
        certificate = certify(copy.deepcopy(model).cpu())
        images = data.normalized(self.dataset.val.images[:_JACOBIAN_SAMPLES])
        sampled = empirical_lipschitz(model, images)
        content = {**certificate.to_dict(), "empirical_lipschitz": list(sampled)}
        _write_json(directory / "certificate.json", content)
        evaluation = self.config.evaluation
        images = data.normalized(self.dataset.val.images[:_CURVE_SAMPLES])
        content = {
            **inverse_curve(model, images),
            **predicted_and_needed_steps(
                model,
                certificate,
                images,
                rtol=evaluation.inverse_rtol,
                max_steps=evaluation.inverse_max_steps,
            ),
        }
        _write_json(directory / "inverse.json", content)

    @torch.no_grad()
    def reconstructions(self, model: IResNet) -> tuple[Tensor, Tensor]:
        """Images of the validation split, and what the inverse makes of their features: float
        (N, C, H, W) on the CPU, 0 black and 1 white. Last iterates, whether they converged or not:
        they may be anything, NaN too."""
        images = data.normalized(self.dataset.val.images[:_N_RECONSTRUCTIONS])
        evaluation = self.config.evaluation
        solution = model.eval().inverse(
            model.features(images),
            rtol=evaluation.inverse_rtol,
            max_steps=evaluation.inverse_max_steps,
        )
        found = solution.last_iterate
        return data.brightness(images).cpu(), data.brightness(found).cpu()


def check(config: TrialConfig) -> None:
    """Whether the data is there and the network fits it, without training anything.

    Raises:
        UserError: in one line, what does not fit.
    """
    in_shape, n_classes = data.describe(config.data)
    compiler = os.environ.get("CXX", "g++")
    if config.training.compile and shutil.which(compiler) is None:
        raise ConfigError(
            f"training.compile: a C++ compiler must be on the PATH, but got no {compiler}"
        )
    try:
        check_arguments(in_shape, n_classes, **asdict(config.model))
    except ValueError as error:
        raise ConfigError(f"model on {config.data.name} images: {error}") from error


def build_model(config: ModelConfig, in_shape: tuple[int, int, int], n_classes: int) -> IResNet:
    """The network that a config means; its weights come from torch's current random state."""
    return IResNet(in_shape, n_classes, **asdict(config))


def load_model(directory: Path) -> IResNet:
    """The network that Training.save_network wrote, in eval mode, on the CPU; runs no code from
    the files."""
    architecture = json.loads((directory / "network.json").read_text())["architecture"]
    with torch.random.fork_rng(devices=[]):  # the initial weights are replaced at once
        model = IResNet(**architecture)
    weights = torch.load(directory / "weights.pt", map_location="cpu", weights_only=True)
    model.load_state_dict(weights)
    return model.eval()


def _optimizer(model: IResNet, settings: TrainingConfig) -> torch.optim.SGD:
    return torch.optim.SGD(
        model.parameters(),
        lr=settings.lr,
        momentum=settings.momentum,
        nesterov=settings.nesterov,
        weight_decay=settings.weight_decay,
    )


def learning_rate(settings: TrainingConfig, progress: float) -> float:
    """The learning rate when a fraction `progress` in [0, 1) of the training is done."""
    if settings.lr_schedule == "step":
        # A milestone counts from the step that it names, for all that floats round.
        n_decays = bisect.bisect_right(settings.lr_milestones, progress + 1e-9)
        return settings.lr * settings.lr_decay**n_decays
    if progress < settings.warmup_fraction:
        return settings.lr * progress / settings.warmup_fraction
    rest = (progress - settings.warmup_fraction) / (1 - settings.warmup_fraction)
    return settings.lr * 0.5 * (1 + math.cos(math.pi * rest))


@torch.no_grad()
def evaluate(model: IResNet, split: data.Split) -> tuple[float, float]:
    """(mean cross entropy in nats, accuracy in [0, 1]) of a model in eval mode on a split."""
    assert not model.training
    total_loss = torch.zeros((), device=split.labels.device, dtype=torch.float64)
    n_right = torch.zeros((), device=split.labels.device)
    for rows in data.batches(split, _EVALUATION_BATCH_SIZE):
        labels = split.labels[rows]
        logits = model(data.normalized(split.images[rows]))
        total_loss += F.cross_entropy(logits, labels, reduction="sum")
        n_right += (logits.argmax(1) == labels).sum()
    return total_loss.item() / len(split), n_right.item() / len(split)


def measure(model: IResNet, val: data.Split, settings: EvaluationConfig) -> Evaluation:
    """What a network in eval mode is on a validation split."""
    val_loss, val_accuracy = evaluate(model, val)
    inverse_steps, reconstruction_error = measure_inverse(
        model,
        data.normalized(val.images[: settings.n_inverse_samples]),
        rtol=settings.inverse_rtol,
        max_steps=settings.inverse_max_steps,
    )
    return Evaluation(
        val_loss=val_loss,
        val_accuracy=val_accuracy,
        lipschitz_upper_bound=certify(model).lipschitz_upper_bound,
        inverse_steps=inverse_steps,
        reconstruction_error=reconstruction_error,
    )


@torch.no_grad()
def measure_inverse(
    model: IResNet, images: Tensor, *, rtol: float, max_steps: int
) -> tuple[float, float]:
    """(inverse_steps, reconstruction_error) as study.metrics defines them, in eval mode."""
    solution = model.inverse(model.features(images), rtol=rtol, max_steps=max_steps)
    n_steps = torch.where(solution.converged, solution.n_steps, max_steps)
    return n_steps.double().mean().item(), _relative_error(solution.last_iterate, images)


@torch.no_grad()
def inverse_curve(model: IResNet, images: Tensor) -> dict[str, Any]:
    """Reconstruction error after 1, 2, ... 20 steps in every block (paper, Figure 4).

    The mean over the images of ||x - x_hat||_2 / ||x||_2; None where it is not finite.
    """
    limits = torch.arange(1, _CURVE_STEPS + 1, device=images.device)
    n = len(images)
    z = model.features(images).repeat(_CURVE_STEPS, 1, 1, 1)
    limits = limits.repeat_interleave(n)
    solution = model.inverse(z, rtol=_CURVE_RTOL, max_steps=limits)
    errors = [_relative_error(part, images) for part in solution.last_iterate.split(n)]
    return {
        "n_samples": n,
        "n_steps": list(range(1, _CURVE_STEPS + 1)),
        "reconstruction_error": [e if math.isfinite(e) else None for e in errors],
    }


@torch.no_grad()
def predicted_and_needed_steps(
    model: IResNet, certificate: Certificate, images: Tensor, *, rtol: float, max_steps: int
) -> dict[str, Any]:
    """For each block: steps that the certificate predicts for rtol, and steps that were needed;
    and the proven bound of the error of the whole inverse, l2, largest over the images."""
    solution = model.inverse(
        model.features(images), rtol=rtol, max_steps=max_steps, lipschitz=certificate.block_bounds
    )
    assert solution.error_bound is not None
    error_bound = solution.error_bound[0].max().item()
    return {
        "rtol": rtol,
        "predicted_steps": [predicted_steps(bound, rtol) for bound in certificate.block_bounds],
        "needed_steps_mean": solution.n_steps.double().mean(dim=1).tolist(),
        "needed_steps_max": solution.n_steps.amax(dim=1).tolist(),
        "error_bound": error_bound if math.isfinite(error_bound) else None,
    }


def _relative_error(reconstruction: Tensor, images: Tensor) -> float:
    """Mean over samples of ||x - x_hat||_2 / ||x||_2; infinite where x_hat is not finite."""
    difference = (reconstruction - images).flatten(1).double().norm(dim=1)
    error = (difference / images.flatten(1).double().norm(dim=1)).mean().item()
    return error if math.isfinite(error) else math.inf


def _mixed(seed: int, epoch: int) -> int:
    """One seed, in the range that torch takes, out of a trial's seed and an epoch."""
    return (seed * 1_000_003 + epoch) % 2**63


@contextmanager
def _seeded(seed: int, epoch: int, device: torch.device) -> Iterator[None]:
    """torch's own random state, which initialization and dropout draw from, seeded inside and
    as it was outside."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(_mixed(seed, epoch))
        yield


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n")
