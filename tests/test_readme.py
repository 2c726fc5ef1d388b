"""Every command of the READMEs, run in order in one folder on small data; their Python and links.

Commands run as they stand, but for placeholders, and for fewer epochs and trials. The study files
that they run have fewer blocks and shorter ladders, and measure less; the Python takes smaller
images. Of commands that install, take hours, or need a cluster, the arguments are checked."""

import importlib.util
import os
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path

import click
import mlflow.cli
import pytest
import typer
import yaml
from ray.scripts import scripts
from typer.testing import CliRunner

from study import delete, launch, report, verify
from study.config import file
from study.head import __main__ as head
from study.tracking.records import Records
from study.tracking.server.client import Client
from tests.support import pages
from tests.support.launched import ROOT
from tests.support.studies import tiny
from tests.trial.test_sources import write_mnist

FOR_GITHUB = [ROOT / ".github" / name for name in ("CONTRIBUTING.md", "CHANGELOG.md")]
COMMANDS = pages.commands()
INSTALLING = [command for command in COMMANDS if command.startswith(("python3 -m venv", "uv "))]
BY_HAND = ("tests.benchmarks", "tests.faults")
BENCHMARKS = [command for command in COMMANDS if any(module in command for module in BY_HAND)]
CHECKS = [command for command in COMMANDS if command.startswith("python -m pytest tests/")]
SERVING = [command for command in COMMANDS if command.startswith("mlflow server")]
CLUSTER = [command for command in COMMANDS if re.match(r"\(umask 077; ray |ray ", command)]
SETTING = [command for command in COMMANDS if command.startswith("export ")]
# tests/test_api_pages.py runs it.
API_PAGES = [command for command in COMMANDS if command.startswith("python -m pdoc ")]
RUN = [
    command
    for command in COMMANDS
    if command not in (*INSTALLING, *BENCHMARKS, *CHECKS, *SERVING, *CLUSTER, *SETTING, *API_PAGES)
    # The first of all, which the installing command runs by its other name; and one each of
    # tests/test_own_code.py and tests/cluster/check_aws.py.
    and command not in ("python -m study.launch digits", "python -m study.launch own.yaml")
    and "--tracking-uri http://127.0.0.1:5000" not in command
]
PYTHON = [text for text in pages.blocks("python") if text not in pages.marked().values()]
STUDIES = pages.blocks("yaml")
# What is cut short, and to what. What is rehearsed stands for one that is run.
SHORTER = (
    (r" mnist --data-root \S+ --trials 2$", r"\g<0> --dry-run"),
    # With a ladder; the networks of table1_digits are trained.
    (r"table1_mnist --data-root \S+$", r"\g<0> --dry-run"),
    (r"^python -m study\.launch$", r"\g<0> --epochs 1 --trials 2"),
    (r"table1_digits$", r"\g<0> --epochs 1 --trials 1"),
    (r" mine.yaml --download$", r"\g<0> --epochs 1 --trials 1"),
    # tests/test_launch.py extends a study.
    (r" mine.yaml --resume --trials 5$", " mine.yaml --resume --trials 2 --dry-run"),
    # The networks of the Python of models/README.md.
    (r"\b3, 32, 32\b", "3, 16, 16"),
    (r"\b1, 28, 28\b", "1, 14, 14"),
)
# What takes the time of a training of one epoch: two rungs of a ladder are as good as six here, and
# three blocks of a stage as good as eighteen.
FEWER_RUNGS = [0.1, 0.03]
MOST_BLOCKS = 3
# Within a large radius every attack succeeds at once.
LESS_MEASURED = {"radius": 4.0, "n_inverse_samples": 32}


def test_the_readmes_have_commands_of_every_kind_and_no_line_that_is_none() -> None:
    for kind in (INSTALLING, BENCHMARKS, CHECKS, SERVING, CLUSTER, API_PAGES, RUN, PYTHON, STUDIES):
        assert kind
    by_hand = {str(path.relative_to(ROOT)) for path in ROOT.glob("tests/cluster/check_*.py")}
    assert {command.split()[-1] for command in CHECKS} == by_hand
    assert sorted({app_of(command)[0] for command in RUN}) == ["launch", "report", "verify"]


def app_of(command: str) -> tuple[str, list[str]]:
    """The name of a command of the project, and its arguments."""
    words = shlex.split(command)
    name, *arguments = words[1:] if words[0] == "iresnet-study" else words[2:]
    return name.removeprefix("study."), arguments


