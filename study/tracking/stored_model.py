"""A network as MLflow stores it: logged with its proof, and fetched again as it was logged.

Files of a logged model, each named with its digest in a tag of its run:

    MLmodel, requirements.txt, ...      MLflow's own: the loader, and what it needs
    data/network/network.json           what the network is, as `models` writes it
    data/network/weights.safetensors    its tensors; for a projection, those of its training; with a
                                        family, the tensors that its members share
    data/network/changes.safetensors    for a projection or a family: its tensors that differ from
                                        these
    data/network/certificate.json       what is proven of the network
    code/models/                        the code that builds the network, and its loader

Each model has all of its files, so that it can be copied alone.
"""

import filecmp
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Run
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec

import models
from models import CHANGES, NETWORK, WEIGHTS
from study.config.space import Value
from study.errors import LocationError, TrackingError, printable
from study.metrics.artifacts import CERTIFICATE, INVERSE, MODEL, VAL_RIGHT, trained_folder
from study.metrics.definitions import BLOCK_LIPSCHITZ_UPPER_BOUND
from study.metrics.reports import CONTROL, TrialStatus
from study.tracking import tags
from study.tracking.records import Records
from study.tracking.server import files
from study.tracking.server.client import Client
from study.tracking.study_record import StudyRecord
from study.tracking.values import as_json, member_of, metrics_of, sample_of

DATA = "data/network"
"""Folder of a logged model: NETWORK, WEIGHTS, CERTIFICATE, and for some CHANGES."""
CODE = "code/models"
"""Folder of a logged model with its code."""
LOADER = "models.storage.serving"
REQUIREMENTS = ("mlflow", "torch", "numpy", "safetensors")
"""Packages that a logged model needs, each in the version that it was logged with."""


def code_folder() -> Path:
    """The folder of the code that models are logged with."""
    return Path(models.__file__).parent


def log(client: Client, run: Run, folder: Path, latest: dict[str, Path]) -> None:
    """Log the network of a run, written to a folder by `save_network`: the JSON files,
    pictures and model. `latest` is the argument of `share`."""
    own = [path for path in sorted(folder.iterdir()) if path.suffix in (".json", ".png")]
    for path in own:
        files.log_file(client, run, path)
    name = client.call(client.api.get_experiment, run.info.experiment_id).name
    of_model = client.call(_log_model, client, run, folder, {"name": name, **origin(run)}, latest)
    of_run = {path.name: files.sha256_of(path) for path in own}
    # The code as one: MLflow would cut a longer manifest off.
    of_model = files.condensed(of_model, [f"{CODE}/"])
    # These tags mark the model as logged.
    logged = {tags.MODEL_FILES: json.dumps(of_model), tags.RUN_FILES: json.dumps(of_run)}
    client.log(run.info.run_id, tags=logged)


def origin(run: Run) -> dict[str, str]:
    """What a model's MLmodel states of its run: run id, trial id, and the bound of a projection or
    the conditions of a member."""
    names = {"trial_id": tags.TRIAL_ID, "projected_to": tags.PROJECTED_TO, "member": tags.MEMBER}
    of_run = {key: run.data.tags[tag] for key, tag in names.items() if tag in run.data.tags}
    return {"run_id": run.info.run_id, **of_run}


