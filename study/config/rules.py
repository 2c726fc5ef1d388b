"""Checks of settings. A rule is written once, as text: it is evaluated, and it is the message."""

import re


def check(settings: object, *rules: str) -> None:
    """Raise ValueError for the first rule that the fields of `settings` break.

    A field that is None is not set, and no rule applies to it.

    Args:
        rules: Python comparisons of fields by their names, such as "0 < lr <= 1".
    """
    fields = vars(settings)
    for rule in rules:
        values = {name: fields[name] for name in re.findall(r"[a-z_]+", rule) if name in fields}
        if None in values.values():
            continue
        # A rule is a constant of this project, never text of a user.
        require(eval(rule, {"__builtins__": {}}, values), rule, **values)


def require(holds: bool, rule: str, **values: object) -> None:
    """Raise ValueError with the rule, in words, and the values, unless it holds."""
    if not holds:
        got = ", ".join(f"{name}={value}" for name, value in values.items())
        raise ValueError(f"{rule} must hold, but got {got}")
