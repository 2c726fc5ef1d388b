"""The maps between the blocks of a network. Each preserves l2 distances and has an inverse."""

import math
from abc import abstractmethod
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Shape = tuple[int, int, int]
"""(C, H, W) of a map."""


class Isometry(nn.Module):
    """A map (B, C, H, W) -> (B, C', H', W') that preserves the l2 distance of any two inputs."""

    @abstractmethod
    def inverse(self, z: Tensor) -> Tensor:
        """The input that this module maps to z."""

    @abstractmethod
    def out_shape(self, path: str, shape: Shape) -> Shape:
        """The shape (C', H', W') of the output for inputs of `shape`. Raises ValueError, with
        `path`, the path of this module, if it does not accept that shape."""


class Squeeze(Isometry):
    """Invertible downsampling, (B, C, H, W) -> (B, 4 C, H / 2, W / 2): a permutation of the
    entries, so an isometry (i-RevNet, Jacobsen et al. 2018)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_unshuffle(x, 2)

    def inverse(self, z: Tensor) -> Tensor:
        return F.pixel_shuffle(z, 2)

    def out_shape(self, path: str, shape: Shape) -> Shape:
        channels, height, width = shape
        if height % 2 or width % 2:
            raise ValueError(f"the Squeeze at {path} must have even maps, but gets {shape}")
        return 4 * channels, height // 2, width // 2


class InjectivePad(Isometry):
    """Append n_channels channels of zeros, (B, C, H, W) -> (B, C + n_channels, H, W). The inverse,
    defined for outputs of this map, drops them."""

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.n_channels = n_channels

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, (0, 0, 0, 0, 0, self.n_channels))

    def inverse(self, z: Tensor) -> Tensor:
        return z[:, : z.shape[1] - self.n_channels]

    def out_shape(self, path: str, shape: Shape) -> Shape:
        channels, height, width = shape
        n_more = self.n_channels
        if type(n_more) is not int or n_more < 0:
            raise ValueError(
                f"the InjectivePad at {path} must append channels, but has n_channels={n_more}"
            )
        return channels + n_more, height, width


class Flatten(Isometry):
    """(B, C, H, W) -> (B, C H W, 1, 1): all pixels become channels, an isometry.

    Args:
        shape: (C, H, W) of the input.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), -1, 1, 1)

    def inverse(self, z: Tensor) -> Tensor:
        return z.reshape(len(z), *self.shape)

    def out_shape(self, path: str, shape: Shape) -> Shape:
        if checked_shape(path, self.shape) != shape:
            raise ValueError(
                f"the Flatten at {path} must be for maps of shape {shape}, which come to it, "
                f"but has shape={self.shape}"
            )
        return math.prod(shape), 1, 1


class Patches(Isometry):
    """Regroup an image (B, C, H, W) from patches of p x p into patches of q x q pixels,
    (B, p^2 C, H / p, W / p) -> (B, q^2 C, H / q, W / q): a permutation of the entries, so an
    isometry. All pixels of a patch are channels of one position, in the order (row, column, channel
    of the image).

    Args:
        old: p, the edge of the incoming patches in pixels, >= 1.
        new: q, the edge of the outgoing patches in pixels, >= 1; it must divide H and W.
        moved: by how many pixels the patches move right and down; what leaves the image on one side
            enters it on the other.
    """

    def __init__(self, old: int, new: int, moved: int = 0) -> None:
        super().__init__()
        self.old = old
        self.new = new
        self.moved = moved

    def forward(self, x: Tensor) -> Tensor:
        return _patched(x, self.old, self.new, -self.moved)

    def inverse(self, z: Tensor) -> Tensor:
        return _patched(z, self.new, self.old, self.moved)

    def orders(self, shape: Shape) -> tuple[Tensor, Tensor]:
        """For each entry of an output, in the order (C, H, W), its place in the input, of `shape`;
        and for each entry of the input, its place in the output. Both int64 (D,)."""
        return _orders(shape, self.old, self.new, -self.moved)

    def out_shape(self, path: str, shape: Shape) -> Shape:
        channels, height, width = shape
        old, new = self.old, self.new
        if [type(n) for n in (old, new, self.moved)] != [int] * 3 or min(old, new) < 1:
            raise ValueError(
                f"the Patches at {path} must have whole numbers of pixels, but has old={old}, "
                f"new={new}, moved={self.moved}"
            )
        if channels % old**2 or height * old % new or width * old % new:
            raise ValueError(
                f"the Patches at {path} must get maps made of patches of {old} x {old} pixels that "
                f"can be cut into those of {new} x {new}, but gets {shape}"
            )
        return channels // old**2 * new**2, height * old // new, width * old // new


def _patched(x: Tensor, old: int, new: int, rolled: int) -> Tensor:
    # In channels_last memory order, where a row of a patch is contiguous.
    batch, height, width = len(x), x.shape[2] * old, x.shape[3] * old
    patches = x.permute(0, 2, 3, 1).unflatten(3, (old, old, -1))
    pixels = patches.transpose(2, 3).reshape(batch, height, width, -1)
    if rolled:
        pixels = torch.roll(pixels, (rolled, rolled), (1, 2))
    cut = pixels.unflatten(2, (-1, new)).unflatten(1, (-1, new)).transpose(2, 3)
    made: Tensor = cut.flatten(3).permute(0, 3, 1, 2)
    return made


@cache
def _orders(shape: Shape, old: int, new: int, rolled: int) -> tuple[Tensor, Tensor]:
    places = torch.arange(math.prod(shape)).view(1, *shape)
    order = _patched(places, old, new, rolled).flatten()
    return order, order.argsort()


def checked_shape(path: str, given: object) -> Shape:
    """A shape (C, H, W) as a tuple of ints. Raises ValueError if it is not one."""
    if type(given) is not tuple or [type(n) for n in given] != [int] * 3 or min(given) < 1:
        raise ValueError(f"in_shape of {path} must be (C, H, W), but is {given!r:.80}")
    return given


ISOMETRIES: tuple[type[Isometry], ...] = (Squeeze, InjectivePad, Flatten, Patches)
"""The classes of all modules that may stand between the blocks."""
