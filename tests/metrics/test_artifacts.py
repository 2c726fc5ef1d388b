import base64
import json
import random
import struct

import pytest

from study.metrics.artifacts import packed, read_right, unpacked


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


@pytest.mark.parametrize("n_right", [0, 1, 143, 287, 288])
def test_what_is_right_is_read_with_its_own_accuracy_alone(n_right: int) -> None:
    bits = [index < n_right for index in range(288)]
    content = json.dumps(packed(bits)).encode()
    assert read_right(content, n_right / 288) == bits
    # Of float32, as it may have been stored.
    assert read_right(content, struct.unpack("f", struct.pack("f", n_right / 288))[0]) == bits
    for other in (n_right / 288 + 1e-5, (n_right + 1) / 288, n_right / 287 - 1, float("nan")):
        with pytest.raises(ValueError, match=f"val_right.json has {n_right} of 288 images right"):
            read_right(content, other)
