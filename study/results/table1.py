"""Table 1 of the paper, from a study of its six networks, beside the paper's own figures."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from study.config.study import StudyConfig
from study.config.trial import COEFF, TrainingConfig
from study.metrics.definitions import (
    INVERSE_LIPSCHITZ_UPPER_BOUND,
    LIPSCHITZ_UPPER_BOUND,
    RECONSTRUCTION_ERROR,
    TEST_ACCURACY,
    VAL_ACCURACY,
)
from study.metrics.reports import TrialStatus
from study.results.front import Point

_NORMS = {"none": "Vanilla", "batch": "BN"}
_COLUMNS = ("Vanilla", "BN", "c = 0.9", "c = 0.7", "c = 0.5", "c = 0.3")
# Behrmann et al., "Invertible Residual Networks", Table 1: classification error in percent, and
# normalized l2 reconstruction error, of the six networks after 200 epochs.
_PAPER = {
    "mnist": (
        (0.61, 0.65, 0.64, 0.61, 1.12, 1.65),
        (2.5e-7, 1.0, 2.2e-7, 1.9e-7, 1.6e-7, 7.3e-8),
    ),
    "cifar10": (
        (6.95, 6.00, 6.30, 8.23, 17.71, 24.66),
        (1.4, math.inf, 1.3e-7, 9.5e-8, 1.9e-8, 7.2e-9),
    ),
}
_PAPER_EPOCHS = 200
_IN_THE_PAPER = "  in the paper"
_BLOCKS = (18, 18, 19)
_PAPER_GUARANTEES = (False, False, True, True, True, True)


@dataclass(frozen=True)
class Cell:
    """Figures of one network.

    Attributes:
        error: classification error on the test set, percent.
        reconstruction_error: mean of ||x - x_hat||_2 / ||x||_2, infinite if the inverse diverged.
            The paper's is on test images, ours on the validation sample.
        guaranteed: whether the inverse is proven to exist.
    """

    error: float
    reconstruction_error: float
    guaranteed: bool


@dataclass(frozen=True)
class Column:
    """A network of the table.

    Attributes:
        ours, point: its figures, and their point; None if it did not complete.
        paper: None if the paper has no such network on this data.
    """

    name: str
    ours: Cell | None
    paper: Cell | None
    point: Point | None


def table1(config: StudyConfig, listed: Sequence[Point]) -> list[Column] | None:
    """The table of a study that varies the norm, and nothing else but the coefficient and how
    networks are trained; None for any other study. Of several trainings of a network it has the one
    with the largest validation accuracy."""
    varied = {key for key, _ in config.space}
    if not {"norm"} <= varied <= {"norm", COEFF, *TrainingConfig.__dataclass_fields__}:
        return None
    completed = [point for point in listed if point.first.state is TrialStatus.COMPLETED]
    trained = sorted(
        (point for point in completed if point.is_trial), key=lambda p: p.metrics[VAL_ACCURACY]
    )
    ours = {_name(point.first.params): point for point in trained}
    paper = _paper(config)
    return [
        Column(name, _cell(ours[name]) if name in ours else None, paper.get(name), ours.get(name))
        for name in [*_COLUMNS, *sorted(ours.keys() - set(_COLUMNS))]
    ]


def _name(params: Mapping[str, str]) -> str:
    return _NORMS.get(params["norm"]) or f"c = {float(params[COEFF]):g}"


def _cell(point: Point) -> Cell:
    metrics = point.metrics
    return Cell(
        error=100 * (1 - metrics[TEST_ACCURACY]),
        reconstruction_error=metrics[RECONSTRUCTION_ERROR],
        # In each training, if there are several.
        guaranteed=all(_is_invertible(r.metrics) for r in point.records),
    )


def _is_invertible(metrics: Mapping[str, float]) -> bool:
    # Earlier versions have no bound of the inverse.
    inverse = metrics.get(INVERSE_LIPSCHITZ_UPPER_BOUND, math.inf)
    return metrics[LIPSCHITZ_UPPER_BOUND] < 1 or inverse < math.inf


def _paper(config: StudyConfig) -> Mapping[str, Cell]:
    """The paper's figures, for its network on all of its data; otherwise empty."""
    data = config.data
    whole = data.size is None and data.max_train is None and config.model.blocks == _BLOCKS
    if data.name not in _PAPER or not whole:
        return {}
    rows = zip(_COLUMNS, *_PAPER[data.name], _PAPER_GUARANTEES, strict=True)
    return {name: Cell(error, reconstruction, yes) for name, error, reconstruction, yes in rows}


def note(table: list[Column]) -> str:
    """What the figures mean, in a few sentences."""
    n_epochs = sorted({c.point.first.n_epochs for c in table if c.point is not None})
    between = " to ".join(map(str, dict.fromkeys([*n_epochs[:1], *n_epochs[-1:]])))
    with_paper = any(column.paper for column in table)
    sentences = [
        f"Ours after {between} epochs." if between else "",
        f"The paper's after {_PAPER_EPOCHS} epochs." if with_paper else "",
        "Classification error on the test set; reconstruction error on validation images, the "
        "paper's on test images.",
        "" if with_paper else "The paper has no figures for this network and data.",
    ]
    return " ".join(filter(None, sentences))


def as_rows(table: list[Column]) -> list[tuple[str, list[str]]]:
    """The table in the paper's layout, as text: the name of each row and a cell for each network.
    The paper's figures for this data, if any, are below ours, and ours - theirs below them."""
    ours, paper = [column.ours for column in table], [column.paper for column in table]
    rows = []
    for title, key, form in (
        ("classification error, %", "error", ".2f"),
        ("reconstruction error, l2", RECONSTRUCTION_ERROR, ".1e"),
    ):
        own, theirs = (
            [math.nan if cell is None else getattr(cell, key) for cell in cells]
            for cells in (ours, paper)
        )
        apart = [a - b for a, b in zip(own, theirs, strict=True)]
        rows.append((title, [_text(value, form) for value in own]))
        rows.append((_IN_THE_PAPER, [_text(value, form) for value in theirs]))
        rows.append(("  difference", [_text(value, "+" + form) for value in apart]))
    rows.append(("guaranteed inverse", [_yes(cell) for cell in ours]))
    rows.append((_IN_THE_PAPER, [_yes(cell) for cell in paper]))
    return [row for row in rows if any(paper) or not row[0].startswith(" ")]


def _text(value: float, form: str) -> str:
    """A number as text; empty for NaN, which inf - inf is too."""
    return "" if math.isnan(value) else format(value, form)


def _yes(cell: Cell | None) -> str:
    return "" if cell is None else "yes" if cell.guaranteed else "no"
