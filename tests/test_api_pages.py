"""The pages of all public names, made by the README's command."""

import re
import shlex
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest
from pdoc.__main__ import cli

import models
import study
from tests.support import pages


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Warnings of pdoc, such as of a type that it cannot find, are errors here too."""
    made = tmp_path_factory.mktemp("pages")
    (command,) = (command for command in pages.commands() if "pdoc" in command)
    *arguments, option, _ = shlex.split(command.removeprefix("python -m pdoc "))
    cli([*arguments, option, str(made)])
    return made


def test_there_is_a_page_for_each_package_and_none_of_its_parts(folder: Path) -> None:
    assert {path.stem for path in folder.glob("*.html")} == {"index", "models", "study"}
    assert not [path for path in folder.iterdir() if path.is_dir()]


@pytest.mark.parametrize("package", [models, study], ids=lambda package: package.__name__)
def test_a_page_has_the_public_names_their_docstrings_and_nothing_private(
    package: Any, folder: Path
) -> None:
    page = (folder / f"{package.__name__}.html").read_text()
    sections = dict(re.findall(r'<section id="([\w.]+)">(.*?)</section>', page, re.DOTALL))
    assert sections.keys() == set(package.__all__)
    for name, section in sections.items():
        # pdoc shows constants with their values alone.
        is_constant = not isinstance(getattr(package, name), type | FunctionType)
        assert is_constant or '<div class="docstring">' in section, name
    members = re.findall(r'<div id="([\w.]+)" class="classattr">', page)
    assert {"IResNet.inverse", "Study.load"} & {*members}
    for member in members:
        assert not re.search(r"\._(?!_init__$)", member), member
