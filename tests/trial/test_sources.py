import hashlib
import pickle
import re
import resource
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from filelock import FileLock, Timeout
from PIL import Image
from scipy.io import savemat
from sklearn.datasets import load_digits
from torchvision import datasets

from study.config.data import DataConfig
from study.config.data_sets import DATA_SETS
from study.errors import ConfigError, DataNotFoundError
from study.trial.data import sources
from study.trial.data import tensors as data
from study.trial.data.tensors import Augmentation, Split

TORCHVISION = [name for name, known in DATA_SETS.items() if known.parts]
# The classes of a folder of images -> the red of their images.
COLORS = {"cat": 10, "dog": 200}


def key(image: torch.Tensor) -> bytes:
    return image.numpy().tobytes()


def test_digits_are_split_without_overlap_and_none_is_lost() -> None:
    dataset = sources.load(DataConfig(name="digits"))
    images, labels = load_digits(return_X_y=True)
    assert len(dataset.train) + len(dataset.val) + len(dataset.test) == len(labels) == 1797
    assert len(dataset.test) == round(0.2 * 1797)
    assert dataset.in_shape == (1, 8, 8)
    # Every image of the source, with its label, is there as often as in the source.
    ours = sorted(
        (key(image), int(label))
        for split in (dataset.train, dataset.val, dataset.test)
        for image, label in zip(split.images, split.labels, strict=True)
    )
    pixels = torch.from_numpy(np.rint(images * 255 / 16).astype(np.uint8)).view(-1, 1, 8, 8)
    source = sorted((key(i), int(c)) for i, c in zip(pixels, labels, strict=True))
    assert ours == source


def test_the_split_depends_on_its_seed_alone() -> None:
    one = sources.load(DataConfig(split_seed=1))
    sources.load.cache_clear()
    torch.manual_seed(123)
    again = sources.load(DataConfig(split_seed=1))
    other = sources.load(DataConfig(split_seed=2))
    assert torch.equal(one.val.images, again.val.images)
    assert not torch.equal(one.val.images, other.val.images)


def test_normalized_is_in_minus_half_to_half() -> None:
    extremes = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1)
    assert data.normalized(extremes).flatten().tolist() == [-0.5, 0.5]
    pixels = torch.randint(0, 256, (4, 3, 5, 6), dtype=torch.uint8)
    normalized = data.normalized(pixels)
    assert normalized.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(normalized, pixels.float() / 255 - 0.5)


