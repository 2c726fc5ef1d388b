"""Ours against the usual forms of tests/benchmarks/reference.py, taken in turns, in one table.

    python -m tests.benchmarks.speed FOLDER [--only step,operations,plain,certificate,inverse]
        [--rounds 20]

FOLDER is what tests.benchmarks.network wrote for cifar10; certificate and inverse need it. Nothing
else should run. Prints the median of each, the quartiles, and the ratio round by round:

step         a training step over that of the same network without normalization, and one with Muon
             over one with SGD
operations   of aten that launch a kernel, of a training step on the CPU, with SGD and with Muon
plain        a training step, and its peak memory, over that of a ResNet with nothing of ours,
             in the faster of torch's two layouts
certificate  all 165 layers: fft2 and svd in numpy, over ours
inverse      100 images of the validation split: 100 fixed steps, over ours
"""

import argparse
import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from models import Certificate, IResNet, certify, project
from models.floats.threads import in_threads
from models.layers.power_iteration import adjoint_kernel
from models.layers.spectral_norm import SpectralNormConv2d
from models.norms.gram_symbols import SHIFTS
from study.config.trial import TrainingConfig
from study.trial.data import tensors as data
from study.trial.optimizers import make_optimizer
from tests.benchmarks import network, reference
from tests.benchmarks.alternating import in_turns, machine, ratios, spread
from tests.benchmarks.plain_resnet import PlainResNet
from tests.support.oracles import relative_error
from tests.support.torus import torus_norms

_DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# Operations that launch nothing: views, memory that is not written, and a copy of one number.
_NO_LAUNCH = {
    "_unsafe_view", "alias", "as_strided", "detach", "diagonal", "empty", "empty_like",
    "empty_strided", "expand", "new_empty", "permute", "select", "slice", "squeeze", "t",
    "transpose", "unbind", "unfold", "unsqueeze", "view", "_local_scalar_dense",
}  # fmt: skip


