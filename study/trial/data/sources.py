"""The data sets: read from their files, and split."""

import functools
import gzip
import hashlib
import math
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import Tensor

from study.config.data import DataConfig, is_address
from study.config.data_sets import DATA_SETS, IMAGE_FOLDER, NamedData, Parts
from study.errors import ConfigError, DataNotFoundError, require
from study.trial.data import own
from study.trial.data.remote_root import fetched
from study.trial.data.tensors import Augmentation, Dataset, Split

# The key of the study file that messages name.
_ROOT = "data.root"
# What to do about files that are not there.
_FETCH = "download it with --download of study.launch (data.download: true)"


@functools.lru_cache(maxsize=2)
def load(config: DataConfig) -> Dataset:
    """Read and split a data set, on the CPU; split_seed is the only seed of the splits.

    Raises:
        DataNotFoundError: if the data set is not there.
        ConfigError: if a file cannot be read, the data is not as `own.Dataset` says, or there are
            too few images to split.
        OwnCodeError: if a function of the user's own fails.
    """
    if is_address(config.root):
        config = replace(config, root=fetched(config.root))
    known = DATA_SETS.get(config.name)
    if known is None:
        data = own.read(config.name, config.root)
        rule, is_table = "must be true for rows (N, F) alone", data.images.dtype == torch.float64
        require(is_table is config.table, rule, "data.table", config.table)
        default = data.augmentation or Augmentation(0, False, 0)
    else:
        data = _read(config, known)
        default = Augmentation(known.shift, known.flip, known.fill)
    train = Split(data.images, data.labels)
    if data.test_images is None:
        train, test = _hold_out(train, config, "test_fraction", config.split_seed)
    else:
        test = Split(data.test_images, data.test_labels)
    # Another seed than for the test split, so that the two choices differ.
    train, val = _hold_out(train, config, "val_fraction", config.split_seed + 1)
    whole = train.images
    if config.max_train is not None:
        # The first ones: they are in the random order that held out the validation split.
        train = train[: config.max_train]
    if config.size:
        try:
            train, val, test = (_resized(split, config.size) for split in (train, val, test))
        except (MemoryError, RuntimeError) as error:  # torch raises the latter
            rule = "all images must fit in memory"
            raise ConfigError(rule, "data.size", config.size) from error
    augmentation = Augmentation(
        default.shift if config.shift is None else config.shift,
        default.flip if config.flip is None else config.flip,
        default.fill,
        config.rotate,
    )
    digest, standardized = _sha256(train, val, test), None
    if config.is_table:
        std, mean = torch.std_mean(whole, dim=0, correction=0)
        scale = torch.where(whole.amax(dim=0) > whole.amin(dim=0), 1 / std, 1.0)
        standardized = scale, -mean * scale
        train, val, test = (
            Split(part.images * scale - mean * scale, part.labels) for part in (train, val, test)
        )
    return Dataset(train, val, test, data.n_classes, augmentation, digest, standardized)