def augmented(augmentation: Augmentation, images: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return augmentation(images, augmentation.draw(len(images), generator, images.device))


def test_shifts_are_windows_of_a_wider_image_and_reach_every_offset() -> None:
    images = torch.randint(1, 128, (400, 2, 5, 4), dtype=torch.uint8)
    wider = torch.full((400, 2, 7, 6), 128, dtype=torch.uint8)
    wider[:, :, 1:6, 1:5] = images
    seen = set()
    for around, after in zip(
        wider, augmented(Augmentation(shift=1, flip=False, fill=128), images), strict=True
    ):
        (offset,) = (
            (y, x)
            for y, x in product(range(3), repeat=2)
            if torch.equal(around[:, y : y + 5, x : x + 4], after)
        )
        seen.add(offset)
    assert len(seen) == 9


def test_images_are_moved_and_rotated_by_parts_of_pixels() -> None:
    """By whole pixels and right angles entries move; by half a pixel neighbors are averaged."""
    images = torch.rand(1, 2, 5, 5)
    augmentation = Augmentation(shift=1.5, flip=False, fill=51)
    filled = torch.nn.functional.pad(images, (1, 1, 1, 1), value=0.2)

    def moved(down: float, right: float, degrees: float) -> torch.Tensor:
        return augmentation(images, torch.tensor([[down, right, degrees, 0.0]]))

    torch.testing.assert_close(moved(1, -1, 0), filled[:, :, :5, 2:])
    torch.testing.assert_close(moved(0, 0, 90), images.rot90(-1, (2, 3)))
    expected = (filled[:, :, :5, 1:6] + filled[:, :, 1:6, 1:6]) / 2
    torch.testing.assert_close(moved(0.5, 0, 0), expected)
    wide = torch.rand(1, 1, 3, 6)
    turned = augmentation(wide, torch.tensor([[0.0, 0.0, 180.0, 0.0]]))
    torch.testing.assert_close(turned, wide.flip(2, 3))
    drawn = Augmentation(0.5, True, 0, rotate=4.0).draw(1000, torch.Generator(), images.device)
    assert drawn.abs().amax(dim=0).tolist() == pytest.approx([0.5, 0.5, 4.0, 1.0], rel=0.01)
    as_bytes = torch.randint(0, 256, (1, 1, 4, 4), dtype=torch.uint8)
    still = Augmentation(0.5, False, 0)(as_bytes, torch.zeros(1, 4))
    torch.testing.assert_close(still, as_bytes / 255)


def test_flips_mirror_about_half_of_the_images() -> None:
    images = torch.randint(0, 256, (400, 1, 3, 3), dtype=torch.uint8)
    out = augmented(Augmentation(shift=0, flip=True, fill=0), images)
    flipped, same = ((out == i).flatten(1).all(dim=1) for i in (images.flip(-1), images))
    assert (flipped | same).all()
    assert 150 < int(flipped.sum()) < 250


@pytest.mark.parametrize(("n", "batch_size"), [(10, 3), (128, 128), (129, 128), (5, 8)])
def test_batches_hold_everything_once_in_near_equal_sizes(n: int, batch_size: int) -> None:
    split = Split(torch.zeros(n, 1, 1, 1, dtype=torch.uint8), torch.arange(n))
    for generator in (None, torch.Generator().manual_seed(0)):
        rows = data.batches(split, batch_size, generator)
        sizes = [len(part) for part in rows]
        assert max(sizes) <= batch_size
        assert max(sizes) - min(sizes) <= 1
        assert torch.cat(rows).sort().values.tolist() == list(range(n))


def write_idx(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(
        f">{array.ndim}I", *array.shape
    )
    path.write_bytes(header + array.astype(np.uint8).tobytes())


def write_mnist(raw: Path, prefixes: tuple[str, str] = ("train", "t10k")) -> np.ndarray:
    """30 images to train with and 10 to test with, as torchvision stores them; returns the 10."""
    generator = np.random.default_rng(0)
    for part, n in zip(prefixes, (30, 10), strict=True):
        images = generator.integers(0, 256, (n, 28, 28))
        write_idx(raw / f"{part}-images-idx3-ubyte", images)
        write_idx(raw / f"{part}-labels-idx1-ubyte", generator.integers(0, 10, n))
    return images[:, None]


def write_cifar100(root: Path, patch: pytest.MonkeyPatch) -> np.ndarray:
    folder = root / "cifar-100-python"
    folder.mkdir()
    images = {"train": noise(30, 3, 32, 32), "test": noise(10, 3, 32, 32)}
    for part, of in images.items():
        content = {"data": of.reshape(len(of), -1), "fine_labels": [99] * len(of)}
        (folder / part).write_bytes(pickle.dumps(content))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": [""] * 100}))
    for of_class in ("train_list", "test_list"):
        name = of_class.removesuffix("_list")
        patch.setattr(datasets.CIFAR100, of_class, [[name, md5(folder / name)]])
    meta = {**datasets.CIFAR100.meta, "md5": md5(folder / "meta")}
    patch.setattr(datasets.CIFAR100, "meta", meta)
    return images["test"]


def write_svhn(root: Path, patch: pytest.MonkeyPatch) -> np.ndarray:
    splits = {}
    for part, n in (("train", 30), ("test", 10)):
        path, images = root / f"{part}_32x32.mat", noise(n, 3, 32, 32)
        labels = np.arange(n)[:, None] % 10 + 1  # 10 is the digit 0
        savemat(path, {"X": images.transpose(2, 3, 1, 0), "y": labels})
        splits[part] = ["", path.name, md5(path)]
    patch.setattr(datasets.SVHN, "split_list", splits)
    return images


def write_stl10(root: Path, patch: pytest.MonkeyPatch) -> np.ndarray:
    folder = root / "stl10_binary"
    folder.mkdir()
    for part, n in (("train", 30), ("test", 10)):
        images = noise(n, 3, 96, 96)
        # Column by column, and classes from 1.
        (folder / f"{part}_X.bin").write_bytes(images.transpose(0, 1, 3, 2).tobytes())
        (folder / f"{part}_y.bin").write_bytes(bytes(np.arange(n, dtype=np.uint8) % 10 + 1))
        files = [[path.name, md5(path)] for path in sorted(folder.glob(f"{part}_*"))]
        patch.setattr(datasets.STL10, f"{part}_list", files)
    return images


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).integers(0, 256, shape, dtype=np.uint8)


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def write_ink(
    folder: str, train: str, test: str
) -> Callable[[Path, pytest.MonkeyPatch], np.ndarray]:
    return lambda root, patch: write_mnist(root / folder / "raw", (train, test))


BALANCED = ("emnist-balanced-train", "emnist-balanced-test")


@pytest.mark.parametrize(
    ("name", "write", "n_classes", "radius"),
    [
        ("mnist", write_ink("MNIST", "train", "t10k"), 10, 1.58),
        ("fashion_mnist", write_ink("FashionMNIST", "train", "t10k"), 10, 1.58),
        ("kmnist", write_ink("KMNIST", "train", "t10k"), 10, 1.58),
        ("emnist", write_ink("EMNIST", *BALANCED), 47, 1.58),
        ("cifar100", write_cifar100, 100, 36 / 255),
        ("svhn", write_svhn, 10, 36 / 255),
        ("stl10", write_stl10, 10, 36 / 255),
    ],
)
def test_torchvision_files_are_read(
    name: str,
    write: Callable[[Path, pytest.MonkeyPatch], np.ndarray],
    n_classes: int,
    radius: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Small files in torchvision's layout, with digests of their own."""
    expected = write(tmp_path, monkeypatch)
    config = DataConfig(name=name, root=str(tmp_path))
    dataset = sources.load(config)
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (27, 3, 10)
    assert torch.equal(dataset.test.images, torch.from_numpy(expected))
    assert sources.describe(config) == (expected.shape[1:], n_classes)
    assert config.radius == radius
    if name in ("svhn", "stl10"):
        tens = {"svhn": 9, "stl10": 0}[name]  # where their files have class 10, or class 1
        assert dataset.test.labels[tens] == 0
    if name == "cifar100":
        assert (dataset.test.labels == 99).all()


@pytest.mark.parametrize("name", [*TORCHVISION, "image_folder"])
def test_missing_data_is_said_with_place_and_remedy(name: str, tmp_path: Path) -> None:
    config = DataConfig(name=name, root=str(tmp_path))
    for read in (sources.load, sources.describe):
        with pytest.raises(DataNotFoundError) as caught:
            read(config)
        message = str(caught.value)
        assert message.startswith(f"data.root: data set {name} must be in {tmp_path}")
        assert "name the folder that has " in message
        assert "\n" not in message


def write_images(folder: Path, n: int, colors: Mapping[str, int] = COLORS) -> DataConfig:
    """n images of 20 x 30 pixels for each class; returns the config of the folder above."""
    for label, color in colors.items():
        (folder / label).mkdir(parents=True)
        for index in range(n):
            Image.new("RGB", (20, 30), (color, index, 0)).save(folder / label / f"{index}.png")
    return DataConfig(name="image_folder", root=str(folder.parent), size=8)


def test_one_of_many_downloads_and_if_it_fails_leaves_nothing_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "images" / "data"
    lock, raw = root / ".mnist.lock", root / "MNIST" / "raw"

    def refused(root: str, train: bool, download: bool) -> None:
        assert download
        with pytest.raises(Timeout):
            FileLock(lock).acquire(timeout=0)
        raw.mkdir(parents=True, exist_ok=True)
        raise URLError("no network")

    monkeypatch.setattr(datasets, "MNIST", refused)
    config = DataConfig(name="mnist", root=str(root), download=True)
    with pytest.raises(DataNotFoundError, match=r"but the download failed: .*no network"):
        sources.load(config)
    with FileLock(lock, timeout=0):
        assert list(root.iterdir()) == [lock]
    raw.mkdir(parents=True)
    (raw / "half").write_text("")
    with pytest.raises(DataNotFoundError):
        sources.load(config)
    assert (raw / "half").exists()


def test_an_image_folder_is_resized_and_keeps_its_classes(tmp_path: Path) -> None:
    config = write_images(tmp_path / "train", 10)
    dataset = sources.load(config)
    assert dataset.in_shape == (3, 8, 8)
    assert dataset.n_classes == 2
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (14, 2, 4)
    for split in (dataset.train, dataset.val, dataset.test):
        assert torch.equal(split.images[:, 0, 0, 0] == 200, split.labels == 1)
    assert sources.describe(config) == ((3, 8, 8), 2)


def test_images_that_memory_has_no_room_for_are_refused() -> None:
    # 1,150 training images of 10,000 pixels a side take 107 GiB; the process may have 64 here.
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (64 * 2**30, limits[1]))
    try:
        with pytest.raises(ConfigError) as raised:
            sources.load(DataConfig(size=10_000))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    assert str(raised.value) == "data.size: all images must fit in memory, but got 10000"


def test_an_image_folder_without_a_size_keeps_its_images_as_they_are(tmp_path: Path) -> None:
    """Every pixel that was written is there, in the shape in which it was written."""
    config = replace(write_images(tmp_path / "train", 10), size=0)
    dataset = sources.load(config)
    assert dataset.in_shape == (3, 30, 20)
    assert sources.describe(config) == ((3, 30, 20), 2)
    splits = (dataset.train, dataset.val, dataset.test)
    colors = [i.flatten(1).unique(dim=1) for split in splits for i in split.images]
    assert all(color.shape == (3, 1) for color in colors)
    written = sorted([red, green, 0] for red in (10, 200) for green in range(10))
    assert sorted(color.flatten().tolist() for color in colors) == written


@pytest.mark.parametrize("part", ["train", "test"])
def test_images_of_several_sizes_need_a_size(part: str, tmp_path: Path) -> None:
    for each in ("train", "test"):
        config = write_images(tmp_path / each, 5)
    Image.new("RGB", (21, 30)).save(tmp_path / part / "dog" / "3.png")
    rule = r"^data\.size: must be a number unless .* 20 x 30 pixels, and {} 21 x 30$"
    with pytest.raises(ConfigError, match=rule.format(tmp_path / part / "dog" / "3.png")):
        sources.load(replace(config, size=0))
    assert sources.load(config).in_shape == (3, 8, 8)


def test_an_image_folder_with_a_test_set_uses_it(tmp_path: Path) -> None:
    write_images(tmp_path / "train", 10)
    config = write_images(tmp_path / "test", 3)
    assert len(sources.load(config).test) == 6
    (tmp_path / "test" / "cat").rename(tmp_path / "test" / "bird")
    with pytest.raises(ConfigError, match="train and test must have the same classes"):
        sources.load(replace(config, split_seed=9))


def head_of_png(side: int) -> bytes:
    """Of an image with so many pixels a side, of which none follow."""
    chunks = (b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0), b"IDAT")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        for chunk in chunks
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no image\n", "it is in no known format"),
        (b"", "it is in no known format"),
        (head_of_png(30), "image file is truncated"),
        (head_of_png(20_000), "exceeds limit"),
    ],
    ids=["text", "empty", "truncated", "huge"],
)
def test_an_image_that_cannot_be_read_is_named(content: bytes, reason: str, tmp_path: Path) -> None:
    config = write_images(tmp_path / "train", 3)
    (tmp_path / "train" / "dog" / "1.png").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        sources.load(config)
    image = f"{tmp_path}/train/dog/1.png"
    rule = rf"every image must be readable, but {image} is not: [^\n]*{reason}[^\n]*$"
    assert re.search(rule, str(caught.value))


