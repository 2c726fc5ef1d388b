"""`python -m study.report`: the front of a study, from MLflow alone; and `load` in Python."""

from collections.abc import Sequence
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
            coeff < 0.5", or MLflow's own filter.
        objectives: such as "val_loss:minimize", in place of the study's own.
        tracking_uri: None for MLFLOW_TRACKING_URI, else sqlite:///mlflow.db.

    Returns:
        A frame with the columns of `--format csv`; `mark` is "front" for what is on the front.
        Its `attrs` have the study's name and the hypervolume.

    Raises:
        UserError: if there is no such study, or a filter or an objective cannot be read.
    """
    from study.results.read import read
    from study.results.tables import as_frame

    results = read(_records(tracking_uri), study, where, objectives)
    frame = as_frame(results, every=True)
    frame.attrs.update(study=results.study.name, hypervolume=results.hypervolume)
    return frame


def _records(tracking_uri: str | None) -> "Records":
    from study.tracking.client import Client
    from study.tracking.records import Records

    return Records(Client(cli.tracking_uri(tracking_uri), cli.max_retries()))


app = typer.Typer(add_completion=False)


@app.command()
def main(
    study: Annotated[str | None, typer.Argument(help="Name of a study; else the latest.")] = None,
    list_studies: Annotated[
        bool, typer.Option("--list", help="All studies, the latest first, in place of one.")
    ] = False,
    objective: Annotated[
        list[str] | None,
        typer.Option(help="NAME:maximize or NAME:minimize, in place of the study's own."),
    ] = None,
    where: Annotated[
        str,
        typer.Option(help="Conditions such as 'coeff < 0.5', of metrics too; or MLflow's filter."),
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
    tracking_uri: cli.TrackingUri = None,
) -> None:
    """Print the Pareto front of a study, read from MLflow."""
    with cli.one_line_errors():
        if list_studies:
            if study or objective or where or every or html or register:
                raise UserError("--list: it must stand alone, or with --format and --tracking-uri")
            _print_list(_records(tracking_uri), format)
            return
        with cli.importing():
            from study.results import tables
            from study.results.read import read

        records = _records(tracking_uri)
        results = read(records, study, where, objective or ())
        if register is not None:
            from study.results.registry import check

            check(results, register)
        if optuna is not None:
            from study.results import export

            export.check(results, optuna)
        if html is not None:
            from study.results.page import check_files, write_page

            check_files(records, results)
            write_page(html, records, results)
        storage = export.write(results, optuna) if optuna is not None else None
        registered = _registered(records, results, register) if register is not None else []
        match format:
            case Format.JSON:
                typer.echo(tables.as_json(results, every))
            case Format.CSV:
                typer.echo(tables.as_csv(results, every))
            case Format.TABLE:
                tables.print_table(results, every, tables.wide_console())
    if html is not None:
        typer.echo(f"written: {html}", err=True)
    if storage is not None:
        typer.echo(f"written: {results.study.name} in {storage}", err=True)
    for line in registered:
        typer.echo(line, err=True)


def _print_list(records: "Records", format: Format) -> None:
    from study.results import listing
    from study.results.tables import wide_console

    lines = listing.listed(records)
    match format:
        case Format.JSON:
            typer.echo(listing.as_json(lines))
        case Format.CSV:
            typer.echo(listing.as_csv(lines))
        case Format.TABLE:
            listing.print_list(lines, wide_console())


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