def _batch(size: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(size, 3, 32, 32, generator=generator) - 0.5
    labels = torch.randint(0, 10, (size,), generator=generator)
    return images.contiguous(memory_format=torch.channels_last).to(_DEVICE), labels.to(_DEVICE)


def _stepper(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    after: Callable[[], None] | None = None,
    optimizer: Literal["sgd", "muon"] = "sgd",
) -> Callable[[], None]:
    """One step as study.trial.training takes it."""
    settings = TrainingConfig(optimizer=optimizer, lr=1e-3)
    of_model = make_optimizer(cast(IResNet, model), settings)

    def step() -> None:
        loss = F.cross_entropy(model(images), labels)
        model.zero_grad()
        loss.backward()
        of_model.step()
        if after is not None:
            after()

    return step


def _network(**changes: object) -> IResNet:
    torch.manual_seed(0)
    return IResNet((3, 32, 32), 10, **changes).to(_DEVICE).train()


def step(n_rounds: int) -> None:
    for size in (32, 128):
        images, labels = _batch(size)
        contenders = {"without normalization": _stepper(_network(norm="none"), images, labels)}
        for n in (1, 5):
            ours = _network(n_power_iterations=n)
            contenders[f"ours, {n}"] = _stepper(ours, images, labels, ours.update_spectral_norm)
            theirs = reference.per_layer_spectral_norm(_network(), n).to(_DEVICE)
            contenders[f"per layer, {n}"] = _stepper(theirs, images, labels)
        ours = _network()
        contenders["ours, 1, Muon"] = _stepper(
            ours, images, labels, ours.update_spectral_norm, "muon"
        )
        seconds = in_turns(contenders, n_rounds)
        for name, taken in seconds.items():
            over = spread(ratios(taken, seconds["without normalization"]))
            print(f"step, batch {size:3}, {name:22} {spread(taken)} s   ratio {over}", flush=True)
        over = spread(ratios(seconds["ours, 1, Muon"], seconds["ours, 1"]))
        print(f"step, batch {size:3}, Muon over SGD {over}", flush=True)


class _Operations(TorchDispatchMode):
    """Counts the operations that launch a kernel."""

    n_operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.n_operations += func._overloadpacket.__name__ not in _NO_LAUNCH
        return func(*args, **(kwargs or {}))


def operations() -> None:
    images, labels = _batch(2)
    for optimizer in ("sgd", "muon"):
        ours = _network()
        step = _stepper(ours, images, labels, ours.update_spectral_norm, optimizer)
        step()  # makes the momentum
        with _Operations() as counted:
            step()
        print(f"operations of a step, {optimizer}: {counted.n_operations}", flush=True)


def plain(n_rounds: int) -> None:
    images, labels = _batch(128)
    ours = _network()
    theirs = PlainResNet().to(_DEVICE).train()
    fast = copy.deepcopy(theirs).to(memory_format=torch.channels_last)
    contenders = {
        "ours": _stepper(ours, images, labels, ours.update_spectral_norm),
        "plain, channels_last": _stepper(fast, images, labels),
        "plain, default layout": _stepper(theirs, images.contiguous(), labels),
    }
    seconds = in_turns(contenders, n_rounds)
    memory = {name: _peak_memory(name) for name in contenders}
    for name, taken in seconds.items():
        over = spread(ratios(seconds["ours"], taken))
        peak, ours_over = memory[name] / 2**20, memory["ours"] / memory[name]
        print(
            f"plain, batch 128, {name:22} {spread(taken)} s   ours over it {over};   "
            f"peak {peak:.0f} MiB, ours over it {ours_over:.3f}",
            flush=True,
        )


def _peak_memory(name: str) -> int:
    """Bytes, of a process of its own that takes three steps, above those of one that takes none."""
    peaks = []
    for n_steps in (0, 3):
        code = f"from tests.benchmarks import speed; speed.take_steps({name!r}, {n_steps})"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        peaks.append(int(done.stdout))
    return peaks[1] - peaks[0]


def take_steps(name: str, n_steps: int) -> None:
    """Print the peak memory, in bytes, of a process that takes n_steps with a contender."""
    images, labels = _batch(128)
    if name == "ours":
        ours = _network()
        run = _stepper(ours, images, labels, ours.update_spectral_norm)
    else:
        model = PlainResNet().to(_DEVICE).train()
        if name == "plain, channels_last":
            model = model.to(memory_format=torch.channels_last)
        else:
            images = images.contiguous()
        run = _stepper(model, images, labels)
    for _ in range(n_steps):
        run()
    if _DEVICE == "cuda":
        print(torch.cuda.max_memory_allocated())
    else:
        # Linux' own figure: that of getrusage has the peak of the parent process in it.
        status = Path("/proc/self/status").read_text()
        peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        print(int(peak.split()[1]) * 1024)


@torch.no_grad()
def _layer_norms(model: IResNet, shifts: tuple[tuple[float, float], ...]) -> dict[str, float]:
    """The plain bound of each layer, smallest over grids, as the certificate batches it."""
    groups: dict[object, list[tuple[str, Tensor]]] = {}
    for name, layer in model.named_modules():
        if isinstance(layer, SpectralNormConv2d):
            weight = layer.effective_weight()
            small_out = adjoint_kernel(weight) if weight.shape[0] > weight.shape[1] else weight
            groups.setdefault((small_out.shape, layer.size), []).append((name, small_out))
    norms: dict[str, float] = {}
    for (_, size), group in groups.items():

        def smallest(weight: Tensor, size: tuple[int, int] = size) -> Tensor:
            return torus_norms(weight, size, shifts)[0]

        of_group = in_threads(smallest, torch.stack([weight for _, weight in group]))
        norms.update(zip((name for name, _ in group), of_group.tolist(), strict=True))
    return norms


def _reference_norms(model: IResNet) -> dict[str, float]:
    norms = {}
    for name, layer in model.named_modules():
        if isinstance(layer, SpectralNormConv2d):
            reach = layer.weight.shape[-1] // 2
            torus = (layer.size[0] + reach, layer.size[1] + reach)
            norms[name] = reference.circular_norm(layer.effective_weight().cpu(), torus)
    return norms


def certificate(model: IResNet, n_rounds: int) -> None:
    one, four = ((0.0, 0.0),), SHIFTS
    contenders = {
        "numpy, one grid": lambda: _reference_norms(model),
        "ours, one grid": lambda: _layer_norms(model, one),
        "ours, four grids": lambda: _layer_norms(model, four),
        "certify, all it proves": lambda: certify(model, "fast"),
    }
    seconds = in_turns(contenders, n_rounds)
    expected, ours = _reference_norms(model), _layer_norms(model, one)
    disagreement = max(abs(ours[name] / norm - 1) for name, norm in expected.items())
    for name, taken in seconds.items():
        faster = spread(ratios(seconds["numpy, one grid"], taken))
        print(f"certificate, {name:24} {spread(taken)} s   faster {faster}", flush=True)
    print(f"certificate, {len(ours)} layers, largest disagreement on one grid {disagreement:.1e}")


@torch.no_grad()
def inverse(model: IResNet, dataset: data.Dataset, n_rounds: int) -> None:
    images = data.normalized(dataset.val.images[:100]).to(_DEVICE)
    for coeff in (None, 0.9, 0.5):
        exact = copy.deepcopy(model)
        if coeff is not None:
            project(exact, coeff)
        z, certificate = exact.features(images), certify(exact)
        results: dict[str, Tensor] = {}

        def ours(
            rtol: float,
            certificate: Certificate | None = None,
            exact: IResNet = exact,
            z: Tensor = z,
            results: dict[str, Tensor] = results,
        ) -> None:
            results[f"{rtol}"] = exact.inverse(z, rtol=rtol, certificate=certificate).value

        def theirs(
            exact: IResNet = exact, z: Tensor = z, results: dict[str, Tensor] = results
        ) -> None:
            results["100 steps"] = reference.inverse(exact, z)

        contenders = {
            "100 steps": theirs,
            "1e-06": lambda ours=ours: ours(1e-6),
            "2e-07": lambda ours=ours: ours(2e-7),
            "1e-07": lambda ours=ours: ours(1e-7),
            "1e-07 with its error bound": lambda ours=ours, of=certificate: ours(1e-7, of),
        }
        seconds = in_turns(contenders, n_rounds)
        for name, taken in seconds.items():
            error = relative_error(results[name.split(" with")[0]], images)
            faster = spread(ratios(seconds["100 steps"], taken))
            print(
                f"inverse, layers at {'training' if coeff is None else coeff}, {name:26} "
                f"{spread(taken)} s   faster {faster}   relative error: largest "
                f"{error.max():.2e}, median {error.median():.2e}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--only", default="step,operations,plain,certificate,inverse")
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    only = arguments.only.split(",")
    print(machine())
    print("seconds and ratios: median [quartiles]; ratios round by round")
    if "step" in only:
        step(arguments.rounds)
    if "operations" in only:
        operations()
    if "plain" in only:
        plain(arguments.rounds)
    if "certificate" in only or "inverse" in only:
        model, dataset = network.load(arguments.folder)
        model = model.to(_DEVICE)
        if "certificate" in only:
            certificate(model, max(3, arguments.rounds // 3))
        if "inverse" in only:
            inverse(model, dataset, max(2, arguments.rounds // 7))


if __name__ == "__main__":
    main()
