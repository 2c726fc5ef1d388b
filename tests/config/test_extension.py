import json
from dataclasses import asdict

import pytest

from study.config.extension import NOTHING_MORE, Extension, MoreEpochs
from study.config.parser import parse_extension
from study.errors import ConfigError


def test_an_extension_comes_back_as_it_was_written() -> None:
    extension = Extension(14, (MoreEpochs(3, 10, 20), MoreEpochs(1, 5, 6)))
    assert parse_extension(json.dumps(asdict(extension)), "x") == extension
    assert parse_extension("{}", "x") == NOTHING_MORE


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "1",
        '{"n_searches": "8"}',
        '{"n_searches": 8.5}',
        '{"more_epochs": [{"trial": 1}]}',
        "[" * 100_000,
    ],
)
def test_what_somebody_else_wrote_is_refused_in_a_line(text: str) -> None:
    with pytest.raises(ConfigError, match="x: extension: ") as error:
        parse_extension(text, "x")
    assert "\n" not in str(error.value)
