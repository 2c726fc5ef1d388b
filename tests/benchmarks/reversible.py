"""Training steps whose memory does not grow with depth, against plain ones and checkpointed ones.

    python -m tests.benchmarks.reversible [--rounds 5] [--bf16]

Networks of dense blocks on images like MNIST's (batch 128) and of blocks on patches of photographs
like CIFAR-10's (batch 64), at several depths, one thread, random images. coeff is such that the
inverse of the whole network has the Lipschitz constant 256 at most, as eight blocks at 0.5 have.
`checkpointed` is torch.utils.checkpoint, by as many segments as the square root of the depth.

Prints the peak of the memory that a forward and a backward pass allocate, apart from the gradients
of parameters, which all three need; the processor's time of a whole step, by that of a plain one,
as the median and quartiles of rounds in which each ran once; and the relative l2 distance of the
gradient by all parameters to that of a plain step in float64.
"""

import argparse
import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint_sequential

from models import IResNet, training_features
from study.config.trial import TrainingConfig
from study.trial.optimizers import Optimizer, make_optimizer
from tests.benchmarks.alternating import machine, ratios, spread

_GROWTH = 256
_CASES: dict[str, tuple[tuple[int, int, int], int, Callable[[int], dict[str, Any]], list[int]]] = {
    "MNIST": (
        (1, 28, 28), 128, lambda n: {"blocks": (), "dense_blocks": n, "bottleneck": 7},
        [8, 32, 128, 512],
    ),
    "patches": (
        (3, 32, 32), 64, lambda n: {"blocks": (n,), "patch": 4, "dense_blocks": 0, "bottleneck": 4},
        [16, 32, 64],
    ),
}  # fmt: skip
_Pass = Callable[[IResNet, Tensor], Tensor]


def _checkpointed(model: IResNet, x: Tensor) -> Tensor:
    body: Sequence[nn.Module] = list(model.body)
    x = checkpoint_sequential(body, round(len(body) ** 0.5), x, use_reentrant=False)
    logits: Tensor = model.classifier(x)
    return logits


_PASSES: dict[str, _Pass] = {
    "plain": lambda model, x: model.classifier(training_features(model, x)),
    "reversible": lambda model, x: model.classifier(training_features(model, x, reversible=True)),
    "checkpointed": _checkpointed,
}


@dataclass
class _Case:
    """A network and a batch of images for it."""

    model: IResNet
    x: Tensor
    labels: Tensor
    bf16: bool

    def backward(self, pass_: _Pass) -> None:
        self.model.zero_grad()
        with self._autocast():
            logits = pass_(self.model, self.x)
        nn.functional.cross_entropy(logits.to(self.x.dtype), self.labels).backward()

    def seconds(self, pass_: _Pass, optimizer: Optimizer) -> float:
        """The processor's time of a whole step."""
        start = time.process_time()
        self.backward(pass_)
        optimizer.step()
        with self._autocast():
            self.model.update_spectral_norm()
        return time.process_time() - start

    def peak(self, pass_: _Pass) -> float:
        """The peak of the memory that a forward and a backward pass allocate, in MB, without the
        gradients of parameters."""
        self.model.zero_grad()
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            self.backward(pass_)
        results = profiler.profiler.kineto_results
        events = [event for event in results.events() if event.name() == "[memory]"]
        events.sort(key=lambda event: event.start_ns())
        peak: int = max(accumulate(event.nbytes() for event in events))
        return (peak - sum(p.numel() * 4 for p in self.model.parameters())) / 1e6

    def gradients(self, pass_: _Pass) -> Tensor:
        self.backward(pass_)
        given = (parameter.grad for parameter in self.model.parameters())
        return torch.cat(
            [gradient.double().flatten() for gradient in given if gradient is not None]
        )

    def exact(self) -> "_Case":
        model = copy.deepcopy(self.model).double()
        return _Case(model, self.x.double(), self.labels, bf16=False)

    def _autocast(self) -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16, enabled=self.bf16)


def _measure(label: str, case: _Case, n_rounds: int) -> None:
    optimizer = make_optimizer(case.model, TrainingConfig(optimizer="muon", lr=0.03))
    rounds = [
        {kind: case.seconds(pass_, optimizer) for kind, pass_ in _PASSES.items()}
        for _ in range(n_rounds + 1)
    ][1:]
    exact = case.exact().gradients(_PASSES["plain"])
    plain = [seconds["plain"] for seconds in rounds]
    for kind, pass_ in _PASSES.items():
        off = (case.gradients(pass_) - exact).norm() / exact.norm()
        times = spread(ratios([seconds[kind] for seconds in rounds], plain))
        print(
            f"{label} {kind:12} {case.peak(pass_):7.1f} MB, {times} times {median(plain):.3f} s, "
            f"gradients off by {off.item():.1e}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bf16", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(machine())
    for name, (in_shape, batch, architecture, depths) in _CASES.items():
        for depth in depths:
            coeff = 1 - _GROWTH ** (-1 / depth)
            torch.manual_seed(0)
            model = IResNet(
                in_shape, 10, block="potential", head="lipschitz", channel_multiplier=1,
                coeff=coeff, dropout=0.0, **architecture(depth),
            )  # fmt: skip
            x, labels = torch.randn(batch, *in_shape), torch.randint(0, 10, (batch,))
            label = f"{name:8} {depth:4} blocks at {coeff:.3f}"
            _measure(label, _Case(model, x, labels, arguments.bf16), arguments.rounds)


if __name__ == "__main__":
    main()
