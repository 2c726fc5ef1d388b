"""How much less than 1 + L and 1 / (1 - L) is proven of blocks, and how near that is to the truth.

    python -m tests.benchmarks.two_sided [--seeds 3] [--coeff 0.93]

Trains the default study's network. Prints for each, over its blocks, the products of the proven
bounds over those of 1 + L and of 1 / (1 - L), and the median of each bound over what is attained:
the extreme singular values of dense Jacobians, for slopes found by ascent.
"""

import argparse
import math
import statistics

import torch

from models import certify
from models.blocks.bottleneck import BottleneckReading
from models.network.certificate import BlockBound
from models.proofs.certification import read_body
from study.config.file import load, locate
from study.metrics.reports import TrialStatus
from study.trial.randomness import choose_algorithms
from study.trial.training import Training
from tests.support.oracles import dense_convolution, extreme_over_slopes


def over_attained(block: BottleneckReading, bound: BlockBound) -> tuple[float, float]:
    """The bounds of a block and of its inverse over what slopes attain."""
    weights = [layer.weight for layer in block.layers]
    matrices = [dense_convolution(w, block.layers[0].size) for w in weights if w is not None]
    generator = torch.Generator().manual_seed(0)
    largest, smallest = (
        extreme_over_slopes(
            *matrices, is_activated=0 in block.activated, sign=sign, generator=generator
        )
        for sign in (1, -1)
    )
    inverse = bound.inverse_lipschitz_upper_bound * smallest
    return bound.map_lipschitz_upper_bound / largest, inverse


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--coeff", type=float, default=0.93)
    arguments = parser.parse_args()
    choose_algorithms(deterministic=True)
    study = load(locate("paper_digits"))
    sample = {"coeff": arguments.coeff, "dropout": 0.1, "n_power_iterations": 5}
    ratios = []
    for seed in range(arguments.seeds):
        training = Training(study.resolve(sample, seed))
        while training.status is TrialStatus.RUNNING:
            report = training.run_to_report().epoch
        assert report is not None
        network = training.certified().model
        bounds = certify(network).blocks
        forward = math.prod(b.map_lipschitz_upper_bound / (1 + b.upper_bound) for b in bounds)
        inverse = math.prod(b.inverse_lipschitz_upper_bound * (1 - b.upper_bound) for b in bounds)
        for (_, reading), bound in zip(read_body(network)[0], bounds, strict=True):
            assert isinstance(reading, BottleneckReading)
            ratios.append(over_attained(reading, bound))
        print(
            f"seed {seed}, accuracy {report.val_accuracy:.3f}, L "
            f"{min(b.upper_bound for b in bounds):.3f} to {max(b.upper_bound for b in bounds):.3f}:"
            f" {forward:.3f} of the product of 1 + L, {inverse:.3f} of that of 1 / (1 - L)",
            flush=True,
        )
    for name, of in zip(("block", "inverse"), zip(*ratios, strict=True), strict=True):
        print(
            f"bound of the {name} over attained, {len(of)} blocks: median "
            f"{statistics.median(of):.3f}, {min(of):.3f} to {max(of):.3f}"
        )


if __name__ == "__main__":
    main()
