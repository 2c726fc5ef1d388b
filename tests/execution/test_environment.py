import socket
from pathlib import Path

import pytest
from ray._private.utils import write_ray_address

from study.errors import LaunchError
from study.execution.driver.environment import Driver

# Attribute of a driver -> its variable in the environment, and its default.
FROM = {
    "storage_path": ("STUDY_STORAGE_PATH", "{folder}/ray_results"),
    "address": ("RAY_ADDRESS", None),
    "tracking_uri": ("MLFLOW_TRACKING_URI", "sqlite:///{folder}/mlflow.db"),
}


@pytest.fixture(autouse=True)
def nothing_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for variable, _ in FROM.values():
        monkeypatch.delenv(variable, raising=False)


def attribute(driver: Driver, name: str) -> str | None:
    found = driver.client.tracking_uri if name == "tracking_uri" else getattr(driver, name)
    assert found is None or isinstance(found, str)
    return found


@pytest.mark.parametrize("name", FROM)
def test_what_is_given_comes_before_the_environment_and_that_before_the_default(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable, default = FROM[name]
    assert attribute(Driver.of(), name) == (default and default.format(folder=tmp_path))
    monkeypatch.setenv(variable, "http://environment")
    assert attribute(Driver.of(), name) == "http://environment"
    assert attribute(Driver.of(**{name: "http://given"}), name) == "http://given"


def test_what_is_typed_to_go_on_names_what_is_no_default(tmp_path: Path) -> None:
    assert Driver.of().how_to_resume("a") == "study.open('a').resume()"
    elsewhere = Driver.of("sqlite:////x/y.db", tmp_path, "1.2.3.4:6379")
    assert elsewhere.how_to_resume("a") == (
        f"study.open('a', tracking_uri='sqlite:////x/y.db', storage_path='{tmp_path}', "
        "address='1.2.3.4:6379').resume()"
    )


def test_a_cluster_of_this_host_that_was_killed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray would ask it for a minute, and then start nothing."""
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    Driver.of().check_ray()  # none was started
    (tmp_path / "ray").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"127.0.0.1:{head.getsockname()[1]}"
        write_ray_address(address)  # as `ray start` does
        Driver.of().check_ray()  # it answers
    with pytest.raises(LaunchError, match=f"must answer at '{address}', but: .*ray stop --force"):
        Driver.of().check_ray()
    for given in ("local", "auto"):
        Driver.of(address=given).check_ray()
