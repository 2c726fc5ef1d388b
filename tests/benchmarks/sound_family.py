"""Random members of a family: their proofs attacked, and their inverses held against their bounds.

    python -m tests.benchmarks.sound_family [--members 100] [--images 40]

A family is trained on the digits over coefficients from 0.03 to 0.6 and margins from 0.1 to 1.2;
its members are taken at conditions drawn at random. Each is certified, so many test images are
attacked within 0.999 and 1.02 of their own proven radius (see `tests.benchmarks.sound_rows`), and
inverted in float64: no error may be above its proven bound, and no bound on Lip(g) above the
coefficient, up to rounding. Exits 1 otherwise. Ten minutes on one core.
"""

import argparse
import sys
from dataclasses import replace

import torch

from models import Span, certified_radius, certify, deployed
from study.config.file import load, locate
from study.trial.data.tensors import normalized
from study.trial.training import Training
from tests.benchmarks.sound_rows import broken

_FAMILY = (("coeff", Span(0.03, 0.6, log=True)), ("margin", Span(0.1, 1.2, log=True)))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--members", type=int, default=100)
    parser.add_argument("--images", type=int, default=40)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    study = load(locate("digits"))
    sample = {name: parameter.extremes()[0] for name, parameter in study.space}
    config = replace(study.resolve(sample, 0), ladder=(), control=False, family=_FAMILY)
    training = Training(config)
    assert training.train()
    assert training.family is not None
    test = training.dataset.test
    drawn = training.family.draw(options.members, torch.Generator().manual_seed(1))
    n_attacked, counts, n_wrong, worst = 0, torch.zeros(2, dtype=torch.int64), 0, 0.0
    for index in range(options.members):
        conditions = {name: values[index].item() for name, values in drawn.items()}
        network = deployed(training.family.at(**conditions)).double().eval()
        certificate = certify(network)
        x, labels = normalized(test.images).double(), test.labels
        rows = (certified_radius(network, x, labels, certificate) > 0).nonzero().flatten()
        rows = rows[torch.randperm(len(rows))[: options.images]]
        x, labels = x[rows], labels[rows]
        radii = certified_radius(network, x, labels, certificate)
        for place, times in enumerate((0.999, 1.02)):
            counts[place] += broken(network, x, labels, times * radii, in_box=False).sum()
        n_attacked += len(rows)
        with torch.no_grad():
            z = network.features(x)
        back = network.inverse(z, rtol=1e-12, certificate=certificate)
        assert back.image_error_bound is not None
        error = (back.last_iterate - x).flatten(1).norm(dim=1)
        bound = certificate.lipschitz_upper_bound
        is_wrong = bool((error > back.image_error_bound).any())
        n_wrong += is_wrong or not certificate.invertible or bound > conditions["coeff"] * 1.001
        worst = max(worst, error.max().item())
    print(
        f"{options.members} members: of {n_attacked} certified images {counts[0]} changed within "
        f"0.999 of their radius, {counts[1]} within 1.02; {n_wrong} members with a bound that does "
        f"not hold; largest error of an inverse {worst:.2g}"
    )
    return int(counts[0] > 0 or n_wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
