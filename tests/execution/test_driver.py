from pathlib import Path

import pytest

from study.execution.driver.place import Driver

# Attribute of a driver -> its variable in the environment, and its default.
FROM = {
    "storage_path": ("STUDY_STORAGE_PATH", "{folder}/ray_results"),
    "address": ("RAY_ADDRESS", None),
    "tracking_uri": ("MLFLOW_TRACKING_URI", "sqlite:///{folder}/mlflow.db"),
}


def attribute(driver: Driver, name: str) -> str | None:
    found = driver.client.tracking_uri if name == "tracking_uri" else getattr(driver, name)
    assert found is None or isinstance(found, str)
    return found


@pytest.mark.parametrize("name", FROM)
def test_what_is_given_comes_before_the_environment_and_that_before_the_default(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for variable, _ in FROM.values():
        monkeypatch.delenv(variable, raising=False)
    variable, default = FROM[name]
    assert attribute(Driver.of(), name) == (default and default.format(folder=tmp_path))
    monkeypatch.setenv(variable, "http://environment")
    assert attribute(Driver.of(), name) == "http://environment"
    assert attribute(Driver.of(**{name: "http://given"}), name) == "http://given"


def test_what_is_typed_to_go_on_names_what_is_no_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for variable, _ in FROM.values():
        monkeypatch.delenv(variable, raising=False)
    assert Driver.of().how_to_resume("a") == "study.open('a').resume()"
    elsewhere = Driver.of("sqlite:////x/y.db", tmp_path, "1.2.3.4:6379")
    assert elsewhere.how_to_resume("a") == (
        f"study.open('a', tracking_uri='sqlite:////x/y.db', storage_path='{tmp_path}', "
        "address='1.2.3.4:6379').resume()"
    )
