"""`python -m study.launch`: run a study. Options in, what came out.

How a study file comes to a trained trial: `config.file` -> StudyConfig -> `execution.session` ->
`search.searcher` -> Suggestion -> `execution.worker` -> TrialConfig -> `trial.training`.
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from study import cli
from study.errors import ConfigError, LaunchError, renamed

# Imported where they are needed: torch, Ray and MLflow take seconds, for which neither --help nor a
# mistake in the options or in the study file need wait. The study file's own modules take a quarter
# of a second, for which --help need not wait.
if TYPE_CHECKING:
    from study.api import Study
    from study.config.extension import Wanted
    from study.config.file import Asked
    from study.config.space import Value
    from study.execution.session import Outcome

# What may be asked of a study beyond what it was begun with; all else must be as it was.
_MORE = ("name", "search.n_trials", "search.max_hours")

app = typer.Typer(add_completion=False)


@app.command(cls=cli.Command)
def main(
    space: Annotated[
        str, typer.Argument(help="The study file, or the bare name of a shipped one.")
    ] = "digits",
    name: Annotated[str | None, typer.Option(help="Name of the study; else the file's.")] = None,
    trials: Annotated[int | None, typer.Option(help="In place of search.n_trials.")] = None,
    epochs: Annotated[int | None, typer.Option(help="In place of training.max_epochs.")] = None,
    seed: Annotated[int | None, typer.Option(help="In place of search.seed.")] = None,
    data_root: Annotated[str | None, typer.Option(help="In place of data.root.")] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch a torchvision data set that is not there.")
    ] = False,
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
            help="Go on with a study; with more --trials or --max-hours, one that is done too.",
        ),
    ] = False,
    max_hours: Annotated[float | None, typer.Option(help="In place of search.max_hours.")] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Check everything, say what it takes, run nothing; with --resume, say which study "
            "would go on.",
        ),
    ] = False,
    every: Annotated[
        bool, typer.Option("--all", help="With --dry-run: also the settings that are the defaults.")
    ] = False,
) -> None:
    """Run a study of invertible ResNets on Ray, tracked in MLflow."""
    options: dict[str, tuple[str, Value]] = {
        "name": ("name", name),
        "search.n_trials": ("trials", trials),
        "search.max_hours": ("max_hours", max_hours),
        "training.max_epochs": ("epochs", epochs),
        "search.seed": ("seed", seed),
        "data.root": ("data_root", data_root),
        "data.download": ("download", download or None),
        "resources.cpus": ("cpus", cpus),
        "resources.gpus": ("gpus", gpus),
    }
    given = {key: value for key, (_, value) in options.items() if value is not None}
    named = {key.replace(".", "__"): options[key][0] for key in given}
    command = _Command(space, tracking_uri, storage_path, address)
    try:
        with cli.one_line_errors(), renamed(**named):
            if every and (resume or not dry_run):
                raise LaunchError(
                    "--all: it must stand with --dry-run of a new study, but got it elsewhere"
                )
            if resume:
                from study.config.extension import Wanted

                said = {key: value for key, value in given.items() if key not in _MORE}
                launch = _Launch(command)
                go_on = launch.rehearse_resume if dry_run else launch.resume
                exit_code = go_on(name, Wanted(trials, max_hours), said)
            else:
                from study.config.file import study_of

                asked = study_of(space, given)
                launch = _Launch(command, dry_run)
                exit_code = launch.rehearse(asked, every) if dry_run else launch.start(asked)
    except KeyboardInterrupt:
        raise typer.Exit(cli.INTERRUPTED) from None
    except EOFError as error:
        # Typer would say "Aborted.", as if somebody had left a prompt, and nothing else.
        raise RuntimeError("a file ended before its time") from error
    raise typer.Exit(exit_code)


@dataclass(frozen=True)
class _Command:
    """What was typed. The commands that are printed for the user to type next repeat it."""

    space: str
    tracking_uri: str | None
    storage_path: str | None
    address: str | None

    @property
    def source(self) -> str:
        """What a study remembers its file by."""
        from study.config.file import locate

        try:
            return str(locate(self.space).resolve())
        except ConfigError as error:
            raise LaunchError(f"{error}; --name {self.space} means a study of that name") from error

    def resume(self, name: str) -> str:
        """The command that goes on with a study."""
        options = [*self.uri()]
        if self.address:
            options += ["--address", self.address]
        if self.storage_path:
            options += ["--storage-path", cli.storage_path(self.storage_path)]
        return shlex.join(["python", "-m", "study.launch", "--resume", "--name", name, *options])

    def report(self, name: str, *options: str) -> str:
        """The command that reports a study."""
        return shlex.join(["python", "-m", "study.report", name, *options, *self.uri()])

    def uri(self) -> list[str]:
        return ["--tracking-uri", self.tracking_uri] if self.tracking_uri else []


class _Launch:
    """Runs a study and prints what came out; each of its methods returns an exit code."""

    def __init__(self, command: _Command, dry_run: bool = False) -> None:
        # First, since it may be wrong and what follows takes seconds.
        cli.check_answers(cli.ray_address(command.address))
        with cli.importing():
            from study.api import Place, Runner
            from study.results.tables import wide_console

        self._command = command
        # What a dry run prints is a study file, and nothing else is.
        self._console = wide_console(on_stderr=dry_run)
        self._place = Place.of(command.tracking_uri, command.storage_path, command.address)
        self._runner = Runner(self._place, self._say, command.resume)

    def start(self, asked: "Asked") -> int:
        """Check a study and run it."""
        return self._conclude(self._runner.start(asked))

    def resume(self, name: str | None, wanted: "Wanted", said: "Mapping[str, Value]") -> int:
        """Go on with the study of that name, or the latest of the file."""
        source = "" if name is not None else self._command.source
        return self._conclude(self._runner.resume(name, source, wanted, said))

    def rehearse_resume(
        self, name: str | None, wanted: "Wanted", said: "Mapping[str, Value]"
    ) -> int:
        """Say which study would go on."""
        source = "" if name is not None else self._command.source
        self._runner.rehearse_resume(name, source, wanted, said)
        return 0

    def rehearse(self, asked: "Asked", every: bool) -> int:
        """Check a study where it is to run, and print what it is and takes; the text is a study
        file that says the same.

        Args:
            every: whether to print the settings that are the defaults too.
        """
        from study.config.file import to_yaml
        from study.config.trial import DataConfig

        config, trial, n_at_once = self._runner.rehearse(asked)
        if config.data.root == str(Path(DataConfig().root).resolve()):
            config = replace(config, data=replace(config.data, root=DataConfig().root))
        n_rounds = -(-config.n_trainings // max(1, n_at_once))
        if not every:
            typer.echo("# What differs from the defaults; --all prints the others too.")
        typer.echo(to_yaml(config, is_short=not every).rstrip())
        typer.echo(f"# A network: {trial.n_parameters:,} parameters")
        typer.echo(
            f"# Time: about {_in_words(n_rounds * trial.seconds)}: {config.n_trainings} trials, "
            f"{n_at_once} at a time, of {_in_words(trial.seconds)} each on this machine"
        )
        typer.echo(f"# Records: {self._place.client.tracking_uri}")
        return 0

    def _conclude(self, study: "Study") -> int:
        """Print what came out."""
        outcome = study.outcome
        assert outcome is not None
        if not outcome.is_done:
            return cli.INTERRUPTED
        self._show(study, outcome)
        return 0 if outcome.n_completed else cli.FAILED

    def _show(self, study: "Study", outcome: "Outcome") -> None:
        """Print the results of a study that is done."""
        from study.results.front import Mark
        from study.results.tables import print_table
        from study.tracking.pages import study_page

        results, record = study.results, outcome.record
        if outcome.end_of_search is not None:
            self._say(
                f"{outcome.n_started} of {record.config.n_trainings} trials: "
                f"{outcome.end_of_search}"
            )
        print_table(results, every=False, console=self._console, options=self._command.uri())
        for point in results.points:
            if point.mark is Mark.FAILED:
                self._say(f"{point.handle} failed: {point.first.reason}")
        server, page = study_page(self._place.client.tracking_uri, record.experiment_id)
        self._print(f"all trials:  {self._command.report(study.name, '--all')}")
        self._print(f"its page:    {self._command.report(study.name)} --html report.html")
        self._print(f"the runs:    {server or page}")
        if server:
            self._print(f"             then open {page}")

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