def _log_model(
    client: Client, run: Run, folder: Path, origin: Mapping[str, Any], latest: dict[str, Path]
) -> dict[str, str]:
    """Log a model with its proof, and `origin` in its metadata; returns its files with their
    digests. MLflow's own `log_model` takes the same steps, but does not return what it writes."""
    run_id = run.info.run_id
    model = client.api.create_logged_model(run.info.experiment_id, MODEL, source_run_id=run_id)
    client.api.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    with tempfile.TemporaryDirectory() as name:
        data, saved = Path(name) / Path(DATA).name, Path(name) / "model"
        data.mkdir()
        has_weights = (folder / WEIGHTS).exists()
        of_weights = folder if has_weights else trained_folder(folder)
        for file in (NETWORK, CERTIFICATE, CHANGES):
            if (folder / file).exists():
                shutil.copy(folder / file, data)
        shutil.copy(of_weights / WEIGHTS, data)
        network = json.loads((folder / NETWORK).read_text())
        architecture, precision = network["architecture"], np.dtype(network["precision"])
        # Python files alone: nothing else beside them is needed to build a network.
        code = Path(name) / code_folder().name
        shutil.copytree(code_folder(), code, ignore=_all_but_python)
        mlflow.pyfunc.save_model(
            str(saved),
            loader_module=LOADER,
            data_path=str(data),
            code_paths=[str(code)],
            pip_requirements=[f"{name}=={_version(name)}" for name in REQUIREMENTS],
            mlflow_model=Model(
                artifact_path=model.artifact_location,
                model_uuid=model.model_id,
                run_id=run_id,
                model_id=model.model_id,
                metadata={"study": dict(origin), "data": network["data"]},
                signature=ModelSignature(
                    Schema([TensorSpec(np.dtype("float32"), (-1, *architecture["in_shape"]))]),
                    Schema([TensorSpec(precision, (-1, architecture["n_classes"]))]),
                ),
            ),
        )
        logged = files.manifest(saved)
        there = files.log_model(client, model, saved)
    if there is not None:
        share(there, logged, latest)
    client.api.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    return logged


def share(folder: Path, names: Iterable[str], latest: dict[str, Path]) -> None:
    """Hard-link files of a model to equal files of earlier models: all models of a study share
    code, and a trained network and its projections share tensors too. Deleting a model leaves the
    files of the others.

    Args:
        names: paths of its files below the folder.
        latest: path -> the file to which the next model's file is linked if the two are equal.
    """
    for name in names:
        path, source = folder / name, latest.get(name)
        beside = path.with_name(f".{path.name}.link")
        try:
            if source is not None and filecmp.cmp(source, path, shallow=False):
                os.link(source, beside)
                beside.replace(path)
                continue
        except OSError:
            # It is gone, has too many links, or this file system has none: the copy stays.
            pass
        latest[name] = path


def _all_but_python(folder: str, names: list[str]) -> list[str]:
    paths = [Path(folder, name) for name in names]
    return [p.name for p in paths if p.suffix != ".py" and not (p.is_dir() and any(p.glob("*.py")))]


def _version(package: str) -> str:
    """The version of a package as a package index has it: torch may append its build."""
    return version(package).partition("+")[0]


@dataclass(frozen=True)
class Stored:
    """A stored network, fetched with what its run says of it.

    Attributes:
        model_id: of its logged model.
        origin: what its MLmodel must state, see the function `origin`.
        folder: a copy of the model.
        files: name -> content, of the run's files that were logged beside the model.
        unchecked: names of other files of the run, which have no digest.
        metrics: the last value of each metric of the run.
        study: None if there is none that can be read.
        problems: a sentence for each difference from what was logged. With any, the model, the
            files and the sample may be incomplete.
    """

    run_id: str
    model_id: str
    origin: Mapping[str, str]
    folder: Path
    files: Mapping[str, bytes]
    unchecked: tuple[str, ...]
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    sample: Mapping[str, Value]
    study: StudyRecord | None
    problems: tuple[str, ...]

    @property
    def member(self) -> tuple[float, ...] | None:
        """The conditions of a member of a family, in the order of the study's. Raises ValueError if
        they cannot be read."""
        text = self.origin.get("member")
        return None if text is None else member_of(text)

    @property
    def is_control(self) -> bool:
        """Whether it is the control of a trial, which has another architecture than its sample."""
        return self.origin.get("projected_to") == repr(CONTROL)