def _sha256(*splits: Split) -> str:
    digest = hashlib.sha256()
    for tensor in (t for split in splits for t in (split.images, split.labels)):
        digest.update(f"{tuple(tensor.shape)} ".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def describe(config: DataConfig) -> tuple[tuple[int, int, int], int]:
    """(in_shape, n_classes) of a data set, without reading every image. Raises as `load` does."""
    if config.name == IMAGE_FOLDER and config.size and not is_address(config.root):
        return (3, config.size, config.size), len(_image_folder(config, "train", _opened).classes)
    dataset = load(config)
    return dataset.in_shape, dataset.n_classes


def _resized(split: Split, size: int) -> Split:
    """The split with its images resized to (size, size), antialiased."""
    if split.images.shape[2:] == (size, size):
        return split
    from torchvision.transforms import v2

    return Split(v2.functional.resize(split.images, [size, size], antialias=True), split.labels)


def _hold_out(split: Split, config: DataConfig, setting: str, seed: int) -> tuple[Split, Split]:
    """Returns (rest, held_out): held_out, a fraction drawn at random, of a table the same of each
    class but for rounding; rest, the other images."""
    fraction = getattr(config, setting)
    n_held_out = round(len(split) * fraction)
    if not 1 <= n_held_out < len(split):
        raise ConfigError(
            "must leave one image or more on both sides, but got "
            f"{fraction} of {len(split)} images",
            f"data.{setting}",
        )
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
    if config.is_table:
        share, labels = torch.empty(len(split)), split.labels[order]
        for label in labels.unique():
            n = int((labels == label).sum())
            share[labels == label] = (torch.arange(n) + 0.5) / n
        order = order[share.argsort(stable=True)]
    return split[order[n_held_out:]], split[order[:n_held_out]]


def _read(config: DataConfig, known: NamedData) -> own.Dataset:
    """The data of a config that is known by its name."""
    if known.parts is not None:
        return _read_torchvision(config, known, known.parts)
    if config.name == IMAGE_FOLDER:
        return _read_image_folder(config)
    rows = _rows_of_scikit_learn(config.name, known.of)
    values, labels = rows[:, :-1], rows[:, -1].long()
    if known.is_table:
        return own.Dataset(values[:, :, None, None], labels, int(labels.max()) + 1)
    # 8 x 8 pixels with 16 levels of ink.
    pixels = (values.view(-1, 1, 8, 8) * (255 / 16)).round().to(torch.uint8)
    return own.Dataset(pixels, labels, 10)


def _rows_of_scikit_learn(name: str, file: str) -> Tensor:
    """A data set that ships with scikit-learn, which has no separate test set: float64 (N, D + 1),
    D numbers and the label in a row."""
    # Read from its file: importing scikit-learn takes longer than importing torch.
    library = find_spec("sklearn")
    if library is None or library.origin is None:
        raise DataNotFoundError(
            f"data set {name} must be in scikit-learn, but scikit-learn is not installed",
            "data.name",
        )
    path = Path(library.origin).parent / "datasets" / "data" / file
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt") as lines:
            rows = [line.split(",") for line in lines]
    except OSError as error:
        raise DataNotFoundError(
            f"data set {name} must be in {path}, where scikit-learn has it, but: {error}",
            "data.name",
        ) from error
    # The first row of a table has counts, and names of classes.
    rows = [row for row in rows if len(row) == len(rows[-1])]
    return torch.tensor([list(map(float, row)) for row in rows], dtype=torch.float64)


@contextmanager
def _fetched_once(config: DataConfig, folder: Path) -> Iterator[None]:
    """Let one process of a node download a data set to its folder, while the others wait for the
    files. A failed download leaves nothing in the root but its lock."""
    if not config.download:
        yield
        return
    root = Path(config.root).resolve()
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f".{config.name}.lock"):
        try:
            yield
        finally:
            # Under the lock, so that nobody downloads into these folders now. It deletes only empty
            # ones, and so not the root, which has the lock.
            with suppress(OSError):
                os.removedirs(folder)


def _read_torchvision(config: DataConfig, known: NamedData, arguments: Parts) -> own.Dataset:
    from torchvision import datasets

    parts: list[tuple[Tensor, Tensor]] = []
    where = Path(config.root).resolve() / known.folder
    for of_part in arguments:
        try:
            with _fetched_once(config, where):
                _check_idx_files(where)
                reader = getattr(datasets, known.of)
                part = reader(config.root, download=config.download, **of_part)
        except (RuntimeError, OSError) as error:  # OSError: no network, say
            if config.download:
                what = f"the download failed: {' '.join(str(error).split())}"
            else:
                is_there = os.path.exists(where)
                state = "a file is missing or damaged" if is_there else "it is not there"
                what = f"{state}; {_FETCH}, or name the folder that has {known.folder}"
            raise DataNotFoundError(
                f"data set {config.name} must be in {where}, but {what}", _ROOT
            ) from error
        images = torch.as_tensor(part.data)
        images = images.unsqueeze(1) if images.dim() == 3 else images
        images = images.permute(0, 3, 1, 2) if images.shape[3] == 3 else images
        labels = torch.as_tensor(part.targets if hasattr(part, "targets") else part.labels)
        parts.append((images.contiguous(), labels.long()))
    (images, labels), (test_images, test_labels) = parts
    return own.Dataset(images, labels, known.n_classes, test_images, test_labels)


