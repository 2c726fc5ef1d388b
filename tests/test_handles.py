"""Whatever the commands print of a network can be typed where one is asked for."""

import json
import re
import shutil
from pathlib import Path

from study import report, verify
from study.tracking.handles import run_of
from study.tracking.records import Records
from study.tracking.server.client import Client
from tests.support.commands import printed
from tests.support.report_page import content_of

# A handle by number or by alias, and a run id or what begins one.
_HANDLE = re.compile(r"\btiny/\d{4}(?:@\d(?:\.\d+)?)?(?![\d@])")
_LABEL = re.compile(r"(?<![\w/.])\d{4}@\d")
_ALIAS = re.compile(r"\btiny@[a-z-]+")
_RUN_ID = re.compile(r"\b[0-9a-f]{32}\b")


def outputs(finished: Path, folder: Path) -> dict[str, str]:
    """What each command prints or writes of the study."""
    uri = f"sqlite:///{shutil.copy(finished / 'mlflow.db', folder)}"
    found = {"launch": (finished / "launch.txt").read_text()}
    page = folder / "report.html"
    for name, arguments in {
        "table": [],
        "table of all": ["--all"],
        "json": ["--all", "--format", "json"],
        "csv": ["--all", "--format", "csv"],
        "page": ["--html", str(page)],
    }.items():
        found[name] = printed(report.app, "tiny", *arguments, "--tracking-uri", uri)
    found["page"] = json.dumps(content_of(page.read_text()))
    return found


def test_every_name_of_a_network_that_is_printed_can_be_verified(
    finished: Path, tmp_path: Path
) -> None:
    uri = f"sqlite:///{finished}/mlflow.db"
    records = Records(Client(uri))
    study = records.find_study("tiny")
    assert study is not None
    networks = {r.run_id for r in records.trials_and_projections(study)}
    named: dict[str, set[str]] = {}
    for name, text in outputs(finished, tmp_path).items():
        found = set(_HANDLE.findall(text)) | set(_ALIAS.findall(text))
        assert found, name
        named[name] = {run_of(records, handle) for handle in found}
        assert named[name] <= networks
        assert set(_RUN_ID.findall(text)) - {study.run_id} <= networks
        # Nothing is named as if it were of no study.
        assert not _LABEL.findall(text)
    for name in ("table of all", "json", "csv", "page"):
        assert named[name] == networks, name
    # Typed as they are, into the command.
    for handle in ("tiny/0000", f"tiny@{'knee'}", sorted(networks)[0][:12]):
        out = printed(verify.app, handle, "--tracking-uri", uri)
        assert "verified: proven bound" in out
        # And which network that is, where the handle does not say it.
        (said,) = _HANDLE.findall(out)
        assert run_of(records, said) == run_of(records, handle)
