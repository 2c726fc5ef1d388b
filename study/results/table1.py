"""Table 1 of the paper, from a study of its six networks, beside the paper's own figures."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from study.config.study import StudyConfig
from study.config.trial import COEFF, TrainingConfig
from study.metrics.definitions import (
    LIPSCHITZ_UPPER_BOUND,
    RECONSTRUCTION_ERROR,
    TEST_ACCURACY,
    VAL_ACCURACY,
)
from study.metrics.reports import TrialStatus
from study.results.front import Point, finite

_NORMS = {"none": "Vanilla", "batch": "BN"}
_COLUMNS = ("Vanilla", "BN", "c = 0.9", "c = 0.7", "c = 0.5", "c = 0.3")
# Behrmann et al., "Invertible Residual Networks", Table 1: classification error in percent, and
# normalized l2 error of the reconstruction, of the six networks after 200 epochs.
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
_BLOCKS = (18, 18, 19)
_PAPER_GUARANTEES = (False, False, True, True, True, True)


@dataclass(frozen=True)
class Cell:
    """One network of the table.

    Attributes:
        error: classification error on the test set, percent.
        reconstruction_error: mean of ||x - x_hat||_2 / ||x||_2; infinite where the inverse
            diverged. The paper's is on test images, ours on the validation sample.
        guaranteed: whether the inverse is proven to exist.
    """

    error: float
    reconstruction_error: float
    guaranteed: bool

    def to_dict(self) -> dict[str, object]:
        """For JSON, where what is not finite is null."""
        return {**asdict(self), RECONSTRUCTION_ERROR: finite(self.reconstruction_error)}


@dataclass(frozen=True)
class Column:
    """A network of the table.

    Attributes:
        ours: None if it did not complete.
        paper: None if the paper has none like it on this data.
        at_bound: classification error on the test set, percent, of a network of one training whose
            proven bound is no larger than that of ours; None where the training has none. The
            training is that of the column with the largest coefficient. Among its own network and
            those of its ladder it is the one that is most accurate on the validation split.
    """

    name: str
    ours: Cell | None
    paper: Cell | None
    point: Point | None
    at_bound: float | None = None

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "name": self.name,
            "ours": self.ours and self.ours.to_dict(),
            "paper": self.paper and self.paper.to_dict(),
            "at_bound": self.at_bound,
        }


def table1(config: StudyConfig, listed: Sequence[Point]) -> list[Column] | None:
    """The table of a study that varies the norm, the coefficient of the spectral one, and of the
    rest how it is trained at most; None for any other study. Of several trainings of one network it
    has the one that is most accurate on the validation split."""
    varied = {key for key, _ in config.space}
    if not {"norm"} <= varied <= {"norm", COEFF, *TrainingConfig.__dataclass_fields__}:
        return None
    completed = [point for point in listed if point.first.state is TrialStatus.COMPLETED]
    trained = sorted(
        (point for point in completed if point.is_trial), key=lambda p: p.metrics[VAL_ACCURACY]
    )
    ours = {_name(point.first.params): point for point in trained}
    paper = _paper(config)
    ladder = _of_one_training(completed, ours)
    names = [*_COLUMNS, *sorted(ours.keys() - set(_COLUMNS))]
    return [
        Column(
            name,
            _cell(ours[name]) if name in ours else None,
            paper.get(name),
            ours.get(name),
            _error_at_bound(ladder, ours[name]) if name in ours else None,
        )
        for name in names
    ]


def _name(params: Mapping[str, str]) -> str:
    return _NORMS.get(params["norm"]) or f"c = {float(params[COEFF]):g}"


def _of_one_training(completed: Sequence[Point], ours: Mapping[str, Point]) -> list[Point]:
    """The networks of the training of the column with the largest coefficient; none if it has no
    ladder."""
    normalized = [p for p in ours.values() if p.first.params["norm"] == "spectral"]
    if not normalized:
        return []
    largest = max(normalized, key=lambda p: float(p.first.params[COEFF])).first.trial_id
    networks = [point for point in completed if point.first.trial_id == largest]
    return networks if len(networks) > 1 else []


def _error_at_bound(ladder: list[Point], point: Point) -> float | None:
    bound = point.metrics[LIPSCHITZ_UPPER_BOUND]
    tight = [p for p in ladder if p.metrics[LIPSCHITZ_UPPER_BOUND] <= bound]
    if point.first.params["norm"] != "spectral" or not tight:
        return None
    return _cell(max(tight, key=lambda p: p.metrics[VAL_ACCURACY])).error


def _cell(point: Point) -> Cell:
    metrics = point.metrics
    return Cell(
        error=100 * (1 - metrics[TEST_ACCURACY]),
        reconstruction_error=metrics[RECONSTRUCTION_ERROR],
        # Each of its networks, where it was trained repeatedly.
        guaranteed=all(r.metrics[LIPSCHITZ_UPPER_BOUND] < 1 for r in point.records),
    )


def _paper(config: StudyConfig) -> Mapping[str, Cell]:
    """The paper's figures for its network on all of its data; none for another one."""
    data = config.data
    whole = data.size is None and data.max_train is None and config.model.blocks == _BLOCKS
    if data.name not in _PAPER or not whole:
        return {}
    rows = zip(_COLUMNS, *_PAPER[data.name], _PAPER_GUARANTEES, strict=True)
    return {name: Cell(error, reconstruction, yes) for name, error, reconstruction, yes in rows}


