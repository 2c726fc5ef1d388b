"""Verification of a stored model: that it is what was logged, and what is proven of it.

No stored code is run: the code at hand builds the network from the stored arguments and tensors,
and certifies it again. The bounds proven here count: the run's metrics and certificate must not
claim more. The accuracies must agree with the images that VAL_RIGHT lists, the sample with the
network and the parameters, and the settings of the study with what NETWORK says of the figures.
Other metrics, and measurements stored with the certificate, are checked only if data is given.
"""

import json
import math
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from models import NETWORK, IResNet, certify, proven_dtype, read_network
from study.config.trial import ALONE
from study.errors import TrackingError, printable, some
from study.metrics.artifacts import (
    CERTIFICATE,
    TEST_RADII,
    VAL_RIGHT,
    read_certified,
    read_radii,
    read_right,
)
from study.metrics.definitions import (
    BLOCK_LIPSCHITZ_UPPER_BOUND,
    CERTIFIED_ACCURACY,
    METRICS,
    PROVEN_METRICS,
    TEST_CERTIFIED_ACCURACY,
    VAL_ACCURACY,
)
from study.tracking import clone
from study.tracking.pages import on_the_word_of
from study.tracking.records import Records
from study.tracking.stored_model import CODE, DATA, Stored, code_folder, model_of, origin
from study.tracking.values import as_json
from study.verification.claims import false_claims, is_true
from study.verification.meaning import in_words, other_meaning, trial_of
from study.verification.measured import differences
from study.verification.mlmodel import other_identity, other_loading


@dataclass(frozen=True)
class Proof:
    """The result of checking a stored model.

    Attributes:
        problems: why the model is not verified, a sentence each; empty if it is verified.
        block_lipschitz_upper_bound: proven here for its tensors; infinite if problems prevent that.
        invertible: whether the network is proven here to be invertible.
        code: which code it was stored with, for a message. The code at hand proves the bound.
        unchecked: files of its run that may have been changed, since they have no logged digest.
        measured: the metrics of its run that were measured again, such as accuracies, radii and
            steps; empty without its data.
        meaning: at which radius, in which precision, on which split and for which goals `measured`
            was measured, in words.
        proven_by: import paths of blocks whose bounds their authors state, and nothing here checks.
    """

    problems: tuple[str, ...]
    block_lipschitz_upper_bound: float = math.inf
    invertible: bool = False
    code: str = ""
    unchecked: tuple[str, ...] = ()
    measured: tuple[str, ...] = ()
    meaning: str = ""
    proven_by: tuple[str, ...] = ()

    def lines(self) -> tuple[str, ...]:
        """The lines to print: the problems, or that the model is verified."""
        if self.problems:
            return self.problems
        bound = METRICS[BLOCK_LIPSCHITZ_UPPER_BOUND].resolution.round(
            self.block_lipschitz_upper_bound
        )
        meaning = "invertible" if self.invertible else "not proven to be invertible"
        word = on_the_word_of(self.proven_by)
        trusted = f"{word}, whose code was trusted" if word else ""
        verified = (
            f"verified: proven bound {bound:.4g}, {meaning}{trusted}; stored with {self.code}"
        )
        if self.unchecked:
            unchecked = some(self.unchecked)
            verified += f"; not checked, since their digests were not stored: {unchecked}"
        if not self.measured:
            return (f"{verified}; not measured again, without its data",)
        return (f"{verified}; measured again {self.meaning}",)


def load(records: Records, run_id: str, trust: bool = False) -> IResNet:
    """The network of a run, in eval mode, on the CPU, in the precision in which its answers are
    proven. No stored code is run; `trust` allows the import of the user's own blocks.

    Raises:
        TrackingError: if its files are not exactly as logged, or belong to another run or to no
            network, or MLflow or the store cannot be read.
    """
    run = records.client.get_run(run_id)
    with tempfile.TemporaryDirectory() as temporary:
        try:
            model_id, folder, problems = model_of(records.client, run, Path(temporary))
            for problem in problems or other_identity(folder, model_id, origin(run)):
                raise ValueError(problem)
            return read_network(folder / DATA, trust=trust).to(proven_dtype(folder / DATA))
        except TrackingError:
            raise
        except ValueError as error:
            raise TrackingError(
                f"the network of run {run_id} cannot be loaded: {error}", key="network"
            ) from error


