"""What must hold of the CUDA path, as functions: for the tests, and for those of planted errors.

Each raises if it does not hold.
"""

import copy
import math
import tempfile
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from models import Effort, IResNet, Solution, certify, fixed_point
from study.config.trial import (
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    TrainingConfig,
    TrialConfig,
)
from study.metrics.reports import EpochReport
from study.trial.data import Augmentation, Dataset, Split
from study.trial.ladder import projections
from study.trial.randomness import choose_algorithms
from study.trial.state_file import read_state, state_bytes
from study.trial.training import Training
from tests.pretended_cuda.device import PretendedCuda

TRIAL = TrialConfig(
    seed=3,
    data=DataConfig(val_fraction=0.1, shift=1, flip=True, max_train=192),
    model=ModelConfig(blocks=(1, 1), channel_multiplier=4, bottleneck=1, dropout=0.2),
    training=TrainingConfig(max_epochs=2, batch_size=64, lr=0.1, optimizer="muon"),
    evaluation=EvaluationConfig(n_inverse_samples=16),
    objectives=("val_accuracy",),
    ladder=(0.5,),
    fine_tune_steps=2,
)
# Operations that launch a kernel, of one training step: for a block (three convolutions, three
# activations, dropout and a sum, forward and backward), and for all else. With bf16 autocast takes
# what comes to each convolution, its weight and its bias there by itself.
_OF_A_BLOCK, _OF_A_BF16_BLOCK = 16, 33
_OF_ALL_ELSE = {"sgd": 300, "muon": 427}


def changed(trial: TrialConfig, **settings: Any) -> TrialConfig:
    """The trial with settings of its model and its training."""
    of_model = {k: v for k, v in settings.items() if k in ModelConfig.__dataclass_fields__}
    of_training = {k: v for k, v in settings.items() if k in TrainingConfig.__dataclass_fields__}
    return replace(
        trial,
        model=replace(trial.model, **of_model),
        training=replace(trial.training, **of_training),
    )


def _outcome(trial: TrialConfig, device: str) -> list[dict[str, float]]:
    """Every metric of every report of a trial, and of the networks projected from it."""
    choose_algorithms(True)
    training = Training(trial, device)
    reports: list[EpochReport] = []
    for _ in range(trial.training.max_epochs):
        report = training.run_to_report().epoch
        assert report is not None
        reports.append(report)
    of_rungs = projections(training, training.certified())
    return [r.metrics() for r in (*reports, *(rung.report for rung in of_rungs))]


def _assert_equal(there: list[dict[str, float]], here: list[dict[str, float]], rel: float) -> None:
    assert len(there) == len(here)
    for on_cuda, on_cpu in zip(there, here, strict=True):
        assert set(on_cuda) - {"peak_memory_bytes"} == set(on_cpu)
        for name in set(on_cpu) - {"epoch_seconds"}:
            # Samples leave the inverse at other steps there, and a batch decides the last bits.
            # That of what is lost in rounding is rounding.
            tolerance = 0.2 if name == "reconstruction_error" else rel
            assert on_cuda[name] == pytest.approx(on_cpu[name], rel=tolerance), name


def check_training(trial: TrialConfig = TRIAL, rel: float = 0.0) -> None:
    """Training, reports and ladder say what they say on the CPU."""
    here = _outcome(trial, "cpu")
    with PretendedCuda():
        there = _outcome(trial, "cuda")
    assert all("peak_memory_bytes" in report for report in there[: trial.training.max_epochs])
    _assert_equal(there, here, rel)


def check_resume(trial: TrialConfig = TRIAL) -> None:
    """A trial that is saved on CUDA and goes on there, or on the CPU, is the unbroken one."""
    choose_algorithms(True)
    unbroken = Training(trial)
    first = unbroken.run_to_report().epoch
    expected = unbroken.run_to_report().epoch
    assert first is not None
    assert expected is not None
    with PretendedCuda(), tempfile.TemporaryDirectory() as folder:
        training = Training(trial, "cuda")
        training.run_to_report()
        path = Path(folder) / "state"
        path.write_bytes(state_bytes(training.state_dict()))
        for device in ("cuda", "cpu"):
            again = Training(trial, device)
            again.load_state_dict(read_state(path))
            report = again.run_to_report().epoch
            assert report is not None
            assert report.train_loss == expected.train_loss
            assert report.val_loss == expected.val_loss
            assert report.lipschitz_upper_bound == expected.lipschitz_upper_bound


