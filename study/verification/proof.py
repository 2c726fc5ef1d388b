"""Verification of a stored model: that it is what was logged, and what is proven of it.

No stored code is run: the code at hand builds the network from the stored arguments and tensors,
and certifies it again. That bound counts. The run's metric and certificate must not claim more, its
accuracies must be those of the images that it has right and certified, its sample that of the
network and of its parameters, and the settings of its study those with which its figures were
measured. Other metrics and tags, and what was measured beside the certificate, are not checked.
"""

import json
import math
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from models import NETWORK, Certificate, IResNet, certify, read_network
from study.config.trial import COEFF, TrialConfig
from study.errors import TrackingError, printable, some
from study.metrics.artifacts import CERTIFICATE, VAL_RIGHT, read_certified, read_right
from study.metrics.definitions import (
    CERTIFIED_ACCURACY,
    LIPSCHITZ_UPPER_BOUND,
    METRICS,
    PROVEN_METRICS,
    VAL_ACCURACY,
)
from study.metrics.reports import TrialStatus
from study.tracking import clone, tags
from study.tracking.client import Run
from study.tracking.manifest import sha256_of
from study.tracking.pages import on_the_word_of
from study.tracking.records import Records, StudyRecord
from study.tracking.stored_model import CODE, DATA, code_folder
from study.tracking.values import as_json, metrics_of, sample_of
from study.verification.claims import false_claims, is_true
from study.verification.fetched import files_of, model_of
from study.verification.meaning import Meaning, meaning_of, other_meaning, trial_of
from study.verification.measured import differences
from study.verification.mlmodel import other_loading


@dataclass(frozen=True)
class Proof:
    """The result of checking a stored model.

    Attributes:
        problems: why it is not verified, a sentence each; empty if it is.
        lipschitz_upper_bound: proven here of its tensors; infinite if problems prevent that.
        invertible: whether that is proven here.
        code: which code it was stored with, for a message. The bound is that of the code at hand.
        unchecked: files of its run that may have been changed, since they have no logged digest.
        meaning: at which radius, in which precision, on which split and for which goals its
            figures were measured; None if its study is gone.
        measured: the metrics of its run that were measured again, such as accuracies, radii and
            steps; empty without its data.
        proven_by: import paths of blocks whose bounds are proofs by other authors.
    """

    problems: tuple[str, ...]
    lipschitz_upper_bound: float = math.inf
    invertible: bool = False
    code: str = ""
    unchecked: tuple[str, ...] = ()
    meaning: Meaning | None = None
    measured: tuple[str, ...] = ()
    proven_by: tuple[str, ...] = ()

    def lines(self) -> tuple[str, ...]:
        """The lines to print: the problems, or that the model is verified."""
        if self.problems:
            return self.problems
        bound = METRICS[LIPSCHITZ_UPPER_BOUND].resolution.round(self.lipschitz_upper_bound)
        meaning = "invertible" if self.invertible else "not proven to be invertible"
        word = on_the_word_of(self.proven_by)
        trusted = f"{word}, whose code was trusted" if word else ""
        verified = (
            f"verified: proven bound {bound:.4g}, {meaning}{trusted}; stored with {self.code}"
        )
        if self.unchecked:
            unchecked = some(self.unchecked)
            verified += f"; not checked, since their digests were not stored: {unchecked}"
        if not self.measured or self.meaning is None:
            return (f"{verified}; not measured again, without its data",)
        return (f"{verified}; measured again {self.meaning.in_words(self.measured)}",)


@dataclass(frozen=True)
class _Certified:
    """What the files of a run give, once nothing speaks against them."""

    network: IResNet
    certificate: Certificate
    trial: TrialConfig | None


def verify(
    records: Records, run_id: str, data_root: str | None = None, trust: bool = False
) -> Proof:
    """Check the model of a run again, and measure it again where that holds and there is data.

    Args:
        data_root: in place of the study's data.root; None to measure nothing.
        trust: whether to run code of the user's own: blocks, data, metrics.

    Raises:
        TrackingError: if the run is missing or has no network or, to be measured, no study; or
            MLflow or the store cannot be read.
        UserError: if the data is not there, or it is by code that is not trusted.
    """
    run = records.client.get_run(run_id)
    state = run.data.tags.get(tags.STATE, "of no state")
    problem = None
    if LIPSCHITZ_UPPER_BOUND not in metrics_of(run):
        problem = f"has no {LIPSCHITZ_UPPER_BOUND}"
    elif state != TrialStatus.COMPLETED:
        problem = f"is {printable(state).replace('_', ' ')}"
    if problem is not None:
        raise TrackingError(
            f"must be the run of a completed trial or of a projection, but {run_id} {problem}",
            key="network",
        )
    certified: _Certified | None = None
    of_run: Mapping[str, bytes] = {}
    with tempfile.TemporaryDirectory() as temporary:
        try:
            folder, problems = model_of(records, run, Path(temporary))
            of_run, unchecked = files_of(records, run)
            if problems:
                proof = Proof(tuple(problems))
            else:
                proof, certified = _check(folder, run, of_run, records.study_of(run), trust)
        except TrackingError:
            raise
        except ValueError as error:
            proof, unchecked = Proof((str(error),)), ()
    if data_root is not None and certified is not None and not proof.problems:
        found, measured = differences(
            run, of_run, certified.network, certified.certificate, certified.trial,
            data_root=data_root, trust=trust,
        )  # fmt: skip
        proof = replace(proof, problems=found, measured=measured)
    # A problem may quote names and values of the model; each stays one line.
    return replace(proof, problems=tuple(map(printable, proof.problems)), unchecked=unchecked)


