"""The steps of one trial, epoch by epoch, from settings to reports.

training = Training(TrialConfig(...))
while training.status is TrialStatus.RUNNING:
    print(training.run_to_report())
"""

import math
import time
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from models import (
    SLOPE_KNOWN,
    Family,
    IResNet,
    NotReversedError,
    by_image,
    kept_bytes,
    margin_loss,
    training_features,
)
from study.config.trial import MARGIN, TrainingConfig, TrialConfig
from study.errors import OwnCodeError
from study.metrics.definitions import ATTACKED_ACCURACY, TRAIN_LOSS, diverged
from study.metrics.reports import EpochReport, TrialReport, TrialStatus
from study.trial.data import sources
from study.trial.data.tensors import Dataset, batches, normalized
from study.trial.device import device_name, gpu_use, memory_bytes
from study.trial.head import make_loss, start, target_lipschitz, temperature_at
from study.trial.measured.attack import attacked_accuracy
from study.trial.measured.evaluation import (
    OnSplits,
    evaluate,
    measure,
    measure_test,
    refresh_statistics,
)
from study.trial.measured.network_files import Certified, build_model, spec_of
from study.trial.optimizers import Optimizer, fine_tune_lr_factor, lr_factor, make_optimizer
from study.trial.randomness import mixed_seed, seeded

# The members of a family that the images of a batch are passed through, at most; and where a
# BatchNorm needs several images of each.
_MEMBERS_AT_ONCE, _WITH_BATCH_NORM = 16, 4
# Of the memory of a device, for the maps that a backward pass needs: more takes a reversible one.
_LARGEST_SHARE = 0.25


