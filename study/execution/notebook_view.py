"""Live view of a running study in a notebook cell."""

import io
from typing import Any

from rich.console import Console, RenderableType

_WIDTH = 110


class NotebookView:
    """Replaces `rich.live.Live`, which needs ipywidgets and a front end that shows widgets."""

    def start(self) -> None:
        """Open an output area in the cell."""
        # Imported here, since IPython is installed only for notebooks.
        from IPython.display import HTML, display

        self._html: Any = HTML
        self._place: Any = display(HTML(""), display_id=True)

    def update(self, view: RenderableType, refresh: bool = True) -> None:
        """Replace the view."""
        console = Console(record=True, file=io.StringIO(), width=_WIDTH, force_jupyter=False)
        console.print(view)
        text = console.export_html(inline_styles=True, code_format="<pre>{code}</pre>")
        self._place.update(self._html(text))

    def stop(self) -> None:
        """Keep the last view."""
