"""A step of training, this tree against another checkout of the project.

    git worktree add FOLDER 14cc7f4
    python -m tests.benchmarks.step FOLDER [--rounds 5]

Networks of shipped studies on random images, one thread: the digits (16 dense blocks, batch 64),
MNIST (32, batch 128), and cifar10_cpu at its batch of 128 and at 384. In each round both trees run
each of them once, in processes of their own. Prints the processor's time for an image in
microseconds (median and quartiles), and the ratio round by round.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

_DENSE: dict[str, Any] = {
    "block": "potential",
    "head": "lipschitz",
    "channel_multiplier": 1,
    "coeff": 0.5,
    "dropout": 0.0,
}
_PATCHES: dict[str, Any] = {
    "blocks": (8, 8),
    "patch": 4,
    "dense_blocks": 8,
    "bottleneck": 4,
    "dense_bottleneck": 16,
}
# Name -> image, network, training, steps in an epoch.
_CASES: dict[str, tuple[tuple[int, ...], dict[str, Any], dict[str, Any], int]] = {
    "digits, 64": (
        (1, 8, 8), {"blocks": (), "dense_blocks": 16, "bottleneck": 2},
        {"batch_size": 64, "lr": 0.05}, 40,
    ),
    "MNIST, 128": (
        (1, 28, 28), {"blocks": (), "dense_blocks": 32, "bottleneck": 7},
        {"batch_size": 128, "lr": 0.03}, 8,
    ),
    "CIFAR-10, 128": ((3, 32, 32), _PATCHES, {"batch_size": 128, "precision": "bf16"}, 6),
    "CIFAR-10, 384": ((3, 32, 32), _PATCHES, {"batch_size": 384, "precision": "bf16"}, 4),
}  # fmt: skip
_N_EPOCHS = 4


def _one(name: str) -> None:
    """Print the least time of an epoch of a case, in microseconds an image, with the code of the
    tree on sys.path, after one epoch that is not counted."""
    import torch

    from study.config.trial import ModelConfig, TrainingConfig, TrialConfig
    from study.trial.training import Training

    try:
        from study.trial.data import tensors
    except ImportError:  # as it was called before
        from study.trial import data as tensors

    torch.set_num_threads(1)
    in_shape, network, settings, n_steps = _CASES[name]
    training = TrainingConfig(
        max_epochs=1000, optimizer="muon", other_lr=0.12, lr_schedule="one_cycle", loss="margin",
        margin=0.5, weight_decay=0.0, **settings,
    )  # fmt: skip
    n = training.batch_size * n_steps
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, *in_shape), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 10, (n,), generator=generator)
    train, other = (tensors.Split(images[:m], labels[:m]) for m in (n, 100))
    is_photographs = in_shape[0] == 3
    augmentation = tensors.Augmentation(2 * is_photographs, is_photographs, 0)
    dataset = tensors.Dataset(train, other, other, 10, augmentation, "")
    config = TrialConfig(model=ModelConfig(**_DENSE, **network), training=training)
    trained = Training(config, dataset=dataset)
    seconds = []
    for _ in range(1 + _N_EPOCHS):
        start = time.process_time()
        trained._train_epoch()
        seconds.append(time.process_time() - start)
    print(min(seconds[1:]) / n * 1e6)


def _measured(tree: Path, name: str) -> float:
    command = [sys.executable, "-P", str(Path(__file__).resolve()), str(tree), "--one", name]
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    done = subprocess.run(command, env=environment, cwd=tree, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", choices=_CASES)
    arguments = parser.parse_args()
    if arguments.one:
        return _one(arguments.one)

    from tests.benchmarks.alternating import machine, ratios, spread

    print(machine())
    trees = Path(__file__).resolve().parents[2], arguments.folder.resolve()
    for name in _CASES:
        rounds = [[_measured(tree, name) for tree in trees] for _ in range(arguments.rounds)]
        ours, theirs = (list(times) for times in zip(*rounds, strict=True))
        print(
            f"{name:14} ours {spread(ours)}, theirs {spread(theirs)} us an image, ratio "
            f"{spread(ratios(ours, theirs))}",
            flush=True,
        )
    return None


if __name__ == "__main__":
    main()
