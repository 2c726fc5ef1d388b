"""The proven bounds of trained blocks with both efforts, their time, and a semidefinite program.

    python -m tests.benchmarks.block_bounds study TRACKING_URI [STUDY] [--sdp 6] [--rounds 5]
    python -m tests.benchmarks.block_bounds folder FOLDER [--sdp 6] [--rounds 5]

Of every completed trial of a study, or of what tests.benchmarks.network wrote into a folder. Prints
full over fast, for blocks on maps of 8 x 8 and less and for all; how far the bounds are below the
layers' product; the times of both in turns; and for some of the smallest blocks the bound over that
of LipSDP with a multiplier for each entry (tests.support.lipsdp), minutes each.
"""

import argparse
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from models import IResNet, certify, read_network
from models.blocks.bottleneck import BottleneckReading
from models.norms.convolution_norm import dense_operators
from models.proofs.certification import read_body
from study.metrics.reports import TrialStatus
from study.results.report import find_study
from study.tracking.records import Records
from study.tracking.server.client import Client
from study.verification.proof import load
from tests.benchmarks.alternating import in_turns, machine, ratios, spread
from tests.support.lipsdp import lipsdp

_SMALL = 8  # pixels a side


def of_study(uri: str, name: str | None) -> Iterator[tuple[str, IResNet]]:
    records = Records(Client(uri))
    for trial in records.trials(find_study(records, name)):
        if trial.state is TrialStatus.COMPLETED:
            yield trial.trial_id, load(records, trial.run_id)


def of_sdp(block: BottleneckReading) -> float:
    size = block.layers[0].size
    weights = [layer.weight for layer in block.layers]
    assert all(weight is not None for weight in weights)
    return lipsdp(
        *(dense_operators(w.unsqueeze(0), size)[0].numpy() for w in weights if w is not None)
    )


def n_entries(block: BottleneckReading) -> int:
    """Of the maps between its layers."""
    weight = block.layers[-1].weight
    assert weight is not None
    return weight.shape[1] * math.prod(block.layers[-1].size)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=("study", "folder"))
    parser.add_argument("where")
    parser.add_argument("study", nargs="?")
    parser.add_argument("--sdp", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    print(machine())
    if arguments.kind == "study":
        networks = dict(of_study(arguments.where, arguments.study))
    else:
        networks = {arguments.where: read_network(Path(arguments.where)).eval()}
    small, every, over_product = [], [], []
    blocks = []
    for name, model in networks.items():
        fast, full = certify(model, "fast"), certify(model)
        readings = [reading for _, reading in read_body(model)[0]]
        for block, a, b in zip(readings, fast.blocks, full.blocks, strict=True):
            assert isinstance(block, BottleneckReading)
            every.append(b.upper_bound / a.upper_bound)
            over_product.append(b.upper_bound / b.layer_product)
            if max(block.layers[0].size) <= _SMALL:
                small.append(every[-1])
                blocks.append((f"{name} {block.name}", block, a.upper_bound, b.upper_bound))
        print(
            f"{name}: bound {fast.lipschitz_upper_bound:.4g} fast, "
            f"{full.lipschitz_upper_bound:.4g} full",
            flush=True,
        )
    for what, values in (
        ("full over fast, maps <= 8 x 8", small),
        ("full over fast, all", every),
        ("full over the layers' product", over_product),
    ):
        if values:
            print(
                f"{what}: median {median(values):.3f}, least {min(values):.3f}, most "
                f"{max(values):.3f}, {len(values)} blocks"
            )
    model = next(iter(networks.values()))
    seconds = in_turns(
        {"fast": lambda: certify(model, "fast"), "full": lambda: certify(model)}, arguments.rounds
    )
    print(f"fast {spread(seconds['fast'])} s, full {spread(seconds['full'])} s")
    print(f"full over fast in time: {spread(ratios(seconds['full'], seconds['fast']))}")
    least = min(map(n_entries, (block for _, block, _, _ in blocks)), default=0)
    smallest = [x for x in blocks if n_entries(x[1]) == least]
    # Of a study, blocks at different depths.
    step = max(1, len(smallest) // max(1, arguments.sdp) + 1)
    for name, block, fast_bound, full_bound in smallest[::step][: arguments.sdp]:
        of_program = of_sdp(block)
        print(
            f"{name}: SDP {of_program:.5g}, full {full_bound / of_program:.4f} of it, fast "
            f"{fast_bound / of_program:.4f}",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
