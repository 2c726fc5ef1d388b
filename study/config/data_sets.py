"""The data sets that a study file can name: what is read, and what else follows from the name."""

from dataclasses import dataclass

IMAGE_FOLDER = "image_folder"
"""Name of the data set that is read from a folder of images."""

Parts = tuple[dict[str, object], dict[str, object]]


@dataclass(frozen=True)
class NamedData:
    """A data set by name.

    Attributes:
        radius: l2, at which certified accuracy is usually reported for it or for similar data.
        shift, flip, fill: how training images are augmented where a study does not say. Shifts
            bring in black for digits and clothes, and mid-gray, which normalization maps to 0, for
            photographs (paper, appendix A).
        of: torchvision's class, or the file of scikit-learn.
        folder: of torchvision's files, or one of them, below the root.
        parts: the arguments of torchvision's class for training data, and for test data.
        n_classes: of torchvision's data.
    """

    radius: float = 36 / 255
    shift: int = 4
    flip: bool = True
    fill: int = 128
    of: str = ""
    folder: str = ""
    parts: Parts | None = None
    n_classes: int = 10

    @property
    def is_table(self) -> bool:
        """Whether it is a table of numbers, without images."""
        return self.of.endswith(".csv")


_TRAIN: Parts = ({"train": True}, {"train": False})
_SPLIT: Parts = ({"split": "train"}, {"split": "test"})
_EMNIST: Parts = ({"split": "balanced", **_TRAIN[0]}, {"split": "balanced", **_TRAIN[1]})

DATA_SETS = {
    "digits": NamedData(0.5, 1, False, 0, "digits.csv.gz"),
    "mnist": NamedData(1.58, 2, False, 0, "MNIST", "MNIST/raw", _TRAIN),
    "fashion_mnist": NamedData(1.58, 2, True, 0, "FashionMNIST", "FashionMNIST/raw", _TRAIN),
    "kmnist": NamedData(1.58, 2, False, 0, "KMNIST", "KMNIST/raw", _TRAIN),
    "emnist": NamedData(1.58, 2, False, 0, "EMNIST", "EMNIST/raw", _EMNIST, 47),
    "cifar10": NamedData(of="CIFAR10", folder="cifar-10-batches-py", parts=_TRAIN),
    "cifar100": NamedData(of="CIFAR100", folder="cifar-100-python", parts=_TRAIN, n_classes=100),
    "svhn": NamedData(flip=False, of="SVHN", folder="train_32x32.mat", parts=_SPLIT),
    "stl10": NamedData(shift=12, of="STL10", folder="stl10_binary", parts=_SPLIT),
    IMAGE_FOLDER: NamedData(),
    "breast_cancer": NamedData(0.5, 0, False, 0, "breast_cancer.csv"),
    "wine": NamedData(0.5, 0, False, 0, "wine_data.csv"),
}
