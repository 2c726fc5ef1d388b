import base64
import json
import random

import pytest

from study.artifacts import packed, unpacked


@pytest.mark.parametrize("n", [1, 7, 8, 9, 288, 1001])
def test_a_bit_an_image_comes_back(n: int) -> None:
    generator = random.Random(n)
    bits = [generator.random() < 0.9 for _ in range(n)]
    content = json.loads(json.dumps(packed(bits)))
    assert unpacked(content) == bits
    assert len(base64.b64decode(content["right"])) == (n + 7) // 8


def test_the_first_image_is_the_highest_bit() -> None:
    content = packed([True, False, False, False, False, False, False, False, True])
    assert base64.b64decode(content["right"]) == b"\x80\x80"


@pytest.mark.parametrize(
    "content",
    [
        None,
        [],
        {},
        {"n_images": 9, "right": "gA=="},
        {"n_images": -1, "right": ""},
        {"n_images": "9", "right": "gIA="},
        {"n_images": 8, "right": "?"},
        {"n_images": 10**15, "right": "gA=="},
    ],
)
def test_what_is_no_such_content_is_refused(content: object) -> None:
    with pytest.raises(ValueError, match=r"val_right\.json|base64"):
        unpacked(content)
