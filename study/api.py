"""The Python API, which `import study` offers: `run`, `open`, and the study that they give. The
commands are users of it."""

import io
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from study import cli
from study.config.extension import Wanted
from study.config.file import Asked, study_of
from study.config.space import Value
from study.config.study import StudyConfig
from study.errors import (
    FailedError,
    NameTakenError,
    TrackingError,
    UserError,
    absent,
    quoted,
    renamed,
)
from study.metrics.artifacts import PAGE
from study.results import comparison, comparison_views
from study.results.comparison import Comparison
from study.results.report import Report, read
from study.results.tables import counts_of
from study.tracking.client import Client
from study.tracking.handles import RUN_ID, run_of
from study.tracking.records import Records

# Imported where they are needed: to look at a study waits neither for Ray nor for torch.
if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from models import IResNet
    from study.execution.session import Outcome
    from study.tracking.proof import Proof
    from study.trial.rehearsal import Rehearsal

# Of what a comparison shows in a notebook.
_WIDTH = 110
_LABEL = re.compile(r"[0-9]{4,}(@.+)?")
# Without the signs of a handle, it can only be an alias or how a run id begins.
_WORD = re.compile(r"[^/@]*")
# What a message calls by its name on the command line: an argument that it begins with, or an
# option. What is quoted is a value or a command.
_OF_COMMANDS = re.compile(r"^(?:STUDY|NETWORK)(?=:)|(?<![^\s(])--[a-z][a-z-]*|(?<!\w)'[^']*'")


@contextmanager
def arguments_named(**others: str) -> Iterator[None]:
    """Errors name Python's arguments here. `for_command` keeps the text with the options, since
    commands call this module too.

    Args:
        others: argument or option of a command -> the name of what it is here, where that differs.
    """

    def here(found: re.Match[str]) -> str:
        if found[0].startswith("'"):
            return found[0]
        name = found[0].removeprefix("--").replace("-", "_").lower()
        return others.get(name, name)

    try:
        yield
    except (UserError, FailedError) as error:
        if error.key is not None:
            error.key = others.get(error.key, error.key)
        else:
            error.for_command = error.for_command or str(error)
            error.rule = _OF_COMMANDS.sub(here, error.for_command)
            error.source = None
        raise


@arguments_named()
def run(
    space: str | Path | Mapping[str, Any] | StudyConfig = "digits",
    *,
    name: str | None = None,
    trials: int | None = None,
    epochs: int | None = None,
    seed: int | None = None,
    max_hours: float | None = None,
    data_root: str | Path | None = None,
    download: bool | None = None,
    cpus: float | None = None,
    gpus: float | None = None,
    address: str | None = None,
    tracking_uri: str | None = None,
    storage_path: str | Path | None = None,
) -> "Study":
    """Run a study to its end, as `python -m study.launch` does.

    Args:
        space: path of a study file, the bare name of a shipped one, the content of a study file,
            or a StudyConfig.
        name: of the study; else the file's, with a number where that is taken.
        trials: in place of search.n_trials, and so epochs of training.max_epochs, seed of
            search.seed, max_hours of search.max_hours, data_root of data.root, download of
            data.download, cpus and gpus of resources.
        address: of Ray; None for RAY_ADDRESS, a cluster on this host, or a start here.
        tracking_uri: of MLflow; None for MLFLOW_TRACKING_URI, else sqlite:///mlflow.db.
        storage_path: folder or bucket for checkpoints and state; None for STUDY_STORAGE_PATH, else
            ray_results.

    Returns:
        The study, its results published in MLflow. No trial of it need have completed.

    Raises:
        UserError: in one line, if it cannot begin; nothing was started then.
        FailedError: if it began and cannot go on; it can be resumed.
        KeyboardInterrupt: if it was interrupted; it can be resumed.
    """
    arguments: dict[str, tuple[str, Value]] = {
        "name": ("name", name),
        "search.n_trials": ("trials", trials),
        "training.max_epochs": ("epochs", epochs),
        "search.seed": ("seed", seed),
        "search.max_hours": ("max_hours", max_hours),
        "data.root": ("data_root", None if data_root is None else str(data_root)),
        "data.download": ("download", download),
        "resources.cpus": ("cpus", cpus),
        "resources.gpus": ("gpus", gpus),
    }
    given = {key: value for key, (_, value) in arguments.items() if value is not None}
    with renamed(**{key.replace(".", "__"): arguments[key][0] for key in given}):
        asked = study_of(space, given)
        place = Place.of(tracking_uri, storage_path, address)
        cli.check_answers(place.address)
        return Runner(place).start(asked).unless_interrupted()


