"""Check the proof of a stored model again: `python -m study.verify RUN_ID`."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from study import proof
from study.errors import TrackingError, UserError
from study.metrics import LIPSCHITZ_UPPER_BOUND
from study.records import Records, default_tracking_uri

_FAILED = 1


def verify(records: Records, run_id: str) -> list[str]:
    """What is wrong with the proof of a run's model, a sentence each; empty if it holds.

    Raises:
        TrackingError: if there is no such run, or it has no model.
    """
    metrics, artifacts = records.metrics_and_artifacts(run_id)
    missing = [name for name in (proof.CERTIFICATE, proof.NETWORK) if name not in artifacts]
    if LIPSCHITZ_UPPER_BOUND not in metrics or missing:
        raise TrackingError(
            "RUN_ID: the run of a completed trial or of a projection must be given, but "
            f"{run_id} has no {missing[0] if missing else LIPSCHITZ_UPPER_BOUND}"
        )
    with tempfile.TemporaryDirectory() as name:
        folder = records.fetch_model(run_id, Path(name))
        of_run = {
            name: records.artifact(run_id, name).decode(errors="replace")
            for name in (proof.CERTIFICATE, proof.NETWORK)
        }
        return list(proof.problems(folder, of_run, metrics[LIPSCHITZ_UPPER_BOUND]))


app = typer.Typer(add_completion=False)


@app.command()
def main(
    run_id: Annotated[str, typer.Argument(help="The MLflow run of a trial or a projection.")],
    tracking_uri: Annotated[
        str | None, typer.Option(help="Else MLFLOW_TRACKING_URI, else sqlite:///mlflow.db.")
    ] = None,
) -> None:
    """Certify a stored model again, and compare with what was logged: 0 if all of it holds, 1 if
    not. No code of the stored model is run."""
    try:
        records = Records(tracking_uri or default_tracking_uri())
        found = verify(records, run_id)
        bound = records.metrics_and_artifacts(run_id)[0][LIPSCHITZ_UPPER_BOUND]
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    for problem in found:
        typer.echo(f"{run_id}: {problem}")
    if found:
        raise typer.Exit(_FAILED)
    says = "invertible" if bound < 1 else "not proven to be invertible"
    typer.echo(f"{run_id}: verified: proven bound {bound:.6g}, {says}")


if __name__ == "__main__":
    app(prog_name="python -m study.verify")
