"""`python -m study.delete`: delete a study for good, after it said what and asked."""

from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from study import cli
from study.errors import FailedError, LaunchError, TrackingError, UserError, printable, some

if TYPE_CHECKING:
    from study.tracking.removal import Holdings

app = typer.Typer(add_completion=False)


@app.command()
def main(
    study: Annotated[str, typer.Argument(help="Name of the study.")],
    tracking_uri: cli.TrackingUri = None,
    storage_path: Annotated[
        str | None,
        typer.Option(
            help="Folder or bucket where it was launched; else STUDY_STORAGE_PATH, else "
            "ray_results."
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete a study for good: its runs, models and artifacts in MLflow, its checkpoints and its
    state. Typed again it finishes what it had begun."""
    with cli.one_line_errors(study="STUDY"):
        # Here, since MLflow takes a second, for which --help need not wait.
        with cli.importing():
            from study.api.study import Driver
            from study.execution import storage
            from study.tracking import removal

        driver = Driver.of(tracking_uri, storage_path)
        client = driver.client
        held = removal.holdings(client, study)
        if held is None:
            raise TrackingError(driver.records.absent(study), key="study")
        folder = driver.folder(study)
        is_there = _check(held, folder)
        with storage.locked(folder) if is_there else nullcontext():
            _describe(held, folder)
            if not yes:
                _ask()
            try:
                # MLflow last: by what it has of the study a second call finds the study.
                storage.delete(folder)
                removal.delete(client, held)
            except UserError as error:
                raise FailedError(
                    f"{error.rule}; the same command goes on with it", key=error.key
                ) from error
    typer.echo(f"deleted: {study}")
    if not held.for_good:
        typer.echo(_how_to_empty(held, client.tracking_uri))


def _how_to_empty(held: "Holdings", tracking_uri: str) -> str:
    """What the owner of a server has to run. Of experiments, runs and models, `mlflow gc` deletes
    everything in the trash of each kind that it is given no list of, whoever put it there. Of a
    listed experiment it deletes all runs too."""
    if not held.model_ids:
        return (
            "Its runs and name stay in the trash of the server, since mlflow gc would delete the "
            "models of others with them"
        )
    return (
        "Its runs, models and name stay in the trash of the server until its owner runs: "
        f"mlflow gc --experiment-ids {held.experiment_id} --run-ids {held.run_id} "
        f"--logged-model-ids {','.join(held.model_ids)} --tracking-uri {tracking_uri} "
        "--backend-store-uri ITS_DATABASE"
    )


def _check(held: "Holdings", folder: str) -> bool:
    """Refuse to delete what may be running, and what is not where MLflow says; returns whether the
    storage is there."""
    from study.execution import storage

    if held.storage != folder:
        # A folder is deleted, so it is not for MLflow to say which.
        raise LaunchError(
            f"it must be where {held.name} is kept, which MLflow says is in "
            f"{printable(held.storage.rpartition('/')[0])}, but got {folder.rpartition('/')[0]}",
            key="storage_path",
        )
    is_there = storage.exists(folder)
    can_be_locked = "://" not in folder and (is_there or held.for_good)
    if held.is_running and not can_be_locked:
        raise LaunchError(
            f"it must not be running, but {held.name} is marked so; interrupt it, or, if its "
            "driver has died, change the tag study.state of its run in MLflow",
            key="study",
        )
    return is_there


def _describe(held: "Holdings", folder: str) -> None:
    """Say what is deleted, and how much it is."""
    from study.execution import storage

    n_files, n_bytes = held.files()
    files = f", {_amount(n_files, n_bytes)}" if n_files else ""
    typer.echo(f"{held.name}: {held.n_runs} runs, {len(held.model_ids)} models{files} in MLflow")
    n_files, n_bytes = storage.contents(folder)
    typer.echo(f"{folder}: {_amount(n_files, n_bytes)}" if n_files else f"{folder} is not there")
    if held.versions:
        typer.echo(
            f"Versions in the model registry whose models are deleted with it: "
            f"{some(held.versions)}"
        )


def _amount(n_files: int, n_bytes: int) -> str:
    return f"{n_files:,} files of {n_bytes / 1e6:.1f} MB"


def _ask() -> None:
    try:
        if typer.confirm("Delete all of it for good?"):
            return
    except typer.Abort:  # nobody is there
        typer.echo()
    typer.echo("Nothing was deleted.")
    raise typer.Exit(cli.INTERRUPTED)


if __name__ == "__main__":
    app(prog_name="python -m study.delete")
