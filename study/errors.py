"""What a user can mend: one line that says the rule, the name and the value; exit code 2."""

_LONGEST = 80


def shown(value: object) -> str:
    """A value that a user gave, as a message shows it: quoted, in one line, cut if it is long."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


class UserError(ValueError):
    """A file, an option or a service that cannot be used as it is. Errors of ours are others."""


class ConfigError(UserError):
    """A study file, or an option in its place."""


class DataNotFoundError(UserError):
    """A data set is not there; the message says where it was looked for and how to get it."""


class TrackingError(UserError):
    """MLflow refuses or cannot be reached, or a study is not there.

    Attributes:
        may_pass: whether the same call may succeed later, since a server or its database is down.
    """

    def __init__(self, message: str, may_pass: bool = False) -> None:
        super().__init__(message)
        self.may_pass = may_pass


class StorageError(UserError):
    """The folder or bucket of a study cannot be written or read: full, gone, or not ours."""


class LaunchError(UserError):
    """What is asked of a launch cannot be done."""
