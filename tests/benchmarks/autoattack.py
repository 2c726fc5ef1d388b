"""Whether `models.attacked` finds what AutoAttack finds (Croce and Hein, 2020), on the digits.

    pip install --no-deps torchattacks==3.5.1
    python -m tests.benchmarks.autoattack

torchattacks has AutoAttack's four attacks in l2: APGD with two losses, FAB and Square. It pins a
version of requests that is older than what other packages here need, hence --no-deps.

Two networks are trained: potential blocks with a loss on the proven radius, and the paper's blocks.
The first 200 test images are attacked within two radii each, with pixels in [0, 1] for both, and
answers are judged in the precision of the proof. Prints the fraction that is certified, and those
that each attack leaves right, with its seconds; exits 1 if an image that is nearer than a proven
radius is answered otherwise.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from models import IResNet, attacked, certified_radius
from study.config.data import DataConfig
from study.config.trial import ModelConfig, TrainingConfig, TrialConfig
from study.trial.data.tensors import normalized
from study.trial.measured.attack import N_ATTACKED
from study.trial.measured.evaluation import in_precision
from study.trial.randomness import choose_algorithms
from tests.support.trials import trained

_Search = tuple[str, Callable[[], Tensor]]

_TRAINING = TrainingConfig(
    max_epochs=10,
    optimizer="muon",
    lr=0.05,
    other_lr=0.12,
    lr_schedule="one_cycle",
    report_every=10,
)
_POTENTIAL = ModelConfig(
    blocks=(), dense_blocks=16, bottleneck=2, channel_multiplier=1, head="rows", coeff=0.5
)
# The network, its loss, and the radii.
_CASES = {
    "potential blocks": (_POTENTIAL, "margin", (0.5, 1.0)),
    "the paper's": (ModelConfig(blocks=(2, 2), channel_multiplier=8), "cross_entropy", (0.1, 0.3)),
}


class _OfPixels(nn.Module):
    """The network as a function of pixels of [0, 1]."""

    def __init__(self, network: IResNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.network(pixels - 0.5)
        return logits


def searches(model: IResNet, images: Tensor, labels: Tensor, radius: float) -> Iterator[_Search]:
    """Yield (name, what gives the points that it found) for each attack."""
    from torchattacks import AutoAttack

    def ours(**effort: int) -> Tensor:
        return attacked(model, images, labels, radius, box=(-0.5, 0.5), **effort).images

    theirs = AutoAttack(_OfPixels(model).eval(), norm="L2", eps=radius, n_classes=10, seed=0)
    yield "attacked", ours
    yield "attacked, without targets", partial(ours, n_targets=0)
    yield "AutoAttack", lambda: theirs(images + 0.5, labels) - 0.5


def check(name: str) -> int:
    """The number of certified images that an attack breaks."""
    model, loss, radii = _CASES[name]
    training = trained(
        TrialConfig(data=DataConfig(shift=0.3), model=model, training=replace(_TRAINING, loss=loss))
    )
    network, test = training.certified(), training.dataset.test
    images, labels = normalized(test.images[:N_ATTACKED]), test.labels[:N_ATTACKED]
    exact = in_precision(network.model, training.config.precision)
    dtype, n_broken = next(exact.parameters()).dtype, 0
    proven = certified_radius(network.model, images.to(dtype), labels, network.certificate)
    for radius in radii:
        certified = (proven > radius).float().mean()
        print(f"{name}, radius {radius}: {certified:.3f} certified")
        for attack, points_of in searches(network.model, images, labels, radius):
            start = time.perf_counter()
            points = points_of().detach()
            seconds = time.perf_counter() - start
            with torch.no_grad():
                right = exact(points.to(dtype)).argmax(dim=1) == labels
            distance = (points.double() - images.double()).flatten(1).norm(dim=1)
            broken = int((~right & (distance < proven)).sum())
            n_broken += broken
            print(
                f"  {attack}: {right.float().mean():.3f} right, {seconds:.1f} s, at most "
                f"{distance.max() / radius:.7f} of the radius away, {broken} broken",
                flush=True,
            )
    return n_broken


def main() -> int:
    argparse.ArgumentParser().parse_args()
    torch.set_num_threads(1)
    choose_algorithms(deterministic=True)
    n_broken = sum(map(check, _CASES))
    print(f"{n_broken} certified and broken")
    return int(n_broken > 0)


if __name__ == "__main__":
    sys.exit(main())