def verify(stored: Stored, data_root: str | None = None, trust: bool = False) -> Proof:
    """Check a stored network again; if no problem is found and its data is given, measure it too.

    Args:
        data_root: in place of the study's data.root; None to measure nothing.
        trust: whether to run code of the user's own: blocks, data, metrics.

    Raises:
        TrackingError: if it is to be measured, but belongs to no study.
        UserError: if the data is not there, or is read by code that is not trusted.
    """
    problems = stored.problems or tuple(
        other_identity(stored.folder, stored.model_id, stored.origin)
    )
    proof = Proof(problems) if problems else _check(stored, data_root, trust)
    # A problem may quote names and values of the model; each stays one line.
    problems = tuple(map(printable, proof.problems))
    return replace(proof, problems=problems, unchecked=stored.unchecked)


def _check(stored: Stored, data_root: str | None, trust: bool) -> Proof:
    """Check a network whose files match their manifests: files and manifests may both be forged."""
    folder = stored.folder
    problems = list(other_loading(folder))
    try:
        network = read_network(folder / DATA, trust=trust)
    except ValueError as error:
        return Proof((*problems, f"model: {error}"))
    claims = as_json(stored.files[CERTIFICATE], dict)
    if claims is None:
        return Proof((*problems, f"model: {CERTIFICATE} cannot be read as an object of JSON"))
    described = json.loads(stored.files[NETWORK])
    trial = None
    try:
        trial = trial_of(stored)
    except ValueError as error:
        problems.append(f"run: {error}")
    if trial is not None:
        problems += (f"run: {problem}" for problem in other_meaning(described, trial))
    problems += (f"run: {problem}" for problem in _other_training(described, stored))
    if claims.get("in_shape") != list(network.in_shape):
        return Proof((*problems, f"certificate: in_shape is not {list(network.in_shape)}"))
    try:
        certificate = certify(network, search_room=0.0)
    except (ArithmeticError, MemoryError, RuntimeError, TypeError, ValueError) as error:
        return Proof((*problems, f"model: the network cannot be certified: {error}"))
    # Compared after a round trip through JSON.
    certified = json.loads(json.dumps(certificate.to_dict()))
    problems += (f"certificate: {problem}" for problem in false_claims(claims, certified))
    problems += (
        f"run: its metric {name} is {stored.metrics.get(name)}, but the weights give "
        f"{certified[key]}"
        for name, key in PROVEN_METRICS.items()
        if not is_true(key, stored.metrics.get(name), certified[key])
    )
    code, problem = _code_of(folder / CODE)
    problems += problem
    measured, meaning = tuple[str, ...](), ""
    if data_root is not None and not problems:
        if trial is None:
            rule = f"run {stored.run_id} must be one of a study, but is not"
            raise TrackingError(rule, key="network")
        problems, measured = differences(stored, network, certificate, trial, data_root, trust)
        meaning = in_words(described, trial, measured)
    return Proof(
        tuple(problems),
        certificate.lipschitz_upper_bound,
        certificate.invertible,
        code,
        measured=measured,
        meaning=meaning,
        proven_by=certificate.others,
    )


def _other_training(network: Mapping[str, Any], stored: Stored) -> Iterator[str]:
    """Yield a sentence for each claim of the run about its training that its files contradict;
    `network` is the content of NETWORK."""
    architecture = network["architecture"]
    # A network is stored without its normalization, and a control has no body.
    other = {"norm", *(ALONE if stored.is_control else ())}
    for key, value in stored.sample.items():
        if key not in other and key in architecture and architecture[key] != value:
            yield f"{key} of its sample is {value}, but that of the network is {architecture[key]}"
        param = stored.params.get(key, str(value))
        # A list's text may be a tuple's.
        if param != str(value) and not isinstance(value, list):
            yield f"{key} of its sample is {value}, but its parameter is {param}"
    metrics, right = stored.metrics, stored.files[VAL_RIGHT]
    try:
        read_right(right, metrics.get(VAL_ACCURACY, math.nan))
        read_certified(right, metrics.get(CERTIFIED_ACCURACY, math.nan))
        if TEST_RADII in stored.files:  # networks of earlier versions lack it
            accuracy = metrics.get(TEST_CERTIFIED_ACCURACY, math.nan)
            read_radii(stored.files[TEST_RADII], accuracy)
    except ValueError as error:
        yield str(error)


def _code_of(folder: Path) -> tuple[str, list[str]]:
    """Returns (code, problems): which models/ a folder has, in words; a sentence if no commit of a
    full clone has it. Files other than Python's are reported by `other_loading`."""
    if clone.python_files(folder) == clone.python_files(code_folder()):
        return "this version of models/", []
    if not clone.has_history():
        unknown = "another version of models/ or changed code, which only a full clone can tell"
        return f"{unknown} apart", []
    commit = clone.commit_with(folder)
    if commit is not None:
        return f"the models/ of commit {commit:.12}", []
    return "", [
        "code: it must be models/ as it is here or in a commit of this clone, but is neither: it "
        "was changed, or the clone lacks its commit"
    ]
