import json
import math
import random
from dataclasses import replace
from typing import Any

import pytest

from study.errors import UserError
from study.metrics.artifacts import packed
from study.metrics.goals import Objective
from study.metrics.reports import TrialStatus
from study.results.comparison import Comparison, compare
from study.results.objectives import parse_objectives
from study.results.report import Report, collect
from study.results.views.comparison_view import view
from study.results.views.sections import wide_console
from study.tracking.records import Records
from study.tracking.study_record import StudyRecord, TrialRecord
from tests.support.records import STUDY, Kept, measured, sought, trial
from tests.support.studies import tiny

N_IMAGES = 400


def kept(records: list[TrialRecord], **more: bytes) -> Kept:
    """Files of networks: those images are right first that are easy for all."""
    files = {}
    for record in records:
        n_right = round(record.metrics.get("val_accuracy", 0) * N_IMAGES)
        n_certified = round(record.metrics.get("certified_accuracy", 0) * N_IMAGES)
        right, certified = ([i < n for i in range(N_IMAGES)] for n in (n_right, n_certified))
        content = json.dumps(packed(right, certified, 0.5)).encode()
        files[record.run_id] = {"val_right.json": content, **more}
    return Kept(files)


def study(name: str, **sections: dict[str, Any]) -> StudyRecord:
    config = replace(tiny(**sections), name=name)
    return replace(STUDY, name=name, run_id=f"run of {name}", config=config)


def trials(*accuracies: float, name: str = "") -> list[TrialRecord]:
    """Trials with falling bounds; `name` keeps runs of several studies apart."""
    return [
        replace(measured(k, a, 0.9 - 0.1 * k, 3.0), run_id=f"{name}{k}")
        for k, a in enumerate(accuracies)
    ]


def report(
    of: StudyRecord | str,
    records: list[TrialRecord],
    goals: tuple[Objective, ...] | None = None,
    files: Records | None = None,
) -> Report:
    """The report of a study, whose networks left what they classify right."""
    one = study(of) if isinstance(of, str) else of
    return collect(one, records, goals, records=files or kept(records))


def compared(**by_name: list[TrialRecord]) -> Comparison:
    return compare([report(name, records) for name, records in by_name.items()])


def alike(*studies: StudyRecord, goals: tuple[Objective, ...] | None = None) -> Comparison:
    """Studies whose networks are the same."""
    return compare([report(one, trials(0.9, 0.8), goals) for one in studies])


@pytest.mark.slow
def test_the_joint_front_is_that_of_one_study_with_all_trials() -> None:
    rng = random.Random(0)
    for _ in range(10):
        by_name = {
            name: [
                measured(
                    k, rng.choice([0.8, 0.85, 0.9]), rng.choice([0.1, 0.3, 1.2]), rng.choice([2, 3])
                )
                for k in range(6)
            ]
            for name in ("a", "b", "c")
        }
        found = compared(**by_name)
        every = [(name, record) for name, records in by_name.items() for record in records]
        renumbered = [
            replace(record, trial_id=f"{k:04d}", repeat_of=f"{k:04d}", run_id=f"run{k}")
            for k, (_, record) in enumerate(every)
        ]
        whole = collect(study("all"), renumbered)
        expected = [
            f"{every[int(p.first.trial_id)][0]}/{every[int(p.first.trial_id)][1].trial_id}"
            for p in whole.front
        ]
        assert sorted(point.handle for point in found.front) == sorted(expected)
        assert found.hypervolume == pytest.approx(whole.hypervolume)
        for one in found.studies_content():
            on_front = sum(handle.startswith(f"{one['name']}/") for handle in expected)
            assert one["n_joint_front"] == on_front


def test_objectives_constraints_and_reference_point_are_those_of_the_first_study() -> None:
    records = [measured(0, 0.9, 1.5), measured(1, 0.8, 0.5)]
    own = replace(
        tiny(),
        name="b",
        constraints=(),
        objectives=tuple(replace(o, reference=o.reference + 7) for o in tiny().objectives),
    )
    second = report(replace(study("b"), config=own), records)
    assert len(second.front) == 2
    first = report("a", records)
    found = compare([first, second])
    assert [one.hypervolume for one in found.reports.values()] == [first.hypervolume] * 2
    assert [len(one.front) for one in found.reports.values()] == [1, 1]
    assert found.front[0].handle == "a/0001"  # of equal ones that of the first
    apart = found.differences.hypervolume[0]
    assert apart.value == 0


def printed(found: Comparison) -> str:
    return str([section(found) for section in view(found).drawn])


def test_accuracies_within_other_radii_are_not_compared() -> None:
    """As an objective they are refused; beside others they are left out, and that is said."""
    a, b = study("a", evaluation={"radius": 0.5}), study("b", evaluation={"radius": 1.0})
    assert "cert@0.5" in printed(alike(a, study("c", evaluation={"radius": 0.5})))
    found = alike(a, b)
    assert "cert@" not in printed(found)
    assert "evaluation.radius is 0.5 in a, 1 in b" in printed(found)
    assert [one["radius"] for one in found.content(every=False)["studies"]] == [0.5, 1.0]
    goals = (*sought(certified_accuracy=0.0), *a.config.objectives)
    with pytest.raises(
        UserError, match=r"certified_accuracy alike, but evaluation\.radius is 0\.5"
    ):
        alike(a, b, goals=goals)


def test_without_a_reference_point_there_is_no_volume_to_compare() -> None:
    goals = parse_objectives(["val_loss:minimize"], study("a"))
    found = compare([report(name, trials(0.8), goals) for name in "ab"])
    assert found.hypervolume is None
    assert found.differences.hypervolume == (None,)
    assert found.differences.best_accuracy[0] is not None