@contextmanager
def fetched(records: Records, run_id: str) -> Iterator[Stored]:
    """The network of a run, fetched into a folder that is deleted when the context ends.

    Raises:
        TrackingError: if there is no such run, or it is no completed trial and no projection, or
            MLflow or the store cannot be read.
    """
    run = records.client.get_run(run_id)
    metrics, state = metrics_of(run), run.data.tags.get(tags.STATE, "of no state")
    problem = None
    if BLOCK_LIPSCHITZ_UPPER_BOUND not in metrics:
        problem = f"has no {BLOCK_LIPSCHITZ_UPPER_BOUND}"
    elif state != TrialStatus.COMPLETED:
        problem = f"is {printable(state).replace('_', ' ')}"
    if problem is not None:
        rule = "must be the run of a completed trial or of a projection"
        raise TrackingError(f"{rule}, but {run_id} {problem}", key="network")
    model_id, of_run, unchecked = "", dict[str, bytes](), tuple[str, ...]()
    sample, problems = dict[str, Value](), list[str]()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        try:
            model_id, folder, problems = model_of(records.client, run, folder)
            of_run, unchecked = _files_of(records, run)
        except TrackingError:
            raise
        except ValueError as error:
            problems.append(str(error))
        try:
            sample = sample_of(run)
        except TrackingError as error:
            problems.append(f"run: {error}")
        problems = problems or [
            f"run: its {name} is not that of the model"
            for name in (NETWORK, CERTIFICATE)
            if (folder / DATA / name).read_bytes() != of_run[name]
        ]
        study = None if problems else records.study_of(run)
        yield Stored(
            run_id, model_id, origin(run), folder, of_run, unchecked, run.data.params, metrics,
            sample, study, tuple(problems),
        )  # fmt: skip


def model_of(client: Client, run: Run, folder: Path) -> tuple[str, Path, list[str]]:
    """Copy the model of a run into a folder. Returns (model_id, copy, problems): the copy's folder;
    a sentence for each difference from what was logged. Raises ValueError if the run does not say
    what was logged, or has not exactly one model."""
    logged = _digests(run, tags.MODEL_FILES)
    ids = client.model_ids(run)
    if len(ids) != 1:
        raise ValueError(f"model: the run must have one, but has {len(ids)}")
    fetched = files.fetch_model(client, ids[0], folder)
    needed = (f"{DATA}/{name}" for name in (NETWORK, WEIGHTS, CERTIFICATE))
    problems = [
        *files.differences(fetched, logged),
        *(f"{name} is missing" for name in needed if name not in logged),
    ]
    return ids[0], fetched, [f"model: {problem}" for problem in problems]


def _digests(run: Run, tag: str) -> dict[str, str]:
    """Files and their digests, from a tag of the run."""
    if tag not in run.data.tags:
        raise ValueError(f"manifest: the run must have the tag {tag}, but has none")
    digests = as_json(run.data.tags[tag], dict)
    if digests is None or not all(isinstance(digest, str) for digest in digests.values()):
        raise ValueError(f"manifest: {tag} must name files with their digests")
    return digests


def _files_of(records: Records, run: Run) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """Returns (contents, unchecked): name -> content of the run's logged files; the names of its
    other files. Raises ValueError if a logged file is missing or was changed."""
    run_id = run.info.run_id
    logged, there = _digests(run, tags.RUN_FILES), records.artifacts(run_id)
    if MODEL in there:
        # MLflow loads runs:/RUN_ID/model from both, one over the other.
        raise ValueError(f"run: it must have no files under {MODEL} beside its model, but has some")
    contents = {}
    for name in sorted({NETWORK, CERTIFICATE, INVERSE, VAL_RIGHT, *logged}):
        if name not in there:
            raise ValueError(f"run: it must have {name}, but has not")
        contents[name] = records.artifact(run_id, name)
        if hashlib.sha256(contents[name]).hexdigest() != logged.get(name):
            raise ValueError(f"run: its {name} is not the file that was logged")
    return contents, tuple(map(printable, sorted(there - logged.keys())))


def data_digest(records: Records, run_id: str) -> str | None:
    """SHA-256 of a run's images and labels, of all splits; None if its NETWORK does not say it."""
    try:
        if NETWORK not in records.artifacts(run_id):
            return None
        content = records.artifact(run_id, NETWORK)
    except LocationError:
        raise
    except TrackingError:
        return None
    return digest_of_data(as_json(content, dict) or {})


def digest_of_data(network: Mapping[str, Any]) -> str | None:
    """SHA-256 of the images and labels of a network, by the content of its NETWORK; None if that
    does not say it."""
    data = network.get("data")
    digest = data.get("sha256") if isinstance(data, dict) else None
    return digest if isinstance(digest, str) else None
