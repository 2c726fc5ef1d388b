"""`study.run` and `study.open`, and the study that they give: its front, its networks, its page."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from study.api.asked import asked_for, by_arguments, settings
from study.config.study import StudyConfig
from study.errors import UserError, absent, renamed
from study.execution.driver import Driver
from study.results import tables
from study.results.front import Mark
from study.results.report import Report, read
from study.tracking.handles import RUN_ID, run_of
from study.tracking.pages import study_page

# Imported where they are needed: to look at a study waits neither for Ray nor for torch.
if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from models import IResNet
    from study.api.launched import Outcome
    from study.results.comparison import Comparison
    from study.tracking.proof import Proof

__all__ = ["Driver", "Study", "open", "run"]

_LABEL = re.compile(r"[0-9]{4,}(@.+)?")
# Without the signs of a handle, it can only be an alias or how a run id begins.
_WORD = re.compile(r"[^/@]*")


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
    arguments = {
        "name": name,
        "trials": trials,
        "epochs": epochs,
        "seed": seed,
        "max_hours": max_hours,
        "data_root": None if data_root is None else str(data_root),
        "download": download,
        "cpus": cpus,
        "gpus": gpus,
    }
    with by_arguments(arguments):
        asked = asked_for(space, arguments)
    driver = Driver.of(tracking_uri, storage_path, address)
    driver.check_ray()
    # Ray and torch take seconds, for which a mistake need not wait.
    from study.api import launched

    with by_arguments(arguments):
        return _finished(driver, *launched.start(driver, asked))


def _finished(driver: Driver, outcome: "Outcome", report: Report | None) -> "Study":
    """The study that was run. Raises KeyboardInterrupt if it was interrupted."""
    if report is None:
        name = outcome.record.name
        raise KeyboardInterrupt(f"{name} is unfinished: {driver.how_to_resume(name)}")
    return Study(driver, report)


# As users call it it is `study.open`; this module has no use for the builtin that it hides.
@renamed({"study": "name"})
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
    driver = Driver.of(tracking_uri, storage_path, address)
    return Study(driver, read(driver.records, name, where, objectives))


class Shown:
    """A study, or several side by side, with their front.

    Attributes:
        results: every network with its mark, and what follows from them.
    """

    results: "Report | Comparison"

    @property
    def front(self) -> "pd.DataFrame":
        """The front, a row a network, with the columns of the report's CSV; of one study the best
        first."""
        return self.results.selected(every=False).copy()

    @property
    def hypervolume(self) -> float | None:
        """Volume dominated by the front within the reference point, exact, in the product of the
        objectives' units; None where an objective has no reference value."""
        return self.results.hypervolume

    def as_json(self, every: bool) -> str:
        """The front, or every network, and what the report says of them, as JSON."""
        return tables.as_json(self.results.content(every))

    def as_csv(self, every: bool) -> str:
        """The front, or every network, as CSV."""
        return tables.as_csv(self.results.selected(every))

    def print_table(self, *, every: bool = False, options: Sequence[str] = ()) -> None:
        """Print the front, and which networks to take, as `python -m study.report` does.

        Args:
            every: also the networks that are not on the front, each with its mark.
            options: of the commands that are printed for the user to type. Of several studies, the
                option that says where MLflow is, without its value.
        """
        self._print_to(tables.wide_console(), every, options)

    def _print_to(self, console: Console, every: bool, options: Sequence[str] = ()) -> None:
        """Likewise, to a console."""
        raise NotImplementedError

    @renamed({"html": "path"})
    def write_page(self, path: str | Path) -> None:
        """Write the report as a page, one HTML file.

        Raises:
            UserError: if the file cannot be written.
            FailedError: if the files of a network of the front were deleted.
        """
        from study.results.page import check_files, write_page

        if isinstance(self.results, Report):
            check_files(self.results)
        write_page(Path(path), self.results)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return self._printed().export_html(inline_styles=True, code_format="<pre>{code}</pre>")

    def _printed(self) -> Console:
        console = tables.recording_console()
        self._print_to(console, every=False)
        return console


