"""How a training step, a certificate and an inverse grow with the network.

    python -m tests.benchmarks.growth [--rounds 7]

Twice the blocks, twice the channels, twice the pixels a side, from a network of 4 blocks a
stage on 32 x 32 images; step at batch 32, certificate of all layers, inverse of 32 images to
rtol 1e-6. Untrained weights, scaled so that every layer meets its target of 0.9. In turns.
"""

import argparse

import torch
import torch.nn.functional as F

from models import IResNet, certify, project
from tests.benchmarks.alternating import in_turns, machine, ratios, spread

_BASE = {"pixels": 32, "blocks": (4, 4, 4), "channel_multiplier": 4}
_VARIANTS = {
    "base": {},
    "2 x blocks": {"blocks": (8, 8, 8)},
    "2 x channels": {"channel_multiplier": 8},
    "2 x pixels a side": {"pixels": 64},
}


def _network(pixels: int, **arguments: object) -> IResNet:
    torch.manual_seed(0)
    model = IResNet((3, pixels, pixels), 10, **arguments)
    with torch.no_grad():
        for parameter in model.body.parameters():
            parameter.mul_(3 if parameter.dim() == 4 else 1)
    model.n_power_iterations = 50
    model.update_spectral_norm()
    model.n_power_iterations = 1
    project(model, 0.9)
    return model


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    n_rounds = parser.parse_args().rounds
    print(machine())
    steps, certificates, inverses = {}, {}, {}
    for name, changes in _VARIANTS.items():
        settings = {**_BASE, **changes}
        model = _network(**settings)
        pixels = model.in_shape[1]
        images = (torch.rand(32, 3, pixels, pixels) - 0.5).contiguous(
            memory_format=torch.channels_last
        )
        labels = torch.randint(0, 10, (32,))
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
        with torch.no_grad():
            z = model.eval().features(images)

        def step(model: IResNet = model, images: torch.Tensor = images, optimizer=optimizer,
                 labels: torch.Tensor = labels) -> None:  # fmt: skip
            loss = F.cross_entropy(model.train()(images), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            model.update_spectral_norm()

        steps[name] = step
        certificates[name] = lambda model=model: certify(model, "fast")
        inverses[name] = lambda model=model, z=z: model.eval().inverse(z)
    for title, contenders in (
        ("inverse", inverses), ("certificate", certificates), ("step", steps),
    ):  # fmt: skip
        seconds = in_turns(contenders, n_rounds)
        for name, taken in seconds.items():
            over = spread(ratios(taken, seconds["base"]))
            print(f"{title:12} {name:18} {spread(taken)} s   over base {over}", flush=True)


if __name__ == "__main__":
    main()