def _check(
    folder: Path, run: Run, of_run: Mapping[str, bytes], study: StudyRecord | None, trust: bool
) -> tuple[Proof, _Certified | None]:
    """Check a model whose files match the manifest, though both may be forged. `of_run` has the
    run's own files: name -> content; `study` is that of the run, if it can be read."""
    problems = [f"model: {problem}" for problem in other_loading(folder)]
    problems += (
        f"run: its {name} is not that of the model"
        for name in (NETWORK, CERTIFICATE)
        if (folder / DATA / name).read_bytes() != of_run[name]
    )
    try:
        network = read_network(folder / DATA, trust=trust)
    except ValueError as error:
        return Proof((*problems, f"model: {error}")), None
    stored = as_json((folder / DATA / CERTIFICATE).read_bytes(), dict)
    if stored is None:
        return Proof((*problems, f"model: {CERTIFICATE} cannot be read as an object of JSON")), None
    described = json.loads((folder / DATA / NETWORK).read_text())
    problems += (
        f"run: {problem}" for problem in _other_training(described["architecture"], run, of_run)
    )
    meaning, trial = None, None
    try:
        trial = trial_of(study, run)
    except ValueError as error:
        problems.append(f"run: {error}")
    else:
        if trial is not None:
            problems += (f"run: {problem}" for problem in other_meaning(described, trial))
            meaning = meaning_of(described, trial)
    if stored.get("in_shape") != list(network.in_shape):
        return Proof((*problems, f"certificate: in_shape is not {list(network.in_shape)}")), None
    try:
        # Compared after a round trip through JSON.
        certificate = certify(network, search_room=0.0)
        certified = json.loads(json.dumps(certificate.to_dict()))
    except (ArithmeticError, MemoryError, RuntimeError, TypeError, ValueError) as error:
        return Proof((*problems, f"model: the network cannot be certified: {error}")), None
    problems += (f"certificate: {problem}" for problem in false_claims(stored, certified))
    logged = metrics_of(run)
    for name in PROVEN_METRICS:
        # Earlier versions had the first alone.
        if name not in logged:
            continue
        claimed = logged[name]
        if not is_true(name, claimed, certified[name]):
            problems.append(
                f"run: its metric {name} is {claimed}, but the weights give {certified[name]}"
            )
    if _code(folder / CODE) == _code(code_folder()):
        code = "this version of models/"
    elif not clone.has_history():
        code = "another version of models/ or changed code, which only a full clone can tell apart"
    else:
        commit = clone.commit_with(folder / CODE)
        code = f"the models/ of commit {commit or '':.12}"
        if commit is None:
            problems.append(
                "code: it must be models/ as it is here or in a commit of this clone, but is "
                "neither: it was changed, or the clone lacks its commit"
            )
    proof = Proof(
        tuple(problems),
        certified[LIPSCHITZ_UPPER_BOUND],
        certified["invertible"],
        code,
        meaning=meaning,
        proven_by=certificate.others,
    )
    return proof, _Certified(network, certificate, trial)


def _other_training(
    architecture: Mapping[str, object], run: Run, of_run: Mapping[str, bytes]
) -> Iterator[str]:
    """Yield a sentence for each claim of the run about its training that its files contradict."""
    try:
        sample = sample_of(run)
    except TrackingError as error:
        sample = {}
        yield str(error)
    for key, value in sample.items():
        # A network is stored without its normalization.
        if key != "norm" and key in architecture and architecture[key] != value:
            yield f"{key} of its sample is {value}, but that of the network is {architecture[key]}"
        # Earlier versions gave a projection its own coefficient; a list's text may be a tuple's.
        is_other = key == COEFF and tags.PROJECTED_TO in run.data.tags
        param = run.data.params.get(key, str(value))
        if param != str(value) and not is_other and not isinstance(value, list):
            yield f"{key} of its sample is {value}, but its parameter is {param}"
    if VAL_RIGHT in of_run:
        try:
            logged = metrics_of(run)
            read_right(of_run[VAL_RIGHT], logged.get(VAL_ACCURACY, math.nan))
            read_certified(of_run[VAL_RIGHT], logged.get(CERTIFIED_ACCURACY, math.nan))
        except ValueError as error:
            yield str(error)


def _code(folder: Path) -> dict[str, str]:
    """Digests of the Python files below a folder. A model has no others: see `other_loading`."""
    files = (path for path in folder.rglob("*.py") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in files}
