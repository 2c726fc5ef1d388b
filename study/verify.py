"""`python -m study.verify`: check the proof of a stored model again."""

from typing import Annotated

import typer

from study import cli

app = typer.Typer(add_completion=False)


@app.command()
def main(
    network: Annotated[
        str,
        typer.Argument(help="STUDY/TRIAL, STUDY/TRIAL@BOUND, STUDY@knee, or how a run id begins."),
    ],
    data_root: Annotated[
        str | None, typer.Option(help="Where the data is: measure the network again too.")
    ] = None,
    trust: Annotated[
        bool,
        typer.Option(
            "--trust", help="Run the blocks, data and metrics of your own that the study names."
        ),
    ] = False,
    tracking_uri: cli.TrackingUri = None,
) -> None:
    """Check that a stored model is the one that was logged, and certify it again; with its data,
    measure it again. Exit code 0 if everything holds, 1 if not. The stored model's code is not run.
    """
    with cli.one_line_errors(network="NETWORK"):
        # torch and MLflow take seconds to import: --help must not wait for them.
        with cli.importing():
            from study.api.network import verify_network

        name, proof = verify_network(network, tracking_uri, data_root, trust)
    for line in proof.lines():
        typer.echo(f"{name}: {line}")
    if proof.problems:
        raise typer.Exit(cli.FAILED)


if __name__ == "__main__":
    app(prog_name="python -m study.verify")
