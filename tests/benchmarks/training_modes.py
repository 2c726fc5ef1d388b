"""What training.precision and training.compile change: seconds an epoch, accuracy, bound.

    python -m tests.benchmarks.training_modes DATA_ROOT [--epochs 2]

The network of search_spaces/paper_mnist.yaml, the same seed for all modes, epochs in turns.
"""

import argparse
from dataclasses import replace

import torch

from study.config.data import DataConfig
from study.config.trial import ModelConfig, TrainingConfig, TrialConfig
from study.metrics.reports import TrialStatus
from study.trial.randomness import choose_algorithms
from study.trial.training import Training
from tests.benchmarks.alternating import machine, ratios, spread

_MODES = {
    "float32": {},
    "bf16": {"precision": "bf16"},
    "compile": {"compile": True},
    "compile, bf16": {"compile": True, "precision": "bf16"},
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data_root")
    parser.add_argument("--epochs", type=int, default=2)
    arguments = parser.parse_args()
    print(machine())
    config = TrialConfig(
        data=DataConfig(name="mnist", root=arguments.data_root),
        model=ModelConfig(blocks=(1, 2, 2), channel_multiplier=8, dropout=0.1, coeff=0.9),
        training=TrainingConfig(max_epochs=arguments.epochs, lr_schedule="one_cycle"),
    )
    choose_algorithms(deterministic=False)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    trainings = {
        name: Training(replace(config, training=replace(config.training, **mode)), device)
        for name, mode in _MODES.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in _MODES}
    last = {}
    while trainings["float32"].status is TrialStatus.RUNNING:
        for name, training in trainings.items():
            report = training.run_to_report().epoch
            assert report is not None
            seconds[name].append(report.epoch_seconds)
            last[name] = report
    for name, taken in seconds.items():
        # The first epoch of a compiled training is mostly compilation.
        over = spread(ratios(taken[1:], seconds["float32"][1:]))
        print(
            f"{name:14} first epoch {taken[0]:.1f} s, then {spread(taken[1:])} s, over float32 "
            f"{over}; val_accuracy {last[name].val_accuracy:.4f}, block_lipschitz_upper_bound "
            f"{last[name].block_lipschitz_upper_bound:.4f}"
        )


if __name__ == "__main__":
    main()
