"""Verification of a stored model: that it is what was logged, and what is proven of it.

No stored code is run: the code at hand builds the network from the stored arguments and tensors,
and certifies it again. That bound counts. The run's metric and certificate must not claim more, its
accuracies must be those of the images that it has right and certified, its sample that of the
network and of its parameters, and the settings of its study those with which its figures were
measured. Other metrics and tags, and what was measured beside the certificate, are not checked.
"""

import hashlib
import json
import math
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mlflow.entities import Run

from models import NETWORK, WEIGHTS, IResNet, certify, proven_dtype, read_network
from study.config.trial import COEFF
from study.errors import TrackingError, printable, some
from study.metrics.artifacts import (
    CERTIFICATE,
    MODEL,
    VAL_RIGHT,
    read_certified,
    read_right,
)
from study.metrics.definitions import (
    CERTIFIED_ACCURACY,
    LIPSCHITZ_UPPER_BOUND,
    METRICS,
    PROVEN_METRICS,
    VAL_ACCURACY,
)
from study.metrics.reports import TrialStatus
from study.tracking import clone, tags
from study.tracking.claims import false_claims, is_true
from study.tracking.figures import Meaning, meaning_of, other_meaning, trial_of
from study.tracking.files import fetch_model
from study.tracking.manifest import differences, sha256_of
from study.tracking.mlmodel import other_identity, other_loading
from study.tracking.pages import on_the_word_of
from study.tracking.records import Records, StudyRecord
from study.tracking.stored_model import CODE, DATA, code_folder, model_id
from study.tracking.values import as_json, metrics_of, sample_of


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


def verify(records: Records, run_id: str, trust: bool = False) -> Proof:
    """Check the model of a run again; `trust` runs the code of the user's own that proves bounds of
    its blocks. Raises TrackingError if the run is missing or has no network,
    or MLflow or the store cannot be read."""
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
    with tempfile.TemporaryDirectory() as temporary:
        try:
            folder, problems = _fetched(records, run, Path(temporary))
            of_run, unchecked = _files(records, run)
            study = records.study_of(run)
            proof = (
                Proof(tuple(problems)) if problems else _check(folder, run, of_run, study, trust)
            )
        except TrackingError:
            raise
        except ValueError as error:
            proof, unchecked = Proof((str(error),)), ()
    # A problem may quote names and values of the model; each stays one line.
    return replace(proof, problems=tuple(map(printable, proof.problems)), unchecked=unchecked)


def load(records: Records, run_id: str, trust: bool = False) -> IResNet:
    """The network of a run, in eval mode, on the CPU, in the precision in which its answers are
    proven; networks of earlier versions, which do not state one, in float32. No stored code is run;
    `trust` imports the user's own that its blocks need.

    Raises:
        TrackingError: if its files are not exactly those logged, or are those of another run or of
            no network, or MLflow or the store cannot be read.
    """
    run = records.client.get_run(run_id)
    with tempfile.TemporaryDirectory() as temporary:
        try:
            folder, problems = _fetched(records, run, Path(temporary))
            for problem in problems:
                raise ValueError(problem)
            return read_network(folder / DATA, trust=trust).to(proven_dtype(folder / DATA))
        except TrackingError:
            raise
        except ValueError as error:
            raise TrackingError(
                f"the network of run {run_id} cannot be loaded: {error}", key="network"
            ) from error


def _fetched(records: Records, run: Run, folder: Path) -> tuple[Path, list[str]]:
    """Copy the model of a run: (its folder, each difference from what was logged). Raises
    ValueError if the run does not say what was logged, or has not exactly one model."""
    logged = _digests(run, tags.MODEL_FILES)
    model = model_id(records.client, run.info.run_id)
    fetched = fetch_model(records.client, model, folder)
    needed = (f"{DATA}/{name}" for name in (NETWORK, WEIGHTS, CERTIFICATE))
    problems = [
        *differences(fetched, logged),
        *(f"{name} is missing" for name in needed if name not in logged),
    ] or other_identity(fetched, run, model)
    return fetched, [f"model: {problem}" for problem in problems]


def _digests(run: Run, tag: str) -> dict[str, str]:
    """Files and their digests, from a tag of the run."""
    if tag not in run.data.tags:
        raise ValueError(f"manifest: the run must have the tag {tag}, but has none")
    files = as_json(run.data.tags[tag], dict)
    if files is None or not all(isinstance(digest, str) for digest in files.values()):
        raise ValueError(f"manifest: {tag} must name files with their digests")
    return files


def _files(records: Records, run: Run) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """(name -> content of the run's own files that are checked, names of those without a digest).
    Raises ValueError if one is missing, or is not the file that was logged."""
    run_id = run.info.run_id
    there = records.artifacts(run_id)
    if MODEL in there:
        # MLflow loads runs:/RUN_ID/model from both, one over the other.
        raise ValueError(f"run: it must have no files under {MODEL} beside its model, but has some")
    # Earlier versions logged no digests, and still earlier ones no VAL_RIGHT.
    logged = _digests(run, tags.RUN_FILES) if tags.RUN_FILES in run.data.tags else {}
    files = {}
    for name in sorted({NETWORK, CERTIFICATE, *logged, *({VAL_RIGHT} & there)}):
        if name not in there:
            raise ValueError(f"run: it must have {name}, but has not")
        files[name] = records.artifact(run_id, name)
        if name in logged and hashlib.sha256(files[name]).hexdigest() != logged[name]:
            raise ValueError(f"run: its {name} is not the file that was logged")
    # The network and the certificate are compared with the model's own.
    return files, tuple(map(printable, sorted(there - logged.keys() - {NETWORK, CERTIFICATE})))


def _check(
    folder: Path, run: Run, of_run: Mapping[str, bytes], study: StudyRecord | None, trust: bool
) -> Proof:
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
        return Proof((*problems, f"model: {error}"))
    stored = as_json((folder / DATA / CERTIFICATE).read_bytes(), dict)
    if stored is None:
        return Proof((*problems, f"model: {CERTIFICATE} cannot be read as an object of JSON"))
    described = json.loads((folder / DATA / NETWORK).read_text())
    problems += (
        f"run: {problem}" for problem in _other_training(described["architecture"], run, of_run)
    )
    meaning = None
    try:
        trial = trial_of(study, run)
    except ValueError as error:
        problems.append(f"run: {error}")
    else:
        if trial is not None:
            problems += (f"run: {problem}" for problem in other_meaning(described, trial))
            meaning = meaning_of(described, trial)
    if stored.get("in_shape") != list(network.in_shape):
        return Proof((*problems, f"certificate: in_shape is not {list(network.in_shape)}"))
    try:
        # Compared after a round trip through JSON.
        certificate = certify(network, search_room=0.0)
        certified = json.loads(json.dumps(certificate.to_dict()))
    except (ArithmeticError, MemoryError, RuntimeError, TypeError, ValueError) as error:
        return Proof((*problems, f"model: the network cannot be certified: {error}"))
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
    return Proof(
        tuple(problems),
        certified[LIPSCHITZ_UPPER_BOUND],
        certified["invertible"],
        code,
        meaning=meaning,
        proven_by=certificate.others,
    )


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
