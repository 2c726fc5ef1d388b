"""Image data sets as tensors: read once, split once, kept and augmented on the device."""

import fcntl
import functools
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from study.errors import ConfigError, DataNotFoundError
from study.trial_config import DataConfig

NORMALIZATION = {"from": "uint8", "scale": 1 / 255, "offset": -0.5}
"""What `normalized` does: images * scale + offset (paper, appendix A)."""

# Images of a folder have no size of their own: pixels a side, unless data.size is given.
_FOLDER_SIZE = 32


@dataclass(frozen=True)
class Split:
    """images: uint8 (N, C, H, W); labels: int64 (N,)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> "Split":
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Augmentation:
    """Random shifts by up to `shift` pixels in each direction, and horizontal flips.

    Attributes:
        shift: pixels, >= 0.
        flip: whether each image is mirrored with probability 1/2.
        fill: the uint8 value of pixels that are shifted in.
    """

    shift: int
    flip: bool
    fill: int

    def draw(self, n: int, generator: torch.Generator, device: torch.device) -> Tensor:
        """What happens to each of n images: int64 (n, 3), row and column of the window that is
        kept, and 1 where it is mirrored.

        For a whole epoch at once, so that no step waits for the host.

        Args:
            generator: a CPU one, so that all devices see the same images.
        """
        offsets = torch.randint(0, 2 * self.shift + 1, (n, 2), generator=generator)
        mirrored = torch.randint(0, 2, (n, 1), generator=generator) * int(self.flip)
        return torch.cat([offsets, mirrored], dim=1).to(device)

    def __call__(self, images: Tensor, drawn: Tensor) -> Tensor:
        """uint8 (B, C, H, W) and the rows (B, 3) of `draw` -> uint8 (B, C, H, W)."""
        n, channels, height, width = images.shape
        device, s = images.device, self.shift
        padded = F.pad(images, (s, s, s, s), value=self.fill)
        row = drawn[:, 0, None] + torch.arange(height, device=device)
        along = torch.arange(width, device=device)
        along = torch.where(drawn[:, 2, None] == 1, width - 1 - along, along)
        column = drawn[:, 1, None] + along
        sample = torch.arange(n, device=device).view(n, 1, 1, 1)
        channel = torch.arange(channels, device=device).view(1, -1, 1, 1)
        return padded[sample, channel, row.view(n, 1, height, 1), column.view(n, 1, 1, width)]


@dataclass(frozen=True)
class Dataset:
    """A data set, split: objectives are measured on `val`; `test` is read once, at the end.

    Attributes:
        sha256: digest of all images and labels, as they are split, hex.
    """

    train: Split
    val: Split
    test: Split
    n_classes: int
    augmentation: Augmentation
    sha256: str

    @property
    def in_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    def to(self, device: torch.device) -> "Dataset":
        return Dataset(
            self.train.to(device),
            self.val.to(device),
            self.test.to(device),
            self.n_classes,
            self.augmentation,
            self.sha256,
        )


def normalized(images: Tensor) -> Tensor:
    """uint8 in [0, 255] -> float32 in [-0.5, 0.5] (paper, appendix A), channels_last."""
    return images.to(torch.float32, memory_format=torch.channels_last) / 255 - 0.5


def brightness(images: Tensor) -> Tensor:
    """The inverse of `normalized`, as a fraction of white: [-0.5, 0.5] -> [0, 1]."""
    return images + 0.5


@functools.lru_cache(maxsize=2)
def load(config: DataConfig) -> Dataset:
    """Read and split a data set, on the CPU; the split depends on split_seed alone.

    Raises:
        DataNotFoundError: if it is not there.
    """
    source = _SOURCES[config.name]
    train, test, n_classes = source.read(config)
    if test is None:
        train, test = _hold_out(train, config.test_fraction, config.split_seed, "test_fraction")
    # A seed of its own, lest the validation split repeat the choice of the test split.
    train, val = _hold_out(train, config.val_fraction, config.split_seed + 1, "val_fraction")
    if config.max_train is not None:
        # In the random order that held out the validation split.
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
    """(in_shape, n_classes) of a data set. Raises as `load` does, without reading every image."""
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
    from sklearn.datasets import load_digits  # only this data set needs scikit-learn

    images, labels = load_digits(return_X_y=True)
    pixels = torch.from_numpy(images).view(-1, 1, 8, 8) * (255 / 16)  # 16 levels of ink
    return Split(pixels.round().to(torch.uint8), torch.from_numpy(labels).long()), None, 10


@contextmanager
def _fetched_once(config: DataConfig) -> Iterator[None]:
    """Let one process of a node fetch a data set, while those beside it wait for its files."""
    if not config.download:
        yield
        return
    Path(config.root).mkdir(parents=True, exist_ok=True)
    with (Path(config.root) / f".{config.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _torchvision_reader(class_name: str, folder: str) -> Callable[[DataConfig], _Read]:
    def read(config: DataConfig) -> _Read:
        from torchvision import datasets

        parts = []
        for train in (True, False):
            try:
                with _fetched_once(config):
                    part = getattr(datasets, class_name)(
                        config.root, train=train, download=config.download
                    )
            except (RuntimeError, OSError) as error:  # OSError: no network, say
                where = Path(config.root).resolve() / folder
                if config.download:
                    text = " ".join(str(error).split())
                    raise DataNotFoundError(
                        f"data set {config.name} must be in {where}, or be fetched, but: {text}"
                    ) from error
                raise DataNotFoundError(
                    f"data set {config.name} must be in {where}, but it is not there; fetch it "
                    "with data.download: true in the study file, or name the folder that holds "
                    f"{folder.split('/')[0]} with --data-root"
                ) from error
            images = torch.as_tensor(part.data)
            images = images.unsqueeze(1) if images.dim() == 3 else images.permute(0, 3, 1, 2)
            parts.append(Split(images.contiguous(), torch.as_tensor(part.targets).long()))
        return parts[0], parts[1], 10

    return read


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
        return datasets.ImageFolder(str(folder), transform=transform)
    except FileNotFoundError as error:
        raise DataNotFoundError(
            f"data set image_folder must be in {folder.resolve()}, a folder of images for each "
            f"class, but: {error}; name the folder that holds {part} with --data-root"
        ) from error


def _read_image_folder(config: DataConfig) -> _Read:
    def read(part: Any) -> Split:
        pairs = [part[index] for index in range(len(part))]
        images = torch.stack([image for image, _ in pairs])
        return Split(images, torch.tensor([label for _, label in pairs]))

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


def batches(
    split: Split, batch_size: int, generator: torch.Generator | None = None
) -> tuple[Tensor, ...]:
    """int64 indices of all of a split, on its device, in batches that differ in size by one at
    most.

    Near-equal batches have no small remainder, which BatchNorm would suffer from.

    Args:
        batch_size: the most images in a batch.
        generator: a CPU one: shuffle with it. None keeps the order.
    """
    n = len(split)
    order = torch.arange(n) if generator is None else torch.randperm(n, generator=generator)
    return order.to(split.labels.device).tensor_split(-(-n // batch_size))
