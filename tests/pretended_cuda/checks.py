"""Training, certificate and inverse on CUDA say what they say on the CPU, and do not wait. Errors
that are easily written, and work on a CPU, are planted: each makes a check fail."""

import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models import IResNet, Solution, certify, fixed_point
from models.heads.pooled import GlobalAveragePool
from models.layers import spectral_norm
from models.network import iresnet
from study.config.data import DataConfig
from study.config.trial import EvaluationConfig, ModelConfig, TrainingConfig, TrialConfig
from study.metrics.reports import TrialStatus
from study.trial import training
from study.trial.data import tensors as data
from study.trial.data.tensors import Augmentation, Dataset, Split
from study.trial.ladder import projections
from study.trial.randomness import choose_algorithms
from study.trial.state_file import read_state, state_bytes
from study.trial.training import Training
from tests.pretended_cuda.device import PretendedCuda, RefusedError

TRIAL = TrialConfig(
    seed=3,
    data=DataConfig(val_fraction=0.1, shift=1, flip=True, max_train=128),
    model=ModelConfig(blocks=(1, 1), channel_multiplier=2, bottleneck=1, dropout=0.2),
    training=TrainingConfig(max_epochs=2, batch_size=64, lr=0.1, optimizer="muon"),
    evaluation=EvaluationConfig(n_inverse_samples=16, radius=4.0),
    objectives=("val_accuracy",),
)
# A step of six blocks takes 500 with SGD and bf16, 530 with Muon; with each layer by itself, 674.
MOST_OPERATIONS = 600
Patch = pytest.MonkeyPatch


def outcome(trial: TrialConfig, device: str, state: Path) -> list[dict[str, float]]:
    """All metrics of a trial and its projections; on CUDA it is restored after every report."""
    choose_algorithms(True)
    training, reports = Training(trial, device), []
    while training.status is TrialStatus.RUNNING:
        report = training.run_to_report().epoch
        assert report is not None
        reports.append(report.metrics())
        if device == "cuda":
            state.write_bytes(state_bytes(training.state_dict()))
            training = Training(trial, device)
            training.load_state_dict(read_state(state))
    rungs = projections(training, training.certified())
    return [*reports, *(rung.report.metrics() for rung in rungs)]


@pytest.mark.parametrize(
    ("model", "training", "trial"),
    [
        ({}, {}, {"ladder": (0.5,), "fine_tune_steps": 2}),
        ({"norm": "none", "activation": "elu"}, {"optimizer": "sgd"}, {"ladder": (0.5,)}),
        ({"norm": "batch", "activation": "softplus", "dropout": 0.0}, {}, {}),
    ],
)
def test_a_trial_on_cuda_is_that_on_the_cpu(
    model: Any, training: Any, trial: Any, tmp_path: Path
) -> None:
    settings = {
        "model": replace(TRIAL.model, **model),
        "training": replace(TRIAL.training, **training),
    }
    trial = replace(TRIAL, **settings, **trial)
    here = outcome(trial, "cpu", tmp_path / "state")
    with PretendedCuda():
        there = outcome(trial, "cuda", tmp_path / "state")
    assert [("peak_memory_bytes" in report) for report in there[:2]] == [True, True]
    for on_cuda, on_cpu in zip(there, here, strict=True):
        assert set(on_cuda) - {"peak_memory_bytes"} == set(on_cpu)
        for name in set(on_cpu) - {"epoch_seconds"}:
            # Samples leave the inverse at other steps there, and a batch decides the last bits, on
            # some processors. What is lost in rounding consists of them.
            tolerance = {"reconstruction_error": 0.2, "noise_error": 1e-5}.get(name, 0.0)
            assert on_cuda[name] == pytest.approx(on_cpu[name], rel=tolerance), name


@pytest.mark.parametrize(("optimizer", "precision"), [("sgd", "bf16"), ("muon", "float32")])
def test_a_step_waits_for_nothing_and_takes_few_operations(optimizer: Any, precision: Any) -> None:
    settings = TrainingConfig(batch_size=2, optimizer=optimizer, precision=precision)
    trial = TrialConfig(model=ModelConfig(blocks=(2, 2, 2)), training=settings)
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    split = Split(images, torch.arange(4))
    dataset = Dataset(split, split, split, 10, Augmentation(4, True, 128), "none")
    with PretendedCuda() as device:
        choose_algorithms(True)
        training = Training(trial, "cuda", dataset)
        split, augmentation = training.dataset.train, training.dataset.augmentation
        rows = torch.arange(2, device="cuda")
        drawn = augmentation.draw(2, torch.Generator(), training.device)
        training.model.train()

        def step() -> Tensor:
            images, labels = augmentation(split.images[rows], drawn), split.labels[rows]
            model, optimizer = training.model, training.optimizer
            return training._step(model, optimizer, images, labels)[0]

        step()  # makes the momentum
        device.n_operations = 0
        device.waits.clear()
        assert step().dtype == torch.float32
        assert not device.waits
        assert device.n_operations <= MOST_OPERATIONS


