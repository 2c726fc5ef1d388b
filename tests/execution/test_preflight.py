from typing import Any

import pytest

from study.config.parser import parse
from study.errors import ConfigError
from study.execution.driver.preflight import check_trials
from tests.support.studies import CERTIFIED


@pytest.mark.parametrize(
    ("model", "space", "rule"),
    [
        ({"patch": 1}, {"patch": [2, 3]}, "patches of 3 pixels, those of the last stage, must"),
        ({"patch": 2}, {"blocks": [[1], [1, 1, 1, 1]]}, "patches of 16 pixels, those of the last"),
        ({}, {"blocks": [[1], [1, 1, 1, 1, 1]]}, "the 4 squeezes between 5 stages must divide"),
        ({"block": "bottleneck"}, {"bottleneck": [1, 2]}, "bottleneck must divide the channels"),
        ({"bottleneck": 2}, {"block": ["potential", "bottleneck"]}, "bottleneck must divide the"),
        ({"dense_blocks": 1000}, {"channel_multiplier": [1, 64]}, "at most 1000000000 weights"),
    ],
)
def test_a_choice_that_fits_no_image_is_refused(
    model: dict[str, Any], space: dict[str, list[Any]], rule: str
) -> None:
    """The last of each, on digits of 8 x 8 pixels with one channel."""
    fixed = {**CERTIFIED["model"], "blocks": [1], "block": "potential", **model}
    raw = {
        **CERTIFIED,
        "model": {key: value for key, value in fixed.items() if key not in space},
        "space": {key: {"type": "categorical", "choices": of} for key, of in space.items()},
    }
    with pytest.raises(ConfigError, match=rule):
        check_trials(parse(raw, "study.yaml"), "study.yaml")
