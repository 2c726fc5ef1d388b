"""What an unknown key may have meant: one that is gone, or of another section."""

from dataclasses import fields

from study.config.study import SECTIONS
from study.errors import unknown

GONE = {
    "notify": "run your command after study.launch, in the shell",
    "warm_start": "give samples of the earlier study as search.first",
}
"""Keys of `search` that studies had, and what to do instead."""
EXAMPLE = "{type: float, low: 0.1, high: 0.9} or {type: categorical, choices: [1, 2]}"
"""How parameters are written."""


def unknown_key(key: str, known: tuple[str, ...]) -> str:
    """The message for a key that its section does not have."""
    sections = [name for name, kind in SECTIONS.items() if key in {f.name for f in fields(kind)}]
    if key in GONE:
        return f"'{key}' was removed; {GONE[key]}"
    if len(sections) == 1:
        return f"unknown key '{key}'; it belongs in {sections[0]}"
    return unknown(key, known)
