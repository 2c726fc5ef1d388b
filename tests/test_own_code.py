"""The code of a user's own from the README of study/: in each place, and in a loop. That a study
which is killed goes on as it would have: tests.benchmarks.kills --own."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import optuna
import pytest
import torch
import yaml

import study
from models import Bounds
from study import launch, report, verify
from study.api.study import Study
from study.config.parser import parse
from study.errors import ConfigError
from study.results.report import collect
from tests.support import pages
from tests.support.commands import printed, refused
from tests.support.launched import ROOT
from tests.support.report_page import content_of

CODE = pages.marked()
OWN = "ood_auroc"
# Networks that the loop tells of.
N_TOLD = 10


def write_own(folder: Path, **changes: Any) -> None:
    """The files of the example, with some keys of the study changed."""
    (folder / "own.py").write_text(CODE["own-code"])
    (folder / "loggers.py").write_text(CODE["own-loggers"])
    content = {**yaml.safe_load(CODE["own-study"]), **changes}
    (folder / "own.yaml").write_text(yaml.safe_dump(content))


def of_folder(folder: Path) -> tuple[str, str]:
    """The option for the MLflow of a folder."""
    return "--tracking-uri", f"sqlite:///{folder}/mlflow.db"


def opened(folder: Path, name: str = "own") -> Study:
    return study.open(name, tracking_uri=of_folder(folder)[1])


class Memory(study.Callback):
    """Keeps in a file what it is told."""

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("on_"):
            return lambda *told: self.write(name, told)
        return super().__getattribute__(name)

    def write(self, event: str, told: tuple[Any, ...]) -> None:
        with Path("told.txt").open("a") as file:
            file.write(json.dumps([event, *told]) + "\n")


class Broken(study.Callback):
    """Fails at the first report."""

    def on_report(self, *told: Any) -> None:
        raise OSError("no network")


@pytest.fixture(scope="module")
def folder(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The example with callbacks, run by the command of the README, and a Ray for further
    studies."""
    from tests.support.one_ray import launch_here, one_ray

    folder = tmp_path_factory.mktemp("own")
    shutil.copy(empty_database, folder / "mlflow.db")
    callbacks = [f"{__name__}:Memory", f"{__name__}:Broken", "loggers:TensorBoard"]
    write_own(folder, callbacks=callbacks)
    # A package that is none of ours, as many repositories have one.
    (folder / "models").mkdir()
    (folder / "models" / "__init__.py").write_text("raise RuntimeError('not these')\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        # For the workers: this Ray is there already, so the launch ships nothing to it.
        patch.setenv("PYTHONPATH", f"{folder}:{ROOT}")
        with one_ray():
            out = launch_here(folder, "own.yaml")
            (folder / "out.txt").write_text(out)
            write_own(folder)  # since a loop has no callbacks
            yield folder


def test_the_example_is_short_and_its_networks_are_certified(folder: Path) -> None:
    assert len(CODE["own-code"].splitlines()) <= 60
    done = opened(folder)
    assert (done.points["mark"] != "failed").all()
    assert (done.points[OWN] > 0.5).all()
    assert (done.points["inverse_lipschitz_upper_bound"] < float("inf")).all()
    best = done.front.iloc[0]
    assert best["certified_accuracy"] > 0.1
    assert best["test_accuracy"] > 0.8


def _reported(folder: Path, *arguments: str) -> str:
    return printed(report.app, "own", *of_folder(folder), *arguments)


def test_the_metric_is_an_objective(folder: Path) -> None:
    """By brute force: no network on the front is matched in both objectives by another."""
    done = opened(folder)
    values = done.points[["certified_accuracy", OWN]].to_numpy()
    front = {tuple(row) for row in done.front[["certified_accuracy", OWN]].to_numpy()}
    for row in values:
        dominated = any((other >= row).all() and (other > row).any() for other in values)
        assert dominated or tuple(row) in front
    content = json.loads(_reported(folder, "--format", "json"))
    assert content["reference_point"][OWN] == 0.5
    assert content["objectives"][OWN] == "maximize"


def test_the_metric_is_in_table_csv_and_page(folder: Path, tmp_path: Path) -> None:
    done = opened(folder)
    value = f"{done.front.iloc[0][OWN]:.4g}"
    table = _reported(folder)
    assert OWN in table
    assert value in table
    header, first, *_ = _reported(folder, "--format", "csv").splitlines()
    assert float(first.split(",")[header.split(",").index(OWN)]) == done.front.iloc[0][OWN]
    done.write_page(tmp_path / "page.html")
    content = content_of((tmp_path / "page.html").read_text())
    assert OWN in [metric["name"] for metric in content["metrics"]]
    assert content["points"][OWN][0] == done.front.iloc[0][OWN]


def test_the_report_says_whose_proof_it_is(folder: Path, tmp_path: Path) -> None:
    author = "own:Coupling"
    table = " ".join(_reported(folder).split())
    assert f"bounds of blocks by {author}" in table
    (network,) = re.findall(r"Check a proof again: python -m study.verify (\S+) --trust", table)
    assert network in table
    content = json.loads(_reported(folder, "--format", "json"))
    assert content["proven_by"] == [author]
    opened(folder).write_page(tmp_path / "page.html")
    summary = content_of((tmp_path / "page.html").read_text())["summary"]
    assert f"Bounds of blocks by {author} are the word of their author." in summary
    # Wherever something is called proven, the same sentence says on whose word.
    word = f", on the word of {author}"
    assert f"with a proven inverse{word}" in table
    assert f"with a proven inverse{word}" in summary
    drawn = content_of((tmp_path / "page.html").read_text())
    assert drawn["word"] == word
    for card in drawn["recommended"]:
        for sentence in re.split(r"(?<=[.]) (?=[A-Z])", card["proof"]):
            assert word in sentence
    for one in drawn["networks"]:
        assert one["word"] == word
    notes = _notes(folder)
    assert notes
    for note in notes:
        for sentence in re.split(r"(?<=[.:]) (?=[A-Z])|[.]\n", note):
            assert "proven" not in sentence.lower() or word in sentence, sentence
    records = opened(folder).results.files
    certificate = json.loads(records.artifact(content["points"][0]["run_id"], "certificate.json"))
    assert {block["proven_by"] for block in certificate["blocks"]} == {author}


def _notes(folder: Path) -> list[str]:
    """The descriptions that MLflow shows of the study and of each network."""
    client = mlflow.MlflowClient(of_folder(folder)[1])
    runs = [client.get_run(run_id) for run_id in opened(folder).points["run_id"]]
    record = opened(folder).results.files.find_study("own")
    assert record is not None
    experiment = client.get_experiment(record.experiment_id)
    return [of.tags["mlflow.note.content"] for of in (*(run.data for run in runs), experiment)]


def test_verify_with_data_finds_a_block_that_lies(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bounds that became smaller than true since the network was stored."""
    import own

    true = own.Coupling.bounds
    monkeypatch.setattr(
        own.Coupling, "bounds", lambda self: Bounds(true(self).lipschitz, alpha=0.99999, beta=1.0)
    )
    network = opened(folder).front.iloc[0]["network"]
    options = [*of_folder(folder), "--trust", "--data-root", str(folder)]
    out = printed(verify.app, network, *options, exit_code=1)
    assert "own:Coupling proves a bound of 1 for beta of body.1, but it attains 1." in out


def test_the_metric_filters(folder: Path) -> None:
    middle = opened(folder).points[OWN].median()
    kept = opened(folder).points.query(f"{OWN} > {middle}")
    filtered = study.open("own", where=f"{OWN} > {middle}", tracking_uri=of_folder(folder)[1])
    assert set(filtered.points["network"]) == set(kept["network"])


def test_the_metric_is_in_mlflow_at_each_epoch_and_of_each_projection(folder: Path) -> None:
    client = mlflow.MlflowClient(of_folder(folder)[1])
    rows = opened(folder).points
    for _, row in rows.iterrows():
        history = client.get_metric_history(row["run_id"], OWN)
        is_trial = row["projected_to"] != row["projected_to"]
        assert [point.step for point in history] == ([1, 2, 3] if is_trial else [3])
        assert history[-1].value == pytest.approx(row[OWN], rel=1e-3)


def test_the_metric_is_in_the_study_of_optuna(folder: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/optuna.db"
    opened(folder).export(url)
    exported = optuna.load_study(study_name="own", storage=url)
    best = {tuple(trial.values) for trial in exported.best_trials}
    front = opened(folder).front[["certified_accuracy", OWN]].to_numpy()
    assert {tuple(row) for row in front} <= best


def test_the_metric_is_compared_between_studies(folder: Path) -> None:
    # By the first study's objectives; none depends on the radius, which differs between them.
    both = study.compare(opened(folder, "by_hand"), opened(folder))
    assert OWN in both.front.columns
    assert "differences" in json.loads(both.as_json(every=False))


def test_the_metric_is_a_constraint(folder: Path) -> None:
    """The front of the same networks with a bound that half of them miss."""
    records = opened(folder).results.files
    bound = float(opened(folder).points[OWN].median())
    content = yaml.safe_load(CODE["own-study"])
    config = parse({**content, "constraints": {OWN: f"> {bound:.4g}"}}, "own.yaml")
    own = records.find_study("own")
    assert own is not None
    constrained = collect(
        own, records.trials_and_projections(own), constraints=config.constraints
    ).frame
    assert constrained["mark"].nunique() > 1
    for _, row in constrained.iterrows():
        assert (row["mark"] == "infeasible") == (row[OWN] <= float(f"{bound:.4g}"))


def test_verify_runs_the_users_code_only_if_it_is_trusted(folder: Path) -> None:
    network = opened(folder).front.iloc[0]["network"]
    out = printed(verify.app, network, *of_folder(folder), exit_code=1)
    assert "own:Coupling, whose code is run only if it is trusted" in out
    options = [*of_folder(folder), "--trust", "--data-root", str(folder)]
    out = printed(verify.app, network, *options)
    assert "invertible, on the word of own:Coupling, whose code was trusted; stored with" in out
    assert "; measured again" in out
    with pytest.raises(study.UserError, match="only if it is trusted"):
        opened(folder).load(network)
    model = opened(folder).load(network, trust=True)
    x = torch.rand(4, *model.in_shape, dtype=torch.float64) - 0.5
    torch.testing.assert_close(model.inverse(model.features(x)).value, x, rtol=0, atol=1e-5)


@pytest.fixture(scope="module", autouse=True)
def by_hand(folder: Path) -> None:
    """The loop of the README."""
    content = yaml.safe_load((folder / "own.yaml").read_text())
    content["search"] = {"sampler": "tpe", "n_trials": N_TOLD, "n_startup_trials": 5}
    content["objectives"] = {"val_accuracy": "maximize", OWN: "maximize"}
    # Within a large radius an attack succeeds at once.
    content["evaluation"] = {"radius": 4.0, "n_inverse_samples": 4}
    content["model"]["blocks"] = [1]
    text = CODE["own-loop"].replace("own.yaml", "many.yaml").replace("(50, 128)", "(10, 128)")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("many.yaml").write_text(yaml.safe_dump(content))
        exec(text, {})


def test_a_loop_has_the_report_page_and_front_of_a_study(folder: Path, tmp_path: Path) -> None:
    done = opened(folder, "by_hand")
    assert done.is_done
    assert len(done.points) == N_TOLD
    assert set(done.points["origin"]) == {"told"}
    assert set(done.points["mark"]) == {"front", "dominated"}
    assert done.recommended
    assert done.front["front_share"].between(0, 1).all()
    done.write_page(tmp_path / "page.html")
    samples = done.points["coeff"]
    assert samples.nunique() == N_TOLD
    line = refused(launch.app, "--resume", "--name", "by_hand", *of_folder(folder))
    assert "those of this one were told to it" in line


def test_a_network_that_was_told_verifies(folder: Path) -> None:
    network = opened(folder, "by_hand").front.iloc[0]["network"]
    printed(verify.app, network, "--trust", *of_folder(folder))


def _interrupted(mine: Any) -> None:
    trial = mine.ask()
    assert mine.tell(trial, failed="it was not worth it") == {}
    with pytest.raises(study.UserError, match="asked for, and told once"):
        mine.tell(trial)
    again = mine.ask()
    hook = again.network.body.register_forward_hook(lambda *_: None)
    with pytest.raises(ValueError, match="must have no hook"):
        mine.tell(again)
    hook.remove()
    assert mine.tell(again)["val_accuracy"] > 0
    mine.ask()
    raise KeyboardInterrupt


def test_a_loop_can_fail_a_trial_and_be_interrupted(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_own(tmp_path)
    with pytest.raises(KeyboardInterrupt), study.loop("own.yaml") as mine:
        _interrupted(mine)
    done = opened(tmp_path)
    assert not done.is_done
    assert done.failures == {"own/0000": "it was not worth it"}
    of_trials = done.points[done.points["projected_to"].isna()].set_index("network")["mark"]
    assert of_trials["own/0000"] == "failed"
    assert of_trials["own/0001"] in ("front", "dominated")
    assert of_trials["own/0002"] == "interrupted"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"callbacks": ["loggers:Wandb"]}, "callbacks: must be left out of a loop"),
        ({"search": {"n_trials": 2, "repeats": 2}}, "search.repeats: must be 1 in a loop"),
        ({"search": {"n_trials": 2, "same_up_to": 2}}, "search.same_up_to: must be left out"),
    ],
)
def test_a_loop_refuses_what_only_a_search_can_do(
    changes: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_own(tmp_path, **changes)
    with pytest.raises(ConfigError, match=message), study.loop("own.yaml"):
        pass
    assert not (tmp_path / "mlflow.db").exists()


def test_callbacks_are_told_what_happens(folder: Path) -> None:
    raises = "the callback tests.test_own_code:Broken raises OSError: no network (test_own_code.py"
    assert raises in (folder / "out.txt").read_text()
    told = [json.loads(line) for line in (folder / "told.txt").read_text().splitlines()]
    events = [event for event, *_ in told]
    assert events[0] == "on_study_start"
    assert events[-1] == "on_study_end"
    points = opened(folder).points
    trials = points[points["projected_to"].isna()].set_index("network")
    assert len(trials) == 4
    for name, trial in trials.iterrows():
        of_trial = [(event, of) for event, *of in told if of[0] == name]
        assert [event for event, _ in of_trial] == [
            "on_trial_start", *["on_report"] * 3, "on_trial_end",
        ]  # fmt: skip
        assert [of[1] for event, of in of_trial if event == "on_report"] == [1, 2, 3]
        _, status, metrics = of_trial[-1][1]
        assert (status, metrics[OWN]) == ("completed", trial[OWN])
        assert list((folder / "tensorboard" / str(name)).iterdir())


TOLD = """
from loggers import Wandb

logger = Wandb()
logger.on_study_start("own", {})
logger.on_trial_start("own/0000", {"coeff": 0.5})
logger.on_report("own/0000", 1, {"val_accuracy": 0.5})
logger.on_report("own/0000", 2, {"val_accuracy": 0.75})
logger.on_trial_end("own/0000", "completed", {})
"""


def test_weights_and_biases_gets_each_report(tmp_path: Path) -> None:
    """In its offline mode, told by hand in a process of its own."""
    pytest.importorskip("wandb", reason="needs the package wandb")
    write_own(tmp_path)
    environment = {**os.environ, "WANDB_MODE": "offline", "PYTHONPATH": str(ROOT)}
    subprocess.run(
        [sys.executable, "-c", TOLD], cwd=tmp_path, env=environment, check=True, capture_output=True
    )
    (kept,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    texts = (b"own/0000", b"coeff", b"val_accuracy", b"0.5", b"0.75")
    assert all(text in kept.read_bytes() for text in texts)


def test_the_objects_themselves_may_stand_in_a_study(folder: Path) -> None:
    import own

    from study.config.file import study_of

    content = yaml.safe_load(CODE["own-study"])
    given = {
        **content,
        "data": {"name": own.digits},
        "metrics": {OWN: {**content["metrics"][OWN], "of": own.ood_auroc}},
        "model": {**content["model"], "block": own.Coupling},
    }
    assert study_of(given).config == study_of(content).config
    with pytest.raises(ConfigError, match=r"^study.run: data.name: must be one that other proc"):
        study_of({**given, "data": {"name": lambda root: None}})