class Study(Shown):
    """A study in MLflow, as it stood when this was made.

    Attributes:
        driver: which has opened it; it goes on with the study too.
        name: of the study.
    """

    results: Report

    def __init__(self, driver: Driver, results: Report) -> None:
        self.driver, self.results = driver, results
        self.name = results.study.name

    @property
    def is_done(self) -> bool:
        """Whether the study came to its end; if not, `resume` goes on with it."""
        return self.results.study.finished

    @property
    def config(self) -> StudyConfig:
        """Its settings."""
        return self.results.study.config

    @property
    def failures(self) -> dict[str, str]:
        """Why trials failed: handle -> reason."""
        failed = [point for point in self.results.points if point.mark is Mark.FAILED]
        return {point.handle: str(point.first.reason) for point in failed}

    @property
    def points(self) -> "pd.DataFrame":
        """All networks, likewise; column `mark` says how each stands, and those of the front come
        first."""
        return self.results.frame.copy()

    @property
    def recommended(self) -> dict[str, str]:
        """The networks to take: "most-accurate", "knee", "most-invertible" -> the handle."""
        return self.results.handles

    def figure(self, kind: str = "front") -> "go.Figure":
        """A figure of the study.

        Args:
            kind: "front", the first objective against each other one.

        Raises:
            UserError: for another kind, or if the study has one objective.
        """
        from study.results.page import figure

        return figure(self.results, kind)

    def load(self, network: str) -> "IResNet":
        """A network with its weights, in eval mode, on the CPU: as it was logged, since files that
        were changed are refused. No code that is stored is run.

        Args:
            network: "0004", "0004@0.5", "knee", a whole handle, or how a run id begins.

        Raises:
            UserError: if there is no such network, its files are not those that were logged, or
                MLflow or they cannot be read.
        """
        from study.tracking import proof

        return proof.load(self.driver.records, self._run_of(network))

    def verify(self, network: str) -> "Proof":
        """Check that a stored network is what was logged, and certify it again; `problems` of what
        is returned says what does not hold, and is empty if all does.

        Args:
            network: as for `load`.

        Raises:
            TrackingError: if there is no such network, or MLflow or its files cannot be read.
        """
        from study.tracking import proof

        return proof.verify(self.driver.records, self._run_of(network))

    def _run_of(self, network: str) -> str:
        """The run id of a network of this study."""
        handle = self.recommended.get(network, network)
        if _LABEL.fullmatch(handle):
            handle = f"{self.name}/{handle}"
        elif _WORD.fullmatch(handle) and not RUN_ID.fullmatch(handle):
            known = [*self.recommended, *(point.label for point in self.results.ranked(every=True))]
            raise UserError(absent(network, known, "network"), key="network")
        return run_of(self.driver.records, handle)

    def export(self, optuna: str) -> str:
        """Write all networks as a study of Optuna into the database of this URL; returns where it
        is, without a password."""
        from study.results.published import export

        return export(self.results, optuna)

    def page_in_mlflow(self) -> tuple[str | None, str]:
        """Where MLflow shows the runs: the command that starts its server, None if one runs, and
        the address of the page."""
        results = self.results
        return study_page(self.driver.client.tracking_uri, results.study.experiment_id)

    def resume(self, *, trials: int | None = None, max_hours: float | None = None) -> "Study":
        """Go on with the study: with what is left of it, or with more than it was begun with.

        Args:
            trials: samples in all, more than before.
            max_hours: of search in all, more than before.

        Returns:
            The study as it is then.

        Raises:
            UserError, FailedError, KeyboardInterrupt: as `study.run`.
        """
        self.driver.check_ray()
        # Ray and torch take seconds, for which nothing else of a study waits.
        from study.api import launched

        arguments = {"trials": trials, "max_hours": max_hours}
        more = settings(arguments)
        with (
            by_arguments(arguments),
            launched.planned_resume(self.driver, self.name, "", more) as plan,
        ):
            return _finished(self.driver, *launched.resume(self.driver, plan))

    def __repr__(self) -> str:
        return f"<study {tables.counts_of(self.results)}>"

    def _print_to(self, console: Console, every: bool, options: Sequence[str] = ()) -> None:
        tables.print_table(self.results, every, console, options)
