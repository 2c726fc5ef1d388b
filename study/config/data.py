"""The settings of a trial's data."""

from dataclasses import dataclass

from models import is_import_path, setting
from study.config.data_sets import DATA_SETS, IMAGE_FOLDER
from study.config.imports import check_path
from study.errors import ConfigError, require, unknown
from study.metrics.definitions import FEATURES, PIXELS

_FOLDER_SIZE = 32

LARGEST = 1_000_000
"""Upper limit of settings that are counts; a larger number is taken for a slip of the pen."""

SPLIT = ("name", "val_fraction", "test_fraction", "split_seed", "size")
"""Data settings that decide which images are for validation, and what they look like. Augmentation
and the number of training images are left out, since studies that differ in them are compared."""


def is_address(root: str) -> bool:
    """Whether a data root is an fsspec address, such as s3://bucket/images, and not a folder."""
    return "://" in root


@dataclass(frozen=True)
class DataConfig:
    """Which images, how they are split, and how they are augmented."""

    name: str = "digits"
    """One of DATA_SETS, or the import path of a function of the user's own that takes the root and
    returns a study.Dataset or a map-style data set."""
    root: str = "data"
    """Folder with the files, in torchvision's layout; for image_folder with train/ and perhaps
    test/, which have a folder for each class. An address that fsspec reads, such as
    s3://bucket/images, is fetched once per node."""
    val_fraction: float = setting(0.1, gt=0, lt=1)
    """Part of the training data that is held out for validation, in (0, 1)."""
    test_fraction: float = setting(0.2, gt=0, lt=1)
    """Part that is held out for testing if the data set has no test set of its own, in (0, 1)."""
    split_seed: int = setting(0, ge=0, lt=2**63)
    """Seed of the splits: the same for all trials of a study, whatever their own seeds."""
    shift: int | float | None = setting(None, ge=0, le=1000)
    """Random shifts of up to this many pixels, by fractions of pixels too if it is no whole number;
    null takes the data set's default."""
    rotate: float = setting(0.0, ge=0, le=180)
    """Random rotations by up to this many degrees."""
    flip: bool | None = None
    """Random horizontal flips; null takes the data set's default."""
    size: int | None = setting(None, ge=0, le=10_000)
    """Pixels a side after resizing; image_folder also crops images to squares. 0, in a study file
    also null, keeps images as they are: all must have one size. Where the key is missing (None in
    Python), image_folder takes 32 and other data 0."""
    max_train: int | None = setting(None, ge=2, le=LARGEST)
    """The most training images, drawn with split_seed once validation is held out; null: all."""
    download: bool = False
    """Download a torchvision data set if its files are not there."""
    table: bool = False
    """Whether the user's own data is a table of numbers, (N, F). Its features are standardized."""

    def __post_init__(self) -> None:
        if is_import_path(self.name):
            check_path(self.name, "name")
        elif self.name not in DATA_SETS:
            raise ConfigError(unknown(self.name, tuple(DATA_SETS), "data set"), "name")
        elif self.table:
            rule = "must be left out unless name is module:function"
            raise ConfigError(rule, "table", self.table)
        for key in ("shift", "rotate", "flip", "size") if self.is_table else ():
            rule = "must be left out with a table of numbers, which has no pixels"
            require(not getattr(self, key), rule, key, getattr(self, key))
        require("\0" not in self.root, "must be a path, or an address", "root", self.root)
        if self.name == IMAGE_FOLDER and self.size is None:
            object.__setattr__(self, "size", _FOLDER_SIZE)

    @property
    def is_table(self) -> bool:
        """Whether the data is a table of numbers, and has no images."""
        return self.table or (self.name in DATA_SETS and DATA_SETS[self.name].is_table)

    @property
    def unit(self) -> str:
        """What radii are in, l2."""
        return FEATURES if self.is_table else PIXELS

    @property
    def radius(self) -> float:
        """The radius of certified accuracy, l2, in `unit`, for a study that sets none."""
        default = "wine" if self.is_table else "cifar10"
        return DATA_SETS.get(self.name, DATA_SETS[default]).radius