def test_fixed_point_iteration_waits_once_a_step() -> None:
    """And when half of the samples leave; the result is the CPU's."""
    n = 300
    # Contractions by 0.01 to 0.7: with Picard iteration, and from 0.5 on with Anderson's.
    rate = torch.linspace(0.01, 0.7, n).view(n, 1)
    y = torch.randn(n, 6)

    def solved(y: Tensor, rate: Tensor) -> Solution:
        return fixed_point(lambda x, rows: y[rows] - rate[rows] * x.abs(), y, max_steps=40)

    here = solved(y, rate)
    with PretendedCuda() as device:
        on_cuda = y.to("cuda"), rate.to("cuda")
        device.waits.clear()
        there = solved(*on_cuda)
        n_waits = sum(device.waits.values())
        n_steps, value = there.n_steps.cpu(), there.value.cpu()
    assert here.converged.all()
    assert torch.equal(n_steps, here.n_steps)
    torch.testing.assert_close(value, here.value, rtol=1e-5, atol=1e-6)
    is_picard = rate.squeeze(1) < 0.45
    loops = int(n_steps[is_picard].max()) + int(n_steps[~is_picard].max())
    assert loops > 20
    # Each time that half of them leave, two: which stay, and which go. And where slow ones leave
    # for Anderson's, and at the ends.
    assert n_waits <= loops + 2 * math.ceil(math.log2(n)) + 12


def test_an_inverse_on_cuda_is_that_on_the_cpu() -> None:
    model = IResNet((2, 8, 8), 10, (2, 1), channel_multiplier=2, bottleneck=1, coeff=0.97)
    with torch.no_grad():
        for parameter in model.body.parameters():
            parameter.mul_(10) if parameter.dim() == 4 else parameter.normal_(0, 0.3)
    for _ in range(20):
        model.update_spectral_norm()
    images = torch.rand(40, 2, 8, 8) * torch.logspace(-3, 1, 40).view(-1, 1, 1, 1)
    with torch.no_grad():
        z = model.eval().features(images)
    here, certificate = model.inverse(z, rtol=1e-5), certify(model)
    assert here.converged.all()
    with PretendedCuda():
        there = model.to("cuda").inverse(z.to("cuda"), rtol=1e-5, certificate=certificate)
        n_steps, value, bound = there.n_steps.cpu(), there.value.cpu(), there.error_bound
        assert bound is not None
        assert bound.cpu().shape == (3, 40)
    assert torch.equal(n_steps, here.n_steps)
    torch.testing.assert_close(value, here.value, rtol=1e-5, atol=1e-5)


def labels_stay_on_the_cpu(patch: Patch) -> None:
    patch.setattr(Split, "to", lambda self, device: Split(self.images.to(device), self.labels))


def noise_has_a_generator_of_the_cpu(patch: Patch) -> None:
    generator = torch.Generator()

    def noisy(images: Tensor) -> Tensor:
        x = data.normalized(images)
        return x + torch.empty_like(x).normal_(generator=generator)

    patch.setattr(training, "normalized", noisy)


def a_step_reads_its_loss(patch: Patch) -> None:
    cross_entropy = F.cross_entropy

    def read(*args: Any) -> Tensor:
        loss = cross_entropy(*args)
        assert loss.item() > -1
        return loss

    patch.setattr(F, "cross_entropy", read)


def a_step_picks_what_is_positive(patch: Patch) -> None:
    """How many there are, the host must know."""
    cross_entropy = F.cross_entropy
    patch.setattr(F, "cross_entropy", lambda x, labels: cross_entropy(x, labels[labels >= 0]))


def the_pool_has_no_deterministic_gradient(patch: Patch) -> None:
    def pooled(self: nn.Module, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(x, 2).mean(dim=(2, 3))

    patch.setattr(GlobalAveragePool, "forward", pooled)


def every_layer_is_normalized_by_itself(patch: Patch) -> None:
    together = spectral_norm.effective_weights
    patch.setattr(
        iresnet, "effective_weights", lambda layers: [together([layer])[0] for layer in layers]
    )


def the_inverse_asks_twice_a_step(patch: Patch) -> None:
    # The package has the function by the same name.
    module = sys.modules["models.inverse.fixed_point"]
    counts = module._counts
    patch.setattr(module, "_counts", lambda *masks: counts(*masks) and counts(*masks))


def muon_step() -> None:
    test_a_step_waits_for_nothing_and_takes_few_operations("muon", "float32")


@pytest.mark.parametrize(
    ("plant", "check", "expected"),
    [
        (labels_stay_on_the_cpu, muon_step, RefusedError),
        (noise_has_a_generator_of_the_cpu, muon_step, RefusedError),
        (a_step_reads_its_loss, muon_step, AssertionError),
        (a_step_picks_what_is_positive, muon_step, AssertionError),
        (the_pool_has_no_deterministic_gradient, muon_step, RefusedError),
        (every_layer_is_normalized_by_itself, muon_step, AssertionError),
        (
            the_inverse_asks_twice_a_step,
            test_fixed_point_iteration_waits_once_a_step,
            AssertionError,
        ),
    ],
)
def test_a_planted_error_is_seen(
    plant: Callable[[Patch], None],
    check: Callable[[], None],
    expected: type[Exception],
    monkeypatch: Patch,
) -> None:
    plant(monkeypatch)
    with pytest.raises(expected):
        check()
