"""`python -m study.verify`: check the proof of a stored model again."""

from typing import Annotated

import typer

from study import cli

app = typer.Typer(add_completion=False)


@app.command()
def main(
    network: Annotated[
        str,
        typer.Argument(help="STUDY/TRIAL, STUDY/TRIAL@COEFF, STUDY@knee, or how a run id begins."),
    ],
    tracking_uri: cli.TrackingUri = None,
) -> None:
    """Check that a stored model is what was logged, and certify it again: 0 if all of it holds, 1
    if not. No code of the stored model is run."""
    with cli.one_line_errors(network="NETWORK"):
        # Here, since torch and MLflow take seconds, for which --help need not wait.
        with cli.importing():
            from study.api.study import Driver
            from study.errors import printable, some
            from study.metrics.definitions import LIPSCHITZ_UPPER_BOUND, METRICS
            from study.tracking.handles import handle_of, run_of
            from study.tracking.proof import verify

        records = Driver.of(tracking_uri).records
        run_id = run_of(records, network)
        proof = verify(records, run_id)
        handle = handle_of(records, run_id)
    meant = [f"run {run_id}"] if network == handle else [printable(handle), f"run {run_id}"]
    name = network if network == run_id else f"{network} ({', '.join(meant)})"
    for problem in proof.problems:
        typer.echo(f"{name}: {problem}")
    if proof.problems:
        raise typer.Exit(cli.FAILED)
    bound = METRICS[LIPSCHITZ_UPPER_BOUND].resolution.round(proof.lipschitz_upper_bound)
    meaning = "invertible" if proof.lipschitz_upper_bound < 1 else "not proven to be invertible"
    verified = f"verified: proven bound {bound:.4g}, {meaning}; stored with {proof.code}"
    if proof.unchecked:
        verified += f"; not checked, since their digests were not stored: {some(proof.unchecked)}"
    typer.echo(f"{name}: {verified}")


if __name__ == "__main__":
    app(prog_name="python -m study.verify")
