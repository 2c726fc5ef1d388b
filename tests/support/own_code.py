"""Code of a user's own: data, metrics, blocks, and what goes wrong with them."""

import gzip
from importlib.resources import files
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import study
from models import Block, Bounds, Certificate, IResNet


def digits(root: str) -> Any:
    """The 8 x 8 digits of scikit-learn, as floats from 0 to 16."""
    with gzip.open(str(files("sklearn.datasets.data") / "digits.csv.gz"), "rt") as file:
        rows = np.loadtxt(file, delimiter=",")
    images = rows[:, :-1].reshape(-1, 1, 8, 8)
    return study.Dataset(images, rows[:, -1].astype(int), 10, pixel_range=(0, 16))


class Pictures:
    """A map-style data set, as torchvision has them."""

    def __init__(self, n: int, first: Any = None) -> None:
        self._n, self._first = n, first
        self.classes = ("dark", "bright")

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, index: int) -> Any:
        if index == 0 and self._first is not None:
            return self._first
        bright = index % 2
        return np.full((4, 4, 3), 200 * bright + index % 7, dtype=np.uint8), bright


def pictures(root: str) -> Any:
    """Training and test images."""
    return Pictures(40), Pictures(10)


def margin(network: IResNet, images: Tensor, labels: Tensor, certificate: Certificate) -> Tensor:
    """The mean difference of the two largest logits."""
    top = network(images).topk(2).values
    return (top[:, 0] - top[:, 1]).mean()


def undefined(network: IResNet, images: Tensor, labels: Tensor, certificate: Certificate) -> float:
    """No number."""
    return float("nan")


def raises(network: IResNet, images: Tensor, labels: Tensor, certificate: Certificate) -> float:
    """Fails."""
    raise RuntimeError("no such thing")


class Coupling(Block):
    """(a, b) -> (a, b + W2 tanh(W1 a)): half of the channels moves the other."""

    def __init__(
        self, channels: int, size: tuple[int, int], *, coeff: float, dropout: float
    ) -> None:
        super().__init__(channels, size, coeff=coeff, dropout=dropout)
        self.coeff, self.n_kept = coeff, channels // 2
        self.w1 = nn.Parameter(torch.randn(channels, self.n_kept) / channels**0.5)
        self.w2 = nn.Parameter(torch.randn(channels - self.n_kept, channels) / channels**0.5)

    def g(self, x: Tensor) -> Tensor:
        a = x[:, : self.n_kept]
        inner = torch.einsum("oc,bchw->bohw", self.w1, a).tanh()
        moved = torch.einsum("oc,bchw->bohw", self._w2(), inner)
        return torch.cat([torch.zeros_like(a), moved], dim=1)

    def preimage(self, z: Tensor) -> Tensor:
        return z - self.g(z)

    def _w2(self) -> Tensor:
        return self.w2 * (self.coeff / (self.w1.norm() * self.w2.norm())).clamp(max=1)

    def bounds(self) -> Bounds:
        lipschitz = self.w1.double().norm().item() * self._w2().double().norm().item()
        largest = (lipschitz + (lipschitz**2 + 4) ** 0.5) / 2
        return Bounds(lipschitz, alpha=1 / largest, beta=largest, rounding=100.0)

    def scale(self, factor: float) -> None:
        self.w2.data.copy_(self._w2() * factor)

    @property
    def target_lipschitz(self) -> float:
        return (self.coeff + (self.coeff**2 + 4) ** 0.5) / 2


class Unproven(Coupling):
    """The same without a proof."""

    def bounds(self) -> Bounds:
        return Bounds()


class Wrong(Coupling):
    """The same with a bound that is a tenth of what it should be."""

    def bounds(self) -> Bounds:
        return Bounds(super().bounds().lipschitz / 10, alpha=0.5, beta=2.0)


class Whole(Coupling):
    """The same as a whole map."""

    def g(self, x: Tensor) -> Tensor:
        return Block.g(self, x)

    def forward(self, x: Tensor, weights: Any = None) -> Tensor:
        return x + Coupling.g(self, x)

    def preimage(self, z: Tensor) -> Tensor:
        return z - Coupling.g(self, z)


class TwoChannels(Block):
    """Gives two channels, whatever it gets."""

    def __init__(self, channels: int, *arguments: Any, **settings: Any) -> None:
        super().__init__(channels, *arguments, **settings)
        self.inner = nn.Conv2d(channels, 2, 1)

    def g(self, x: Tensor) -> Tensor:
        return self.inner(x)  # type: ignore[no-any-return]


class Forgetful(Coupling):
    """Has a buffer that is not stored."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.register_buffer("mask", torch.ones(3), persistent=False)


class InSinglePrecision(Coupling):
    """Mixes in a constant of float32."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._constant = torch.ones(1)

    def g(self, x: Tensor) -> Tensor:
        return (super().g(x).unsqueeze(-1) @ self._constant.view(1, 1)).squeeze(-1)


class NoBounds(Coupling):
    """Says something that is no Bounds."""

    def bounds(self) -> Any:
        return 0.5


class NoTarget(Coupling):
    """Says nothing of its slope while it is trained."""

    @property
    def target_lipschitz(self) -> float:
        return float("inf")


class Contradictory(Coupling):
    """Proves a slope of at least 1 and of at most 0.01."""

    def bounds(self) -> Bounds:
        return Bounds(super().bounds().lipschitz, alpha=1.0, beta=0.01)


class LosesARow(Coupling):
    """Zeroes the last row of the map, and proves that it is an isometry."""

    def forward(self, x: Tensor, weights: Any = None) -> Tensor:
        return torch.cat([x[:, :, :-1], 0 * super().forward(x)[:, :, -1:]], dim=2)

    def preimage(self, z: Tensor) -> Tensor:
        return z

    def bounds(self) -> Bounds:
        return Bounds(alpha=1.0, beta=1.0)


class Stuck(Coupling):
    """Is not smaller after it was scaled."""

    def scale(self, factor: float) -> None:
        pass


class Unscalable(Coupling):
    """The same with no `scale`."""

    scale = Block.scale


class Unbounded(Coupling):
    """The same with no `bounds`."""

    bounds = Block.bounds
