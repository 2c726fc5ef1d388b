"""`study.run`, `study.open` and the study that they return: its front, networks and page."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.api.asked import asked_for, by_arguments, settings
from study.api.named import run_named
from study.api.shown import Shown
from study.config.study import StudyConfig
from study.errors import renamed
from study.execution.driver.environment import Driver
from study.results.front import Mark
from study.results.report import Report, read
from study.results.views import report_view
from study.results.views.report_table import counts_of
from study.results.views.sections import View
from study.tracking.pages import study_page
from study.tracking.records import Records

# Imported where they are needed: opening a study must not wait for Ray and torch.
if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go
    from matplotlib.figure import Figure

    from models import IResNet
    from study.api.launched import Loop, Outcome
    from study.results.views.serving import Server
    from study.verification.proof import Proof

__all__ = ["Driver", "Study", "loop", "open", "run"]


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
        space: path of a study file, name of a shipped one, content of a study file, or a
            StudyConfig.
        name: of the study; by default the file's, with a number if it is taken.
        trials, epochs, seed, max_hours, data_root, download, cpus, gpus: replace settings of the
            study file, as the options of `study.launch` do.
        address: of Ray; None for RAY_ADDRESS, a cluster on this host, or a start here.
        tracking_uri: of MLflow; None for MLFLOW_TRACKING_URI, else sqlite:///mlflow.db.
        storage_path: folder or bucket for checkpoints and state; None for STUDY_STORAGE_PATH, else
            ray_results.

    Returns:
        The study, its results published in MLflow, even if no trial completed.

    Raises:
        UserError: if it cannot begin; nothing was started then.
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
    # Ray and torch take seconds to import: a mistake must not wait for them.
    from study.api import launched

    with by_arguments(arguments):
        return _finished(driver, *launched.start(driver, asked))


@contextmanager
def loop(
    space: str | Path | Mapping[str, Any] | StudyConfig,
    *,
    name: str | None = None,
    tracking_uri: str | None = None,
    storage_path: str | Path | None = None,
) -> "Iterator[Loop]":
    """A new study for which you train the networks, in a loop of your own:

        with study.loop("mine.yaml") as mine:
            while (trial := mine.ask()) is not None:
                train(trial.network, mine.dataset)
                mine.tell(trial)
        study.open(mine.name).front

    Samples, measurements, certificates, ladder and report are as in a study that trains by itself.
    It runs in this process, without Ray, and cannot be resumed. Arguments and errors as for `run`.
    """
    asked = asked_for(space, {"name": name})
    driver = Driver.of(tracking_uri, storage_path)
    # torch takes seconds to import.
    from study.api import launched

    with launched.loop(driver, asked) as opened:
        yield opened


def _finished(driver: Driver, outcome: "Outcome", report: Report | None) -> "Study":
    """The study that was run. Raises KeyboardInterrupt if it was interrupted."""
    if report is None:
        name = outcome.study.record.name
        raise KeyboardInterrupt(f"{name} is unfinished: {driver.how_to_resume(name)}")
    return Study(driver, report)


# Users call it `study.open`; this module does not need the builtin that it hides.
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
    """A study in MLflow.

    Args:
        name: None for the latest.
        where: conditions such as "val_accuracy > 0.9 and n_pow <= 2", or MLflow's own filter.
        objectives: such as "val_loss:minimize", in place of the study's own.
        tracking_uri, storage_path, address: as for `run`.

    Raises:
        UserError: if there is no such study, or a filter or an objective cannot be read.
    """
    driver = Driver.of(tracking_uri, storage_path, address)
    return Study(driver, read(driver.records, name, where, objectives))


class Study(Shown):
    """A study in MLflow as it was when opened by its `driver`, which also resumes it."""

    results: Report

    def __init__(self, driver: Driver, results: Report) -> None:
        self.driver, self.results = driver, results
        self.name = results.study.name

    @property
    def is_done(self) -> bool:
        """Whether the study is finished; if not, `resume` continues it."""
        return self.results.study.finished

    @property
    def config(self) -> StudyConfig:
        """The settings of the study."""
        return self.results.study.config

    @property
    def failures(self) -> dict[str, str]:
        """Handle of each failed trial -> the reason."""
        failed = [point for point in self.results.points if point.mark is Mark.FAILED]
        return {point.handle: str(point.first.reason) for point in failed}

    @property
    def points(self) -> "pd.DataFrame":
        """All networks, the front first, with the columns of `front`; `mark` is their status."""
        return self.results.frame.copy()

    @property
    def recommended(self) -> dict[str, str]:
        """The networks to take: "most-accurate", "knee", "most-invertible", and with the objective
        certified_accuracy "most-certified" -> the handle."""
        return self.results.handles

    def radii(self, radii: Sequence[float | str]) -> "pd.DataFrame":
        """Certified accuracy of the test images within radii, l2, in pixels of [0, 1] or, of a
        table, in standardized features, such as 0.5 or "36/255": a row for each network, the front
        first, and each radius. `certified` is of all test images, NaN for networks of earlier
        versions; `attacked`, where the study attacked the network at this radius, of the first 200.
        Raises UserError for a bad radius."""
        return self.results.within(radii).by_radius()

    def figure(self, kind: str = "front") -> "go.Figure":
        """A figure of the study. Raises UserError for another kind, or if there is nothing to draw.

        Args:
            kind: "front", the first objective against each of the others; "growth", the hypervolume
                against the epochs trained; "hyperparameters", rank correlations with the
                objectives; or of the recommended networks "proofs", the bound of each block and
                what it attains, "radii", the certified accuracy of the test images against the
                radius, or "inverse", the reconstruction error against the steps.
        """
        from study.results.views.figure import figure

        return figure(self.results, kind)

    def plot(self, kind: str = "front") -> "Figure":
        """The same figure of matplotlib, for print: a column of a paper wide, readable in gray."""
        from study.results.views.plot import plotted

        return plotted(self.figure(kind))

    def write_figures(self, folder: str | Path) -> list[Path]:
        """Write all figures of `plot` into a folder, as SVG and PDF; returns the files. Raises
        UserError if there is nothing to draw, or a file cannot be written."""
        from study.results.views.figure import figures
        from study.results.views.plot import write

        return write(Path(folder), figures(self.results))

    def serve(self) -> "Server":
        """Serve the study's page on this host until the server's `close()` or the process ends. Its
        `url` must be kept from users of this host who may not read the page. While the study runs,
        the page follows it."""
        from study.results.views.serving import Server

        records = Records(self.driver.client, keeps_files=True)
        return Server(lambda: self._read_again(records), self.results)

    def load(self, network: str, *, trust: bool = False, **conditions: float) -> "IResNet":
        """Load a network with its weights, in eval mode, on the CPU, in the precision in which its
        answers are proven; images must have the same dtype. Files that changed since they were
        logged are refused, and no stored code is run.

        Args:
            network: "0004", "0004@0.5", "knee", a whole handle, or the beginning of a run id.
            trust: import the user's own blocks that it needs.
            conditions: such as coeff=0.1, margin=0.4, one for each of the network's family: of that
                family, the member with these, which need not be stored. It is made from stored
                ones; `models.certify` proves its bounds.

        Raises:
            UserError: if there is no such network, its files are not as logged, or MLflow or the
                files cannot be read; with conditions also if it is of no family, or they are
                others than the family's or out of range.
        """
        run_id = run_named(self.driver.records, self.results, network)
        if conditions:
            from study.verification.member import load_member

            records = self.driver.records
            study = records.read(self.results.study)
            return load_member(records, study, run_id, conditions, trust)
        from study.verification.proof import load

        return load(self.driver.records, run_id, trust)

    def add(
        self, *, data_root: str | Path | None = None, trust: bool = False, **conditions: float
    ) -> "Study":
        """Add to a study that has ended the member with these conditions of each of its families,
        as networks of the study: proven, measured, stored, and published with the others. Those
        that are there already stay as they are. Returns the study afterwards.

        Args:
            data_root: where the study's data is now, unless it is where it was.
            trust: run the user's own blocks, data and metrics that the study names.
            conditions: such as coeff=0.1, margin=0.4, one for each of the study's family.

        Raises:
            UserError: if the study has not ended or has no family; if the conditions are others
                than the family's or out of range; as `verify`.
        """
        # torch takes seconds to import.
        from study.api.members import add_members

        root = None if data_root is None else str(data_root)
        add_members(self.driver, self.name, conditions, root, trust)
        return Study(self.driver, self._read_again(self.driver.records))

    def _read_again(self, records: Records) -> Report:
        """The report as it is now, with the same filter and objectives."""
        objectives = [f"{o.metric}:{o.direction}" for o in self.results.objectives]
        return read(records, self.name, self.results.where, objectives)

    def verify(
        self, network: str, *, data_root: str | Path | None = None, trust: bool = False
    ) -> "Proof":
        """Check that a stored network is as logged, and certify it again; `problems` of the result
        lists what does not hold.

        Args:
            network: as for `load`.
            data_root: where the study's data is now. With it the network is also measured again,
                and compared with what its run says; it takes about as long as an epoch's report.
            trust: run the user's own blocks, data and metrics that the study names.

        Raises:
            UserError: as `load`; if the data is not there, or is by code that is not trusted.
        """
        # torch takes seconds to import.
        from study.tracking.stored_model import fetched
        from study.verification.proof import verify

        root = None if data_root is None else str(data_root)
        run_id = run_named(self.driver.records, self.results, network)
        with fetched(self.driver.records, run_id) as stored:
            return verify(stored, root, trust)

    def export(self, optuna: str) -> str:
        """Write all networks as an Optuna study to a database; returns its URL without password."""
        from study.results.views.published import export

        return export(self.results, optuna)

    def page_in_mlflow(self) -> tuple[str | None, str]:
        """(command that starts MLflow's server, None if one runs; address of the study's page)."""
        return study_page(self.driver.client.tracking_uri, self.results.study.experiment_id)

    def resume(self, *, trials: int | None = None, max_hours: float | None = None) -> "Study":
        """Resume the study, to finish, extend or publish it; returns the study afterwards. `trials`
        and `max_hours` are totals, and must be more than before. Raises as `study.run`."""
        self.driver.check_ray()
        # Ray and torch take seconds to import: only a resume waits for them.
        from study.api import launched

        arguments = {"trials": trials, "max_hours": max_hours}
        planned = launched.planned_resume(self.driver, self.name, "", settings(arguments))
        with by_arguments(arguments), planned as plan:
            return _finished(self.driver, *launched.resume(self.driver, plan))

    def __repr__(self) -> str:
        return f"<study {counts_of(self.results)}>"

    @property
    def view(self) -> View[Report]:
        return report_view.view(self.results)
