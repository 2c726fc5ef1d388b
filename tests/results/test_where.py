import operator
import random
from dataclasses import replace
from pathlib import Path

import pytest

from study.config.study import SECTION_OF
from study.errors import UserError
from study.metrics.definitions import FORMER_NAMES, METRICS, as_reported
from study.results.front import Mark
from study.results.report import collect, read
from study.results.views.report_table import columns_of
from study.results.where import heading, parse
from study.tracking.records import Records
from study.tracking.server.client import Client
from tests.support.records import STUDY, projection, trial


@pytest.mark.parametrize(
    ("text", "of_mlflow"),
    [
        ("", ""),
        ("val_accuracy > 0.5 and coeff < 1", ""),
        ("metrics.val_accuracy > 0.9", "metrics.val_accuracy > 0.9"),
        ("tags.`study.kind` = 'a and b'", "tags.`study.kind` = 'a and b'"),
        ("params.norm LIKE '%a' AND steps < 3", "params.norm LIKE '%a'"),
        ("`run_name` = '0003' and tags.x = 'y'", "`run_name` = '0003' and tags.x = 'y'"),
    ],
)
def test_conditions_of_mlflow_go_there_as_they_are(text: str, of_mlflow: str) -> None:
    assert parse(text).of_mlflow == of_mlflow


@pytest.mark.parametrize("name", ["val_accuracy", "block_lipschitz_upper_bound", "inverse_steps"])
def test_metrics_are_compared_as_they_are_reported(name: str) -> None:
    compare = {
        "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
        "=": operator.eq, "!=": operator.ne,
    }  # fmt: skip
    generator = random.Random(0)
    for _ in range(300):
        raw = generator.uniform(0, 5)
        value = as_reported({name: raw + generator.choice([0, 0, 1e-3, -1e-3])})[name]
        symbol = generator.choice(list(compare))
        kept = parse(f"{name} {symbol} {value!r}").keep([trial(0, **{name: raw})])
        assert bool(kept) is compare[symbol](as_reported({name: raw})[name], value)


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_may_be_named_as_the_table_names_it(name: str) -> None:
    for condition in ("< 1", ">= 0.25"):
        assert parse(f"{METRICS[name].short} {condition}") == parse(f"{name} {condition}")


@pytest.mark.parametrize(("former", "name"), FORMER_NAMES.items())
def test_a_metric_may_have_its_former_name(former: str, name: str) -> None:
    assert parse(f"{former} < 0.5 and coeff < 1") == parse(f"{name} < 0.5 and coeff < 1")


def test_a_hyperparameter_may_be_named_as_the_table_names_it() -> None:
    names = [name for name in SECTION_OF if name != "root"]
    headings = [heading(name) for name in names]
    assert len(set(headings)) == len(headings)
    for name, short in zip(names, headings, strict=True):
        assert parse(f"{short} <= 3") == parse(f"{name} <= 3")


@pytest.mark.parametrize("study", ["this-or-that", "rock.and.roll", "or", "either-OR", "and_x"])
def test_the_name_of_a_study_may_contain_and_or_or(study: str) -> None:
    records = [trial(0), trial(1)]
    condition = f"network = {study}/0000"
    for text, n in (
        (condition, 1),
        (f"{condition} OR network = {study}/0001", 2),
        (f"{condition} and network = {study}/0001", 0),
    ):
        assert len(parse(text).keep(records, study)) == n


