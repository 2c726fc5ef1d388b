import json
import sys
from pathlib import Path

import pytest

from study.errors import ConfigError, LaunchError
from study.execution import notify
from tests.support.studies import tiny

FRONT = [{"network": f"tiny/{n:04d}", "val_accuracy": 0.9} for n in range(200)]


def write_down(path: Path) -> str:
    """A command that writes its environment and arguments into a file."""
    code = (
        "import json, os, sys; "
        "wanted = {k: v for k, v in os.environ.items() if k.startswith('STUDY_')}; "
        f"open({str(path)!r}, 'w').write(json.dumps([wanted, sys.argv[1:]]))"
    )
    return f"{sys.executable} -c \"{code}\" '$HOME; touch x'"


def test_a_command_has_name_state_and_front_and_no_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STUDY_NAME", "of somebody else")
    assert notify.notify(write_down(tmp_path / "out"), "tiny", "completed", FRONT) is None
    environment, arguments = json.loads((tmp_path / "out").read_text())
    assert environment["STUDY_NAME"] == "tiny"
    assert environment["STUDY_STATE"] == "completed"
    assert json.loads(environment["STUDY_FRONT"]) == FRONT[:100]
    assert arguments == ["$HOME; touch x"]
    assert not (tmp_path / "x").exists()


def test_what_goes_wrong_with_a_command_is_said_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    fails = f'{sys.executable} -c "raise SystemExit(3)"'
    assert notify.notify(fails, "tiny", "failed", []) == f"search.notify: {fails} ended with 3"
    said = notify.notify("/nowhere/x", "tiny", "failed", [])
    assert said is not None
    assert said.startswith("search.notify: /nowhere/x cannot be run: ")
    monkeypatch.setattr(notify, "_MOST_SECONDS", 0.2)
    waits = f'{sys.executable} -c "import time; time.sleep(60)"'
    assert "was stopped after" in str(notify.notify(waits, "tiny", "failed", []))


def test_a_command_is_kept_with_the_study_s_state_and_nowhere_else(tmp_path: Path) -> None:
    notify.remember(str(tmp_path), None)
    assert notify.remembered(str(tmp_path)) is None
    notify.remember(str(tmp_path), "mail 'a b'")
    assert notify.remembered(str(tmp_path)) == "mail 'a b'"
    study = tiny(search={"notify": "mail 'a b'"})
    assert study.without_command() == tiny()


def test_a_command_that_cannot_be_run_is_refused_before_the_study_begins() -> None:
    notify.check(f"{sys.executable} -c pass")
    notify.check(None)
    with pytest.raises(LaunchError, match=r"search.notify: .* there is no no-such-program"):
        notify.check("no-such-program x")
    for text in ("", "  ", "mail 'a"):
        with pytest.raises(ConfigError, match=r"search.notify: a program and its arguments"):
            tiny(search={"notify": text})
