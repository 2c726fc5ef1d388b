import json
from dataclasses import asdict

import pytest

from study.config.extension import Extension, MoreEpochs
from study.config.parser import parse_extensions
from study.errors import ConfigError


def test_extensions_come_back_as_they_were_written() -> None:
    extensions = (Extension(8), Extension(14, False, (MoreEpochs(3, 10, 20), MoreEpochs(1, 5, 6))))
    assert parse_extensions(json.dumps([asdict(e) for e in extensions]), "x") == extensions
    assert parse_extensions("[]", "x") == ()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[1]",
        '[{"n_started": "8"}]',
        '[{"n_started": 8.5}]',
        '[{"is_searched": true}]',
        '[{"n_started": 8, "more_epochs": [{"trial": 1}]}]',
        "[" * 100_000,
    ],
)
def test_what_somebody_else_wrote_is_refused_in_a_line(text: str) -> None:
    with pytest.raises(ConfigError, match="x: extensions: ") as error:
        parse_extensions(text, "x")
    assert "\n" not in str(error.value)