def kept(text: str) -> list[str]:
    params = {"coeff": "0.9", "n_power_iterations": "10", "projected_to": "0.5"}
    other = {"coeff": 1e-1, "n_power_iterations": 9, "norm": "none"}
    records = [
        trial(0, sample={"coeff": 0.9, "n_power_iterations": 10, "norm": "spectral"}),
        replace(projection(0, 0.5), params=params),
        trial(1, sample={**other, "deterministic": True, "max_train": None}),
    ]
    marks = {"run0": "front", "run0-0.5": "dominated", "run1": "front"}
    return [record.run_id for record in parse(text).keep(records, "tiny", marks)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("coeff < 0.6", ["run1"]),  # of the training, of a projection too
        ("projected_to < 0.6", ["run0-0.5"]),  # a trial was projected to nothing
        ("coeff = 0.10", ["run1"]),
        ("coeff != 0.1", ["run0", "run0-0.5"]),
        ("`coeff` == 0.10", ["run1"]),
        ('"val acc" > 2', []),
        ("norm > 3", []),  # text has no size
        ("deterministic = true", ["run1"]),
        ("deterministic != True", []),
        ("max_train = null", ["run1"]),
        ("n_pow > 9", ["run0", "run0-0.5"]),
        ("n_power_iterations > 9", ["run0", "run0-0.5"]),  # by number: as text 10 is less than 9
        ("norm = 'none'", ["run1"]),
        ("norm != none", ["run0"]),
        ("coeff > 0.2 and n_power_iterations <= 10 and norm = spectral", ["run0"]),
        ("coeff < 0.2 or projected_to < 1", ["run0-0.5", "run1"]),
        ("coeff < 0.2 OR coeff > 0.8 and norm = spectral", ["run0", "run1"]),  # and binds tighter
        ("n_pow between 9 and 9", ["run1"]),
        ("projected_to between 0.4 and 0.6 and coeff between .8 and 1", ["run0-0.5"]),
        ("norm = 'a or b'", []),
        ("network = tiny/0000", ["run0"]),
        ("network = '0000@0.5' or network = 0001", ["run0-0.5", "run1"]),
        ("network = other/0000", []),
        ("network != tiny/0000", ["run0-0.5", "run1"]),
        ("mark = front", ["run0", "run1"]),
        ("mark != 'front'", ["run0-0.5"]),
    ],
)
def test_hyperparameters_are_compared_by_number(text: str, expected: list[str]) -> None:
    assert kept(text) == expected


@pytest.mark.parametrize(
    "name", ["coeff", "val_accuracy", "block_lipschitz_upper_bound", "inverse_steps"]
)
def test_a_number_is_equal_to_what_is_printed_like_it(name: str) -> None:
    """And each value is below, equal or above it, whatever is printed."""
    generator = random.Random(0)
    for _ in range(200):
        value = generator.uniform(0.2, 5) * 10.0 ** generator.randint(-1, 3)
        record = trial(0, sample={"coeff": value}, **({} if name == "coeff" else {name: value}))
        if name in METRICS:
            value = as_reported({name: value})[name]
        report = collect(STUDY, [record])
        columns = columns_of(report, report.points, every=True)
        head = METRICS[name].short if name in METRICS else name
        (printed,) = next(column.cells for column in columns if column.head == head)
        other = f"{float(printed) * generator.choice([0.98, 1.02]):.9g}"
        for text, holds in ((printed, "="), (other, "<" if value < float(other) else ">")):
            kept = [s for s in ("<", "=", ">") if parse(f"{name} {s} {text}").keep([record])]
            assert kept == [holds], (value, text)
            assert bool(parse(f"{name} != {text}").keep([record])) is (holds != "=")
            for weak in ("<=", ">="):
                assert bool(parse(f"{name} {weak} {text}").keep([record])) is (holds in weak)


def test_whole_numbers_are_printed_whole() -> None:
    record = trial(0, sample={"coeff": 1234})
    assert parse("coeff = 1234").keep([record]) == [record]
    assert parse("coeff = 1230").keep([record]) == []


def test_or_is_for_conditions_that_are_checked_here() -> None:
    with pytest.raises(UserError, match=r"'or' must stand without .*MLflow.* got 'tags\.x = 1'"):
        parse("coeff < 1 or tags.x = 1")


