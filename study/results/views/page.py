"""A view as a page, one file that needs no network and no server.

page_files/ has the code that draws a page: a folder for each kind of view, with one file per
section. The files of a view and of page_files/shared/, joined in the order of their names, are the
body of one function, which shared/start.js calls.
"""

import base64
import gzip
import html
import json
import string
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from plotly.offline import get_plotlyjs

from study.errors import UserError
from study.results.views.sections import View

_FOLDER = files("study.results.views") / "page_files"


def write_page(path: Path, view: View[Any]) -> None:
    """Write the page of a view. Raises UserError if the file cannot be written."""
    text = page(view, view.content())
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"the file must be writable, but {path} is not: {error}", "html") from error


def page(view: View[Any], drawn: str, live: str = "") -> str:
    """A page as HTML.

    Args:
        drawn: the content of the view.
        live: the tag of this content, if the page asks its server for newer content; else empty.
    """
    parts = _FOLDER / view.folder
    shared = _FOLDER / "shared"

    def text(part: Traversable) -> str:
        return part.read_text(encoding="utf-8")

    code = sorted(
        (part for folder in (shared, parts) for part in folder.iterdir() if "-" in part.name),
        key=lambda part: part.name,
    )
    js = f"""\
"use strict";
const LIVE = {json.dumps(live)};
const drawPage = (content, before) => {{
{"".join(map(text, code))}}};
{text(shared / "start.js")}"""
    return string.Template(text(shared / "page.html")).substitute(
        title=html.escape(view.title),
        made=f"Made by study.report at {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, from MLflow.",
        table=view.table[0],
        table_of=view.table[1],
        sections=text(parts / "sections.html"),
        reading=text(parts / "reading.html") + text(shared / "reading.html"),
        css=text(shared / "page.css"),
        js=js,
        connect="'self'" if live else "'none'",
        plotly=_packed_plotly(),
        content=_packed(drawn),
    )


def _packed(text: str) -> str:
    """Text as gzip in base 85, without a slash, so that it cannot end its <script> element."""
    return base64.b85encode(gzip.compress(text.encode(), mtime=0)).decode()


@cache
def _packed_plotly() -> str:
    return _packed(_unwrapped(get_plotlyjs()))


def _unwrapped(plotly: str) -> str:
    """Plotly's code without the function that wraps it, if any: a browser would parse wrapped code
    twice, which takes half a second. The license above the code stays."""
    begin, end = plotly.find('"use strict";var Plotly='), plotly.rfind("return Plotly;")
    notice, closed, _ = plotly[: max(begin, 0)].partition("*/")
    code = plotly[begin:end]
    # Strict code keeps its own variables to itself.
    is_whole = closed and begin < end and "window.Plotly = Plotly;" in code
    return f"{notice}*/\n{code}" if is_whole else plotly
