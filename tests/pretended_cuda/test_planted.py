"""Errors of the CUDA path, planted one at a time: each makes a check fail that holds without it.

They are what is easily written and works on a CPU.
"""

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models import iresnet, spectral_norm
from study.trial import data, optimizers, training
from tests.pretended_cuda import checks
from tests.pretended_cuda.device import DeviceMixedError, NotReviewedError

# The package has the function by the same name.
fixed_point = sys.modules["models.fixed_point"]
Patch = pytest.MonkeyPatch
Plant = Callable[[Patch], None]


def labels_stay_on_the_cpu(patch: Patch) -> None:
    patch.setattr(
        data.Split, "to", lambda self, device: data.Split(self.images.to(device), self.labels)
    )


def noise_has_a_generator_of_the_cpu(patch: Patch) -> None:
    normalized = training.normalized
    generator = torch.Generator()

    def noisy(images: Tensor) -> Tensor:
        x = normalized(images)
        return x + torch.empty_like(x).normal_(generator=generator)

    patch.setattr(training, "normalized", noisy)


def a_step_reads_its_loss(patch: Patch) -> None:
    cross_entropy = F.cross_entropy

    def read(*args: Any, **kwargs: Any) -> Tensor:
        loss = cross_entropy(*args, **kwargs)
        assert loss.item() > -1
        return loss

    patch.setattr(F, "cross_entropy", read)


def an_update_goes_through_numpy(patch: Patch) -> None:
    orthogonalized = optimizers.orthogonalized
    patch.setattr(
        optimizers,
        "orthogonalized",
        lambda x, n: torch.from_numpy(orthogonalized(x, n).numpy()),
    )


def a_step_picks_what_is_positive(patch: Patch) -> None:
    """How many there are, the host must know."""
    cross_entropy = F.cross_entropy

    def picked(logits: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(logits, labels[labels >= 0])

    patch.setattr(F, "cross_entropy", picked)


def the_pool_has_no_deterministic_gradient(patch: Patch) -> None:
    def pooled(self: nn.Module, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(x, 2).mean(dim=(2, 3))

    patch.setattr(iresnet.GlobalAveragePool, "forward", pooled)


def the_loss_is_in_bf16(patch: Patch) -> None:
    cross_entropy = F.cross_entropy

    def coarse(logits: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(logits.bfloat16(), labels)

    patch.setattr(F, "cross_entropy", coarse)


def every_layer_is_normalized_by_itself(patch: Patch) -> None:
    together = spectral_norm.effective_weights
    patch.setattr(
        iresnet, "effective_weights", lambda layers: [together([layer])[0] for layer in layers]
    )


def buffers_are_copied_across_layouts(patch: Patch) -> None:
    """Which torch does one by one, for all of the list."""
    copy = torch._foreach_copy_

    def across(buffers: list[Tensor], refined: list[Tensor]) -> None:
        copy(buffers, [t.transpose(0, -1).contiguous().transpose(0, -1) for t in refined])

    patch.setattr(torch, "_foreach_copy_", across)


def an_optimizer_forgets_its_momentum(patch: Patch) -> None:
    patch.setattr(optimizers.Muon, "load_state_dict", lambda self, state: None)


def samples_leave_the_inverse_one_by_one(patch: Patch) -> None:
    patch.setattr(fixed_point._Iteration, "_is_to_shrink", lambda self, n_active, n: n_active < n)


def the_inverse_asks_twice_a_step(patch: Patch) -> None:
    counts = fixed_point._counts
    patch.setattr(
        fixed_point, "_counts", lambda *masks: [n for m in masks for n in (counts(m), counts(m))[0]]
    )


def step() -> None:
    checks.check_step(optimizer="muon")


def bf16_step() -> None:
    checks.check_step(optimizer="muon", precision="bf16")


MIXED, WAITS = DeviceMixedError, AssertionError
PLANTED: list[tuple[Plant, Callable[[], None], type[Exception]]] = [
    (labels_stay_on_the_cpu, step, MIXED),
    (noise_has_a_generator_of_the_cpu, step, MIXED),
    (a_step_reads_its_loss, step, WAITS),
    (an_update_goes_through_numpy, step, MIXED),
    (a_step_picks_what_is_positive, step, WAITS),
    (the_pool_has_no_deterministic_gradient, step, NotReviewedError),
    (the_loss_is_in_bf16, bf16_step, AssertionError),
    (every_layer_is_normalized_by_itself, step, AssertionError),
    (buffers_are_copied_across_layouts, step, AssertionError),
    (an_optimizer_forgets_its_momentum, checks.check_resume, AssertionError),
    (samples_leave_the_inverse_one_by_one, checks.check_fixed_point, AssertionError),
    (the_inverse_asks_twice_a_step, checks.check_fixed_point, AssertionError),
]


@pytest.mark.parametrize(
    ("plant", "check", "expected"), PLANTED, ids=[plant.__name__ for plant, _, _ in PLANTED]
)
def test_a_planted_error_is_seen(
    plant: Plant, check: Callable[[], None], expected: type[Exception], monkeypatch: Patch
) -> None:
    plant(monkeypatch)
    with pytest.raises(expected):
        check()