class Training:
    """The training of one trial: call run_to_report while `status` is running.

    The randomness of epoch e depends on (seed, e) alone, so a training that is restored from
    state_dict() goes on exactly as it would have gone on. `dataset`, if given, must be the data set
    of config.data, which is loaded otherwise.

    With a family, all of its members are trained at once, and `model`, the trial's own network, is
    the member in the middle: made anew whenever it is measured.
    """

    def __init__(
        self,
        config: TrialConfig,
        device: str | torch.device = "cpu",
        dataset: Dataset | None = None,
    ) -> None:
        self.config = config
        self.device = torch.device(device)
        self.dataset = (dataset or sources.load(config.data)).to(self.device)
        in_shape, n_classes = self.dataset.in_shape, self.dataset.n_classes
        self.family: Family | None = None
        with seeded(config.seed, 0, self.device):
            if config.family:
                spec = spec_of(config.model, in_shape, n_classes)
                self.family = Family(spec, dict(config.family)).to(self.device)
                model = self.family.middle
            else:
                model = build_model(config.model, in_shape, n_classes)
        self.model = model.to(self.device)
        if model.head.starts_from_images:
            start(model, self.dataset.train, config.seed)
            if self.family is not None:
                self.family.base.classifier.load_state_dict(model.classifier.state_dict())
        # Shares the parameters and buffers of the model.
        self._features = (
            torch.compile(self.model.features, fullgraph=True) if config.training.compile else None
        )
        self._reversible = _reversible(self.model, config.training, self.device)
        family = self.family
        # The network whose weights the steps change.
        trained = self.model if family is None else family.base
        beside = [] if family is None else list(zip(family.conditioned, family.slopes, strict=True))
        self.optimizer = make_optimizer(trained, config.training, beside)
        self._loss = make_loss(config, target_lipschitz(self.model))
        self.epoch = 0
        self.status = TrialStatus.RUNNING
        self._completed: Certified | None = None
        self._answers: OnSplits | None = None

    def run_to_report(self) -> TrialReport:
        """Train to the next reporting epoch and measure. A divergence is reported as failed."""
        assert self.status is TrialStatus.RUNNING
        settings = self.config.training
        n_epochs = min(settings.report_every, settings.max_epochs - self.epoch)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        start = time.perf_counter()
        for _ in range(n_epochs):
            try:
                train_loss, train_accuracy = self._train_epoch()
            except NotReversedError as error:
                return self.failed(f"training.reversible, in epoch {self.epoch + 1}: {error}")
            self.epoch += 1
            if not math.isfinite(train_loss):
                return self.failed(f"diverged: {TRAIN_LOSS} is {train_loss} in epoch {self.epoch}")
        return self._reported(
            train_loss=train_loss,
            train_accuracy=train_accuracy,
            epoch_seconds=(time.perf_counter() - start) / n_epochs,
            # Sampled before anything is measured: it covers the last second or less.
            device_use=gpu_use(self.device),
        )

    def train(self) -> bool:
        """Train for all epochs, measuring nothing; returns whether every loss was finite."""
        while self.epoch < self.config.training.max_epochs:
            loss, _ = self._train_epoch()
            self.epoch += 1
            if not math.isfinite(loss):
                return False
        self._take_middle()
        self.model.eval()
        refresh_statistics(self.model, self.dataset.train)
        return True

    def completed(self) -> TrialReport:
        """Complete the trial with its network as it is now, trained by other code; measure it."""
        self.model.to(self.device)
        self.epoch = self.config.training.max_epochs
        return self._reported(train_loss=None, train_accuracy=None, epoch_seconds=None)

    def _reported(self, **of_training: Any) -> TrialReport:
        """Measure the network as it is; `of_training` are further fields of the EpochReport."""
        config, dataset = self.config, self.dataset
        last = self.epoch == config.training.max_epochs
        of_test: dict[str, Any] = {}
        self._take_middle()
        self.model.eval()
        refresh_statistics(self.model, dataset.train)
        try:
            # The last network is stored, and so gets the smallest bounds.
            network = Certified.of(self.model, "full" if last else "fast")
            model, certificate = network.model, network.certificate
            measured, answers = measure(model, dataset.val, config, certificate)
            if last:
                # The test data is read once, for a trial that is done.
                of_test, test_answers = measure_test(model, dataset.test, config, certificate)
                self._completed, self._answers = network, OnSplits(answers, test_answers)
                attacked = attacked_accuracy(model, dataset.test, config, certificate)
                of_test[ATTACKED_ACCURACY] = attacked
        except OwnCodeError as error:
            return self.failed(str(error))
        on_gpu = self.device.type == "cuda"
        report = EpochReport(
            epoch=self.epoch,
            timestamp=time.time(),
            **asdict(measured),
            **of_training,
            **of_test,
            peak_memory_bytes=torch.cuda.max_memory_allocated(self.device) if on_gpu else None,
            device=device_name(self.device),
        )
        if not_finite := diverged(report.metrics(), config.objectives):
            return self.failed(f"{not_finite} after epoch {self.epoch}")
        if last:
            self.status = TrialStatus.COMPLETED
        return TrialReport(self.status, report)

    def _take_middle(self) -> None:
        if self.family is not None:
            self.model = self.family.middle

    def certified(self) -> Certified:
        """The network of a completed training, certified with full effort."""
        assert self.status is TrialStatus.COMPLETED
        if self._completed is None:
            self._completed = Certified.of(self.model)
        return self._completed

    def answers(self) -> OnSplits:
        """The answers of the network of a completed training."""
        if self._answers is None:
            network, precision = self.certified(), self.config.precision
            val, test = (
                evaluate(network.model, split, precision, network.certificate)
                for split in (self.dataset.val, self.dataset.test)
            )
            self._answers = OnSplits(val, test)
        return self._answers

    def failed(self, reason: str) -> TrialReport:
        """End the trial as failed; returns its last report."""
        self.status = TrialStatus.FAILED
        return TrialReport(self.status, reason=reason)

    def _train_epoch(self) -> tuple[float, float]:
        """Train for one epoch; returns (mean loss, accuracy) on the images of its steps."""
        settings = self.config.training
        split = self.dataset.train
        generator = torch.Generator().manual_seed(mixed_seed(self.config.seed, self.epoch + 1))
        epoch_batches = batches(split, settings.batch_size, generator)
        drawn = self.dataset.augmentation.draw(len(split), generator, self.device)
        # Summed on the device, so that nothing waits for it before the epoch ends.
        total_loss = torch.zeros((), device=self.device)
        n_right = torch.zeros((), device=self.device)
        self.model.train()
        with seeded(self.config.seed, self.epoch + 1, self.device):
            for step, rows in enumerate(epoch_batches):
                progress = (self.epoch + step / len(epoch_batches)) / settings.max_epochs
                self.optimizer.lr_factor = lr_factor(settings, progress)
                images = self.dataset.augmentation(split.images[rows], drawn[rows])
                labels = split.labels[rows]
                if self.family is None:
                    loss, logits = self._step(self.model, self.optimizer, images, labels)
                else:
                    loss, logits = self._family_step(self.family, images, labels, generator)
                total_loss += loss * len(labels)
                n_right += (logits.argmax(1) == labels).sum()
            self._refine(self.model if self.family is None else self.family.base)
        return total_loss.item() / len(split), n_right.item() / len(split)

    def _refine(self, model: IResNet) -> None:
        """Undo what bf16 left: rows that it made orthonormal up to its rounding."""
        if self.config.training.precision == "bf16":
            model.update_spectral_norm()

    def _step(
        self, model: IResNet, optimizer: Optimizer, images: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One optimizer step on images of a Split; returns its (loss, logits), detached."""
        compiled = self._features if model is self.model else None
        head, classifier = model.head, model.classifier
        bf16 = self.config.training.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            images = normalized(images)
            if compiled is None:
                features = training_features(model, images, reversible=self._reversible)
            else:
                features = compiled(images)
            scores = head.scores(classifier, features)
        # The 8 bits of bf16 are too few for the sum over classes and the mean over a batch.
        scores = scores.float()
        logits = head.logits(classifier, scores)
        radii = partial(head.radii, classifier, features, scores, labels)
        loss = self._loss(radii, logits, labels)
        model.zero_grad()
        self._descend(model, optimizer, loss)
        return loss.detach(), logits.detach()

    def _descend(self, model: IResNet, optimizer: Optimizer, loss: Tensor) -> None:
        """Step against the gradient of a loss; the gradients must be empty or zero before."""
        loss.backward()
        optimizer.step()
        bf16 = self.config.training.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            model.update_spectral_norm()

    def _family_step(
        self, family: Family, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """As _step, each image by a member of the family, which the generator draws."""
        settings = self.config.training
        knows_radii = SLOPE_KNOWN[self.config.model.head]
        most = _MEMBERS_AT_ONCE if knows_radii else _WITH_BATCH_NORM
        values = family.draw(min(most, len(images)), generator)
        bf16 = settings.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            images = normalized(images)
            features = family.features(images, values, reversible=self._reversible).float()
        if not knows_radii:
            logits = family.logits(features, values)
            loss = F.cross_entropy(logits, labels)
        else:
            lipschitz = target_lipschitz(family.base)
            radii, logits = family.radii(features, labels, values, lipschitz)
            if MARGIN in values:
                margin = by_image(values[MARGIN].to(radii), len(labels)).unsqueeze(1)
                loss = margin_loss(radii, margin, temperature_at(margin, settings))
            else:
                loss = self._loss(lambda _: radii, logits, labels)
        family.zero_grad()
        self._descend(family.base, self.optimizer, loss)
        return loss.detach(), logits.detach()

    def fine_tune(self, model: IResNet, n_steps: int, seed: int) -> None:
        """Train a network built like the trial's own for n_steps further optimizer steps, in place,
        on the trial's data. It is left in training mode. Batches, augmentation and dropout depend
        on `seed` and the trial's seed."""
        settings, split = self.config.training, self.dataset.train
        optimizer = make_optimizer(model, settings)
        generator = torch.Generator().manual_seed(mixed_seed(self.config.seed, seed))
        model.train()
        with seeded(self.config.seed, seed, self.device):
            rows: list[Tensor] = []
            for step in range(n_steps):
                rows = rows or list(batches(split, settings.batch_size, generator))
                batch = rows.pop()
                drawn = self.dataset.augmentation.draw(len(batch), generator, self.device)
                optimizer.lr_factor = fine_tune_lr_factor(step, n_steps)
                images = self.dataset.augmentation(split.images[batch], drawn)
                self._step(model, optimizer, images, split.labels[batch])
            self._refine(model)

    def state_dict(self) -> dict[str, Any]:
        """All that load_state_dict needs to go on from here; tensors and plain values only."""
        return {
            "epoch": self.epoch,
            "status": self.status.value,
            "model": (self.family or self.model).state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state_dict() of a training with the same config."""
        (self.family or self.model).load_state_dict(state["model"])
        self._take_middle()
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch = state["epoch"]
        self.status = TrialStatus(state["status"])
        self._completed = self._answers = None


def _reversible(model: IResNet, settings: TrainingConfig, device: torch.device) -> bool:
    """Whether the backward pass inverts blocks; `auto` is decided by the device alone, and not by
    what else runs there, so that the same seed gives the same numbers."""
    if settings.reversible != "auto":
        return settings.reversible
    dtype = torch.bfloat16 if settings.precision == "bf16" else torch.float32
    kept = kept_bytes(model, settings.batch_size, dtype)
    return kept > _LARGEST_SHARE * memory_bytes(device)
