"""Attacks on the radii that are proven of heads with rows, which must change no answer.

    python -m tests.benchmarks.sound_rows [--images 100]

Thirty networks on the digits: five kinds of bodies (none, dense blocks, patches, convolutions, the
paper's bottlenecks), three numbers of rows, each answering in float32 and in float64. So many test
images of each are attacked within 0.999 and 1.02 of their own proven radius, by projected gradient
steps from the image and from two points beside it; where the body is none also within the radius
that counts that pixels lie in [0, 1], by points that keep that. Says for each body how many answers
changed, of how many. Exits 1 if one changed within 0.999. Nothing is trained for long: weak
networks have small radii, but proofs of them hold all the same. About four minutes on one core.
"""

import argparse
import sys
from typing import Any

import torch
from torch import Tensor

from models import IResNet, certified_radius, certify, deployed
from study.config.data import DataConfig
from study.config.trial import ModelConfig, TrainingConfig, TrialConfig
from study.trial.data.tensors import normalized
from study.trial.training import Training

_BODIES: dict[str, dict[str, Any]] = {
    "none": {"blocks": ()},
    "dense": {"blocks": (), "dense_blocks": 4, "coeff": 0.5},
    "patches": {"blocks": (2,), "block": "potential", "patch": 2, "bottleneck": 2, "coeff": 0.5},
    "convolutions": {"blocks": (2,), "block": "potential", "bottleneck": 1, "coeff": 0.5},
    "bottlenecks": {"blocks": (2,), "bottleneck": 1, "coeff": 0.7},
}
_ROWS = (1, 4, 16)
_BOX = (-0.5, 0.5)
_N_STEPS = 60


def trained(body: dict[str, Any], n_rows: int) -> Training:
    model = {"channel_multiplier": 1, "head": "rows", "rows": n_rows, "dropout": 0.0, **body}
    config = TrialConfig(
        seed=n_rows,
        data=DataConfig("digits", val_fraction=0.2, shift=0),
        model=ModelConfig(**model),
        training=TrainingConfig(
            max_epochs=5, optimizer="muon", other_lr=0.3, lr_schedule="one_cycle", loss="margin",
            weight_decay=0.0,
        ),
    )  # fmt: skip
    training = Training(config)
    assert training.train()
    return training


def broken(model: IResNet, x: Tensor, labels: Tensor, radii: Tensor, *, in_box: bool) -> Tensor:
    """bool (B,): whether an attack within its radius (B,) changes the answer of an image."""
    found = torch.zeros(len(x), dtype=torch.bool)
    size = radii.to(x.dtype).view(-1, 1, 1, 1)
    for start in range(3):
        offset = (0.3 * start) * size * torch.randn_like(x) / x[0].numel() ** 0.5
        for _ in range(_N_STEPS):
            length = offset.flatten(1).norm(dim=1).clamp(min=1e-30).view(-1, 1, 1, 1)
            offset = offset * (size / length).clamp(max=1)
            at = x + offset
            at = (at.clamp(*_BOX) if in_box else at).detach().requires_grad_()
            logits = model(at)
            found |= logits.argmax(dim=1) != labels
            of_label = logits.gather(1, labels.unsqueeze(1)).squeeze(1)
            others = logits.scatter(1, labels.unsqueeze(1), -torch.inf).amax(dim=1)
            (slope,) = torch.autograd.grad((others - of_label).sum(), at)
            norm = slope.flatten(1).norm(dim=1).clamp(min=1e-30).view(-1, 1, 1, 1)
            offset = at.detach() - x + 0.2 * size * slope / norm
    return found


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=100)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    n_broken = 0
    for name, body in _BODIES.items():
        counts = torch.zeros(2, dtype=torch.int64)
        n_attacked = 0
        for n_rows in _ROWS:
            training = trained(body, n_rows)
            for dtype in (torch.float32, torch.float64):
                model = deployed(training.model).to(dtype).eval()
                certificate, test = certify(model), training.dataset.test
                x, labels = normalized(test.images).to(dtype), test.labels
                for box in (None, _BOX) if name == "none" else (None,):
                    radii = certified_radius(model, x, labels, certificate, box=box)
                    rows = (radii > 0).nonzero().flatten()[: arguments.images]
                    images, of_images = x[rows], labels[rows]
                    for index, times in enumerate((0.999, 1.02)):
                        within = times * radii[rows]
                        in_box = box is not None
                        found = broken(model, images, of_images, within, in_box=in_box)
                        counts[index] += found.sum()
                    n_attacked += len(rows)
        n_broken += int(counts[0])
        print(f"{name}: of {n_attacked} certified images {counts[0]} changed within 0.999 of their "
              f"radius, {counts[1]} within 1.02", flush=True)  # fmt: skip
    return int(n_broken > 0)


if __name__ == "__main__":
    sys.exit(main())
