"""Names of files in a trial's checkpoints and in MLflow's runs."""

import base64
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from study.metrics.definitions import CERTIFIED_ACCURACY, TEST_CERTIFIED_ACCURACY, VAL_ACCURACY
from study.metrics.reports import EpochReport

# In each checkpoint of a trial.
REPORTS = "reports.json"
"""Every report up to this checkpoint. MLflow's records can be rebuilt from it, which is why nothing
is lost with MLflow or with a driver."""
TRAINING_STATE = "state.safetensors"
"""What a training resumes from."""
OUTCOME = "outcome"
"""Folder in the last checkpoint of a completed trial: its network, with projections below it."""

# A network's files, in an outcome's folder and among the artifacts of its run. The files that hold
# the network itself are named in models.
CERTIFICATE = "certificate.json"
INVERSE = "inverse.json"
"""The reconstruction error after each number of steps of the inverse, the steps that the
certificate predicts, and LARGEST_PIXEL_ERROR."""
VAL_RIGHT = "val_right.json"
"""Which images of the validation split are classified correctly, and for which of these that is
proven within `radius`, l2, in pixels of [0, 1]; a bit per image."""
TEST_RADII = "test_radii.json"
"""The proven radius of each test image, l2, in pixels of [0, 1], negative where it is classified
wrong: the certified accuracy within any radius follows. Its `radius` is the study's."""
RECONSTRUCTIONS = "reconstructions.png"
"""Images above their reconstructions (paper, Figure 3) and the differences."""
LARGEST_PIXEL_ERROR = "largest_pixel_error"
"""Key of INVERSE: the largest difference in RECONSTRUCTIONS, l2 over the channels of a pixel, with
pixels from 0 to 1; null where a reconstruction is not finite."""

# Files of an MLflow run alone.
MODEL = "model"
"""Name of a run's logged model."""
STUDY_FILE = "study.yaml"
"""A file of the study's run: the study, with all defaults."""
PAGE = "report.html"
"""A file of the study's run: the report as a page."""


def write_reports(folder: Path, reports: Sequence[EpochReport]) -> None:
    """Write the reports up to a checkpoint into its folder."""
    (folder / REPORTS).write_text(json.dumps([asdict(report) for report in reports]))


def read_reports(content: bytes) -> list[EpochReport]:
    """The reports in a REPORTS file, in epoch order. Raises ValueError if it cannot be read."""
    try:
        return [EpochReport(**values) for values in json.loads(content)]
    except (RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{REPORTS} cannot be read: {error}") from error


def projection_folder(outcome: Path, index: int) -> Path:
    """The folder of a projection below an outcome, by its index in the report."""
    return outcome / "projections" / str(index)


def trained_folder(projection: Path) -> Path:
    """The outcome's folder above a projection's; it has the tensors that the projection lacks."""
    return projection.parents[1]


_RIGHT, _CERTIFIED = "right", "certified"  # keys of VAL_RIGHT


def packed(right: Sequence[bool], certified: Sequence[bool], radius: float) -> dict[str, Any]:
    """The content of VAL_RIGHT: a bit per image in order, highest bit first, padded with zeros."""

    def text(bits: Sequence[bool]) -> str:
        return base64.b64encode(np.packbits(np.array(bits, dtype=bool)).tobytes()).decode()

    return {
        "n_images": len(right),
        _RIGHT: text(right),
        "radius": radius,
        _CERTIFIED: text(certified),
    }


def read_right(content: bytes, val_accuracy: float) -> list[bool]:
    """Which images are classified right, by a VAL_RIGHT file. Raises ValueError if the file cannot
    be read, or gives another accuracy than `val_accuracy`, a fraction in [0, 1]."""
    return _read_bits(content, _RIGHT, VAL_ACCURACY, val_accuracy)


def read_certified(content: bytes, certified_accuracy: float) -> list[bool]:
    """Which images are certified, by a VAL_RIGHT file. Raises ValueError as `read_right` does."""
    return _read_bits(content, _CERTIFIED, CERTIFIED_ACCURACY, certified_accuracy)


def _read_bits(content: bytes, key: str, metric: str, accuracy: float) -> list[bool]:
    """The bits at a key of a VAL_RIGHT file. The fraction of set bits must be `accuracy`, the value
    of `metric`; raises ValueError as `read_right` does."""
    try:
        stored = json.loads(content)
        n, raw = stored["n_images"], base64.b64decode(stored[key], validate=True)
        if type(n) is not int or n < 1 or len(raw) != -(-n // 8):
            raise ValueError("it must have a bit for each of its images")
    except KeyError as error:
        raise ValueError(f"{VAL_RIGHT} cannot be read: it must have the key {error}") from error
    except (RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{VAL_RIGHT} cannot be read: {error}") from error
    bits: list[bool] = np.unpackbits(np.frombuffer(raw, np.uint8), count=n).astype(bool).tolist()
    # The accuracy may have passed through float32.
    if not abs(accuracy - sum(bits) / n) <= 1e-6:
        raise ValueError(
            f"{VAL_RIGHT} has {sum(bits)} of {n} images {key}, {sum(bits) / n}, but the run's "
            f"{metric} is {accuracy}"
        )
    return bits


def packed_radii(radii: NDArray[np.float64], radius: float) -> dict[str, Any]:
    """The content of TEST_RADII: float32, in the order of the images, rounded down, since what is
    proven within a radius is also proven within a smaller one; -inf for NaN."""
    known = np.where(np.isnan(radii), -np.inf, radii)
    nearest = known.astype("<f4")
    down = np.where(nearest > known, np.nextafter(nearest, np.float32(-np.inf)), nearest)
    return {"radius": radius, "radii": base64.b64encode(down.astype("<f4").tobytes()).decode()}


def read_radii(content: bytes, test_certified_accuracy: float) -> NDArray[np.float64]:
    """The proven radii (n_images,) in a TEST_RADII file. Raises ValueError if the file cannot be
    read, or gives another accuracy within the study's radius, a fraction in [0, 1]."""
    try:
        stored = json.loads(content)
        raw = base64.b64decode(stored["radii"], validate=True)
        radii = np.frombuffer(raw, "<f4").astype(np.float64)
        certified = int((radii > float(stored["radius"])).sum()) / len(radii)
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{TEST_RADII} cannot be read: {error!r}") from error
    # Rounding down may have moved an image below the radius.
    if not abs(test_certified_accuracy - certified) <= 1.5 / len(radii):
        raise ValueError(
            f"{TEST_RADII} has the fraction {certified:g} certified, but the run's "
            f"{TEST_CERTIFIED_ACCURACY} is {test_certified_accuracy}"
        )
    return radii
