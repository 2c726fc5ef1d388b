"""The git clone that this code runs from."""

import hashlib
import subprocess
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]


def git(*arguments: str) -> str | None:
    """The stripped output of a git command in the clone; None without clone or git, or on error."""
    if not (_ROOT / ".git").exists():
        return None  # an installed package, perhaps inside another project's clone
    command = ["git", "-C", str(_ROOT), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def has_history() -> bool:
    """Whether this code is a clone with its full history."""
    return git("rev-parse", "--is-shallow-repository") == "false"


def python_files(folder: Path) -> dict[str, bytes]:
    """Path of each Python file below a folder, with slashes -> its content."""
    files = (path for path in folder.rglob("*.py") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def commit_with(folder: Path) -> str | None:
    """The newest commit in which the folder of this name has the same Python files; None if there
    is none. The clone must have its full history."""
    wanted = {f"{folder.name}/{name}": _blob(file) for name, file in python_files(folder).items()}
    commits = git("log", "--all", "--full-history", "--format=%H", "--", folder.name)
    for commit in (commits or "").split():
        # Each entry has mode, "blob" and id, then the path behind a tab.
        listed = git("ls-tree", "-r", "-z", commit, "--", f"{folder.name}/") or ""
        files = (entry.partition("\t") for entry in listed.split("\0") if entry)
        if {path: of.split()[2] for of, _, path in files if path.endswith(".py")} == wanted:
            return commit
    return None


def _blob(content: bytes) -> str:
    """Git's id of a file with this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
