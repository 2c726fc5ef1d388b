"""The inverse of a trained network at coeff 0.9, and of one with BatchNorm instead.

    python -m tests.benchmarks.inverse [digits | mnist DATA_ROOT]

Trains both with the same recipe, inverts the features of 256 validation images to rtol 1e-6,
and prints the certificate, how many images converged, the most and the mean steps a block,
and the largest relative reconstruction error. Exits 1 unless the first converges everywhere
with an error below 1e-5 in at most 12 steps a block, and the second says of at least one
image that it did not converge, and gives no value for it.
"""

import argparse
import sys
from typing import Any

import torch

from models import certify
from study.config.data import DataConfig
from study.config.trial import ModelConfig, TrainingConfig, TrialConfig
from study.metrics.reports import TrialStatus
from study.trial.data import tensors as data
from study.trial.training import Training
from tests.support.oracles import relative_error

_N_IMAGES = 256


def measure(norm: Any, data_config: DataConfig, n_epochs: int) -> tuple[bool, float, int]:
    """(whether all converged, largest relative error of those that did, most steps)."""
    config = TrialConfig(
        data=data_config,
        model=ModelConfig(
            blocks=(2, 2, 2), channel_multiplier=8, norm=norm, coeff=0.9, dropout=0.0
        ),
        training=TrainingConfig(
            max_epochs=n_epochs, batch_size=64, lr=0.1, lr_schedule="one_cycle"
        ),
    )
    training = Training(config)
    while training.status is TrialStatus.RUNNING:
        report = training.run_to_report()
        assert report.epoch is not None, report.reason
    model = training.model.eval()
    x = data.normalized(training.dataset.val.images[:_N_IMAGES])
    with torch.no_grad():
        solution = model.inverse(model.features(x), rtol=1e-6, max_steps=100)
    converged = solution.converged.all(dim=0)
    assert solution.value[~converged].isnan().all()
    errors = relative_error(solution.value[converged], x[converged])
    largest = float(errors.max()) if len(errors) else float("nan")
    print(
        f"{norm:8} val_accuracy {report.epoch.val_accuracy:.4f}, block_lipschitz_upper_bound "
        f"{certify(model).lipschitz_upper_bound:.4g}, {int(converged.sum())} of {len(x)} images "
        f"converged, steps a block: most {int(solution.n_steps.max())}, mean "
        f"{float(solution.n_steps.double().mean()):.2f}, largest relative error {largest:.2e}; "
        f"last iterates: {float(relative_error(solution.last_iterate, x).max()):.2e}",
        flush=True,
    )
    return bool(converged.all()), largest, int(solution.n_steps.max())


def main() -> None:
    parser = argparse.ArgumentParser(description="An inverse with a proof, and one without.")
    parser.add_argument("data", choices=("digits", "mnist"), nargs="?", default="digits")
    parser.add_argument("data_root", nargs="?", default="data")
    arguments = parser.parse_args()
    is_small = arguments.data == "digits"
    data_config = DataConfig(
        name=arguments.data,
        root=arguments.data_root,
        val_fraction=0.2,
        shift=0 if is_small else None,
    )
    n_epochs = 10 if is_small else 1
    all_converged, largest, most = measure("spectral", data_config, n_epochs)
    batch_converged, _, _ = measure("batch", data_config, n_epochs)
    if not (all_converged and largest < 1e-5 and most <= 12 and not batch_converged):
        sys.exit(1)


if __name__ == "__main__":
    main()