def _check_idx_files(folder: Path) -> None:
    """Raise ConfigError for the first of MNIST's files with another number of dimensions than its
    name says, or another length than its header says: torchvision would not name the file."""
    for path in sorted(folder.glob("*-idx[13]-ubyte")):
        n_dims = int(path.name.removesuffix("-ubyte")[-1])
        n_bytes = 4 * (1 + n_dims)
        with path.open("rb") as file:
            head = file.read(n_bytes).ljust(n_bytes, b"\0")
        magic, *shape = struct.unpack(f">{1 + n_dims}I", head)
        n_bytes += math.prod(shape)
        if magic != 0x800 + n_dims:
            raise ConfigError(f"{path} must be an idx{n_dims} file, but is none", _ROOT)
        if path.stat().st_size != n_bytes:
            raise ConfigError(
                f"{path} must have the {n_bytes} bytes that its header gives, but has "
                f"{path.stat().st_size}; delete it, and {_FETCH}",
                _ROOT,
            )


def _image_folder(config: DataConfig, part: str, loader: Callable[[str], Any]) -> Any:
    """torchvision's ImageFolder of a part, "train" or "test", which has read no image yet."""
    from torchvision import datasets
    from torchvision.transforms import v2

    folder, size = Path(config.root) / part, config.size
    resized = [v2.Resize(size, antialias=True), v2.CenterCrop(size)] if size else []
    transform = v2.Compose([*resized, v2.PILToTensor()])
    try:
        found = datasets.ImageFolder(str(folder), transform=transform, loader=loader)
    except OSError as error:  # no folder, or one that may not be read
        raise DataNotFoundError(
            f"data set image_folder must be in {folder.resolve()}, a folder of images for each "
            f"class, but: {error}; name the folder that has {part}",
            _ROOT,
        ) from error
    if len(found.classes) < 2:
        raise ConfigError(
            f"there must be two classes or more, each a folder of {folder.resolve()}, but got "
            f"{found.classes}",
            _ROOT,
        )
    return found


def _opened(path: str, opened: list[tuple[str, Any]] | None = None) -> Any:
    """The decoded image at a path. If all images must have one size, `opened` collects their paths
    and sizes. Raises ConfigError if the image cannot be read, or differs in size from the first."""
    from PIL import UnidentifiedImageError
    from torchvision.datasets.folder import default_loader

    try:
        image = default_loader(path)
    # Whatever a decoder raises for bytes that are not of its format, or for too many of them.
    except Exception as error:
        is_none = isinstance(error, UnidentifiedImageError)
        reason = "it is in no known format" if is_none else " ".join(str(error).split())
        raise ConfigError(
            f"every image must be readable, but {path} is not: {reason}", _ROOT
        ) from error
    if opened is not None:
        opened.append((path, image.size))
        name, (width, height) = opened[0]
        if image.size != (width, height):
            raise ConfigError(
                f"must be a number unless all images are of one size, but {name} has {width} x "
                f"{height} pixels, and {path} {image.width} x {image.height}",
                "data.size",
            )
    return image


def _read_image_folder(config: DataConfig) -> own.Dataset:
    loader = _opened if config.size else functools.partial(_opened, opened=[])
    train = _image_folder(config, "train", loader)
    if not os.path.isdir(Path(config.root, "test")):
        return own.collected(train)
    test = _image_folder(config, "test", loader)
    if test.classes != train.classes:
        raise ConfigError(
            f"train and test must have the same classes, but got {train.classes} and "
            f"{test.classes}",
            _ROOT,
        )
    return own.collected((train, test))
