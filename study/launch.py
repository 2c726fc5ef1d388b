"""`python -m study.launch`: run a study. Options in, what came out.

How a study file comes to a trained trial: `config.file` -> StudyConfig -> `execution.session` ->
`search.searcher` -> Suggestion -> `execution.worker` -> TrialConfig -> `trial.training`.
"""

import shlex
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from study import cli
from study.artifacts import PAGE
from study.errors import FailedError, LaunchError, TrackingError, UserError

# Imported where they are needed: torch, Ray and MLflow take seconds, for which neither --help nor a
# mistake in the options or in the study file need wait. The study file's own modules take a quarter
# of a second, for which --help need not wait.
if TYPE_CHECKING:
    from study.config.extension import Wanted
    from study.config.space import Value
    from study.config.study import StudyConfig
    from study.execution.session import Outcome
    from study.results.front import Results
    from study.tracking.records import Records

# What may be asked of a study beyond what it was begun with.
_MORE = ("name", "search.n_trials", "search.max_hours", "training.max_epochs")

app = typer.Typer(add_completion=False)


@app.command()
def main(
    space: Annotated[
        str, typer.Argument(help="The study file, or the bare name of a shipped one.")
    ] = "digits",
    name: Annotated[str | None, typer.Option(help="Name of the study; else the file's.")] = None,
    trials: Annotated[int | None, typer.Option(help="In place of search.n_trials.")] = None,
    epochs: Annotated[int | None, typer.Option(help="In place of training.max_epochs.")] = None,
    seed: Annotated[int | None, typer.Option(help="In place of search.seed.")] = None,
    data_root: Annotated[str | None, typer.Option(help="In place of data.root.")] = None,
    cpus: Annotated[
        float | None, typer.Option(help="Of a trial, in place of resources.cpus.")
    ] = None,
    gpus: Annotated[
        float | None, typer.Option(help="Of a trial, in place of resources.gpus.")
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(help="Of Ray; else RAY_ADDRESS, a cluster on this host, or a start here."),
    ] = None,
    tracking_uri: cli.TrackingUri = None,
    storage_path: Annotated[
        str | None,
        typer.Option(
            help="Folder or bucket for checkpoints and the state of studies; else "
            "STUDY_STORAGE_PATH, else ray_results.",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with a study; with more --trials or --max-hours, or with --train, one that "
            "is done too.",
        ),
    ] = False,
    max_hours: Annotated[float | None, typer.Option(help="In place of search.max_hours.")] = None,
    train: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NETWORK",
            help="With --resume: a network whose training goes on, to --epochs in all, as a new "
            "trial.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, say what it takes, run nothing.")
    ] = False,
) -> None:
    """Run a study of invertible ResNets on Ray, tracked in MLflow."""
    given: dict[str, tuple[str, Value]] = {
        "name": ("--name", name),
        "search.n_trials": ("--trials", trials),
        "search.max_hours": ("--max-hours", max_hours),
        "training.max_epochs": ("--epochs", epochs),
        "search.seed": ("--seed", seed),
        "data.root": ("--data-root", data_root),
        "resources.cpus": ("--cpus", cpus),
        "resources.gpus": ("--gpus", gpus),
    }
    overrides = {key: option for key, option in given.items() if option[1] is not None}
    command = _Command(space, tracking_uri, storage_path, address)
    try:
        with cli.one_line_errors():
            if resume:
                changed = [option for key, (option, _) in overrides.items() if key not in _MORE]
                if changed or dry_run:
                    raise LaunchError(
                        "--resume: a study must go on with its own settings, but got "
                        f"{', '.join(changed or ['--dry-run'])}"
                    )
                from study.config.extension import Wanted

                wanted = Wanted(trials, max_hours, tuple(train or ()), epochs)
                exit_code = _Launch(command).resume(name, wanted)
            elif train:
                raise LaunchError(
                    "--train: a training goes on with --resume alone, but got it without"
                )
            else:
                study = _load(command.file, overrides)
                exit_code = _Launch(command, dry_run).start(study, name is not None, dry_run)
    except KeyboardInterrupt:
        raise typer.Exit(cli.INTERRUPTED) from None
    except EOFError as error:
        # Typer would say "Aborted.", as if somebody had left a prompt, and nothing else.
        raise RuntimeError("a file ended before its time") from error
    raise typer.Exit(exit_code)


def _load(file: Path, overrides: dict[str, tuple[str, "Value"]]) -> "StudyConfig":
    from study.config.file import load

    study = load(file, overrides)
    # Workers have working directories of their own.
    root = str(Path(study.data.root).resolve())
    return replace(study, data=replace(study.data, root=root))


@dataclass(frozen=True)
class _Command:
    """What was typed. The commands that are printed for the user to type next repeat it."""

    space: str
    tracking_uri: str | None
    storage_path: str | None
    address: str | None

    @property
    def file(self) -> Path:
        """The study file."""
        from study.config.file import locate

        return locate(self.space)

    @property
    def source(self) -> str:
        """What a study remembers its file by."""
        return str(self.file.resolve())

    def resume(self, name: str) -> str:
        """The command that goes on with a study."""
        options = [*self._uri()]
        if self.address:
            options += ["--address", self.address]
        if self.storage_path:
            options += ["--storage-path", cli.storage_path(self.storage_path)]
        arguments = [self.space, "--resume", "--name", name, *options]
        return shlex.join(["python", "-m", "study.launch", *arguments])

    def report(self, name: str, *options: str) -> str:
        """The command that reports a study."""
        return shlex.join(["python", "-m", "study.report", name, *options, *self._uri()])

    def _uri(self) -> list[str]:
        return ["--tracking-uri", self.tracking_uri] if self.tracking_uri else []


