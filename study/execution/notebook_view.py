"""A view of a running study in the output of a notebook's cell."""

import io
from typing import Any

from rich.console import Console, RenderableType

_WIDTH = 110


class NotebookView:
    """What `rich.live.Live` is on a terminal, as far as the live view needs it. Live draws in
    notebooks only where ipywidgets is installed and the front end shows widgets."""

    def start(self) -> None:
        """Take a place in the output."""
        # Nobody has IPython who is in no notebook.
        from IPython.display import HTML, display

        self._html: Any = HTML
        self._place: Any = display(HTML(""), display_id=True)

    def update(self, view: RenderableType, refresh: bool = True) -> None:
        """Draw the view there, in place of the one before."""
        console = Console(record=True, file=io.StringIO(), width=_WIDTH, force_jupyter=False)
        console.print(view)
        text = console.export_html(inline_styles=True, code_format="<pre>{code}</pre>")
        self._place.update(self._html(text))

    def stop(self) -> None:
        """Leave the last view where it is."""
