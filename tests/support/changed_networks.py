"""What can be done to a network so that it runs something else than its modules say."""

import operator
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from types import MethodType
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from models import IResNet
from models.blocks.bottleneck import ResidualBlock
from models.isometries import InjectivePad, Squeeze
from models.layers.spectral_norm import SpectralNormConv2d
from tests.support.networks import blocks_of, network


def small(**changes: Any) -> IResNet:
    plain = partial(network, in_shape=(2, 4, 4), bottleneck=2, dropout=0.0, norm="none")
    return plain(channel_multiplier=2, **changes).eval()


def block_of(model: IResNet) -> ResidualBlock:
    """The one at body.2, with an activation ahead."""
    return blocks_of(model)[1]


def convolution(model: IResNet, index: int = 1) -> nn.Conv2d:
    module = block_of(model).residual[index]
    assert isinstance(module, nn.Conv2d)
    return module


def set_entry(tensor: Tensor, index: int, value: float) -> None:
    """The entry at this index of every axis."""
    tensor[(index,) * tensor.dim()] = value


class TenTimes(nn.ReLU):
    def forward(self, x: Tensor) -> Tensor:
        return 10 * super().forward(x)


class Louder(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return 10 * super().forward(x)


class OtherBlock(ResidualBlock):
    def forward(self, x: Tensor) -> Tensor:
        return x + 10 * super().forward(x)


class OtherNetwork(IResNet):
    def features(self, x: Tensor) -> Tensor:
        return 10 * super().features(x)


class Hooked(IResNet):
    """Its class has the hooks that each instance keeps for itself."""

    _forward_pre_hooks: ClassVar[Any] = OrderedDict({0: lambda _, inputs: (10 * inputs[0],)})


class CopiedOtherwise(IResNet):
    def __deepcopy__(self, memo: dict[int, Any]) -> IResNet:
        return small()


class Liar(nn.Parameter):
    """A weight that multiplies what it is applied to."""


class Table(dict):  # type: ignore[type-arg]
    """A dict of parameters that gives another one than it lists."""

    def __getitem__(self, key: str) -> Any:
        return 10 * super().__getitem__(key)


def ten_times(*arguments: Any) -> Any:
    return 10 * arguments[-1]


def put(model: IResNet, index: int, module: nn.Module) -> None:
    """In the place of what is in the block at this index."""
    block_of(model).residual[index] = module


def insert(model: IResNet, index: int, module: nn.Module) -> None:
    block_of(model).residual.insert(index, module.eval())


def set_kernel(model: IResNet, weight: Tensor) -> None:
    convolution(model).weight = nn.Parameter(weight)


def without_a_table(model: IResNet) -> None:
    """So that the one of the class is looked at."""
    del convolution(model).__dict__["_forward_pre_hooks"]


def normalized(model: IResNet, **attributes: Any) -> SpectralNormConv2d:
    """A normalized layer in the place of a plain one."""
    layer = SpectralNormConv2d(4, 2, 3, size=(4, 4), coeff=0.9)
    put(model, 1, layer)
    for name, value in attributes.items():
        setattr(layer, name, value)
    return layer


def forward_of_its_own(model: IResNet) -> None:
    layer = convolution(model)
    layer.forward = lambda x: 10 * F.conv2d(x, layer.weight, padding=1)  # type: ignore[method-assign]


def gives_its_weight_once(model: IResNet) -> None:
    """The first who asks gets it, the others more."""
    layer = normalized(model)
    weight = layer.effective_weight()
    values = iter([weight])
    layer.effective_weight = lambda: next(values, 10 * weight)  # type: ignore[method-assign]


def pruned(model: IResNet) -> None:
    layer = convolution(model)
    layer.weight.data = layer.weight.data.contiguous()
    prune.l1_unstructured(layer, "weight", amount=0.5)


def weight_as_a_buffer(model: IResNet) -> None:
    layer = convolution(model)
    weight = layer.weight.detach()
    del layer.weight
    layer.register_buffer("weight", weight)


def table_of_a_subclass(model: IResNet) -> None:
    layer = convolution(model)
    layer._parameters = Table(layer._parameters)


def one_pixel_for_all(model: IResNet) -> None:
    """g gives one pixel, which is added to all of x's."""
    layer = convolution(model, 5)
    layer.weight = nn.Parameter(torch.randn(4, 2, 5, 5))
    layer.padding = (0, 0)


def wrong_padding_of_a_wide_kernel(model: IResNet) -> None:
    layer = normalized(model, outer=torch.zeros(2, 4, 1, 3))
    layer.weight = nn.Parameter(torch.randn(2, 4, 1, 3))


class Twice(Squeeze):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


NOT_KNOWN = "no Lipschitz bound is known for the module"
NO_RUN = r"the ResidualBlock at body\.2 must be one that runs"
SAME = "'same' zero padding"
# What is said -> what is done to a network.
REFUSED: dict[str, list[Callable[[IResNet], object]]] = {
    "must not change its input": [
        lambda m: put(m, 0, nn.ReLU(inplace=True)),
        lambda m: put(m, 0, nn.ELU(inplace=True)),
        lambda m: insert(m, 0, nn.Dropout(0.1, inplace=True)),
    ],
    "the IResNet at the root must have no hook": [
        lambda m: m.register_forward_hook(ten_times),
        lambda m: m.register_forward_pre_hook(lambda _, inputs: (10 * inputs[0],)),
    ],
    "the IResNet at the root must run as its class does, but has a": [
        lambda m: setattr(m, "forward", lambda x: 10 * IResNet.forward(m, x)),
        lambda m: setattr(m, "_call_impl", lambda x: 10 * IResNet.forward(m, x)),
        lambda m: setattr(m, "inverse", lambda z, **_: IResNet.inverse(m, 10 * z)),
    ],
    "must have no hook, but has _forward_hooks": [
        lambda m: block_of(m).register_forward_hook(ten_times),
        lambda m: block_of(m).residual.register_forward_hook(ten_times),
        lambda m: convolution(m).register_forward_hook(ten_times),
    ],
    "must have no hook, but has _forward_pre_hooks": [
        lambda m: convolution(m).register_forward_pre_hook(lambda _, inputs: (10 * inputs[0],)),
    ],
    "must have no hook, but has _state_dict_hooks": [
        lambda m: convolution(m).register_state_dict_post_hook(lambda *_: None),
    ],
    "must have no hook": [
        lambda m: convolution(m).register_full_backward_hook(lambda *_: None),
    ],
    "has a forward of its own": [forward_of_its_own],
    "has a effective_weight of its own": [gives_its_weight_once],
    "has a _conv_forward of its own": [
        lambda m: setattr(convolution(m), "_conv_forward", lambda x, w, b: 10 * x),
    ],
    "has a features of its own": [
        lambda m: setattr(m, "features", MethodType(lambda self, x: 10 * x, m)),
    ],
    "but Hooked has its own _forward_pre_hooks": [lambda m: setattr(m, "__class__", Hooked)],
    "but CopiedOtherwise has its own __deepcopy__": [
        lambda m: setattr(m, "__class__", CopiedOtherwise),
    ],
    "must have what nn.Module gives it, but has no _forward_pre_hooks": [without_a_table],
    "has a __deepcopy__ of its own": [
        lambda m: setattr(convolution(m), "__deepcopy__", lambda memo: nn.Conv2d(2, 4, 3)),
    ],
    "plain settings, but _hidden is a list": [
        lambda m: setattr(block_of(m), "_hidden", [torch.ones(1)]),
    ],
    f"{NOT_KNOWN} LayerNorm at body.2.residual.0": [lambda m: put(m, 0, nn.LayerNorm(4))],
    f"{NOT_KNOWN} Identity at body.5": [lambda m: m.body.append(nn.Identity())],
    f"{NOT_KNOWN} TenTimes": [lambda m: put(m, 0, TenTimes())],
    f"{NOT_KNOWN} Louder": [
        lambda m: setattr(block_of(m), "residual", Louder(*block_of(m).residual)),
    ],
    f"{NOT_KNOWN} OtherBlock": [lambda m: setattr(block_of(m), "__class__", OtherBlock)],
    "but OtherNetwork has its own features": [
        lambda m: setattr(m, "__class__", OtherNetwork),
    ],
    f"{NOT_KNOWN} Twice": [lambda m: operator.setitem(m.body, 3, Twice())],
    f"{NOT_KNOWN} NoneType": [lambda m: block_of(m).residual.register_module("0", None)],
    f"{NOT_KNOWN} Softplus": [lambda m: put(m, 0, nn.Softplus())],  # it jumps
    "0 <= alpha <= 1 must hold": [
        lambda m: put(m, 0, nn.ELU(alpha=10.0)),
        lambda m: put(m, 0, nn.ELU(alpha=-4.0)),
    ],
    "must have running statistics": [
        lambda m: insert(m, 0, nn.BatchNorm2d(4, track_running_stats=False)),
    ],
    "hook, but has _forward_pre_hooks: WeightNorm": [
        lambda m: nn.utils.weight_norm(convolution(m)).weight_g.data.mul_(10),
    ],
    "hook, but has _forward_pre_hooks: SpectralNorm": [
        lambda m: nn.utils.spectral_norm(convolution(m)).weight_orig.data.mul_(10),
    ],
    "hook, but has _forward_pre_hooks: L1Unstructured": [pruned],
    "ParametrizedConv2d": [lambda m: parametrizations.weight_norm(convolution(m))],
    "an attribute hides that in _parameters": [
        lambda m: vars(convolution(m)).update(weight=10 * convolution(m).weight.detach()),
    ],
    "must have its weight as a parameter": [weight_as_a_buffer],
    "plain tensors, but weight is a Liar": [
        lambda m: setattr(convolution(m), "weight", Liar(convolution(m).weight.detach())),
    ],
    "in a dict, but has a Table": [table_of_a_subclass],
    "no parts but bias, weight, but has more": [
        lambda m: convolution(m).register_buffer("more", torch.ones(1)),
        lambda m: convolution(m).add_module("more", nn.ReLU()),
    ],
    "is compiled": [lambda m: convolution(m).compile(backend="eager")],
    "must be for maps of shape": [
        lambda m: setattr(block_of(m), "in_shape", (4, 1, 1)),
        lambda m: setattr(m, "in_shape", (2, 8, 8)),
    ],
    "in_shape": [lambda m: setattr(m, "in_shape", [2, 4, 4])],
    # g gives one channel, which is added to all of x's.
    "must give 4 channels": [lambda m: put(m, 5, nn.Conv2d(2, 1, 3, padding=1))],
    SAME: [
        lambda m: put(m, 3, nn.Conv2d(2, 2, 3, padding=1, stride=2)),
        lambda m: put(m, 3, nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular")),
        lambda m: put(m, 3, nn.Conv2d(2, 2, 2)),
        lambda m: put(m, 3, nn.Conv2d(2, 2, 3, padding=1, groups=2)),
        one_pixel_for_all,
        wrong_padding_of_a_wide_kernel,
        # The settings are those of 3 x 3, the weight is 1 x 1: the map grows.
        lambda m: set_kernel(m, torch.randn(2, 4, 1, 1)),
    ],
    # F.pad with a negative number drops channels, and no inverse brings them back.
    "must append channels, but has n_channels=-1": [
        lambda m: operator.setitem(m.body, 0, InjectivePad(-1)),
    ],
    "real tensors, but weight is torch.complex64": [
        lambda m: set_kernel(m, torch.randn(2, 4, 3, 3, dtype=torch.complex64)),
    ],
    "on the device meta": [lambda m: set_kernel(m, torch.empty(2, 4, 3, 3, device="meta"))],
    "must have plain settings, but p is a Tensor": [
        lambda m: insert(m, 0, nn.Dropout(torch.tensor(0.1))),  # type: ignore[arg-type]
    ],
    NO_RUN: [
        lambda m: set_kernel(m, convolution(m).weight.detach().to(torch.float8_e4m3fn)),
        lambda m: normalized(m, coeff="0.9"),
        lambda m: normalized(m, coeff=10**400),
        lambda m: normalized(m, outer=None),
        lambda m: put(m, 0, nn.ELU(alpha="1")),  # type: ignore[arg-type]
        lambda m: (insert(m, 0, nn.Dropout(0.1)), setattr(block_of(m).residual[0], "p", "0.1")),
    ],
}


EACH_REFUSED = [(message, change) for message, changes in REFUSED.items() for change in changes]
