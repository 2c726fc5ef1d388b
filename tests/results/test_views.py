import io

from rich.console import Console

from study.results.views.sections import Column, print_text, table_of

ESCAPES = "\x1b]0;owned\x07\x9b2J"


def test_no_control_character_of_a_name_or_a_reason_reaches_the_terminal() -> None:
    console = Console(file=io.StringIO(), width=200, force_terminal=False)
    console.print(table_of([Column("why", [f"failed: {ESCAPES}"], is_text=True)]))
    print_text(console, f"digits/0000 failed: {ESCAPES}")
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)
    assert all(r"failed: \x1b]0;owned\x07\x9b2J" in line for line in lines[1:])