class _Launch:
    """Runs a study and prints what came out."""

    def __init__(self, command: _Command, dry_run: bool = False) -> None:
        # First, since it may be wrong and what follows takes seconds.
        address = cli.ray_address(command.address)
        cli.check_answers(address)
        with cli.importing():
            from study.execution.session import Session
            from study.results.tables import wide_console
            from study.tracking.client import Client

        self._command = command
        # What a dry run prints is a study file, and nothing else is.
        self._console = wide_console(on_stderr=dry_run)
        self._client = Client(cli.tracking_uri(command.tracking_uri), cli.max_retries())
        self._session = Session(
            self._client,
            cli.storage_path(command.storage_path),
            address,
            self._say,
            self._say_unfinished,
        )

    def start(self, study: "StudyConfig", name_is_given: bool, dry_run: bool) -> int:
        """Check a study and run it; returns the exit code."""
        self._session.check(study, str(self._command.file))
        study = replace(study, name=self._free_name(study.name, name_is_given))
        if dry_run:
            self._rehearse(study)
            return 0
        return self._conclude(self._session.start(study, self._command.source))

    def _rehearse(self, study: "StudyConfig") -> None:
        """Check where a study is to run, and print what it is and takes; the text is a study file
        that says the same."""
        from study.config.file import to_short_yaml
        from study.config.trial import DataConfig

        trial, n_at_once = self._session.rehearse(study)
        if study.data.root == str(Path(DataConfig().root).resolve()):
            study = replace(study, data=replace(study.data, root=DataConfig().root))
        n_rounds = -(-study.n_trainings // max(1, n_at_once))
        typer.echo("# What differs from the defaults; all else is in the study's run once it runs.")
        typer.echo(to_short_yaml(study).rstrip())
        typer.echo(f"# A network: {trial.n_parameters:,} parameters")
        typer.echo(
            f"# Time: about {_in_words(n_rounds * trial.seconds)}: {study.n_trainings} trials, "
            f"{n_at_once} at a time, of {_in_words(trial.seconds)} each on this machine"
        )
        typer.echo(f"# Records: {self._client.tracking_uri}")

    def resume(self, name: str | None, wanted: "Wanted") -> int:
        """Go on with the study of that name, or the latest of the file; returns the exit code."""
        source = "" if name is not None else self._command.source
        return self._conclude(self._session.resume(name, source, wanted))

    def _free_name(self, name: str, is_given: bool) -> str:
        free = self._session.free_name(name)
        if free == name:
            return name
        if is_given:
            raise LaunchError(
                f"--name: the name of a new study must be free, but '{name}' is taken; "
                "take another, or go on with that study with --resume"
            )
        self._say(f"the name {name} is taken; this study is {free}")
        of_file = self._session.of_file(self._command.source)
        unfinished = next((record for record in of_file if not record.finished), None)
        if unfinished is not None:
            self._say_unfinished(unfinished.name)
        return free

    def _conclude(self, outcome: "Outcome") -> int:
        """Print what came out; returns the exit code."""
        if not outcome.is_done:
            self._say_unfinished(outcome.record.name)
            return cli.INTERRUPTED
        self._show(outcome)
        return 0 if outcome.n_completed else cli.FAILED

    def _show(self, outcome: "Outcome") -> None:
        """Print the results of a study that is done, and put its page beside its records."""
        from study.results.front import Mark
        from study.results.read import read
        from study.results.tables import print_table
        from study.tracking.pages import study_page
        from study.tracking.records import Records

        study = outcome.record
        if outcome.end_of_search is not None:
            self._say(f"{outcome.n_started} of {study.n_trainings} trials: {outcome.end_of_search}")
        records = Records(self._client)
        try:
            results = read(records, study.name)
        except TrackingError as error:
            raise FailedError(
                f"the study is done, but its results cannot be read: {error}"
            ) from error
        print_table(results, every=False, console=self._console)
        for point in results.points:
            if point.mark is Mark.FAILED:
                self._say(f"{results.handle(point)} failed: {point.first.reason}")
        server, page = study_page(self._client.tracking_uri, study.experiment_id)
        self._print(f"all trials:  {self._command.report(study.name, '--all')}")
        self._print(f"its page:    {self._command.report(study.name)} --html report.html")
        self._print(f"the runs:    {server or page}")
        if server:
            self._print(f"             then open {page}")
        self._publish(records, results)

    def _publish(self, records: "Records", results: "Results") -> None:
        """Put the results into MLflow: on each run how it stands, and the page."""
        from study.results.page import write_page
        from study.results.publish import publish
        from study.tracking.runs import Runs

        try:
            publish(results, records)
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / PAGE
                write_page(path, records, results)
                Runs(self._client).log_file(results.study.run_id, path)
        except UserError as error:
            # The study is done all the same, and its report can be made at any time.
            self._say(f"its results were not put into MLflow: {error}")

    def _say_unfinished(self, name: str) -> None:
        self._say(f"{name} is unfinished; go on with it: {self._command.resume(name)}")

    def _say(self, text: str) -> None:
        """A line that the console does not break."""
        self._console.print(text, soft_wrap=True, markup=False)

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False)


def _in_words(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes / 60:.1f} h"


if __name__ == "__main__":
    app(prog_name="python -m study.launch")