# As users call it it is `study.open`; this module has no use for the builtin that it hides.
@arguments_named(study="name", objective="objectives")
def open(
    name: str | None = None,
    *,
    where: str = "",
    objectives: Sequence[str] = (),
    tracking_uri: str | None = None,
    storage_path: str | Path | None = None,
    address: str | None = None,
) -> "Study":
    """A study that is in MLflow.

    Args:
        name: None for the latest.
        where: conditions on its networks by the names of metrics and hyperparameters, such as
            "val_accuracy > 0.9 and n_pow <= 2", or MLflow's own filter.
        objectives: such as "val_loss:minimize", in place of the study's own.
        tracking_uri, storage_path, address: as for `run`.

    Raises:
        UserError: if there is no such study, or a filter or an objective cannot be read.
    """
    place = Place.of(tracking_uri, storage_path, address)
    results = read(Records(place.client), name, where, objectives)
    return Study(place, results.study.name, results)


@arguments_named(study="studies")
def compare(*studies: "Study") -> "ComparedStudies":
    """Several studies side by side, by the objectives, the constraints and the reference point of
    the first.

    Args:
        studies: two or more.

    Raises:
        UserError: if a study is there twice, their data, validation split or measurements differ,
            or one has not measured an objective.
    """
    return ComparedStudies(comparison.compare([one.results for one in studies]))


@dataclass(frozen=True)
class Place:
    """Where studies are run and kept.

    Attributes:
        client: of the MLflow that has their records.
        storage_path: folder, absolute, or bucket that has their checkpoints and state.
        address: of Ray; None for a cluster on this host, or a start here.
    """

    client: Client
    storage_path: str
    address: str | None

    @classmethod
    def of(
        cls,
        tracking_uri: str | None = None,
        storage_path: str | Path | None = None,
        address: str | None = None,
    ) -> "Place":
        """With what the environment says, and the defaults, for what is None."""
        return cls(
            Client(cli.tracking_uri(tracking_uri), cli.max_retries()),
            cli.storage_path(None if storage_path is None else str(storage_path)),
            cli.ray_address(address),
        )

    def how_to_resume(self, name: str) -> str:
        """What to type in Python to go on with a study."""
        default = Place.of()
        arguments = [repr(name)]
        if self.client.tracking_uri != default.client.tracking_uri:
            arguments.append(f"tracking_uri={self.client.tracking_uri!r}")
        if self.storage_path != default.storage_path:
            arguments.append(f"storage_path={self.storage_path!r}")
        return f"study.open({', '.join(arguments)}).resume()"


def _print(line: str) -> None:
    print(line, flush=True)


