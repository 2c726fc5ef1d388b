"""The maps between the blocks of a network. Each keeps every distance, and has an inverse."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Squeeze(nn.Module):
    """Invertible downsampling, (B, C, H, W) -> (B, 4 C, H / 2, W / 2): a permutation of the
    entries, so an isometry (i-RevNet, Jacobsen et al. 2018)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_unshuffle(x, 2)

    def inverse(self, z: Tensor) -> Tensor:
        return F.pixel_shuffle(z, 2)


class InjectivePad(nn.Module):
    """Append n_channels of zeros, (B, C, H, W) -> (B, C + n_channels, H, W). The inverse is defined
    on the image and drops them."""

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.n_channels = n_channels

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, (0, 0, 0, 0, 0, self.n_channels))

    def inverse(self, z: Tensor) -> Tensor:
        return z[:, : z.shape[1] - self.n_channels]


class Flatten(nn.Module):
    """(B, C, H, W) -> (B, C H W, 1, 1): all pixels become channels, an isometry.

    Args:
        shape: (C, H, W) of what comes in.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), -1, 1, 1)

    def inverse(self, z: Tensor) -> Tensor:
        return z.reshape(len(z), *self.shape)


class Patches(nn.Module):
    """Cut an image (B, C, H, W) into other patches, (B, p^2 C, H / p, W / p) -> (B, q^2 C, H / q,
    W / q): a permutation of the entries, so an isometry. All pixels of a patch are channels of one
    position, in the order (row, column, channel of the image).

    Args:
        old: p, the edge of the patches that come in, in pixels, >= 1.
        new: q, the edge of those that go out, >= 1; it must divide H and W.
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


def _patched(x: Tensor, old: int, new: int, rolled: int) -> Tensor:
    # In the order of memory, in which a row of a patch is in one piece.
    batch, height, width = len(x), x.shape[2] * old, x.shape[3] * old
    patches = x.permute(0, 2, 3, 1).unflatten(3, (old, old, -1))
    pixels = patches.transpose(2, 3).reshape(batch, height, width, -1)
    if rolled:
        pixels = torch.roll(pixels, (rolled, rolled), (1, 2))
    cut = pixels.unflatten(2, (-1, new)).unflatten(1, (-1, new)).transpose(2, 3)
    made: Tensor = cut.flatten(3).permute(0, 3, 1, 2)
    return made
