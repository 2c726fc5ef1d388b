"""`python -m study.report`: the front of a study, or several side by side, from MLflow alone; and
`load` in Python."""

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
    study: Annotated[
        list[str] | None,
        typer.Argument(help="Name of a study, else the latest; or of several, to compare them."),
    ] = None,
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
    if len(names) > 1:
        with cli.one_line_errors():
            if register is not None:
                raise UserError(f"--register: one study must be named, but got {len(names)}")
            _compare(names, _uris_of_each(uris, names), where, objective or (), every, format, html)
        return
    with cli.one_line_errors():
        with cli.importing():
            from study.results import tables
            from study.results.read import read

        (uri,) = _uris_of_each(uris, names or ["the latest"])
        records = _records(uri)
        results = read(records, names[0] if names else None, where, objective or ())
        if register is not None:
            from study.results.registry import check

            check(results, register)
        if html is not None:
            from study.results.page import check_files, write_page

            check_files(records, results)
            write_page(html, records, results)
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
    for line in registered:
        typer.echo(line, err=True)


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
        from study.results import comparison_tables
        from study.results.comparison import read_comparison
        from study.results.tables import wide_console

    of_uri = {uri: _records(uri) for uri in uris}
    named = [(of_uri[uri], name) for uri, name in zip(uris, names, strict=True)]
    comparison = read_comparison(named, where, objectives)
    if html is not None:
        from study.results.comparison_page import write_comparison_page

        write_comparison_page(html, comparison)
    match format:
        case Format.JSON:
            typer.echo(comparison_tables.as_json(comparison, every))
        case Format.CSV:
            typer.echo(comparison_tables.as_csv(comparison, every))
        case Format.TABLE:
            comparison_tables.print_comparison(comparison, every, wide_console())
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
