"""Whether an answer whose margin is within rounding of zero is ever certified wrongly.

    python -m tests.benchmarks.margins [--networks 60] [--seed 0]

Networks of all norms and activations, small ones and some of 8 blocks, whose last bias is set by
hand: at a chosen image the two largest logits differ by delta in exact arithmetic, delta of both
signs from 0 to a million roundings of a logit. For each, the image is certified for the answer
that float32 gives. That is wrong if the exact answer is another, if the image alone, in a batch, in
another layout or on another number of threads has another answer, or an image within the radius
has: the one straight ahead to the other class, and random ones. Prints how many margins would have
been certified wrongly by the margin of float32 alone, how many of them are, and the smallest
margin that is certified, in roundings of the logit. Exits 1 if one is certified wrongly.
"""

import argparse
import copy
import math
import sys
from itertools import product

import torch
from torch import Tensor, nn

from models import IResNet, certified_radius, certify, deployed
from models.layers.activations import ACTIVATIONS
from models.proofs.certification import with_classifier
from tests.benchmarks.truth import classifying

_ROUNDINGS = (0, 0.25, 0.5, *(2**n for n in range(0, 22, 2)))
_N_RANDOM = 16
# Of the images: their pixels are from -2 to 2.
_SCALE = 4.0


def answers(model: IResNet, image: Tensor) -> list[int]:
    """Those of float32 for an image (1, C, H, W), computed in several ways; a tie is -1."""
    others = torch.rand(6, *image.shape[1:], generator=torch.Generator().manual_seed(0))
    batch = torch.cat([others[:3], image, others[3:]])
    found = [model(image)[0], model(batch)[3], model(batch.contiguous())[3]]
    found.append(model(image.to(memory_format=torch.channels_last))[0])
    n_threads = torch.get_num_threads()
    torch.set_num_threads(2 if n_threads == 1 else 1)
    found += [model(image)[0], model(batch)[3]]
    torch.set_num_threads(n_threads)
    return [_answer(logits) for logits in found]


def _answer(logits: Tensor) -> int:
    best = logits.max()
    return int(logits.argmax()) if (logits == best).sum() == 1 else -1


def around(model: IResNet, image: Tensor, first: int, second: int, radius: float) -> Tensor:
    """Images (N, C, H, W) on the sphere of a radius, the steepest and random ones."""
    x = image.clone().requires_grad_()
    logits = model(x)[0]
    (slope,) = torch.autograd.grad(logits[second] - logits[first], x)
    generator = torch.Generator().manual_seed(1)
    offsets = torch.cat([slope, torch.randn(_N_RANDOM, *image.shape[1:], generator=generator)])
    norms = offsets.flatten(1).norm(dim=1).clamp(min=1e-30).view(-1, 1, 1, 1)
    moved = (image + offsets * (0.999 * radius / norms)).detach()
    # Rounded images may be farther out.
    inside = (moved.double() - image.double()).flatten(1).norm(dim=1) <= radius
    return moved[inside]


@torch.no_grad()
def check(model: IResNet, image: Tensor) -> list[tuple[float, bool, bool, bool]]:
    """(margin in roundings, whether float32 alone would certify it wrongly, whether it is
    certified, whether wrongly) for each margin."""
    exact = copy.deepcopy(model).double()
    last, exact_last = model.classifier[-1], exact.classifier[-1]
    assert isinstance(last, nn.Linear)
    assert isinstance(exact_last, nn.Linear)
    logits = exact(image.double())[0]
    first, second = logits.topk(2).indices.tolist()
    size = logits[first].abs().item() * 2**-24
    certificate = certify(model)
    found = []
    for roundings, sign in product(_ROUNDINGS, (1, -1)):
        bias = exact_last.bias[first] - (logits[first] - logits[second]) + sign * roundings * size
        last.bias.copy_(exact_last.bias.float())
        last.bias[first] = bias.float()
        now = logits.clone()
        now[first] += last.bias[first].double() - exact_last.bias[first]
        label = int(model(image)[0].argmax())
        others = torch.cat([now[:label], now[label + 1 :]])
        is_right = bool(now[label] > others.max())
        certificate = with_classifier(certificate, model)
        of_pixels = certified_radius(model, image, torch.tensor([label]), certificate, scale=_SCALE)
        radius = _SCALE * of_pixels.item()
        is_wrong = not is_right or any(answer != label for answer in answers(model, image))
        is_claimed_wrongly = False
        if radius > 0:
            other = second if label == first else first
            with torch.enable_grad():
                near = around(model, image, label, other, radius)
            moved = any(_answer(of_one) != label for of_one in model(near))
            is_claimed_wrongly = is_wrong or moved
        margin = (now[label] - others.max()).abs().item() / size
        found.append((margin, is_wrong, radius > 0, is_claimed_wrongly))
    return found


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--networks", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    generator = torch.Generator().manual_seed(arguments.seed)
    kinds = list(
        product(("spectral", "batch", "none"), sorted(ACTIVATIONS), (0.5, 0.9), ((1, 1), (4, 4)))
    )
    found = []
    for index in range(arguments.networks):
        norm, activation, coeff, blocks = kinds[5 * index % len(kinds)]
        model = deployed(classifying(norm, activation, coeff, generator, blocks=blocks)).eval()
        image = _SCALE * (torch.rand(1, 2, 4, 4, generator=generator) - 0.5)
        found += check(model, image)
    certified = [margin for margin, _, is_certified, _ in found if is_certified]
    n_wrong = sum(wrongly for *_, wrongly in found)
    least = min(certified, default=math.inf)
    print(
        f"{len(found)} margins of {arguments.networks} networks: {sum(of[1] for of in found)} "
        f"answers of float32 are wrong or not of one mind; {len(certified)} are certified, "
        f"{n_wrong} of them wrongly; the smallest margin certified is {least:.0f} roundings of "
        "its logit"
    )
    return int(n_wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
