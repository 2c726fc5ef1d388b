from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from study.config.data import DataConfig
from study.config.trial import TrialConfig
from study.errors import ConfigError, OwnCodeError
from study.trial.data import own as own_data
from study.trial.data import sources
from study.trial.data.own import Dataset
from study.trial.data.tensors import Augmentation, normalized
from tests.support import own_code

DIGITS = "tests.support.own_code:digits"
PICTURES = "tests.support.own_code:pictures"


def test_the_same_images_of_another_range_and_type_are_the_same_to_the_network() -> None:
    """16 levels of ink as floats give the splits of the shipped digits, whose bytes are rounded."""
    ours, theirs = (sources.load(DataConfig(name)) for name in (DIGITS, "digits"))
    for name in ("train", "val", "test"):
        own, shipped = getattr(ours, name), getattr(theirs, name)
        assert torch.equal(own.labels, shipped.labels)
        assert own.images.dtype == torch.float32
        difference = (normalized(own.images) - normalized(shipped.images)).abs().max()
        assert difference <= 0.5 / 255 + 1e-7
    assert ours.normalization == {"from": "float32", "scale": 1.0, "offset": -0.5}
    assert ours.n_classes == 10
    assert ours.sha256 != theirs.sha256


def test_a_map_style_data_set_of_pictures_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    data = sources.load(DataConfig(PICTURES))
    assert data.in_shape == (3, 4, 4)
    assert (len(data.train), len(data.val), len(data.test)) == (36, 4, 10)
    assert data.train.images.dtype == torch.uint8
    bright = data.train.images.flatten(1).float().mean(dim=1) > 100
    assert torch.equal(bright.long(), data.train.labels)
    monkeypatch.setattr(own_code, "pictures", lambda root: own_code.Pictures(40))
    own = own_data.read(PICTURES, "")
    assert own.test_images is None


def test_the_root_and_the_settings_reach_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    def here(root: str) -> Dataset:
        n = int(root)
        images = np.zeros((n, 1, 8, 8), dtype=np.uint8)
        return Dataset(images, np.arange(n) % 2, 2, augmentation=Augmentation(1, True, 255))

    monkeypatch.setattr(own_code, "digits", here)
    data = sources.load(DataConfig(DIGITS, root="50", flip=False, size=4))
    assert len(data.train) + len(data.val) + len(data.test) == 50
    assert data.in_shape == (1, 4, 4)
    assert data.augmentation == Augmentation(1, False, 255)
    assert TrialConfig(data=DataConfig(DIGITS)).radius == 36 / 255


def test_floats_are_shifted_with_the_same_ink_as_bytes() -> None:
    shift = Augmentation(2, True, 128)
    drawn = shift.draw(6, torch.Generator().manual_seed(0), torch.device("cpu"))
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (6, 1, 5, 5), generator=generator, dtype=torch.uint8)
    of_floats = shift(images.float() / 255, drawn)
    torch.testing.assert_close(of_floats, shift(images, drawn).float() / 255)


GOOD = Dataset(np.zeros((20, 1, 4, 4)), np.arange(20) % 2, 2)


def _with(array: Any, at: tuple[int, ...], value: float) -> Any:
    changed = np.array(array)
    changed[at] = value
    return changed


IS_NONE = (
    "must give a study.Dataset, a map-style data set of images with labels, or a pair.*but raises "
)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"images": np.zeros((20, 4, 4))}, r"must be \(N, C, H, W\), .* but are \(20, 4, 4\)"),
        ({"images": np.zeros((0, 1, 4, 4))}, "images must be"),
        ({"images": "text"}, f"{IS_NONE}TypeError"),
        ({"images": np.zeros((20, 1, 4, 4), dtype=np.int64)}, "uint8 or of a floating-point type"),
        ({"images": _with(GOOD.images, (7, 0, 1, 1), np.nan)}, "image 7 are nan to nan"),
        ({"images": _with(GOOD.images, (3, 0, 0, 0), 2.5)}, r"0 to 1, .* image 3 are 0 to 2\.5"),
        ({"pixel_range": (1.0, 1.0)}, "pixel_range must be the least and the largest"),
        ({"labels": np.arange(20) / 2}, r"labels of images must be \(20,\), whole numbers, but"),
        ({"labels": np.arange(19) % 2}, r"labels of images must be \(20,\), whole .* \(19,\)"),
        ({"labels": np.arange(20) % 3}, "from 0 to 1, but those of image 2 are 2 to 2"),
        ({"labels": _with(GOOD.labels, (4,), -1)}, "those of image 4 are -1 to -1"),
        ({"n_classes": 1}, "n_classes must be a whole number >= 2, but is 1"),
        ({"n_classes": 2.0}, "n_classes must be a whole number"),
        ({"test_images": np.zeros((2, 1, 4, 4))}, "must be given together"),
        (
            {"test_images": np.zeros((2, 1, 5, 4)), "test_labels": np.zeros(2, dtype=np.int64)},
            r"test_images must be like images, \(\(1, 4, 4\), torch.float32\), but are",
        ),
        (3, f"{IS_NONE}TypeError"),
        ((own_code.Pictures(4),) * 3, f"{IS_NONE}ValueError: too many values"),
        (own_code.Pictures(0), f"{IS_NONE}ValueError: not enough values"),
        (own_code.Pictures(4, "text"), f"{IS_NONE}ValueError"),
        (own_code.Pictures(4, (np.zeros(3), 0)), f"{IS_NONE}RuntimeError"),
        (own_code.Pictures(4, (np.zeros((2, 2)), 0.5)), f"{IS_NONE}RuntimeError"),
        (own_code.Pictures(4, (np.zeros((4, 4, 3), np.uint8), 0.5)), f"{IS_NONE}TypeError"),
    ],
)  # fmt: skip
def test_what_breaks_a_rule_is_refused_in_a_line(
    given: object, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Changes of a good data set, or something else in its place."""
    data = replace(GOOD, **given) if isinstance(given, dict) else given
    monkeypatch.setattr(own_code, "digits", lambda root: data)
    with pytest.raises((ConfigError, OwnCodeError), match=message) as error:
        own_data.read(DIGITS, "")
    assert error.value.key == "data.name"
    assert "\n" not in str(error.value)


def test_the_line_of_a_function_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(root: str) -> Dataset:
        raise OSError(f"no disk at {root}")

    monkeypatch.setattr(own_code, "digits", fails)
    message = r"but raises OSError: no disk at /x \(test_own_data.py, line \d+\)"
    with pytest.raises(OwnCodeError, match=message):
        own_data.read(DIGITS, "/x")
