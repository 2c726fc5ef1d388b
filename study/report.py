"""`python -m study.report`: the front of a study, or a comparison of several, from MLflow."""

import gc
import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from study import cli

# MLflow takes a second to import: --help must not wait for it.
if TYPE_CHECKING:
    from study.api.several import Listing
    from study.api.shown import Shown
    from study.api.study import Study


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    LATEX = "latex"
    MARKDOWN = "markdown"


app = typer.Typer(add_completion=False)


@app.command()
def main(
    study: Annotated[
        list[str] | None,
        typer.Argument(help="Name of a study (default: the latest), or several, to compare them."),
    ] = None,
    list_studies: Annotated[
        bool, typer.Option("--list", help="List all studies, the latest first.")
    ] = False,
    objective: Annotated[
        list[str] | None,
        typer.Option(help="NAME:maximize or NAME:minimize; overrides the study's objectives."),
    ] = None,
    where: Annotated[
        str,
        typer.Option(help="A filter such as 'bound < 0.2 and n_pow <= 2', or one of MLflow's."),
    ] = "",
    every: Annotated[
        bool,
        typer.Option("--all", help="Include what is not on the front, marked."),
    ] = False,
    format: Annotated[Format, typer.Option(help="Output format.")] = Format.TABLE,
    radii: Annotated[
        str,
        typer.Option(help="Also show certified test accuracy within these, such as 0.25,36/255,1."),
    ] = "",
    at: Annotated[
        str,
        typer.Option(
            help="First add the networks with these conditions, such as coeff=0.1,margin=0.4: of "
            "each family of the study, the member with them."
        ),
    ] = "",
    data_root: Annotated[
        str | None, typer.Option(help="Where the data is, for --at. Default: where it was.")
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Run the study's own code, which --at may need.")
    ] = False,
    html: Annotated[
        Path | None, typer.Option(help="Also write a page with all points, for a browser.")
    ] = None,
    figures: Annotated[
        Path | None,
        typer.Option(help="Also write the figures into this folder, as SVG and PDF for print."),
    ] = None,
    serve: Annotated[
        bool,
        typer.Option(
            "--serve", help="Serve the page on this host in place of the table, live, until Ctrl-C."
        ),
    ] = False,
    optuna: Annotated[
        str | None,
        typer.Option(help="Also write all points to this Optuna storage, such as sqlite:///FILE."),
    ] = None,
    tracking_uri: Annotated[
        list[str] | None,
        typer.Option(
            help="Of MLflow. Default: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db. For several "
            "studies: once for all, or once for each, in order."
        ),
    ] = None,
) -> None:
    """Print the Pareto front of a study, read from MLflow, or compare several studies."""
    names, uris = study or [], tracking_uri or []
    with cli.one_line_errors(
        study="STUDY",
        name="STUDY",
        studies="STUDY",
        objectives="--objective",
        path="--html",
        folder="--figures",
    ):
        if list_studies:
            rule = "--list allows only --format and --tracking-uri"
            _refuse_any(
                rule, names, objective, where, every, radii, at, html, figures, serve, optuna
            )
            from study.api.several import listing

            _print(listing(*_uris_of_each(uris, ["all"])), format, every)
            return
        of_one = {"--optuna": optuna, "--radii": radii, "--figures": figures, "--at": at}
        for option, given in of_one.items():
            if given and len(names) > 1:
                cli.refuse(f"{option} requires one study, but got {len(names)}")
        if (data_root or trust) and not at:
            cli.refuse("--data-root and --trust require --at")
        if serve:
            rule = "--serve allows one study, --objective, --where and --tracking-uri"
            others = names[1:], every, radii, at, html, figures, optuna, format is not Format.TABLE
            _refuse_any(rule, *others)
            # The study that is followed may need every core, and the imports below take seconds.
            os.nice(10)
        studies = _opened(names or [None], uris, where, objective or ())
        if at:
            from study.api.asked import conditions_in

            added = conditions_in(at)
            studies[0] = studies[0].add(data_root=data_root, trust=trust, **added)
        if serve:
            _until_ctrl_c(studies[0].serve().url)
            return
        if radii:
            studies[0].results = studies[0].results.within(radii.split(","))
        from study.api.several import compare

        shown = compare(*studies) if len(studies) > 1 else studies[0]
        written = _written(shown, html, studies[0], optuna, figures)
        # A comparison adds the tracking URI of each network itself.
        of_each = uris if len(studies) == 1 else [""]
        options = [word for uri in of_each for word in ("--tracking-uri", uri) if word]
        _print(shown, format, every, options)
        for one in written:
            typer.echo(f"written: {one}", err=True)


def _refuse_any(rule: str, *given: object) -> None:
    """End the command with this rule if one of the options that it excludes was given."""
    if any(given):
        cli.refuse(rule)


def _opened(
    names: Sequence[str | None], uris: Sequence[str], where: str, objectives: Sequence[str]
) -> "list[Study]":
    uri_of_each = _uris_of_each(uris, names)
    with cli.importing():
        from study.api.study import open

    return [
        open(name, where=where, objectives=objectives, tracking_uri=uri)
        for name, uri in zip(names, uri_of_each, strict=True)
    ]


def _written(
    shown: "Shown", html: Path | None, study: "Study", optuna: str | None, figures: Path | None
) -> list[str]:
    """Write the page, the Optuna study and the figures, if they were asked for; returns where each
    is."""
    written = list[str]()
    # `Path.is_dir` raises OSError for a name that is too long.
    if html is not None and not os.path.isdir(html.parent):
        cli.refuse(f"--html must be in a folder that is there, but got {html}")
    if figures is not None:
        written += map(str, study.write_figures(figures))
    if optuna is not None:
        written.append(f"{study.name} in {study.export(optuna)}")
    if html is not None:
        shown.write_page(html)
        written.append(str(html))
    return written


def _print(
    shown: "Shown | Listing", format: Format, every: bool, options: Sequence[str] = ()
) -> None:
    match format:
        case Format.JSON:
            typer.echo(shown.as_json(every))
        case Format.CSV:
            typer.echo(shown.as_csv(every))
        case Format.LATEX | Format.MARKDOWN:
            typer.echo(shown.as_table(format, every))
        case Format.TABLE:
            shown.print_table(every=every, options=options)


def _until_ctrl_c(url: str) -> None:
    """Wait for Ctrl-C, while a thread serves the page at this address."""
    # Otherwise the garbage collector scans all imported objects each time the study is read.
    gc.freeze()
    typer.echo(f"{url} has the page, until Ctrl-C")
    with suppress(KeyboardInterrupt):
        threading.Event().wait()


def _uris_of_each(uris: Sequence[str], names: Sequence[str | None]) -> list[str | None]:
    """The tracking URI of each study; None for the default."""
    if len(uris) not in (0, 1, len(names)):
        cli.refuse(
            "--tracking-uri must be given once, or once for each study, but got "
            f"{len(uris)} for {len(names)}"
        )
    return [*uris] if len(uris) == len(names) else [uris[0] if uris else None] * len(names)


if __name__ == "__main__":
    app(prog_name="python -m study.report")