def test_files_that_are_gone_cost_the_intervals_and_nothing_else() -> None:
    records = trials(0.8, 0.7)
    found = compare([report("a", records), report("b", records, files=Kept())])
    apart = found.differences
    assert "run 0: val_right.json is not there" in found.differences.note
    for estimate in (*apart.hypervolume, *apart.best_accuracy):
        assert estimate.interval is None
        assert estimate.is_within_noise is None
    assert found.content(every=False)["noise"] is None


def test_a_study_without_networks_is_compared_too(capsys: pytest.CaptureFixture[str]) -> None:
    failed = [replace(trial(0, TrialStatus.FAILED), metrics={})]
    for found in (compared(a=trials(0.8), b=failed), compared(a=failed, b=[])):
        view(found).print_to(wide_console(), every=True)
        out = capsys.readouterr().out
        assert "a, b: 2 studies" in out
        assert found.differences.best_accuracy == (None,)
        (volume,) = found.differences.hypervolume
        assert volume.interval is None
        assert found.content(every=True)["differences"][0]["minus"] == "a"
        assert list(found.selected(every=True))[:2] == ["study", "network"]


def test_the_conditions_of_each_study_are_said() -> None:
    records = trials(0.9, 0.8)
    some = replace(report("two", records), where="coeff < 0.6")
    found = compare([report("one", records), some])
    assert "'two: only networks with coeff < 0.6'" in printed(found)


def test_settings_that_differ_are_listed_and_no_others() -> None:
    second = study(
        "b",
        training={"optimizer": "sgd", "lr": 0.3},
        data={"root": "/elsewhere", "shift": 2, "max_train": 100},
        space={"dropout": {"type": "float", "low": 0.0, "high": 0.2}},
    )
    assert alike(study("a"), second).settings == {
        "data.shift": ("0", "2"),
        "data.max_train": ("null", "100"),
        "training.optimizer": ('"muon"', '"sgd"'),
        "training.lr": ("0.1", "0.3"),
        "space.dropout.high": ("0.5", "0.2"),
    }
    # A key that one study varies is no setting of it.
    varied = study("c", space={"momentum": {"type": "float", "low": 0.1, "high": 0.2}})
    found = alike(study("a"), varied)
    assert found.settings["training.momentum"] == ("0.9", None)
    assert found.settings["space.momentum.high"] == (None, "0.2")


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        ({"data": {"split_seed": 3}}, "data.split_seed is 0 in a and 3 in b"),
        ({"data": {"val_fraction": 0.3}}, "data.val_fraction is 0.2 in a and 0.3 in b"),
        ({"data": {"test_fraction": 0.3}}, "data.test_fraction is 0.2 in a and 0.3 in b"),
        ({"data": {"name": "mnist"}}, "data.name is 'digits' in a and 'mnist' in b"),
        ({"data": {"size": 16}}, "data.size is None in a and 16 in b"),
        (
            {"evaluation": {"inverse_rtol": 1e-3}},
            "must measure inverse_steps alike, but evaluation.inverse_rtol is 1e-06 in a and",
        ),
    ],
)
def test_studies_of_other_data_or_measurements_are_refused(
    sections: dict[str, dict[str, Any]], says: str
) -> None:
    with pytest.raises(UserError) as error:
        alike(study("a"), study("b", **sections))
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_how_the_inverse_is_measured_matters_where_it_is_an_objective_alone() -> None:
    other = study("b", evaluation={"inverse_rtol": 1e-3})
    assert alike(study("a"), other, goals=tiny().objectives[:2]).settings


def test_what_a_study_has_not_measured_is_no_objective() -> None:
    without = [
        replace(r, metrics={k: v for k, v in r.metrics.items() if k != "inverse_steps"})
        for r in trials(0.8)
    ]
    with pytest.raises(UserError, match=r"^study: .* but no trial of b has inverse_steps$"):
        compare([report("a", trials(0.8)), report("b", without)])


def of_folder(name: str, digest: str | None, **data: Any) -> Report:
    records = trials(0.8)
    network = {"network.json": json.dumps({"data": {"sha256": digest}}).encode()}
    files = kept(records, **network)
    return report(study(name, data={"name": "image_folder", **data}), records, files=files)


def test_folders_with_other_images_are_refused() -> None:
    first, other = of_folder("a", "a" * 64), "b" * 64
    with pytest.raises(UserError, match="is aaaaaaaaaaaa in a and bbbbbbbbbbbb in b"):
        compare([first, of_folder("b", other, root="/other")])
    compare([first, of_folder("b", "a" * 64)])
    compare([first, of_folder("b", None)])
    compare([first, replace(of_folder("b", other), records=kept(trials(0.8)))])
    # A part of the training images has another digest, whatever the files.
    compare([first, of_folder("b", other, max_train=9)])


def test_all_networks_are_listed_and_marked_as_they_stand_among_all() -> None:
    found = compared(a=trials(0.9, 0.7), b=trials(0.8, 0.8))
    for every, n in ((False, len(found.front)), (True, 4)):
        listed, rows = found.content(every), found.selected(every)
        assert len(listed["points"]) == len(rows) == n
        marks = dict(zip(rows["network"], rows["mark"], strict=True))
        assert marks == {point["network"]: point["mark"] for point in listed["points"]}
        joint = {point.handle for point in found.front}
        assert {name for name, mark in marks.items() if mark == "front"} == joint
    assert {"a/0000", "b/0001"} == joint
    assert math.isfinite(listed["hypervolume"])
