import socket
from pathlib import Path

import pytest
from ray._private.utils import write_ray_address

from study.errors import LaunchError
from study.execution.driver.address import check_answers


def test_a_cluster_of_this_host_that_was_killed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray would ask it for a minute, and then start nothing."""
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    check_answers(None)  # none was started
    (tmp_path / "ray").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"127.0.0.1:{head.getsockname()[1]}"
        write_ray_address(address)  # as `ray start` does
        check_answers(None)  # it answers
    with pytest.raises(LaunchError, match=f"must answer at '{address}', but: .*ray stop --force"):
        check_answers(None)
    check_answers("local")
    check_answers("auto")
