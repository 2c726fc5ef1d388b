"""The examples in the docstrings of public names."""

import re
from doctest import DocTestFinder, DocTestRunner
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

import models
import study
from tests.support import pages

# What has no example: errors, what results are made of, and what training in a study uses alone.
WITHOUT = {
    "BlockError", "FailedError", "NotReversedError", "SettingError", "UserError",
    "Attacked", "Certificate", "EmpiricalBounds", "Solution", "Study", "StudyConfig",
    "Augmentation", "NetworkSettings", "NormalizedConv2d", "block_class", "by_image", "compare",
    "empirical_bounds", "is_import_path", "kept_bytes", "map_kernels", "member_from",
    "proven_dtype", "setting", "training_features", "write_weights",
}  # fmt: skip
DOCUMENTED = {
    name: value
    for package in (models, study)
    for name, value in ((name, getattr(package, name)) for name in package.__all__)
    if isinstance(value, type | FunctionType)
}
WITH = [name for name, value in DOCUMENTED.items() if ">>>" in (value.__doc__ or "")]


def run_examples(documented: Any, name: str, **known: object) -> dict[str, Any]:
    """Run the examples of a docstring; returns what is known after them."""
    (examples,) = DocTestFinder(recurse=False).find(documented, name, globs=known)
    failures: list[str] = []
    DocTestRunner().run(examples, out=failures.append, clear_globs=False)
    assert not failures, "".join(failures)
    return examples.globs


@pytest.mark.parametrize("name", WITH)
def test_an_example_gives_what_it_says(name: str, tmp_path: Path) -> None:
    """After those of the package's docstring."""
    known = run_examples(models, "models", study=study, folder=tmp_path)
    run_examples(DOCUMENTED[name], name, **known)


def test_an_example_that_is_wrong_fails() -> None:
    def wrong() -> None:
        """
        >>> 1 + 1
        3
        """

    with pytest.raises(AssertionError, match="Expected:"):
        run_examples(wrong, "wrong")


def test_every_public_name_is_in_an_example_here_or_in_a_readme() -> None:
    docstrings = [models.__doc__, *(DOCUMENTED[name].__doc__ for name in WITH)]
    examples = re.findall(r">>> (.*)", "\n".join(map(str, docstrings)))
    code = "\n".join([*examples, *pages.blocks("python"), *pages.marked().values()])
    assert {name for name in DOCUMENTED if not re.search(rf"\b{name}\b", code)} == WITHOUT
