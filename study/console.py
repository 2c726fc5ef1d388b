"""`iresnet-study launch|report|verify|delete`: the commands as one script.

`python -m` looks for modules in the working directory first, so a file `typer.py` there would run.
The script that pip installs does not look there.
"""

import typer

from study import delete, launch, report, verify

app = typer.Typer(add_completion=False, no_args_is_help=True)
app.command("launch")(launch.main)
app.command("report")(report.main)
app.command("verify")(verify.main)
app.command("delete")(delete.main)


def main() -> None:
    """The entry point of the script."""
    app(prog_name="iresnet-study")
