"""Errors that a user can cause: one line with the rule, the name and the value. The exit codes
are in study.cli."""

import difflib
import errno
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

_LONGEST = 80
_LONGEST_TEXT = 400
_LONGEST_REASON = 500
# What stands in the texts of libraries, however deeply they wrap the error of the system, and the
# same in plain words.
_REASONS = {
    os.strerror(errno.ENOSPC): "the disk is full; free space on it",
    "database or disk is full": "the disk is full; free space on it",  # of SQLite
    os.strerror(errno.ECONNREFUSED): "nothing answers (connection refused)",
    "Failed to resolve": "there is no host of that name",  # of urllib3
}


def quoted(value: object) -> str:
    """A value that a user gave, for a message: quoted, in one line, cut if it is long."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def printable(text: str) -> str:
    """A text of somebody else in one line without control characters: those are written as escapes,
    and a long text is cut."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return shown if len(shown) <= _LONGEST_TEXT else f"{shown[: _LONGEST_TEXT - 3]}..."


def reason(error: BaseException) -> str:
    """Why something failed, for a message: in one line, without SQL, and in plain words where they
    are known."""
    text = " ".join(str(error).split())
    for sign, words in _REASONS.items():
        if sign in text:
            return words
    return text.partition(" [SQL: ")[0][:_LONGEST_REASON]


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The one that a mistyped name may mean; None if none is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return near[0] if near else None


def unknown(name: str, known: Sequence[str], what: str = "key") -> str:
    """The message for a name that is none of the known ones: with the one that was meant, if one is
    near, else with what there is."""
    near = nearest(name, known)
    hint = f"the nearest known one is '{near}'" if near else f"there are {some(known, 20)}"
    return f"unknown {what} {quoted(name)}; {hint}"


def absent(name: str, known: Sequence[str], what: str) -> str:
    """The message for something that was named and is not there: with the one that was meant, if
    one is near, else with what there is."""
    if not known:
        return f"there is no {what} {quoted(name)}, nor any other"
    near = nearest(name, known)
    hint = f"did you mean '{near}'?" if near else f"there are {some(known)}"
    return f"there is no {what} {quoted(name)}; {hint}"


def some(names: Sequence[str], most: int = 5) -> str:
    """Names for a message, the first of them if there are many."""
    if not names:
        return "none"
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def one_of(value: object, known: Sequence[str]) -> str:
    """The message for a value that is none of the known ones."""
    near = nearest(str(value), known)
    hint = f"; did you mean '{near}'?" if near else ""
    return f"must be one of {', '.join(known)}, but got {quoted(value)}{hint}"


def count_of(n: int, noun: str) -> str:
    """ "1 trial", "2 trials"."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


class _OneLineError(Exception):
    """An error that a user is told in one line: "source: key: rule, but got value".

    Attributes:
        rule: what must hold, and if no value is given, what was found.
        key: what the error is about, under its name in Python: an argument, such as `tracking_uri`,
            or a key of a study file, such as `search.n_trials`. None if it is about neither.
        value: what was given in its place; `...` if the rule says it.
        source: the file that has the key; None if it is not from a file.
    """

    def __init__(
        self, rule: str, key: str | None = None, value: object = ..., source: str | None = None
    ) -> None:
        super().__init__(rule, key, value, source)
        self.rule, self.key, self.value, self.source = rule, key, value, source

    def __str__(self) -> str:
        return self.line(self.key)

    def line(self, name: str | None) -> str:
        """The line that a user is told, with this name in the place of the key."""
        got = "" if self.value is ... else f", but got {quoted(self.value)}"
        return ": ".join(filter(None, (self.source, name, f"{self.rule}{got}")))


class UserError(_OneLineError, ValueError):
    """A file, an option or a service that cannot be used as it is."""


class ConfigError(UserError):
    """A study file, or an option in its place."""


class DataNotFoundError(UserError):
    """A data set is not there; the message says where it was expected and how to get it."""


class GpuError(UserError):
    """CUDA does not work where a trial is to run; the message says what to change."""


class GpuMemoryError(UserError):
    """A GPU has not the memory for the trials that run on it; the message says what to change."""


class TrackingError(UserError):
    """MLflow refuses or cannot be reached, or a study is not there.

    Attributes:
        may_pass: whether the same call may succeed later, since a server or its database is down.
    """

    def __init__(
        self,
        rule: str,
        key: str | None = None,
        value: object = ...,
        source: str | None = None,
        *,
        may_pass: bool = False,
    ) -> None:
        super().__init__(rule, key, value, source)
        self.may_pass = may_pass


class StorageError(UserError):
    """The folder or bucket of a study cannot be written or read: full, gone, or not ours."""


class LaunchError(UserError):
    """What is asked of a launch cannot be done."""


class NameTakenError(LaunchError):
    """The name of a new study is not free."""

    @classmethod
    def of(cls, name: str) -> "NameTakenError":
        """The error for a study that should have had this name."""
        return cls(
            f"the name of a new study must be free, but '{name}' is taken; take another, or resume "
            "that study",
            "name",
        )


class FailedError(_OneLineError):
    """A study or a check that had begun, and failed."""


@contextmanager
def renamed(names: Mapping[str, str]) -> Iterator[None]:
    """Errors have other names for their keys here: key -> name."""
    try:
        yield
    except (UserError, FailedError) as error:
        if error.key is not None and error.key in names:
            error.key, error.source = names[error.key], None
        raise
