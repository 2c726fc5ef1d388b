import socket
from pathlib import Path

import pytest
from ray._private.utils import write_ray_address

from study.errors import LaunchError
from study.execution.address import check_answers


def test_a_cluster_of_this_host_that_was_killed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray would ask it for a minute, and then start nothing."""
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    check_answers(None)  # none was started
    (tmp_path / "ray").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"127.0.0.1:{head.getsockname()[1]}"
        (tmp_path / "ray" / "ray_current_cluster").write_text(address)
        check_answers(None)  # it answers
    with pytest.raises(LaunchError, match=f"must answer at '{address}', but: .*ray stop --force"):
        check_answers(None)
    check_answers("local")
    check_answers("auto")


def test_the_file_that_names_a_cluster_is_the_one_of_ray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir()
    write_ray_address("127.0.0.1:1")  # as `ray start` does; nothing can listen there
    with pytest.raises(LaunchError, match=r"'127\.0\.0\.1:1'"):
        check_answers(None)
