"""Numbers and texts of the report page: written as in the table, filtered as by `--where`."""

import csv
import math
import random
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import expect

from study.config.parser import parse as parse_study
from study.errors import UserError
from study.metrics.definitions import INVERSE_LIPSCHITZ_UPPER_BOUND as BOUND
from study.metrics.definitions import METRICS
from study.metrics.reports import TrialStatus
from study.metrics.rounding import number_text
from study.results.numbers import Numbers
from study.results.views.page import write_page
from study.results.views.report_view import view
from study.results.where import parse
from study.tracking.study_record import TrialRecord
from study.tracking.values import settings
from tests.results.test_where import REFUSED
from tests.support.browser import Pages, place, rows
from tests.support.records import STUDY, projection, trial, unread
from tests.support.studies import CERTIFIED

pytestmark = pytest.mark.browser


def test_a_number_is_written_in_one_way(look: Pages, tmp_path: Path) -> None:
    """In the figures of a card and in its sentence, and in the table: of large and small bounds."""
    study = replace(STUDY, config=parse_study(CERTIFIED, "study.yaml"))
    values = [15750.0, 1234567.0, 0.0001234, 301.0, 1.0]
    records = [
        trial(k, val_accuracy=0.9 - 0.01 * k, inverse_lipschitz_upper_bound=value)
        for k, value in enumerate(values)
    ]
    report = unread(records, study)
    path = tmp_path / "report.html"
    write_page(path, view(report))
    page = look(path)
    texts = ["15750", "1.235e+06", "0.0001234", "301", "1"]
    assert [number_text(METRICS[BOUND].resolution.round(value)) for value in values] == texts
    assert set(rows(page, BOUND)) == set(texts)
    best, *others = page.locator(".card").all()
    expect(best.locator("dd").nth(2)).to_have_text("15750")
    for card in others:
        expect(card).to_contain_text(
            f"of {card.locator('dd').nth(2).inner_text()} instead of 15750"
        )


def test_a_page_without_a_front_says_which_networks_violate_the_constraints_least(
    look: Pages, tmp_path: Path
) -> None:
    report = unread([trial(k, block_lipschitz_upper_bound=1.2 + 0.1 * k) for k in range(5)])
    path = tmp_path / "report.html"
    write_page(path, view(report))
    page = look(path)
    expect(page.locator("#cards p")).to_have_text(report.violations)
    expect(page.locator("#cards p").nth(1)).to_be_visible()
    expect(page.locator(".card")).to_have_count(0)


def full(record: TrialRecord) -> TrialRecord:
    """A record with all parameters that MLflow has of it."""
    every = settings(record.sample, STUDY.config.resolve(record.sample, seed=1))
    if record.projected_to is not None:
        every["projected_to"] = record.projected_to
    return replace(record, params={key: str(value) for key, value in every.items()})


def conditions() -> list[str]:
    """All names, as they are and as the table has them, with all operators; values of each kind."""
    of_text = [
        "norm = spectral", "norm != 'none'", "nesterov = true", "nesterov != True", "norm = NONE",
        "blocks = '(1, 1)'", "max_train = null", "max_train != None", "norm > 3",
    ]  # fmt: skip
    generator = random.Random(0)
    names = [*METRICS, *(metric.short for metric in METRICS.values()), "coeff", "dropout"]
    names += ["n_power_iterations", "n_pow", "projected_to", "pro_to", "val_fraction", "seed"]
    texts = []
    for name in names:
        for operator in ("<", "<=", ">", ">=", "=", "==", "!="):
            value = generator.choice(["0.5", "1e-1", "'3'", ".25", "5.", "-2", "inf", "'1'", "0.2"])
            blank = generator.choice(["", " ", "  "])
            quote = generator.choice(["", "`", '"'])
            texts.append(f"{blank}{quote}{name}{quote}{blank}{operator}{blank}{value}")
    pairs = [
        generator.choice([" and ", " AND ", "  and  "]).join(generator.sample(texts, 2))
        for _ in range(50)
    ]
    either = [" or ".join(generator.sample([*texts, *pairs], 2)) for _ in range(30)]
    printed = [
        "coeff = 0.123",
        "coeff != .1235",
        "coeff <= 0.123",
        "val acc = 0.1235",
        "seed = 1e3",
    ]
    printed += ["val_accuracy = 0.12345", "bound = 0.3333", "bound > .3333", "coeff = 0.1"]
    named = ["network = 0003", "network = 'tiny/0003@0.5'", "network != tiny/0001", "mark != front"]
    named += [
        "mark = front or coeff between 0.4 and 0.9",
        "bound between .1 and .2 and mark = front",
    ]
    return ["", " ", *of_text, *texts, *pairs, *either, *printed, *named]


