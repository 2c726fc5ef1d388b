"""`python -m study.launch`: run a study."""

import shlex
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from study import cli

# Imported in the functions: torch, Ray and MLflow take seconds to import, which --help and errors
# in the options or the study file need not wait for.
if TYPE_CHECKING:
    from study.api.launched import Outcome, Report
    from study.api.study import Driver

app = typer.Typer(add_completion=False)

# Options by the names of their arguments in Python; None if an option was not given.
_Options = Mapping[str, Any]


@app.command()
def main(
    ctx: typer.Context,
    space: Annotated[
        str, typer.Argument(help="The study file, or the bare name of a shipped one.")
    ] = "digits",
    name: Annotated[str | None, typer.Option(help="Overrides the name in the file.")] = None,
    trials: Annotated[int | None, typer.Option(help="Overrides search.n_trials.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Overrides training.max_epochs.")] = None,
    seed: Annotated[int | None, typer.Option(help="Overrides search.seed.")] = None,
    data_root: Annotated[str | None, typer.Option(help="Overrides data.root.")] = None,
    download: Annotated[
        bool | None,
        typer.Option("--download", help="Download a torchvision data set that is missing."),
    ] = None,
    cpus: Annotated[
        float | None, typer.Option(help="CPUs per trial; overrides resources.cpus.")
    ] = None,
    gpus: Annotated[
        float | None, typer.Option(help="GPUs per trial; overrides resources.gpus.")
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            help="Address of a Ray cluster. Default: RAY_ADDRESS, else a cluster on this host, "
            "else Ray is started here."
        ),
    ] = None,
    tracking_uri: cli.TrackingUri = None,
    storage_path: Annotated[
        str | None,
        typer.Option(
            help="Folder or bucket for checkpoints and the state of studies. Default: "
            "STUDY_STORAGE_PATH, else ray_results.",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with an unfinished study, or, with more --trials or --max-hours, with one "
            "that is done; with --name, publish results that are not in MLflow yet.",
        ),
    ] = False,
    max_hours: Annotated[float | None, typer.Option(help="Overrides search.max_hours.")] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Check everything and estimate the time, but run nothing; with --resume, say "
            "which study would go on.",
        ),
    ] = False,
    every: Annotated[
        bool,
        typer.Option("--all", help="With --dry-run: print defaults too."),
    ] = False,
) -> None:
    """Run a study of invertible ResNets on Ray, tracked in MLflow."""
    place = {"tracking_uri": tracking_uri, "storage_path": storage_path, "address": address}
    try:
        with cli.one_line_errors():
            from study.api.asked import SETTINGS, by_arguments

            if every and (resume or not dry_run):
                cli.refuse("--all requires --dry-run, without --resume")
            arguments = {name: ctx.params[name] for name in SETTINGS}
            with by_arguments(arguments):
                if resume:
                    exit_code = _resume(space, place, arguments, dry_run)
                else:
                    exit_code = _start(space, place, arguments, dry_run, every)
    except EOFError as error:
        # Typer would only print "Aborted.", as if a prompt had been left.
        raise RuntimeError("a file ended before its time") from error
    raise typer.Exit(exit_code)


def _driver(place: _Options, on_stderr: bool = False) -> "Driver":
    """The driver of the study, which prints its messages."""
    with cli.importing():
        from study.api.study import Driver

    driver = Driver.of(**place)
    # First, since the address may be wrong and the rest takes seconds.
    driver.check_ray()
    return replace(
        driver,
        say=lambda line: cli.say(line, on_stderr),
        resume_line=_line_to_resume,
    )


def _line_to_resume(name: str, elsewhere: Mapping[str, str]) -> str:
    options = [
        part for key, value in elsewhere.items() for part in (f"--{key.replace('_', '-')}", value)
    ]
    return shlex.join(["python", "-m", "study.launch", "--resume", "--name", name, *options])


def _start(space: str, place: _Options, arguments: _Options, dry_run: bool, every: bool) -> int:
    """Run a new study or do a dry run of it; returns the exit code."""
    from study.api.asked import asked_for

    asked = asked_for(space, arguments)
    # The output of a dry run is a study file, so messages go to stderr.
    driver = _driver(place, on_stderr=dry_run)
    with cli.importing():
        from study.api import launched

    if not dry_run:
        return _conclude(driver, *launched.start(driver, asked))
    rehearsed = launched.rehearse(driver, asked)
    if not every:
        typer.echo("# What differs from the defaults; --all prints the others too.")
    typer.echo(rehearsed.as_file(every).rstrip())
    typer.echo(f"# A network: {rehearsed.trial.n_parameters:,} parameters")
    typer.echo(
        f"# Time: about {_in_words(rehearsed.seconds)}: "
        f"{rehearsed.config.n_trainings} trials, {rehearsed.n_at_once} at a time, of "
        f"{_in_words(rehearsed.trial.seconds)} each on this machine"
    )
    typer.echo(
        f"# Driver: {rehearsed.reports_a_second:.2g} reports a second in "
        f"{rehearsed.messages_a_second:.2g} messages, about {rehearsed.share:.1%} of a core"
    )
    if rehearsed.is_too_large:
        typer.echo(
            "# The driver will hold the trials up: raise training.report_every, or let fewer run "
            "at once"
        )
    typer.echo(f"# Storage: about {rehearsed.storage_bytes / 1e6:.2g} MB of checkpoints at the end")
    typer.echo(f"# Records: {driver.client.tracking_uri}")
    return 0


def _resume(space: str, place: _Options, arguments: _Options, dry_run: bool) -> int:
    """Resume a study, or print the plan; returns the exit code."""
    from study.api.asked import settings, source_of

    name = arguments["name"]
    source = "" if name is not None else source_of(space)
    driver = _driver(place)
    with cli.importing():
        from study.api import launched

    with launched.planned_resume(driver, name, source, settings(arguments)) as plan:
        if not dry_run:
            return _conclude(driver, *launched.resume(driver, plan))
        typer.echo(plan)
    return 0


def _conclude(driver: "Driver", outcome: "Outcome", report: "Report | None") -> int:
    """Print the results; returns the exit code."""
    from study.api.study import Study

    if report is None:
        return cli.INTERRUPTED
    study = Study(driver, report)
    record = outcome.study.record
    if record.end_of_search is not None:
        n_trainings = record.config.n_trainings
        cli.say(f"{outcome.n_started} of {n_trainings} trials: {record.end_of_search}")
    uri = driver.elsewhere().get("tracking_uri")
    options = ["--tracking-uri", uri] if uri else []
    study.print_table(options=options)
    for network, reason in study.failures.items():
        cli.say(f"{network} failed: {reason}")
    server, page = study.page_in_mlflow()
    command = driver.how_to_show(study.name)
    typer.echo(f"all trials:  {command} --all")
    typer.echo(f"its page:    {command} --html report.html")
    typer.echo(f"the runs:    {server or page}")
    if server:
        typer.echo(f"             then open {page}")
    return 0 if outcome.n_completed else cli.FAILED


def _in_words(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes / 60:.1f} h"


if __name__ == "__main__":
    app(prog_name="python -m study.launch")
