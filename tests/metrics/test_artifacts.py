import base64
import json
import random
import struct

import numpy as np
import pytest

from study.metrics.artifacts import packed, packed_radii, read_certified, read_radii, read_right


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


def test_a_stored_radius_is_the_largest_float32_that_is_proven() -> None:
    generator = np.random.default_rng(0)
    given = np.concatenate(
        [
            generator.normal(size=1000) * 10.0 ** generator.integers(-30, 3, 1000),
            generator.normal(size=100).astype(np.float32),  # which stay as they are
            [0.0, -np.inf, 28.0, 1e-300, -1e-300],
        ]
    )
    content = json.dumps(packed_radii(given, 0.5)).encode()
    read = read_radii(content, float((given > 0.5).mean()))
    assert (read <= given).all()
    above = np.nextafter(read.astype(np.float32), np.float32(np.inf))
    assert (above[read > -np.inf] > given[read > -np.inf]).all()
    assert (read[1000:1103] == given[1000:1103]).all()
    # Between a float32 and the next one, too.
    for radius in [*generator.uniform(0, 3, 20), *(given[1000:1100] - 1e-12)]:
        assert (read > radius).sum() == (given > radius).sum()
    nan = json.dumps(packed_radii(np.array([np.nan, 1.0]), 0.5)).encode()
    assert read_radii(nan, 0.5).tolist() == [-np.inf, 1.0]


def test_radii_are_read_with_their_own_accuracy_alone() -> None:
    content = json.dumps(packed_radii(np.array([0.1, 0.2, 0.6, -1.0] * 100), 0.15)).encode()
    assert len(read_radii(content, 0.5)) == 400
    for other in (0.505, 0.495, 1.0, float("nan")):
        with pytest.raises(
            ValueError, match=r"^test_radii\.json has the fraction 0\.5 certified, but .* is "
        ):
            read_radii(content, other)


@pytest.mark.parametrize(
    "content",
    [
        None,
        [],
        {},
        {"radius": 0.5},
        {"radius": 0.5, "radii": ""},
        {"radius": 0.5, "radii": "AAA="},
        {"radius": 0.5, "radii": "?"},
        {"radius": "x", "radii": "AACAPw=="},
        {"radius": [0.5, 0.5], "radii": "AACAPw=="},
        {"radius": 0.5, "radii": [1.0]},
    ],
)
def test_what_are_no_radii_is_refused(content: object) -> None:
    with pytest.raises(ValueError, match=r"^test_radii\.json cannot be read"):
        read_radii(json.dumps(content).encode(), 1.0)
