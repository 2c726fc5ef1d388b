"""The data sets: read from their files, and split."""

import fcntl
import functools
import gzip
import hashlib
import math
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from study.config.trial import DataConfig
from study.errors import ConfigError, DataNotFoundError
from study.trial.data import Augmentation, Dataset, Split

# Images of a folder have no size of their own: pixels a side, unless data.size is given.
_FOLDER_SIZE = 32


@functools.lru_cache(maxsize=2)
def load(config: DataConfig) -> Dataset:
    """Read and split a data set, on the CPU; the split depends on split_seed alone.

    Raises:
        DataNotFoundError: if it is not there.
        ConfigError: if a file of it cannot be read, or there is too little to split.
    """
    source = _SOURCES[config.name]
    train, test, n_classes = source.read(config)
    if test is None:
        train, test = _hold_out(train, config.test_fraction, config.split_seed, "test_fraction")
    # Another seed, so that the validation split does not repeat the choice of the test split.
    train, val = _hold_out(train, config.val_fraction, config.split_seed + 1, "val_fraction")
    if config.max_train is not None:
        # The first ones: they are in the random order that held out the validation split.
        train = Split(train.images[: config.max_train], train.labels[: config.max_train])
    if config.size is not None:
        train, val, test = (_resized(split, config.size) for split in (train, val, test))
    default = source.augmentation
    return Dataset(
        train,
        val,
        test,
        n_classes,
        Augmentation(
            default.shift if config.shift is None else config.shift,
            default.flip if config.flip is None else config.flip,
            default.fill,
        ),
        _sha256(train, val, test),
    )