class Runner:
    """Starts studies in a place, goes on with them, and publishes what came out."""

    def __init__(
        self,
        place: Place,
        say: Callable[[str], None] = _print,
        how_to_resume: Callable[[str], str] | None = None,
    ) -> None:
        """
        Args:
            say: is given lines for the user.
            how_to_resume: what to type to go on with the study of a name; None for Python.
        """
        with cli.importing():
            from study.execution.session import Session

        self._place, self._say = place, say
        self._how_to_resume = how_to_resume or place.how_to_resume
        self._session = Session(
            place.client, place.storage_path, place.address, say, self._say_unfinished
        )

    def start(self, asked: Asked) -> "Study":
        """Check a study and run it, to its end or until it is interrupted. A name that an option
        gave must be free; of one that is the file's the next free one is taken."""
        checked = self._checked(asked)
        return self._ended(lambda: self._session.start(checked))

    def resume(
        self,
        name: str | None,
        source: str,
        wanted: Wanted,
        said: Mapping[str, Value] | None = None,
    ) -> "Study":
        """Go on with the study of that name, or the latest of a file.

        Args:
            said: settings that it must have: key of a study file -> value.
        """
        return self._ended(lambda: self._session.resume(name, source, wanted, said))

    def rehearse(self, asked: Asked) -> "tuple[StudyConfig, Rehearsal, int]":
        """Check a study where it is to run, and run nothing of it.

        Returns:
            The study under the name that it would have, what a trial of it takes, and how many run
            at a time.
        """
        config = self._checked(asked).config
        return config, *self._session.rehearse(config)

    def rehearse_resume(
        self,
        name: str | None,
        source: str,
        wanted: Wanted,
        said: Mapping[str, Value],
    ) -> None:
        """Say which study `resume` would go on with, and go on with none. Args: as `resume`."""
        self._session.rehearse_resume(name, source, wanted, said)

    def _checked(self, asked: Asked) -> Asked:
        """A study under a name that is free.

        Raises:
            UserError: if it could not run.
        """
        config = asked.config
        self._session.check(config, asked.source)
        free = self._session.free_name(config.name)
        if free == config.name:
            return asked
        if "name" in asked.options:
            raise NameTakenError(config.name)
        self._say(f"the name {config.name} is taken; this study is {free}")
        of_file = self._session.of_file(asked.source)
        unfinished = next((record for record in of_file if not record.finished), None)
        if unfinished is not None:
            self._say_unfinished(unfinished.name)
        return replace(asked, config=replace(config, name=free))

    def _ended(self, run: "Callable[[], Outcome]") -> "Study":
        outcome = run()
        study = Study(self._place, outcome.record.name, outcome=outcome)
        if not outcome.is_done:
            self._say_unfinished(study.name)
            return study
        try:
            self._publish(study)
        except TrackingError as error:
            raise FailedError(
                f"the study is done, but its results cannot be read: {error}"
            ) from error
        return study

    def _publish(self, study: "Study") -> None:
        """Put the results into MLflow: on each run how it stands, and the page."""
        from study.results.published import publish
        from study.tracking.runs import Runs

        try:
            publish(study.results)
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / PAGE
                study.write_page(path)
                Runs(self._place.client).log_file(study.results.study.run_id, path)
        except UserError as error:
            # The study is done all the same, and its report can be made at any time.
            self._say(f"its results were not put into MLflow: {error}")

    def _say_unfinished(self, name: str) -> None:
        self._say(f"{name} is unfinished; go on with it: {self._how_to_resume(name)}")


