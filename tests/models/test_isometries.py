import pytest
import torch

from models.isometries import Patches, Squeeze


def test_squeeze_is_a_permutation_with_its_inverse() -> None:
    x = torch.arange(2 * 3 * 4 * 6, dtype=torch.float32).view(2, 3, 4, 6)
    z = Squeeze()(x)
    assert z.shape == (2, 12, 2, 3)
    assert torch.equal(z.flatten(1).sort().values, x.flatten(1).sort().values)
    assert torch.equal(Squeeze().inverse(z), x)
    # Space to depth: each output pixel holds the four of its 2 x 2 input pixels.
    assert set(z[0, :4, 0, 0].tolist()) == set(x[0, 0, :2, :2].flatten().tolist())


@pytest.mark.parametrize("moved", [-1, 0, 1, 2])
def test_patches_become_others_that_are_moved(moved: int) -> None:
    """By index: entry (c, h, w) of the image, before and after."""
    image = torch.rand(3, 4, 12, 8)
    height, width = image.shape[2:]
    cut = Patches(1, 2)(image)
    again = Patches(2, 4, moved)
    z = again(cut)
    assert z.shape == (3, 64, 3, 2)
    for c, h, w in torch.cartesian_prod(torch.arange(4), torch.arange(12), torch.arange(8)):
        assert torch.equal(cut[:, 8 * (h % 2) + 4 * (w % 2) + c, h // 2, w // 2], image[:, c, h, w])
        at_h, at_w = (h - moved) % height, (w - moved) % width
        found = z[:, 16 * (at_h % 4) + 4 * (at_w % 4) + c, at_h // 4, at_w // 4]
        assert torch.equal(found, image[:, c, h, w])
    assert torch.equal(again.inverse(z), cut)