def _sha256(*splits: Split) -> str:
    digest = hashlib.sha256()
    for tensor in (t for split in splits for t in (split.images, split.labels)):
        digest.update(f"{tuple(tensor.shape)} ".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def describe(config: DataConfig) -> tuple[tuple[int, int, int], int]:
    """(in_shape, n_classes) of a data set, without reading every image. Raises as `load` does."""
    if config.name == "image_folder":
        size = config.size or _FOLDER_SIZE
        return (3, size, size), len(_image_folder(config, "train").classes)
    dataset = load(config)
    return dataset.in_shape, dataset.n_classes


def _resized(split: Split, size: int) -> Split:
    """The same images with `size` pixels a side, antialiased."""
    if split.images.shape[2:] == (size, size):
        return split
    from torchvision.transforms import v2

    return Split(v2.functional.resize(split.images, [size, size], antialias=True), split.labels)


def _hold_out(split: Split, fraction: float, seed: int, rule: str) -> tuple[Split, Split]:
    """Split off a fraction, at random: (the rest, the held out)."""
    n_held_out = round(len(split) * fraction)
    if not 1 <= n_held_out < len(split):
        raise ConfigError(
            f"data.{rule}: {rule} must leave one image or more on both sides, but got "
            f"{rule}={fraction} of {len(split)} images"
        )
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
    held_out, rest = order[:n_held_out], order[n_held_out:]
    return (
        Split(split.images[rest], split.labels[rest]),
        Split(split.images[held_out], split.labels[held_out]),
    )


_Read = tuple[Split, Split | None, int]


def _read_digits(config: DataConfig) -> _Read:
    """1,797 real 8 x 8 digits that ship with scikit-learn; they have no test set of their own."""
    # Read from its file: to import scikit-learn takes longer than to import torch.
    library = find_spec("sklearn")
    if library is None or not library.submodule_search_locations:
        raise DataNotFoundError(
            "data set digits must be in scikit-learn, but scikit-learn is not installed"
        )
    path = Path(library.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz"
    try:
        with gzip.open(path, "rt") as file:
            # 64 pixels with 16 levels of ink, and the label, in a row.
            rows = torch.tensor([[float(value) for value in line.split(",")] for line in file])
    except OSError as error:
        raise DataNotFoundError(
            f"data set digits must be in {path}, where scikit-learn has it, but: {error}"
        ) from error
    pixels = rows[:, :-1].double().view(-1, 1, 8, 8) * (255 / 16)
    return Split(pixels.round().to(torch.uint8), rows[:, -1].long()), None, 10


@contextmanager
def _fetched_once(config: DataConfig, folder: Path) -> Iterator[None]:
    """Let one process of a node fetch a data set, while those beside it wait for its files. Where
    nothing was fetched the root is left, and nothing in it.

    Args:
        folder: of the files.
    """
    if not config.download:
        yield
        return
    root = Path(config.root).resolve()
    root.mkdir(parents=True, exist_ok=True)
    with _locked(root / f".{config.name}.lock"):
        try:
            yield
        finally:
            # While nobody else fetches into them. Those that are not empty cannot be removed.
            for path in (folder, *folder.parents):
                if root in path.parents:
                    with suppress(OSError):
                        path.rmdir()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock file, which is gone afterwards."""
    while True:
        with path.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # Who held it before has removed it: what is locked may be a file that nobody finds.
            if not _is_at(path, file.fileno()):
                continue
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether an open file is the one at a path."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _torchvision_reader(class_name: str, folder: str) -> Callable[[DataConfig], _Read]:
    def read(config: DataConfig) -> _Read:
        from torchvision import datasets

        parts = []
        where = Path(config.root).resolve() / folder
        for train in (True, False):
            try:
                with _fetched_once(config, where):
                    _check_idx_files(where)
                    part = getattr(datasets, class_name)(
                        config.root, train=train, download=config.download
                    )
            except (RuntimeError, OSError) as error:  # OSError: no network, say
                if config.download:
                    text = " ".join(str(error).split())
                    raise DataNotFoundError(
                        f"data set {config.name} must be in {where}, or be fetched, but: {text}"
                    ) from error
                state = (
                    "a file of it is missing or damaged" if where.is_dir() else "it is not there"
                )
                raise DataNotFoundError(
                    f"data set {config.name} must be in {where}, but {state}; fetch it "
                    "with --download, or name the folder that holds "
                    f"{folder.split('/')[0]} with --data-root"
                ) from error
            images = torch.as_tensor(part.data)
            images = images.unsqueeze(1) if images.dim() == 3 else images.permute(0, 3, 1, 2)
            parts.append(Split(images.contiguous(), torch.as_tensor(part.targets).long()))
        return parts[0], parts[1], 10

    return read


def _check_idx_files(folder: Path) -> None:
    """Whether MNIST's files, those that are there, have the dimensions of their names and are as
    long as they say; torchvision does not name the file that is not.

    Raises:
        ConfigError: if one is not.
    """
    for path in sorted(folder.glob("*-idx[13]-ubyte")):
        n_dims = int(path.name.removesuffix("-ubyte")[-1])
        n_bytes = 4 * (1 + n_dims)
        with path.open("rb") as file:
            head = file.read(n_bytes).ljust(n_bytes, b"\0")
        magic, *shape = struct.unpack(f">{1 + n_dims}I", head)
        n_bytes += math.prod(shape)
        if magic != 0x800 + n_dims:
            raise ConfigError(f"data.root: {path} must be an idx{n_dims} file, but is none")
        if path.stat().st_size != n_bytes:
            raise ConfigError(
                f"data.root: {path} must have the {n_bytes} bytes that its header gives, but has "
                f"{path.stat().st_size}; delete it, and fetch it again with --download"
            )


def _image_folder(config: DataConfig, part: str) -> Any:
    """torchvision's ImageFolder of train or test; knows its classes, has read no image yet."""
    from torchvision import datasets
    from torchvision.transforms import v2

    folder = Path(config.root) / part
    transform = v2.Compose(
        [
            v2.Resize(config.size or _FOLDER_SIZE, antialias=True),
            v2.CenterCrop(config.size or _FOLDER_SIZE),
            v2.PILToTensor(),
        ]
    )
    try:
        found = datasets.ImageFolder(str(folder), transform=transform)
    except FileNotFoundError as error:
        raise DataNotFoundError(
            f"data set image_folder must be in {folder.resolve()}, a folder of images for each "
            f"class, but: {error}; name the folder that holds {part} with --data-root"
        ) from error
    if len(found.classes) < 2:
        raise ConfigError(
            f"data.root: there must be two classes or more, each a folder of {folder.resolve()}, "
            f"but got {found.classes}"
        )
    return found


def _opened(part: Any, path: str) -> Any:
    """An image of a folder, decoded."""
    from PIL import UnidentifiedImageError

    try:
        return part.loader(path)
    # Whatever a decoder makes of bytes that are none of its format, or of too many of them.
    except Exception as error:
        is_none = isinstance(error, UnidentifiedImageError)
        reason = "it is in no known format" if is_none else " ".join(str(error).split())
        raise ConfigError(
            f"data.root: every image must be readable, but {path} is not: {reason}"
        ) from error


def _read_image_folder(config: DataConfig) -> _Read:
    def read(part: Any) -> Split:
        images = [part.transform(_opened(part, path)) for path, _ in part.samples]
        return Split(torch.stack(images), torch.tensor([label for _, label in part.samples]))

    train = _image_folder(config, "train")
    if not (Path(config.root) / "test").is_dir():
        return read(train), None, len(train.classes)
    test = _image_folder(config, "test")
    if test.classes != train.classes:
        raise ConfigError(
            "data.root: train and test must have the same classes, but got "
            f"{train.classes} and {test.classes}"
        )
    return read(train), read(test), len(train.classes)


@dataclass(frozen=True)
class _Source:
    read: Callable[[DataConfig], _Read]
    augmentation: Augmentation


# Shifts for handwriting, shifts and flips for photographs (paper, appendix A). Black is
# shifted into digits and clothes, mid-gray, which is 0 after normalization, into photographs.
_SOURCES: dict[str, _Source] = {
    "digits": _Source(_read_digits, Augmentation(1, False, 0)),
    "mnist": _Source(_torchvision_reader("MNIST", "MNIST/raw"), Augmentation(2, False, 0)),
    "fashion_mnist": _Source(
        _torchvision_reader("FashionMNIST", "FashionMNIST/raw"), Augmentation(2, True, 0)
    ),
    "cifar10": _Source(
        _torchvision_reader("CIFAR10", "cifar-10-batches-py"), Augmentation(4, True, 128)
    ),
    "image_folder": _Source(_read_image_folder, Augmentation(4, True, 128)),
}