def smaller(text: str) -> str:
    """A study file of smaller networks that measures less."""
    study = yaml.safe_load(text)
    model = study["model"]
    model["blocks"] = [min(n, MOST_BLOCKS) for n in model["blocks"]]
    model["dense_blocks"] = min(model.get("dense_blocks", 0), 3 * MOST_BLOCKS)
    study["evaluation"] = {**study.get("evaluation", {}), **LESS_MEASURED}
    if "ladder" in study["search"]:
        study["search"]["ladder"] = FEWER_RUNGS
    return yaml.safe_dump(study)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What a clone has, with smaller studies, and a folder `data` with a small MNIST."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("models", "study", "tests"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "search_spaces").mkdir()
    for path in (ROOT / "search_spaces").glob("*.yaml"):
        (folder / "search_spaces" / path.name).write_text(smaller(path.read_text()))
    (mine,) = (block for block in STUDIES if yaml.safe_load(block)["name"] == "mine")
    (folder / "mine.yaml").write_text(smaller(mine))
    write_mnist(folder / "data" / "MNIST" / "raw")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file, "_SHIPPED", folder / "search_spaces")
        yield folder


def filled(command: str, clone: Path) -> str:
    """A command, or Python, with its placeholders, cut short."""
    values = {"DIR": "data"}
    if "RUN_ID" in command:
        records = Records(Client(f"sqlite:///{clone}/mlflow.db"))
        study = records.find_study("digits")
        assert study is not None
        values["RUN_ID"] = records.trials_and_projections(study)[0].run_id
    for name, value in values.items():
        command = re.sub(rf"\b{name}\b", value, command)
    for long, short in SHORTER:
        command = re.sub(long, short, command)
    return command


APPS = {"launch": launch.app, "report": report.app, "verify": verify.app}
# The study that would be resumed is done here, which it says.
IS_DONE = re.compile(r"--resume(?!.*--trials)")


