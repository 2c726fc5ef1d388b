"""The figures in Table 1 of the paper, for a study of the six networks there."""

import math
from collections.abc import Sequence

from study.config.study import StudyConfig
from study.config.trial import COEFF, TrainingConfig
from study.results.front import Point

# Behrmann et al., "Invertible Residual Networks", Table 1: classification error in percent, and
# normalized l2 reconstruction error, of the six networks after 200 epochs.
_NETWORKS = ("none", "batch", 0.9, 0.7, 0.5, 0.3)  # norm, or coefficient of the spectral norm
_TABLE1 = {
    "mnist": (
        (0.61, 0.65, 0.64, 0.61, 1.12, 1.65),
        (2.5e-7, 1.0, 2.2e-7, 1.9e-7, 1.6e-7, 7.3e-8),
    ),
    "cifar10": (
        (6.95, 6.00, 6.30, 8.23, 17.71, 24.66),
        (1.4, math.inf, 1.3e-7, 9.5e-8, 1.9e-8, 7.2e-9),
    ),
}
_BLOCKS = (18, 18, 19)


def is_table1(config: StudyConfig) -> bool:
    """Whether a study varies the norm, and nothing else but the coefficient and how networks are
    trained."""
    varied = {key for key, _ in config.space}
    return {"norm"} <= varied <= {"norm", COEFF, *TrainingConfig.__dataclass_fields__}


def figures(config: StudyConfig, listed: Sequence[Point]) -> dict[str, list[str]]:
    """Heading -> the paper's figure for each network as text, empty where it has none: test
    accuracy, and reconstruction error on test images. Empty if the study is not that of Table 1, or
    has another network or only a part of the data."""
    data = config.data
    is_whole = data.size is None and data.max_train is None and config.model.blocks == _BLOCKS
    if not is_table1(config) or not is_whole or data.name not in _TABLE1:
        return {}
    errors, reconstruction_errors = _TABLE1[data.name]
    accuracies = [f"{1 - error / 100:.4f}" for error in errors]
    texts = [f"{error:.1e}" for error in reconstruction_errors]
    of_paper = {"paper acc": accuracies, "paper rec": texts}
    return {
        head: [dict(zip(_NETWORKS, values, strict=True)).get(_network(p), "") for p in listed]
        for head, values in of_paper.items()
    }


def _network(point: Point) -> str | float | None:
    """The norm or coefficient of a point, as in _NETWORKS; None for a projection."""
    if not point.is_trial:
        return None
    params = point.first.params
    return float(params[COEFF]) if params.get("norm") == "spectral" else params.get("norm")
