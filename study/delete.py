"""`python -m study.delete`: delete a study for good, after showing what is deleted and asking."""

from typing import Annotated

import typer

from study import cli

app = typer.Typer(add_completion=False)


@app.command()
def main(
    study: Annotated[str, typer.Argument(help="Name of the study.")],
    tracking_uri: cli.TrackingUri = None,
    storage_path: Annotated[
        str | None,
        typer.Option(
            help="Folder or bucket of its checkpoints. Default: STUDY_STORAGE_PATH, else "
            "ray_results."
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete a study for good: its runs, models and artifacts in MLflow, its checkpoints and its
    state. Typed again it finishes what it had begun."""
    with cli.one_line_errors(study="STUDY"):
        # MLflow takes a second to import: --help must not wait for it.
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
    held = deletion.held
    if held.database is None:
        # `mlflow gc` deletes all runs of a listed experiment. Without a list of models, it empties
        # the trash of all models, and so of all runs.
        ids = (
            f" --experiment-ids {held.experiment_id} --run-ids {held.run_id} --logged-model-ids "
            f"{','.join(held.model_ids)} --backend-store-uri ITS_DATABASE --tracking-uri "
            f"{deletion.driver.client.tracking_uri}"
        )
        typer.echo(
            "Its runs, models and name stay in the trash of the server until its owner runs: "
            f"mlflow gc{ids if held.model_ids else ', which empties all of the trash'}"
        )


def _ask() -> None:
    try:
        if typer.confirm("Delete all of it for good?"):
            return
    except typer.Abort:  # end of input, or Ctrl-C
        typer.echo()
    typer.echo("Nothing was deleted.")
    raise typer.Exit(cli.INTERRUPTED)


if __name__ == "__main__":
    app(prog_name="python -m study.delete")
