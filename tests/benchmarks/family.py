"""A family of networks, trained at once, beside separate trainings at the same conditions.

    python -m tests.benchmarks.family [--study STUDY] [--conditions 12] [--members 24] [--seeds 5]
        [--set training.max_epochs=60 ...] [--root data]

STUDY is by default separate_digits.yaml. The conditions are those of a family over the ranges of
coeff and margin in its space, whose rest is fixed at one power iteration and no dropout. Separate
networks are trained with the study's own recipe, once for each condition; the family by the same
recipe but for what --set changes. All are certified and measured in float64, one thread. Prints for
each seed the CPU seconds of training and of measuring, and the hypervolume from the study's
reference point, on validation and test images: of the separate networks, of the family at the same
conditions, and of --members of it. Ten minutes for five seeds on one core of an Intel Xeon.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
import yaml

from models import IResNet, Span
from study.config.file import load, locate
from study.config.space import FloatParameter
from study.config.study import StudyConfig
from study.config.trial import TrialConfig, with_settings
from study.metrics.definitions import (
    CERTIFIED_ACCURACY,
    INVERSE_LIPSCHITZ_UPPER_BOUND,
    VAL_ACCURACY,
)
from study.pareto import points
from study.pareto.dominance import hypervolume
from study.trial.data import sources
from study.trial.data.tensors import Dataset
from study.trial.measured.evaluation import evaluate
from study.trial.measured.network_files import Certified
from study.trial.training import Training
from tests.benchmarks.alternating import machine

SEPARATE = Path(__file__).parent / "separate_digits.yaml"
"""A study of separate trainings, with ladders, on the data of the default study."""
_FIXED = {"n_power_iterations": 1, "dropout": 0.0}
_Row = Mapping[str, float]


def _spans(study: StudyConfig) -> dict[str, Span]:
    ranges = dict(study.space)
    spans = {}
    for name in ("coeff", "margin"):
        of_name = ranges.get(name)
        if isinstance(of_name, FloatParameter):
            spans[name] = Span(of_name.low, of_name.high, log=of_name.log)
    return spans


def _measured(network: IResNet, dataset: Dataset, radius: float) -> tuple[_Row, _Row]:
    """The objectives on validation and on test images."""
    certified = Certified.of(network.eval())
    bound = certified.certificate.inverse_lipschitz_upper_bound
    rows = []
    for split in (dataset.val, dataset.test):
        answers = evaluate(certified.model, split, "float64", certified.certificate)
        rows.append(
            {
                VAL_ACCURACY: answers.accuracy,
                CERTIFIED_ACCURACY: answers.certified_accuracy(radius),
                INVERSE_LIPSCHITZ_UPPER_BOUND: bound,
            }
        )
    return rows[0], rows[1]


def _volumes(networks: Sequence[tuple[_Row, _Row]], study: StudyConfig) -> tuple[float, float]:
    reference = points.reference_losses(study.objectives)
    val, test = (
        hypervolume(points.scaled_losses(rows, study.objectives), reference)
        for rows in zip(*networks, strict=True)
    )
    return val, test


def _trained(config: TrialConfig, dataset: Dataset) -> tuple[Training, float]:
    """Returns (training, CPU seconds)."""
    start = time.process_time()
    training = Training(config, dataset=dataset)
    if not training.train():
        raise ArithmeticError("a training diverged")
    return training, time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", default=str(SEPARATE))
    parser.add_argument("--conditions", type=int, default=12)
    parser.add_argument("--members", type=int, default=24)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--set", nargs="*", default=["training.max_epochs=60", "training.other_lr=0.03"]
    )
    parser.add_argument("--root")
    options = parser.parse_args()
    torch.set_num_threads(1)
    overrides = {} if options.root is None else {"data.root": options.root}
    study = load(locate(options.study), overrides)
    of_family = load(locate(options.study), {**overrides, **dict(map(_setting, options.set))})
    spans, first = _spans(study), {name: p.extremes()[0] for name, p in study.space}
    dataset = sources.load(study.data)
    ratios = []
    for seed in range(options.seeds):
        config = replace(of_family.resolve({**first, **_FIXED}, seed), ladder=(), control=False)
        config = replace(config, family=tuple(spans.items()))
        training, of_one = _trained(config, dataset)
        assert training.family is not None
        family = training.family
        conditions = family.spread(options.members)
        config = replace(study.resolve({**first, **_FIXED}, seed), ladder=(), control=False)
        separate, seconds = [], 0.0
        for one in conditions[: options.conditions]:
            training, cpu = _trained(with_settings(config, one), dataset)
            separate.append(_measured(training.model, dataset, config.radius))
            seconds += cpu
        start = time.process_time()
        members = [_measured(family.at(**one), dataset, config.radius) for one in conditions]
        measuring = time.process_time() - start
        alone = _volumes(separate, study)
        same = _volumes(members[: options.conditions], study)
        more = _volumes(members, study)
        ratios.append(
            [*(b / a for a, b in zip(alone * 2, same + more, strict=True)), of_one / seconds]
        )
        print(
            f"seed {seed}: {len(separate)} separate {alone[0]:.4f} / {alone[1]:.4f} in "
            f"{seconds:.1f} s; family {same[0]:.4f} / {same[1]:.4f} at the same, {more[0]:.4f} / "
            f"{more[1]:.4f} with {len(members)} in {of_one:.1f} s, {measuring:.1f} to measure",
            flush=True,
        )
    names = ["same val", "same test", "more val", "more test", "seconds"]
    columns = zip(names, zip(*ratios, strict=True), strict=True)
    print("ratios, family : separate, median [least, most]")
    for name, values in columns:
        print(f"  {name}: {median(values):.3f} [{min(values):.3f}, {max(values):.3f}]")
    print(machine())


def _setting(text: str) -> tuple[str, object]:
    key, _, value = text.partition("=")
    return key, yaml.safe_load(value)


if __name__ == "__main__":
    main()