REFUSED = [
    ("val_acuracy > 0.9", "hyperparameter 'val_acuracy'; did you mean 'val_accuracy'?"),
    ("zzz > 0.9", "unknown metric or hyperparameter 'zzz'; there are train_loss, "),
    ("root = 'data'", "unknown metric or hyperparameter 'root'; "),
    ("front > 0.5", "unknown metric or hyperparameter 'front'; "),
    ("0.5 < coeff", "but got '0.5 < coeff'"),
    ("bound < nan", "block_lipschitz_upper_bound < must be followed by a number, but got 'nan'"),
    ("coeff => 0.5", "must be NAME OPERATOR NUMBER or NAME between NUMBER and NUMBER, or several "
     "with 'and' or 'or' between them, such as 'val_accuracy > 0.9 and bound < 0.2', but got "
     "'coeff => 0.5'"),
    ("coeff < 0.5 or", "but got ''"),
    ("coeff between 0.5", "but got 'coeff between 0.5'"),
    ("coeff between 0.5 and x", "coeff <= must be followed by a number, but got 'x'"),
    ("(coeff < 0.5) or coeff > 0.9", "but got '(coeff < 0.5)'"),
    ("not coeff < 0.5", "but got 'not coeff < 0.5'"),
    ("network < 3", "network must be followed by = or !=, but got '<'"),
    ("mark = fronts", "unknown mark 'fronts'; did you mean 'front'?"),
    ("mark = zzz", "unknown mark 'zzz'; there are front, dominated, infeasible, not_measured, "),
    ("drop_out > 0", "hyperparameter 'drop_out'; did you mean 'dropout'?"),
    ("networks = x", "hyperparameter 'networks'; did you mean 'network'?"),
    ("val_accuracy > 0.9 and", "but got ''"),
    ("coeff < half", "coeff < must be followed by a number, but got 'half'"),
    # Nothing is evaluated.
    ("@pd.eval(1) > 0", "but got '@pd.eval(1) > 0'"),
    ("__import__(1) = 1", "but got '__import__(1) = 1'"),
    ("coeff < (1)", "coeff < must be followed by a number, but got '(1)'"),
    ("val_accuracy = high", "val_accuracy = must be followed by a number, but got 'high'"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "problem"), REFUSED)
def test_what_cannot_be_compared_is_said(text: str, problem: str) -> None:
    with pytest.raises(UserError, match=r"^where: ") as error:
        parse(text)
    assert problem in str(error.value)


def test_the_studys_own_hyperparameters_are_named_among_the_first() -> None:
    with pytest.raises(UserError, match=r"there are dropout, lr, train_loss, "):
        parse("zzz > 1", ["dropout", "lr"])


def test_what_mlflow_cannot_read_is_said_to_be_the_filters_fault(finished: Path) -> None:
    records = Records(Client(f"sqlite:///{finished}/mlflow.db"))
    problem = r"^where: MLflow must be able to read it, but got 'params\.norm <>': "
    with pytest.raises(UserError, match=problem):
        read(records, "tiny", "coeff < 0.6 and params.norm <>")


def test_a_study_is_filtered_by_both(finished: Path) -> None:
    records = Records(Client(f"sqlite:///{finished}/mlflow.db"))
    everything = read(records, "tiny").points
    half = sorted(point.metrics["val_accuracy"] for point in everything)[len(everything) // 2]
    found = read(records, "tiny", f"val_accuracy >= {half} and projected_to < 0.6").points
    expected = [
        point.label
        for point in everything
        if point.metrics["val_accuracy"] >= half and (point.first.projected_to or 1) < 0.6
    ]
    assert [point.label for point in found] == expected != []
    best = read(records, "tiny").front
    of_front = read(records, "tiny", "mark = front and tags.`study.kind` = 'trial'").points
    assert [p.handle for p in of_front] == [
        p.handle for p in read(records, "tiny").points if p.is_trial and p.mark is Mark.FRONT
    ]
    assert [p.handle for p in read(records, "tiny", f"network = {best[0].handle}").points] == [
        best[0].handle
    ]
    # As MLflow's own filter takes it: a number with an exponent.
    few = read(records, "tiny", "reconstruction_error < 1e-5 and val_fraction < 0.5").points
    errors = [point.metrics["reconstruction_error"] < 1e-5 for point in everything]
    assert len(few) == sum(errors) > 0


def test_a_heading_with_the_studys_radius_is_a_name() -> None:
    metrics = {name: metric.at(0.5) for name, metric in METRICS.items()}
    expected = parse("certified_accuracy > 0.5")
    assert parse("cert@0.5 > 0.5", (), metrics) == parse("cert acc > 0.5", (), metrics) == expected
    for other in ("cert@0.25 > 0.5", "cert@0.55 > 0.5"):
        with pytest.raises(UserError, match="must be NAME OPERATOR NUMBER"):
            parse(other, (), metrics)
