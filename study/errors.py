"""Errors that a user can cause: one line with rule, name and value. Exit codes are in study.cli."""

import difflib
import errno
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

_LONGEST = 80
_LONGEST_TEXT = 400
_LONGEST_REASON = 500
# Part of an error's text, which libraries may have wrapped -> what it means, in plain words.
_REASONS = {
    os.strerror(errno.ENOSPC): "the disk is full; free space on it",
    # These two are texts of SQLite.
    "database or disk is full": "the disk is full; free space on it",
    "database is locked": "the database is locked by another process; wait for it, or end it",
    os.strerror(errno.ECONNREFUSED): "nothing answers (connection refused)",
    "Failed to resolve": "there is no host of that name",  # urllib3's text
}


def quoted(value: object) -> str:
    """A value that a user gave, for a message: quoted, in one line, cut if it is long."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def escaped(text: str) -> str:
    """Text from elsewhere in one line: control characters, which a terminal obeys, are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def printable(text: str) -> str:
    """Text from elsewhere, escaped, and cut if it is long."""
    shown = escaped(text)
    return shown if len(shown) <= _LONGEST_TEXT else f"{shown[: _LONGEST_TEXT - 3]}..."


def reason(error: BaseException) -> str:
    """Why something failed, in one line, without SQL, and in plain words for common causes."""
    text = " ".join(str(error).split())
    for sign, words in _REASONS.items():
        if sign in text:
            return words
    return text.partition(" [SQL: ")[0][:_LONGEST_REASON]


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name closest to a mistyped one; None if none is close."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return near[0] if near else None


def unknown(name: str, known: Sequence[str], what: str = "key") -> str:
    """The message for an unknown name, with the nearest known one, or else with all of them."""
    return f"unknown {what} {quoted(name)}; {_meant(name, known, 20)}"


def absent(name: str, known: Sequence[str], what: str) -> str:
    """The message for something that does not exist, with the nearest name, or else with a few."""
    return f"there is no {what} {quoted(name)}; {_meant(name, known, 5)}"


def _meant(name: str, known: Sequence[str], most: int) -> str:
    near = nearest(name, known)
    return f"did you mean '{near}'?" if near else f"there are {some(known, most)}"


def some(names: Sequence[str], most: int = 5) -> str:
    """The first few names, and how many more there are."""
    if not names:
        return "none"
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def count_of(n: int, noun: str) -> str:
    """A number and its noun, such as "1 trial" or "2 trials"."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


class _OneLineError(Exception):
    """An error that is reported in one line: "source: key: rule, but got value".

    Attributes:
        rule: what must hold; without a value, also what was found.
        key: argument in Python (`tracking_uri`) or key of the study file (`search.n_trials`) that
            the error is about; None for neither.
        value: what was given; `...` if the rule says it already.
        source: the file that contains the key, if any.
    """

    def __init__(
        self, rule: str, key: str | None = None, value: object = ..., source: str | None = None
    ) -> None:
        super().__init__(rule, key, value, source)
        self.rule, self.key, self.value, self.source = rule, key, value, source

    def __str__(self) -> str:
        return self.line(self.key)

    def line(self, name: str | None) -> str:
        """The line to report, with `name` in place of the key."""
        got = "" if self.value is ... else f", but got {quoted(self.value)}"
        return escaped(": ".join(filter(None, (self.source, name, f"{self.rule}{got}"))))


class UserError(_OneLineError, ValueError):
    """A file, an option or a service that cannot be used as it is."""


class ConfigError(UserError):
    """A study file, or an option that replaces one of its settings, is not valid."""


def require(holds: bool, rule: str, key: str | None = None, value: object = ...) -> None:
    """Raise ConfigError if a rule on a setting does not hold."""
    if not holds:
        raise ConfigError(rule, key, value)


class DataNotFoundError(UserError):
    """A data set is missing; the message says where it was expected and how to get it."""


class GpuError(UserError):
    """CUDA does not work where a trial is to run; the message says what to change."""


class GpuMemoryError(UserError):
    """A GPU lacks memory for the trials that share it; the message says what to change."""


class OwnCodeError(UserError):
    """The user's own code raised an error, or returned something that is not allowed."""


class TrackingError(UserError):
    """MLflow refuses or cannot be reached, or a study does not exist."""


class LocationError(TrackingError):
    """MLflow places files of a run or model where none may be read or written."""


class OutageError(TrackingError):
    """MLflow cannot be reached or its database is down: the same call may succeed later."""


class StorageError(UserError):
    """The folder or bucket of a study cannot be written or read: full, gone, or not ours."""


class LaunchError(UserError):
    """A study cannot be launched, resumed or deleted as asked."""


class NameTakenError(LaunchError):
    """The name of a new study is not free."""

    @classmethod
    def of(cls, name: str) -> "NameTakenError":
        """The error for this name."""
        return cls(
            f"the name of a new study must be free, but '{name}' is taken; take another, or resume "
            "that study",
            "name",
        )


class FailedError(_OneLineError):
    """A study or a check began, and failed."""


@contextmanager
def renamed(names: Mapping[str, str]) -> Iterator[None]:
    """Rename the keys of errors raised within the context; `names` maps a key to its new name."""
    try:
        yield
    except (UserError, FailedError) as error:
        if error.key is not None and error.key in names:
            error.key, error.source = names[error.key], None
        raise
