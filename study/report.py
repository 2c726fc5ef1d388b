"""`python -m study.report`: the front of a study, or several side by side, from MLflow alone."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from study import cli

# Imported where they are needed, since MLflow takes a second: --help does not wait for it.
if TYPE_CHECKING:
    from study.api.several import ComparedStudies, Listing
    from study.api.study import Study


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"
    CSV = "csv"


app = typer.Typer(add_completion=False)


@app.command()
def main(
    study: Annotated[
        list[str] | None,
        typer.Argument(help="Name of a study, else the latest; or of several, to compare them."),
    ] = None,
    list_studies: Annotated[
        bool, typer.Option("--list", help="All studies, the latest first, in place of one.")
    ] = False,
    objective: Annotated[
        list[str] | None,
        typer.Option(help="NAME:maximize or NAME:minimize, in place of the study's own."),
    ] = None,
    where: Annotated[
        str,
        typer.Option(help="Conditions such as 'bound < 0.2 and n_pow <= 2', or MLflow's filter."),
    ] = "",
    every: Annotated[
        bool, typer.Option("--all", help="Also the trials that are not on the front, marked.")
    ] = False,
    format: Annotated[Format, typer.Option(help="How to print it.")] = Format.TABLE,
    html: Annotated[
        Path | None, typer.Option(help="Also write a page with all points, to open in a browser.")
    ] = None,
    register: Annotated[
        str | None,
        typer.Option(help="Also verify points of the front, and register them under this name."),
    ] = None,
    optuna: Annotated[
        str | None,
        typer.Option(help="Also write all points as a study of Optuna, into sqlite:///FILE, say."),
    ] = None,
    tracking_uri: Annotated[
        list[str] | None,
        typer.Option(
            help="Else MLFLOW_TRACKING_URI, else sqlite:///mlflow.db. Of several studies once for "
            "all, or once for each in their order."
        ),
    ] = None,
) -> None:
    """Print the Pareto front of a study, read from MLflow, or compare several studies."""
    names, uris = study or [], tracking_uri or []
    # What is asked for beside a table, and of one study alone.
    writes = {"--register": register, "--optuna": optuna}
    with cli.one_line_errors(
        study="STUDY", name="STUDY", studies="STUDY", objectives="--objective", path="--html"
    ):
        if list_studies:
            if names or objective or where or every or html or any(writes.values()):
                cli.refuse("--list goes with --format and --tracking-uri alone")
            (uri,) = _uris_of_each(uris, ["all"])
            with cli.importing():
                from study.api.several import Listing
            _print(Listing.of(uri), format, every)
        elif len(names) > 1:
            for option, value in writes.items():
                if value is not None:
                    cli.refuse(f"{option} requires one study, but got {len(names)}")
            _compare(names, _uris_of_each(uris, names), where, objective or (), every, format, html)
        else:
            (uri,) = _uris_of_each(uris, names or ["the latest"])
            name = names[0] if names else None
            _report(name, uri, where, objective or (), every, format, html, register, optuna)


def _report(
    name: str | None,
    uri: str | None,
    where: str,
    objectives: Sequence[str],
    every: bool,
    format: Format,
    html: Path | None,
    register: str | None,
    optuna: str | None,
) -> None:
    """Print one study, and write what else is asked for. What cannot be is said before any of it is
    written."""
    with cli.importing():
        from study.api.study import open

    study = open(name, where=where, objectives=objectives, tracking_uri=uri)
    study.check_outputs(html is not None, optuna, register)
    if html is not None:
        study.write_page(html)
    storage = study.export(optuna) if optuna is not None else None
    registered = study.register(register) if register is not None else []
    _print(study, format, every, ["--tracking-uri", uri] if uri else [])
    if html is not None:
        typer.echo(f"written: {html}", err=True)
    if storage is not None:
        typer.echo(f"written: {study.name} in {storage}", err=True)
    for one in registered:
        version = f"{register} version {one.version}, {', '.join(one.aliases)}"
        typer.echo(f"registered: {version}: {one.point.handle}", err=True)


def _compare(
    names: Sequence[str],
    uris: Sequence[str | None],
    where: str,
    objectives: Sequence[str],
    every: bool,
    format: Format,
    html: Path | None,
) -> None:
    """Print several studies side by side, and write their page."""
    with cli.importing():
        from study.api.several import compare
        from study.api.study import open

    compared = compare(
        *(
            open(name, where=where, objectives=objectives, tracking_uri=uri)
            for name, uri in zip(names, uris, strict=True)
        )
    )
    if html is not None:
        compared.write_page(html)
    _print(compared, format, every, ["--tracking-uri"])
    if html is not None:
        typer.echo(f"written: {html}", err=True)


def _print(
    shown: "Study | ComparedStudies | Listing",
    format: Format,
    every: bool,
    options: Sequence[str] = (),
) -> None:
    """Print what is asked for in the form that is asked for."""
    match format:
        case Format.JSON:
            typer.echo(shown.as_json(every))
        case Format.CSV:
            typer.echo(shown.as_csv(every))
        case Format.TABLE:
            shown.print_table(every=every, options=options)


def _uris_of_each(uris: Sequence[str], names: Sequence[str]) -> list[str | None]:
    """Where each study is."""
    if len(uris) not in (0, 1, len(names)):
        cli.refuse(
            "--tracking-uri must be given once, or once for each study, but got "
            f"{len(uris)} for {len(names)}"
        )
    return [*uris] if len(uris) == len(names) else [uris[0] if uris else None] * len(names)


if __name__ == "__main__":
    app(prog_name="python -m study.report")