@pytest.mark.parametrize("n_bytes", [0, 3, 6, 16, 1000, None])
def test_an_idx_file_that_is_cut_off_is_named(n_bytes: int | None, tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    write_mnist(raw)
    whole = (raw / "t10k-labels-idx1-ubyte").read_bytes()
    path = raw / "train-images-idx3-ubyte"
    path.write_bytes(whole if n_bytes is None else path.read_bytes()[:n_bytes])
    with pytest.raises(ConfigError, match=rf"data\.root: {path} must ") as caught:
        sources.load(DataConfig(name="mnist", root=str(tmp_path)))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_missing_is_no_data_set_that_is_not_there(tmp_path: Path) -> None:
    write_idx(tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte", np.zeros((20, 28, 28)))
    with pytest.raises(
        DataNotFoundError, match="but a file is missing or damaged; download it with --dow"
    ):
        sources.load(DataConfig(name="mnist", root=str(tmp_path)))


def test_one_class_is_none_to_tell_apart(tmp_path: Path) -> None:
    config = write_images(tmp_path / "train", 10, {"cat": 10})
    with pytest.raises(ConfigError, match=r"there must be two classes or more.*but got \['cat'\]"):
        sources.describe(config)


def test_a_split_that_leaves_nothing_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"^data\.val_fraction: .* got 0\.0001 of 1438 images"):
        sources.load(DataConfig(val_fraction=1e-4))


def test_fewer_and_smaller_images_are_those_of_the_whole_set() -> None:
    whole = sources.load(DataConfig(val_fraction=0.2))
    few = sources.load(DataConfig(val_fraction=0.2, max_train=100))
    assert torch.equal(few.train.images, whole.train.images[:100])
    assert torch.equal(few.train.labels, whole.train.labels[:100])
    assert torch.equal(few.val.images, whole.val.images)
    small = sources.load(DataConfig(val_fraction=0.2, max_train=100, size=4))
    assert small.in_shape == (1, 4, 4)
    assert sources.describe(DataConfig(val_fraction=0.2, size=4)) == ((1, 4, 4), 10)
    for part in ("train", "val", "test"):
        images, original = getattr(small, part).images, getattr(few, part).images
        assert images.dtype == torch.uint8
        assert len(images) == len(original)
        # Antialiasing keeps the mean brightness, but for rounding and the edge.
        assert abs(images.double().mean() - original.double().mean()) < 8


@pytest.mark.parametrize("name", ["mnist", "cifar10", "image_folder"])
def test_a_root_whose_name_is_too_long_is_not_there(name: str) -> None:
    """The system refuses to look such a name up."""
    with pytest.raises(DataNotFoundError, match=r"^data\.root: "):
        sources.describe(DataConfig(name=name, root=400 * "x"))