def note(table: list[Column]) -> str:
    """What the figures are, in a few sentences."""
    n_epochs = sorted({c.point.first.n_epochs for c in table if c.point is not None})
    between = " to ".join(map(str, dict.fromkeys([*n_epochs[:1], *n_epochs[-1:]])))
    with_paper = any(column.paper is not None for column in table)
    sentences = []
    if between:
        sentences.append(f"Ours after {between} epochs.")
    if with_paper:
        sentences.append(f"The paper's after {_PAPER_EPOCHS} epochs.")
    sentences.append(
        "Classification error on the test set; reconstruction error on validation images, the "
        "paper's on test images."
    )
    if any(column.at_bound is not None for column in table):
        sentences.append(
            "One training: of the training at the largest coefficient and its ladder the network "
            "that is most accurate on validation images, among those whose proven bound is no "
            "larger than that of the network in the column."
        )
    if not with_paper:
        sentences.append("The paper has no figures for this network and data.")
    return " ".join(sentences)


def as_rows(table: list[Column]) -> list[tuple[str, list[str]]]:
    """The table in the paper's layout, as text: the name of a row, and a cell for each network.

    Where the paper has figures for this data they stand below ours, and below them ours - theirs;
    below those the errors of one training at the same bounds, if it has a ladder.
    """
    with_paper = any(column.paper is not None for column in table)
    rows = []
    for title, key, form in (
        ("classification error, %", "error", ".2f"),
        ("reconstruction error, l2", RECONSTRUCTION_ERROR, ".1e"),
    ):
        ours = [math.nan if c.ours is None else getattr(c.ours, key) for c in table]
        rows.append((title, [_text(value, form) for value in ours]))
        if with_paper:
            paper = [math.nan if c.paper is None else getattr(c.paper, key) for c in table]
            apart = [a - b for a, b in zip(ours, paper, strict=True)]
            rows.append(("  in the paper", [_text(value, form) for value in paper]))
            rows.append(("  difference", [_text(value, "+" + form) for value in apart]))
        if key == "error" and any(c.at_bound is not None for c in table):
            alike = [math.nan if c.at_bound is None else c.at_bound for c in table]
            rows.append(("  one training, this bound", [_text(value, form) for value in alike]))
    rows.append(("guaranteed inverse", [_yes(column.ours) for column in table]))
    if with_paper:
        rows.append(("  in the paper", [_yes(column.paper) for column in table]))
    return rows


def _text(value: float, form: str) -> str:
    """A number as text; empty for NaN, which inf - inf is too."""
    return "" if math.isnan(value) else format(value, form)


def _yes(cell: Cell | None) -> str:
    return "" if cell is None else "yes" if cell.guaranteed else "no"
