"""`python -m study.delete`: delete a study for good, after it said what and asked."""

from typing import TYPE_CHECKING, Annotated

import typer

from study import cli

if TYPE_CHECKING:
    from study.api.deletion import Holdings

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
            from study.api.deletion import planned_deletion
            from study.api.study import Driver

        with planned_deletion(Driver.of(tracking_uri, storage_path), study) as deletion:
            for line in deletion.lines():
                typer.echo(line)
            if not yes:
                _ask()
            deletion.carry_out()
    typer.echo(f"deleted: {study}")
    if not deletion.held.for_good:
        typer.echo(_how_to_empty(deletion.held, deletion.driver.client.tracking_uri))


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
