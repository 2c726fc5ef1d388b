"""`python -m study.report`: the front of a study, or several side by side, from MLflow alone; and
`load` in Python."""

from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from study import cli
from study.errors import UserError

# Imported where they are needed, since MLflow takes a second and torch two: --help waits for
# neither, and a table, JSON or CSV not for torch.
if TYPE_CHECKING:
    import pandas as pd

    from study.results.front import Results
    from study.tracking.records import Records


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def load(
    study: str | None = None,
    *,
    where: str = "",
    objectives: Sequence[str] = (),
    tracking_uri: str | None = None,
) -> "pd.DataFrame":
    """The points of a study as a frame, a row each: those of the front first, best first.

    Args:
        study: its name; None for the latest.
        where: conditions by the names of metrics and hyperparameters, "val_accuracy > 0.9 and
            n_pow <= 2", or MLflow's own filter.
        objectives: such as "val_loss:minimize", in place of the study's own.
        tracking_uri: None for MLFLOW_TRACKING_URI, else sqlite:///mlflow.db.

    Returns:
        A frame with the columns of `--format csv`; `mark` is "front" for what is on the front.
        Its `attrs` have the study's name and the hypervolume.

    Raises:
        UserError: if there is no such study, or a filter or an objective cannot be read.
    """
    from study import api

    with api.arguments_named(objective="objectives"):
        opened = api.open(study, where=where, objectives=objectives, tracking_uri=tracking_uri)
    frame = opened.points
    frame.attrs.update(study=opened.name, hypervolume=opened.hypervolume)
    return frame


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
    with cli.one_line_errors():
        if list_studies:
            if names or objective or where or every or html or register or optuna or len(uris) > 1:
                raise UserError("--list: it must stand alone, or with --format and --tracking-uri")
            _print_list(uris[0] if uris else None, format)
        elif len(names) > 1:
            for option, value in (("--register", register), ("--optuna", optuna)):
                if value is not None:
                    raise UserError(f"{option}: one study must be named, but got {len(names)}")
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
        from study import api
        from study.results import tables

    opened = api.open(name, where=where, objectives=objectives, tracking_uri=uri)
    records, results = opened.records, opened.results
    if register is not None:
        from study.results.registry import check

        check(results, register)
    if optuna is not None:
        from study.results import export

        export.check(results, optuna)
    if html is not None:
        from study.results.page import check_files

        check_files(records, results)
        opened.write_page(html)
    storage = export.write(results, optuna) if optuna is not None else None
    registered = _registered(records, results, register) if register is not None else []
    _print(
        format,
        lambda: tables.as_json(results, every),
        lambda: tables.as_csv(results, every),
        lambda: tables.print_table(
            results, every, tables.wide_console(), ["--tracking-uri", uri] if uri else []
        ),
    )
    if html is not None:
        typer.echo(f"written: {html}", err=True)
    if storage is not None:
        typer.echo(f"written: {results.study.name} in {storage}", err=True)
    for line in registered:
        typer.echo(line, err=True)


def _print(
    format: Format, as_json: Callable[[], str], as_csv: Callable[[], str], table: Callable[[], None]
) -> None:
    """Print what is asked for in the form that is asked for."""
    match format:
        case Format.JSON:
            typer.echo(as_json())
        case Format.CSV:
            typer.echo(as_csv())
        case Format.TABLE:
            table()


def _print_list(uri: str | None, format: Format) -> None:
    with cli.importing():
        from study.api import Place
        from study.results import listing
        from study.results.tables import wide_console
        from study.tracking.records import Records

    client = Place.of(uri).client
    lines = listing.listed(Records(client))
    _print(
        format,
        lambda: listing.as_json(lines),
        lambda: listing.as_csv(lines),
        lambda: listing.print_list(lines, wide_console(), client.place),
    )


def _uris_of_each(uris: Sequence[str], names: Sequence[str]) -> list[str | None]:
    """Where each study is."""
    if len(uris) not in (0, 1, len(names)):
        raise UserError(
            "--tracking-uri: it must be given once, or once for each study, but got "
            f"{len(uris)} for {len(names)}"
        )
    return [*uris] if len(uris) == len(names) else [uris[0] if uris else None] * len(names)


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
        from study.api import Place
        from study.results import comparison_tables
        from study.results.comparison import read_comparison
        from study.results.tables import wide_console
        from study.tracking.records import Records

    of_uri = {uri: Records(Place.of(uri).client) for uri in uris}
    named = [(of_uri[uri], name) for uri, name in zip(uris, names, strict=True)]
    comparison = read_comparison(named, where, objectives)
    if html is not None:
        from study.results.comparison_page import write_comparison_page

        write_comparison_page(html, comparison)
    _print(
        format,
        lambda: comparison_tables.as_json(comparison, every),
        lambda: comparison_tables.as_csv(comparison, every),
        lambda: comparison_tables.print_comparison(comparison, every, wide_console()),
    )
    if html is not None:
        typer.echo(f"written: {html}", err=True)


def _registered(records: "Records", results: "Results", name: str) -> list[str]:
    """Verify points of the front and register them; lines that say what was registered."""
    from study.results.registry import register

    return [
        f"registered: {name} version {one.version}, {', '.join(one.aliases)}: "
        f"{results.handle(one.point)}"
        for one in register(records, results, name)
    ]


if __name__ == "__main__":
    app(prog_name="python -m study.report")