@pytest.mark.parametrize("command", ["python -m study.launch", *RUN])
@pytest.mark.usefixtures("one_ray")
def test_a_command_does_what_the_readme_says(
    command: str, clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(clone)
    monkeypatch.setattr(report, "_until_ctrl_c", print)
    monkeypatch.setattr(os, "nice", lambda _: 0)  # it could not be taken back
    name, arguments = app_of(filled(command, clone))
    redirected = arguments[-1:] if ">" in arguments else []
    exit_code = 2 if IS_DONE.search(command) else 0
    done = CliRunner().invoke(APPS[name], arguments[: -2 if redirected else None])
    assert done.exit_code == exit_code, done.output
    assert exit_code == 0 or done.stderr.count("\n") == 1
    assert done.stdout or name != "report"
    for written in redirected:
        (clone / written).write_text(done.stdout)
    for written in (*redirected, *re.findall(r"--html (\S+)", command)):
        assert (clone / written).stat().st_size > 100


def test_the_paper_of_the_readme_is_made_of_what_its_commands_have_written(clone: Path) -> None:
    (paper,) = pages.blocks("latex")
    used = re.findall(r"\\(?:input|includegraphics(?:\[.*?\])?)\{(.*?)\}", paper)
    assert len(used) == 3
    for name in used:
        assert (clone / name).stat().st_size > 100


def test_the_python_of_the_readme_runs(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(clone)
    monkeypatch.setattr(sys, "path", [*sys.path])  # to which MLflow adds a model's code
    for text in PYTHON:
        exec(filled(text, clone), {})


def test_the_readme_of_the_study_files_has_every_key() -> None:
    """And each study of the READMEs is one."""
    for text in STUDIES:
        file.loads(text, "README.md")
    (everything,) = (raw for raw in map(yaml.safe_load, STUDIES) if raw["name"] == "everything")
    assert sorted(everything) == sorted(file.loads(STUDIES[0], "README.md").to_dict())
    sections = {name: part for name, part in vars(tiny()).items() if is_dataclass(part)}
    assert {"data", "model", "training", "search", "resources"} <= set(sections)
    for section, config in sections.items():
        names = [field.name for field in fields(config)]
        searched = [name for name in everything["space"] if name in names]
        assert sorted([*everything[section], *searched]) == sorted(names)
    shipped = {path.name for path in (ROOT / "search_spaces").glob("*.yaml")}
    listed = pages.PAGES[ROOT / "search_spaces" / "README.md"]
    assert shipped == set(re.findall(r"\w+\.yaml(?=`)", listed))


@pytest.mark.parametrize("command", BENCHMARKS)
def test_a_benchmark_of_the_readme_takes_its_arguments(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its module is there, and its usage has the options, and as many arguments at least."""
    module, *arguments = shlex.split(command)[2:]
    monkeypatch.setattr(sys, "argv", [module, "--help"])
    # In this process, which has imported already what each would import for seconds.
    found = importlib.util.find_spec(module)
    assert found is not None
    is_package = found.submodule_search_locations is not None
    with pytest.raises(SystemExit) as end:
        importlib.import_module(f"{module}.__main__" if is_package else module).main()
    assert end.value.code == 0
    usage = " ".join(capsys.readouterr().out.split())
    for argument in arguments:
        option = argument.partition("=")[0]
        assert option in usage or not option.startswith("-"), (command, usage)
    n_given = sum(a.isupper() or "." in a for a in arguments if "=" not in a)
    positional = usage.partition("positional arguments:")[2].partition("options:")[0]
    assert n_given == 0 or len(positional.split()) >= n_given, (command, usage)


@pytest.mark.parametrize("command", [*CLUSTER, *SERVING])
def test_a_command_of_ray_or_mlflow_takes_its_arguments(command: str) -> None:
    """Their own parsers take the arguments; ours takes the arguments of what Ray is to run."""
    words = shlex.split(command.strip("()").rstrip("&").removeprefix("umask 077; "))
    program = words.pop(0)
    parser: click.Command = {"ray": scripts.cli, "mlflow": mlflow.cli.cli}[program]
    while isinstance(parser, click.Group):
        parser = parser.commands[words.pop(0)]
    parser.make_context(program, list(words))
    inner = re.search(r"python -m (study\.\w+) (.*)", " ".join(words))
    assert (inner is not None) == ("study." in command)
    if inner is not None:
        app = {"study.launch": launch.app, "study.head": head.app}[inner[1]]
        ours_parser = typer.main.get_command(app)
        arguments = shlex.split(inner[2])
        if isinstance(ours_parser, click.Group):
            ours_parser = ours_parser.commands[arguments.pop(0)]
        ours_parser.make_context("study", arguments)


def test_every_option_of_the_commands_is_a_real_one() -> None:
    """Also the options that the READMEs name in passing, outside of their blocks."""
    apps = (launch.app, report.app, verify.app, delete.app)
    wide = {"COLUMNS": "200", "NO_COLOR": "1"}
    known = " ".join(CliRunner().invoke(app, ["--help"], env=wide).output for app in apps)
    others = (
        *BY_HAND, "aws ", "ray ", "mlflow server", "uv ", "pip ", "docker ", "helm ", "kubectl ",
        "sbatch ", "scancel ",
    )  # fmt: skip
    lines = (line for page in pages.PAGES.values() for line in page.splitlines())
    prose = "\n".join(line for line in lines if not any(name in line for name in others))
    for option in set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", prose)):
        assert re.search(rf"{option}\b", known), option


@pytest.mark.parametrize(
    "path", [*pages.PAGES, *FOR_GITHUB], ids=lambda path: str(path.relative_to(ROOT))
)
def test_links_lead_somewhere(path: Path) -> None:
    for link in pages.links(path.read_text()):
        target, _, anchor = link.partition("#")
        if not target.startswith("https://"):
            there = (path.parent / target).resolve() if target else path
            there = there / "README.md" if there.is_dir() else there
            assert there.is_file(), link
            assert not anchor or anchor in pages.anchors(there.read_text()), link


def test_files_and_folders_that_are_named_are_there() -> None:
    names = r"`((?:models|study|tests|search_spaces|\.cluster)/[\w./]*)`"
    for path in (*pages.PAGES, *FOR_GITHUB):
        for name in re.findall(names, path.read_text()):
            assert (ROOT / name).exists(), (path, name)


def test_every_benchmark_stands_in_a_readme() -> None:
    named = {command.split()[2] for command in BENCHMARKS}
    modules = {
        f"tests.benchmarks.{path.stem if path.stem != '__main__' else path.parent.name}"
        for path in (ROOT / "tests" / "benchmarks").rglob("*.py")
        if "__main__" in path.read_text()
    }
    assert modules == {name for name in named if name != "tests.faults"}
