"""A stored network, measured again on its data."""

import json
import math
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from operator import ne
from pathlib import Path
from typing import Any

from models import NETWORK, certify
from study.errors import OwnCodeError, TrackingError, UserError
from study.imports import is_path
from study.metrics.artifacts import (
    CERTIFICATE,
    INVERSE,
    VAL_RIGHT,
    read_certified,
    read_right,
)
from study.metrics.definitions import (
    ATTACKED_ACCURACY,
    CERTIFIED_ACCURACY,
    INVERSE_STEPS,
    LOST_TO_ROUNDING,
    RECONSTRUCTION_ERROR,
    VAL_ACCURACY,
)
from study.tracking.claims import MEASURED
from study.tracking.figures import trial_of
from study.tracking.proof import load
from study.tracking.records import Records
from study.tracking.stored_model import data_digest
from study.tracking.values import as_json, metrics_of
from study.trial import sources
from study.trial.attack import attacked_accuracy
from study.trial.evaluation import OnSplits, measure, measure_test
from study.trial.network_files import Certified, save_network

# What another processor may change: the fraction of a split's images that are classified, certified
# or attacked otherwise; the relative difference of other figures; the absolute one of those of the
# size of rounding; and the factor by which an error of that size may be smaller. An inverse may
# amplify the unit of rounding by its proven bound. Where that is more, last bits decide its
# iterates: errors differ by a larger factor then, and the numbers of steps by several.
_MOST_IMAGES = 0.002
_MOST_APART = 0.02
_ROUNDING = 2e-6
_UNIT = 2.0**-24
_MOST_TIMES, _MOST_TIMES_AMPLIFIED = 10.0, 100.0
_MOST_STEPS_AMPLIFIED = 5
# Keys of what is given, not measured; of counts of which one step more or less is the same; and of
# numbers of steps that were needed.
_GIVEN = {"architecture", "data", "n_images", "n_samples", "n_steps", "rtol"}
_COUNTS = {"predicted_steps", "needed_steps_max"}
_NEEDED = {INVERSE_STEPS, "needed_steps_mean", "needed_steps_max"}
# What is compared of each file: these keys, or all. What is proven was compared before.
_COMPARED: Mapping[str, set[str] | None] = {
    NETWORK: {"architecture", "data"},
    CERTIFICATE: MEASURED,
    INVERSE: None,
}


