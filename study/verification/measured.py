"""A stored network, measured again on its data."""

import json
import math
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice, zip_longest
from operator import ne
from pathlib import Path
from typing import Any

from models import NETWORK, Certificate, IResNet, is_import_path
from study.config.trial import TrialConfig
from study.errors import OwnCodeError, UserError
from study.metrics.artifacts import (
    CERTIFICATE,
    INVERSE,
    TEST_RADII,
    VAL_RIGHT,
    read_certified,
    read_radii,
    read_right,
)
from study.metrics.definitions import (
    ATTACKED_ACCURACY,
    CERTIFIED_ACCURACY,
    RECONSTRUCTION_ERROR,
    TEST_CERTIFIED_ACCURACY,
    VAL_ACCURACY,
)
from study.tracking.stored_model import Stored, digest_of_data
from study.tracking.values import as_json
from study.trial.data import sources
from study.trial.measured.attack import attacked_accuracy
from study.trial.measured.evaluation import OnSplits, measure, measure_test
from study.trial.measured.network_files import Certified, save_network
from study.verification.claims import BESIDE_THE_PROOF
from study.verification.tolerances import MOST_IMAGES, error_of_inverse, is_amplified, is_same

# File -> its keys that are compared, None for all. Proven values were compared before.
_COMPARED: Mapping[str, set[str] | None] = {
    NETWORK: {"architecture", "data"},
    CERTIFICATE: BESIDE_THE_PROOF,
    INVERSE: None,
}


def differences(
    stored: Stored,
    network: IResNet,
    certificate: Certificate,
    trial: TrialConfig,
    data_root: str,
    trust: bool,
) -> tuple[list[str], tuple[str, ...]]:
    """Measure a stored network again, and compare the results with its run and the run's files.

    Returns (problems, measured): a sentence for each figure that differs, or one if the data is
    other data or the user's own code fails; the names of the run's metrics that were measured
    again.

    Args:
        network: with weights in float32; `measure` converts it to the precision of trial.
        trial: the one that trained it; the caller has checked that the stored figures were measured
            with its settings.
        data_root: in place of the study's data.root.
        trust: whether to run the user's own code; without it, the user's own metrics are left out.

    Raises:
        UserError: if the data is missing, or is read by the user's own code, without trust.
    """
    trial = replace(trial, data=replace(trial.data, root=data_root, download=False))
    if not trust:
        if is_import_path(trial.data.name):
            rule = f"must be given, since the data is that of {trial.data.name}"
            raise UserError(rule, "trust")
        trial = replace(trial, metrics=())
    dataset = sources.load(trial.data)
    digest = digest_of_data(json.loads(stored.files[NETWORK]))
    if digest != dataset.sha256:
        own = f"data: that of the run has the digest {digest!s:.8}"
        return [f"{own}, but that in {data_root} has {dataset.sha256:.8}"], ()
    try:
        measured, answers = measure(network, dataset.val, trial, certificate)
    except OwnCodeError as error:
        return [f"run: {error}"], ()
    rounding = error_of_inverse(certificate.inverse_lipschitz_upper_bound)
    logged = stored.metrics
    of_test, test_answers = measure_test(network, dataset.test, trial, certificate)
    found = {**measured.metrics(), **of_test}
    if ATTACKED_ACCURACY in logged:  # projections are not attacked
        found[ATTACKED_ACCURACY] = attacked_accuracy(network, dataset.test, trial, certificate)
    compared = {name: value for name, value in found.items() if name in logged}
    problems = [
        f"run: its metric {name} is {logged[name]}, but the network has {value}"
        for name, value in compared.items()
        if not is_same(name, logged[name], value, rounding)
    ]
    with tempfile.TemporaryDirectory() as temporary:
        on_splits = OnSplits(answers, test_answers)
        certified = Certified(network, certificate)
        save_network(Path(temporary), certified, on_splits, trial, dataset)
        for name, keys in _COMPARED.items():
            ours = json.loads((Path(temporary) / name).read_bytes())
            theirs = as_json(stored.files[name], dict)
            of_file = {key: of for key, of in ours.items() if keys is None or key in keys}
            if name == INVERSE and is_amplified(rounding):
                # Where last bits decide the iterates, the error after too few steps is arbitrary.
                del of_file[RECONSTRUCTION_ERROR]
            problems += (f"run: {name}: {problem}" for problem in _apart(theirs, of_file, rounding))
    content = stored.files[VAL_RIGHT]
    kept = (
        (read_right(content, logged[VAL_ACCURACY]), answers.right),
        (
            read_certified(content, logged[CERTIFIED_ACCURACY]),
            answers.certified(trial.radius),
        ),
    )
    n_images = len(answers.right)
    n_other = max(sum(map(ne, theirs, ours.tolist())) for theirs, ours in kept)
    if n_other > MOST_IMAGES * n_images:
        problems.append(f"run: {VAL_RIGHT} is wrong about {n_other} of {n_images} images")
    if TEST_RADII in stored.files:  # networks of earlier versions lack it
        stated = read_radii(stored.files[TEST_RADII], logged[TEST_CERTIFIED_ACCURACY]).tolist()
        radii = test_answers.radii.nan_to_num(nan=-math.inf, neginf=-math.inf).tolist()
        pairs = zip_longest(stated, radii, fillvalue=math.inf)
        n_other = sum(not is_same("radius", *pair, rounding) for pair in pairs)
        if n_other > MOST_IMAGES * len(radii):
            problems.append(f"run: {TEST_RADII} is wrong about {n_other} of {len(radii)} images")
    return problems, tuple(compared)


def _apart(theirs: Any, ours: Any, rounding: float, where: str = "") -> Iterator[str]:
    """Yield a sentence for each key of stored JSON, `theirs`, whose value differs from the one
    measured here, `ours`; of a list, only for its first difference. `where` is the key so far."""
    if isinstance(ours, Mapping):
        if not isinstance(theirs, Mapping):
            yield f"{where or 'it'} must be an object of JSON"
            return
        for key, value in ours.items():
            inner = f"{where}.{key}" if where else key
            yield from _apart(theirs.get(key), value, rounding, inner)
    elif isinstance(ours, list):
        if not isinstance(theirs, list) or len(theirs) != len(ours):
            yield f"{where} must be a list of {len(ours)}"
            return
        pairs = zip(theirs, ours, strict=True)
        yield from islice((p for pair in pairs for p in _apart(*pair, rounding, where)), 1)
    elif isinstance(ours, float | int) and not isinstance(ours, bool):
        if not isinstance(theirs, float | int) or not is_same(where, theirs, ours, rounding):
            yield f"{where} is {theirs!s:.20}, but the network has {ours}"
    elif theirs != ours:
        yield f"{where} is {theirs!s:.60}, but the network has {ours!s:.60}"
