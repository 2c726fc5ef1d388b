"""A stored network and the files of its run, fetched once, as they were logged."""

import hashlib
import tempfile
from pathlib import Path

from models import NETWORK, WEIGHTS, IResNet, proven_dtype, read_network
from study.errors import TrackingError, printable
from study.metrics.artifacts import CERTIFICATE, INVERSE, MODEL, VAL_RIGHT
from study.tracking import tags
from study.tracking.client import Run
from study.tracking.files import fetch_model
from study.tracking.manifest import differences
from study.tracking.records import Records
from study.tracking.stored_model import DATA, model_id
from study.tracking.values import as_json
from study.verification.mlmodel import other_identity


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
            folder, problems = model_of(records, run, Path(temporary))
            for problem in problems:
                raise ValueError(problem)
            return read_network(folder / DATA, trust=trust).to(proven_dtype(folder / DATA))
        except TrackingError:
            raise
        except ValueError as error:
            raise TrackingError(
                f"the network of run {run_id} cannot be loaded: {error}", key="network"
            ) from error


def model_of(records: Records, run: Run, folder: Path) -> tuple[Path, list[str]]:
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


def files_of(records: Records, run: Run) -> tuple[dict[str, bytes], tuple[str, ...]]:
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
    for name in sorted({NETWORK, CERTIFICATE, *logged, *({VAL_RIGHT, INVERSE} & there)}):
        if name not in there:
            raise ValueError(f"run: it must have {name}, but has not")
        files[name] = records.artifact(run_id, name)
        if name in logged and hashlib.sha256(files[name]).hexdigest() != logged[name]:
            raise ValueError(f"run: its {name} is not the file that was logged")
    # The network and the certificate are compared with the model's own.
    return files, tuple(map(printable, sorted(there - logged.keys() - {NETWORK, CERTIFICATE})))