def differences(
    records: Records, run_id: str, data_root: str, trust: bool = False
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(a sentence for each figure of a run, and of its files, that its network does not have on its
    data; the metrics of the run that were measured). The network must have been verified, so that
    the settings of its study are known to be those with which its figures were measured.

    Args:
        data_root: in place of the study's data.root.
        trust: whether to run code of the user's own; without it metrics of that kind are left out.

    Raises:
        TrackingError: if the run has no study.
        UserError: if the data is not there, or it is by code that is not trusted.
    """
    run = records.client.get_run(run_id)
    trial = trial_of(records.study_of(run), run)
    if trial is None:
        raise TrackingError(f"run {run_id} must be one of a study, but is not", key="network")
    trial = replace(trial, data=replace(trial.data, root=data_root, download=False))
    if not trust:
        if is_path(trial.data.name):
            rule = f"must be given, since the data is that of {trial.data.name}"
            raise UserError(rule, "trust")
        trial = replace(trial, metrics=())
    dataset = sources.load(trial.data)
    digest = data_digest(records, run_id)
    if digest != dataset.sha256:
        problem = (
            f"data: that of the run has the digest {digest!s:.8}, but that in {data_root} has "
            f"{dataset.sha256:.8}"
        )
        return (problem,), ()
    # As it was measured, of weights in float32; `measure` takes care of the answers' precision.
    network = load(records, run_id, trust).float()
    certified = Certified(network, certify(network))
    try:
        measured, answers = measure(network, dataset.val, trial, certified.certificate)
    except OwnCodeError as error:
        return (f"run: {error}",), ()
    bound = certified.certificate.inverse_lipschitz_upper_bound
    rounding = max(_ROUNDING, _UNIT * bound if bound < math.inf else 0.0)
    logged = metrics_of(run)
    of_test, test_answers = measure_test(network, dataset.test, trial, certified.certificate)
    found = {**measured.metrics(), **of_test}
    if ATTACKED_ACCURACY in logged:  # projections are not attacked
        found[ATTACKED_ACCURACY] = attacked_accuracy(
            network, dataset.test, trial, certified.certificate
        )
    compared = {name: value for name, value in found.items() if name in logged}
    problems = [
        f"run: its metric {name} is {logged[name]}, but the network has {value}"
        for name, value in compared.items()
        if not _is_same(name, logged[name], value, rounding)
    ]
    there = records.artifacts(run_id)
    with tempfile.TemporaryDirectory() as temporary:
        on_splits = OnSplits(answers, test_answers)
        save_network(Path(temporary), certified, on_splits, trial, dataset)
        for name, keys in _COMPARED.items():
            ours = json.loads((Path(temporary) / name).read_bytes())
            theirs = as_json(records.artifact(run_id, name), dict)
            of_file = {key: of for key, of in ours.items() if keys is None or key in keys}
            if name == INVERSE and rounding > _ROUNDING:
                # The error after too few steps may be anything, once last bits decide the iterates.
                del of_file[RECONSTRUCTION_ERROR]
            problems += (f"run: {name}: {problem}" for problem in _apart(theirs, of_file, rounding))
    if VAL_RIGHT in there:
        content = records.artifact(run_id, VAL_RIGHT)
        pairs = [(read_right(content, logged.get(VAL_ACCURACY, math.nan)), answers.right)]
        kept_certified = read_certified(content, logged.get(CERTIFIED_ACCURACY, math.nan))
        if kept_certified is not None:  # earlier versions did not keep them
            pairs.append((kept_certified, answers.certified(trial.radius)))
        n_images = len(answers.right)
        n_other = max(sum(map(ne, kept, ours.tolist())) for kept, ours in pairs)
        if n_other > _MOST_IMAGES * n_images:
            problems.append(f"run: {VAL_RIGHT} is wrong about {n_other} of {n_images} images")
    return tuple(problems), tuple(compared)


def _is_same(name: str, theirs: float, ours: float, rounding: float) -> bool:
    """Whether a figure, named by its keys with dots between them, is what another processor might
    measure where this one measures `ours`; `rounding` is the error that rounding alone may cause
    in an inverse, l2, relative to the image."""
    *_, key = keys = name.split(".")
    if not _GIVEN.isdisjoint(keys) or abs(theirs) > sys.float_info.max:
        return theirs == ours
    if key.endswith("_accuracy") or key == LOST_TO_ROUNDING:
        return abs(theirs - ours) <= _MOST_IMAGES
    is_amplified = rounding > _ROUNDING
    if is_amplified and key in _NEEDED:
        return abs(theirs - ours) <= _MOST_STEPS_AMPLIFIED
    if key in _COUNTS:
        return abs(theirs - ours) <= 1
    if math.isclose(theirs, ours, rel_tol=_MOST_APART):
        return True
    # A smaller error is a better claim, a larger one is not.
    # Those of an inverse in float32, and earlier versions proved less.
    if key in ("error_bound", "image_error_bound"):
        return theirs >= ours / _MOST_TIMES
    if key.endswith("_error"):
        is_rounding = ours <= rounding and abs(theirs - ours) <= rounding
        times = _MOST_TIMES_AMPLIFIED if is_amplified else _MOST_TIMES
        return is_rounding and theirs >= ours / times
    return abs(theirs - ours) <= _ROUNDING


def _apart(theirs: Any, ours: Any, rounding: float, where: str = "") -> Iterator[str]:
    """Yield a sentence for the first number of each list or key in JSON that is another."""
    if isinstance(ours, Mapping):
        if not isinstance(theirs, Mapping):
            yield f"{where or 'it'} must be an object of JSON"
            return
        for key, value in ours.items():
            # Earlier versions had fewer.
            if key in theirs:
                inner = f"{where}.{key}" if where else key
                yield from _apart(theirs[key], value, rounding, inner)
    elif isinstance(ours, list):
        if not isinstance(theirs, list) or len(theirs) != len(ours):
            yield f"{where} must be a list of {len(ours)}"
            return
        for pair in zip(theirs, ours, strict=True):
            for problem in _apart(*pair, rounding, where):
                yield problem
                return
    elif isinstance(ours, float | int) and not isinstance(ours, bool):
        if not isinstance(theirs, float | int) or not _is_same(where, theirs, ours, rounding):
            yield f"{where} is {theirs!s:.20}, but the network has {ours}"
    elif theirs != ours:
        yield f"{where} is {theirs!s:.60}, but the network has {ours!s:.60}"