def _images(n: int, size: int, channels: int) -> Dataset:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(
        0, 256, (n, channels, size, size), generator=generator, dtype=torch.uint8
    )
    split = Split(images, torch.randint(0, 10, (n,), generator=generator))
    return Dataset(split, split, split, 10, Augmentation(4, True, 128), "none")


def check_step(**settings: Any) -> int:
    """A training step waits for nothing, and launches no more than it may; how many, it returns."""
    trial = changed(TrialConfig(model=ModelConfig(blocks=(2, 2, 2))), batch_size=2, **settings)
    with PretendedCuda() as device:
        choose_algorithms(True)
        training = Training(trial, "cuda", _images(4, 32, 3))
        split, augmentation = training.dataset.train, training.dataset.augmentation
        rows = torch.arange(2, device="cuda")
        drawn = augmentation.draw(2, torch.Generator(), training.device)
        training.model.train()

        def step() -> Tensor:
            images = augmentation(split.images[rows], drawn)
            return training._step(
                training.model, training._forward, training.optimizer, images, split.labels[rows]
            )[0]

        step()  # makes the momentum
        device.operations.clear()
        device.waits.clear()
        loss = step()
        assert loss.dtype == torch.float32
        assert not device.waits, dict(device.waits)
        of_a_block = _OF_A_BF16_BLOCK if trial.training.precision == "bf16" else _OF_A_BLOCK
        most = _OF_ALL_ELSE[trial.training.optimizer] + of_a_block * sum(trial.model.blocks)
        n_operations = sum(device.operations.values())
        assert n_operations <= most, (n_operations, most)
        return n_operations


def check_fixed_point() -> None:
    """The host waits once a step, and when half of the samples leave; the result is the CPU's."""
    n, most_steps = 300, 40
    # Contractions by 0.01 to 0.7: with Picard iteration, and from 0.5 on with Anderson's.
    rate = torch.linspace(0.01, 0.7, n).view(n, 1)
    y = torch.randn(n, 6, generator=torch.Generator().manual_seed(0))

    def solved(y: Tensor, rate: Tensor) -> Solution:
        return fixed_point(lambda x, rows: y[rows] - rate[rows] * x.abs(), y, max_steps=most_steps)

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
    n_halvings = 2 * math.ceil(math.log2(n))
    assert n_waits <= loops + n_halvings + 12, (n_waits, loops)


def check_inverse() -> None:
    """The inverse of a network is the CPU's."""
    torch.manual_seed(0)
    model = IResNet((2, 8, 8), 10, (2, 1), channel_multiplier=2, bottleneck=1, coeff=0.97)
    with torch.no_grad():
        for parameter in model.body.parameters():
            parameter.mul_(10) if parameter.dim() == 4 else parameter.normal_(0, 0.3)
    for _ in range(20):
        model.update_spectral_norm()
    model.eval()
    images = torch.rand(40, 2, 8, 8) * torch.logspace(-3, 1, 40).view(-1, 1, 1, 1)
    with torch.no_grad():
        z = model.features(images)
    here = model.inverse(z, rtol=1e-5)
    assert here.converged.all()
    certificate = certify(model)
    with PretendedCuda():
        there = model.to("cuda").inverse(z.to("cuda"), rtol=1e-5, certificate=certificate)
        n_steps, value, bound = there.n_steps.cpu(), there.value.cpu(), there.error_bound
        assert bound is not None
        assert bound.cpu().shape == (3, 40)
    assert torch.equal(n_steps, here.n_steps)
    torch.testing.assert_close(value, here.value, rtol=1e-5, atol=1e-5)


def check_certificate() -> None:
    """The certificate of a network on CUDA is that of the same weights on the CPU, bit for bit."""
    torch.manual_seed(0)
    efforts: tuple[Effort, ...] = ("fast", "full")
    for norm, effort in product(("spectral", "batch", "none"), efforts):
        model = IResNet((2, 8, 8), 10, (1, 1), channel_multiplier=4, norm=norm).eval()
        here = certify(model, effort)
        with PretendedCuda():
            assert certify(copy.deepcopy(model).to("cuda"), effort) == here
