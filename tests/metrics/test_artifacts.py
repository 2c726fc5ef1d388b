import base64
import json
import random
import struct

import pytest

from study.metrics.artifacts import packed, read_certified, read_right


@pytest.mark.parametrize("n", [1, 7, 8, 9, 288, 1001])
def test_bits_are_read_with_their_own_accuracy_alone(n: int) -> None:
    generator = random.Random(n)
    bits = [generator.random() < 0.9 for _ in range(n)]
    content, accuracy = json.dumps(packed(bits, bits, 0.5)).encode(), sum(bits) / n
    assert len(base64.b64decode(json.loads(content)["right"])) == (n + 7) // 8
    assert read_right(content, accuracy) == bits
    # Of float32, as it may have been stored.
    assert read_right(content, struct.unpack("f", struct.pack("f", accuracy))[0]) == bits
    for other in (accuracy + 1e-5, accuracy + 1 / n, accuracy - 1, float("nan")):
        with pytest.raises(ValueError, match=rf"val_right\.json has {sum(bits)} of {n} images"):
            read_right(content, other)


def test_the_first_image_is_the_highest_bit() -> None:
    bits = [True, False, False, False, False, False, False, False, True]
    content = packed(bits, bits, 0.5)
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
    with pytest.raises(ValueError, match=r"^val_right\.json cannot be read"):
        read_right(json.dumps(content).encode(), 1.0)


def test_what_is_certified_has_its_own_bits_radius_and_accuracy() -> None:
    right, certified = [True, True, False, True], [False, True, False, False]
    stored = packed(right, certified, 0.5)
    content = json.dumps(stored).encode()
    assert stored["radius"] == 0.5
    assert (read_right(content, 0.75), read_certified(content, 0.25)) == (right, certified)
    with pytest.raises(ValueError, match=r"1 of 4 images certified, 0\.25, but .* is 0\.75$"):
        read_certified(content, 0.75)
    with pytest.raises(ValueError, match=r"cannot be read: it must have a bit for each"):
        read_certified(json.dumps({**stored, "certified": ""}).encode(), 0.25)