def test_the_filter_and_where_keep_and_refuse_the_same(look: Pages, tmp_path: Path) -> None:
    generator = random.Random(1)
    records = []
    for number in range(8):
        record = trial(
            number,
            sample={
                "coeff": generator.choice([0.1, 0.123456, 0.5, 0.9]),
                "n_power_iterations": generator.choice([1, 3, 5]),
                "dropout": generator.choice([0.0, 0.25]),
            },
            val_accuracy=generator.choice([0.25, 0.5, 0.123454]),
            block_lipschitz_upper_bound=generator.choice([0.1, 0.2, 1 / 3, 0.50001, math.inf]),
            reconstruction_error=generator.choice([1e-7, math.inf, math.nan]),
        )
        records.append(full(record))
        records.append(full(projection(number, generator.choice([0.2, 0.5]), val_accuracy=0.5)))
    records.append(full(replace(trial(8, TrialStatus.FAILED), metrics={})))
    path = tmp_path / "report.html"
    report = unread(records)
    write_page(path, view(report))
    page = look(path)
    networks = {point.first.run_id: point.handle for point in report.points}
    marks = {point.first.run_id: point.mark.value for point in report.points}
    readable, refused = conditions(), [text for text, _ in REFUSED] + ["constructor = 1"]
    answers = page.evaluate(
        """(texts) => {
            Plotly.react = (plot) => { plot.on = () => {}; };  // figures take their time
            document.getElementById("fold").click();
            const filter = document.getElementById("filter");
            return texts.map((text) => {
                filter.value = text;
                filter.dispatchEvent(new Event("input"));
                const cells = document.querySelectorAll("#point-table tbody td:first-child");
                return [
                    [...cells].map((cell) => cell.textContent),
                    document.getElementById("filter-problem").textContent,
                ];
            });
        }""",
        [*readable, *refused],
    )
    n_kept = set()
    for text, (shown, problem) in zip(readable, answers, strict=False):
        kept = [networks[r.run_id] for r in parse(text).keep(records, report.study.name, marks)]
        assert (sorted(shown), problem) == (sorted(kept), ""), text
        n_kept.add(len(kept))
    assert {0, len(records)} < n_kept
    # What is refused, in the same words.
    searched = [key for key, _ in report.study.config.space]
    for text, (shown, problem) in zip(refused, answers[len(readable) :], strict=True):
        with pytest.raises(UserError) as error:
            parse(text, searched)
        assert problem.rstrip(".") == str(error.value).replace("where: ", "Filter: "), text
        assert shown == []
    # What only MLflow can check.
    for text in ("tags.study.mark = 'front'", "run_name = '0003'"):
        assert parse(text).of_mlflow == text
        page.locator("#filter").fill(f"coeff < 0.5 and {text}")
        says = f"report --where alone, but got '{text}'"
        expect(page.locator("#filter-problem")).to_contain_text(says)


def test_the_page_rounds_as_the_table_does(look: Pages, tmp_path: Path) -> None:
    # Every number of 32 images that are right: many lie halfway between two of four decimals.
    report = unread([trial(n, val_accuracy=n / 32) for n in range(1, 26)])
    # Each is halfway between two percent, but for how it is stored.
    shares = [(8 * n + 1) / 200 for n in range(25)]
    points = [replace(p, front_share=s) for p, s in zip(report.points, shares, strict=True)]
    path = tmp_path / "report.html"
    write_page(path, view(replace(report, points=tuple(points))))
    numbers = Numbers(points)
    expected = {numbers.text("val_accuracy", point.metrics["val_accuracy"]) for point in points}
    assert {"0.4062", "0.4688"} < expected
    page = look(path)
    assert set(rows(page, "val_accuracy")) == expected
    expected = {f"{share:.0%}".replace("%", " %") for share in shares}
    assert {"0 %", "8 %"} < expected
    assert set(rows(page, "front_share")) == expected


def test_text_of_a_study_runs_nothing(look: Pages, tmp_path: Path) -> None:
    hostile = "</script><img src=x onerror=document.title='run'><b>x</b>"
    records = [
        trial(0, sample={"coeff": 0.5, "n_power_iterations": hostile, "dropout": 0.1}),
        trial(1, val_accuracy=0.9),
        replace(trial(2, TrialStatus.FAILED), reason=hostile),
        replace(trial(3, TrialStatus.FAILED), reason="=1+1"),
    ]
    path = tmp_path / "report.html"
    write_page(path, view(unread(records, replace(STUDY, name=hostile))))
    page = look(path)
    assert page.title() == f"{hostile}: report"
    expect(page.locator("h1")).to_have_text(hostile)
    page.mouse.move(*place(page, f"{hostile}/0000"))
    expect(page.locator("#detail")).to_contain_text(hostile)
    assert page.locator("img").count() == 0
    # Nor does a spreadsheet run it.
    with page.expect_download() as download:
        page.locator("#csv").click()
    download.value.save_as(tmp_path / "points.csv")
    with (tmp_path / "points.csv").open() as file:
        reasons = {line["reason"] for line in csv.DictReader(file)}
    assert reasons == {"", hostile, "'=1+1"}