class Study:
    """A study in MLflow, as it stood when this was made.

    Attributes:
        name: of the study.
        records: what MLflow holds.
        outcome: how the command or call that ran it left it; None for one that was opened.
    """

    def __init__(
        self,
        place: Place,
        name: str,
        results: Report | None = None,
        outcome: "Outcome | None" = None,
    ) -> None:
        """
        Args:
            results: None reads them when they are asked for.
        """
        self._place, self.name, self.outcome = place, name, outcome
        self.records = Records(place.client)
        self._results = results

    @property
    def results(self) -> Report:
        """Every network with its mark, and the front among them; read from MLflow once."""
        if self._results is None:
            self._results = read(self.records, self.name)
        return self._results

    @property
    def is_done(self) -> bool:
        """Whether the study came to its end; if not, `resume` goes on with it."""
        return self.results.study.finished

    @property
    def config(self) -> StudyConfig:
        """Its settings."""
        return self.results.study.config

    @property
    def front(self) -> "pd.DataFrame":
        """The front, a row a network, the best first, with the columns of `--format csv`."""
        return self.results.selected(every=False).copy()

    @property
    def points(self) -> "pd.DataFrame":
        """All networks, likewise; column `mark` says how each stands, and those of the front come
        first."""
        return self.results.frame.copy()

    @property
    def hypervolume(self) -> float | None:
        """Volume dominated by the front within the reference point, exact, in the product of the
        objectives' units; None where an objective has no reference value."""
        return self.results.hypervolume

    @property
    def recommended(self) -> dict[str, str]:
        """The networks to take: "most-accurate", "knee", "most-invertible" -> the handle."""
        return self.results.handles

    def figure(self, kind: str = "front") -> "go.Figure":
        """A figure of the study.

        Args:
            kind: "front", accuracy against each other objective; "growth", the hypervolume as
                trials ended.

        Raises:
            UserError: for another kind, or one that the study has nothing for.
        """
        from study.results.page import figure

        return figure(self.results, kind)

    @arguments_named()
    def load(self, network: str) -> "IResNet":
        """A network with its weights, in eval mode, on the CPU: as it was logged, since files that
        were changed are refused. No code that is stored is run.

        Args:
            network: "0004", "0004@0.5", "knee", a whole handle, or how a run id begins.

        Raises:
            UserError: if there is no such network, its files are not those that were logged, or
                MLflow or they cannot be read.
        """
        from models import read_network
        from study.tracking.proof import fetch_as_logged
        from study.tracking.stored_model import DATA

        run_id = self._run_of(network)
        with tempfile.TemporaryDirectory() as folder:
            try:
                return read_network(fetch_as_logged(self.records, run_id, Path(folder)) / DATA)
            except TrackingError:
                raise
            except ValueError as error:
                raise UserError(f"network: {quoted(network)} cannot be loaded: {error}") from error

    @arguments_named()
    def verify(self, network: str) -> "Proof":
        """Check that a stored network is what was logged, and certify it again; `problems` of what
        is returned says what does not hold, and is empty if all does.

        Args:
            network: as for `load`.

        Raises:
            TrackingError: if there is no such network, or MLflow or its files cannot be read.
        """
        from study.tracking import proof

        return proof.verify(self.records, self._run_of(network))

    def _run_of(self, network: str) -> str:
        """The run id of a network of this study."""
        handle = self.recommended.get(network, network)
        if _LABEL.fullmatch(handle):
            handle = f"{self.name}/{handle}"
        elif _WORD.fullmatch(handle) and not RUN_ID.fullmatch(handle):
            known = [*self.recommended, *(point.label for point in self.results.ranked(every=True))]
            raise UserError(f"network: {absent(network, known, 'network')}")
        return run_of(self.records, handle)

    @arguments_named(html="path")
    def write_page(self, path: str | Path) -> None:
        """Write the report as a page, one HTML file.

        Raises:
            UserError: if the file cannot be written.
        """
        from study.results.page import write_page

        write_page(Path(path), self.results)

    @arguments_named()
    def resume(self, *, trials: int | None = None, max_hours: float | None = None) -> "Study":
        """Go on with the study: with what is left of it, or with more than it was begun with.

        Args:
            trials: samples in all, more than before.
            max_hours: of search in all, more than before.

        Returns:
            The study as it is then.

        Raises:
            UserError, FailedError, KeyboardInterrupt: as `run`.
        """
        cli.check_answers(self._place.address)
        more = Wanted(trials, max_hours)
        return Runner(self._place).resume(self.name, "", more).unless_interrupted()

    def unless_interrupted(self) -> "Study":
        """This study.

        Raises:
            KeyboardInterrupt: if it was interrupted; it can be resumed.
        """
        if self.outcome is not None and not self.outcome.is_done:
            raise KeyboardInterrupt(
                f"{self.name} is unfinished: {self._place.how_to_resume(self.name)}"
            )
        return self

    def __repr__(self) -> str:
        return f"<study {counts_of(self.results)}>"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from study.results.page import as_html

        return as_html(self.results)


@dataclass(frozen=True, repr=False)
class ComparedStudies:
    """Several studies side by side.

    Attributes:
        content: all of it: each study, differences with their intervals, settings that differ.
    """

    content: Comparison

    @property
    def front(self) -> "pd.DataFrame":
        """The joint front, a row a network, with the study that it comes from."""
        return comparison_views.frame(self.content, every=False)

    @property
    def hypervolume(self) -> float | None:
        """Of the joint front, as `Study.hypervolume`."""
        return self.content.hypervolume

    @arguments_named(html="path")
    def write_page(self, path: str | Path) -> None:
        """Write the comparison as a page, one HTML file.

        Raises:
            UserError: if the file cannot be written.
        """
        from study.results.page import write_page

        write_page(Path(path), self.content)

    def __repr__(self) -> str:
        return self._printed().export_text()

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return self._printed().export_html(inline_styles=True, code_format="<pre>{code}</pre>")

    def _printed(self) -> Console:
        console = Console(record=True, file=io.StringIO(), width=_WIDTH, force_jupyter=False)
        comparison_views.print_comparison(self.content, every=False, console=console)
        return console
