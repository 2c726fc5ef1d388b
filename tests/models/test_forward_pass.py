"""Networks whose forward pass is not what their modules say: each is refused, with the module's
path, or has a bound that its Jacobian does not exceed.

The Jacobian is that of what runs: the output of a block as it is called, less its input.
"""

import hashlib
import inspect
import math
import operator
import re
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from itertools import cycle
from types import MethodType
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from models import IResNet, certified_radius, certify
from models.blocks.bottleneck import ResidualBlock
from models.heads.pooled import GlobalAveragePool
from models.isometries import InjectivePad, Squeeze
from models.layers.spectral_norm import SpectralNormConv2d
from models.network.forward_pass import forward_sha256
from tests.support.networks import blocks_of, network
from tests.support.oracles import jacobian_norm

# torch says that the old ones are old.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.nn.utils.*:FutureWarning")


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


@pytest.mark.parametrize(("message", "change"), EACH_REFUSED)
def test_what_runs_something_else_is_refused(
    message: str, change: Callable[[IResNet], object]
) -> None:
    model = small()
    change(model)
    model.eval()
    with pytest.raises(ValueError, match=message) as refused:
        certify(model, "fast")
    assert str(refused.value).count("\n") == 0


def certified() -> tuple[IResNet, dict[str, Callable[[], object]]]:
    """(a network, its proven numbers by name: each of the certificate that was made now)."""
    model = small()
    certificate = certify(model, "fast")
    images, labels = torch.rand(2, 2, 4, 4) - 0.5, torch.zeros(2, dtype=torch.int64)
    with torch.no_grad():
        z = model.features(images)
    return model, {
        "inverse": lambda: IResNet.inverse(model, z, certificate=certificate),
        "radius": lambda: certified_radius(model, images, labels, certificate),
    }


@pytest.mark.parametrize("number", ["inverse", "radius"])
@pytest.mark.parametrize(("message", "change"), EACH_REFUSED)
def test_no_number_is_proven_of_what_was_changed_after_it_was_certified(
    message: str, change: Callable[[IResNet], object], number: str
) -> None:
    """The same changes as above: whatever `certify` refuses has no proven number either."""
    model, proven = certified()
    proven[number]()
    change(model)
    model.eval()
    with pytest.raises(ValueError, match=r"\S"):
        proven[number]()


@pytest.mark.parametrize("number", ["inverse", "radius"])
def test_no_number_is_proven_of_images_of_another_size(number: str) -> None:
    """The norm of a zero-padded convolution grows with the map."""
    model, proven = certified()
    model.in_shape = (2, 8, 8)
    with pytest.raises(ValueError, match=r"images of shape \(2, 8, 8\), but is of one for"):
        proven[number]()


@pytest.mark.parametrize("number", ["inverse", "radius"])
def test_no_number_is_proven_in_training_mode(number: str) -> None:
    """BatchNorm has other factors there, and dropout other answers."""
    model, proven = certified()
    model.train()
    with pytest.raises(RuntimeError, match="needs eval mode"):
        proven[number]()
    model.eval()
    proven[number]()
    model.classifier.train()
    if number == "radius":
        with pytest.raises(ValueError, match="at classifier must be in the network's mode"):
            proven[number]()


def test_no_radius_is_proven_of_a_classifier_that_runs_something_else() -> None:
    model, proven = certified()
    handle = model.classifier.register_forward_hook(ten_times)
    with pytest.raises(ValueError, match="at classifier must have no hook"):
        proven["radius"]()
    handle.remove()
    proven["radius"]()


def test_a_module_in_another_mode_is_refused() -> None:
    model = small()
    block_of(model).residual.insert(1, nn.Dropout(0.9).train())
    with pytest.raises(ValueError, match="must be in the network's mode"):
        certify(model, "fast")


def test_a_hook_for_all_modules_is_refused() -> None:
    handle = nn.modules.module.register_module_forward_hook(ten_times)
    try:
        with pytest.raises(ValueError, match="torch has one for all modules"):
            certify(small(), "fast")
    finally:
        handle.remove()


def test_a_call_looks_at_nothing_that_is_not_refused() -> None:
    """torch's own code of a call, which is not documented: another release may look elsewhere."""
    code = [nn.Module._wrapped_call_impl, nn.Module._call_impl, nn.Module._slow_forward]
    assert nn.Module.__call__ is code[0]
    source = "".join(map(inspect.getsource, code))
    own = set(re.findall(r"\bself\.(\w+)", source))
    # A hook, or what a class defines: an instance must have none of its own.
    assert {name for name in own if "_hook" not in name} <= vars(nn.Module).keys()
    of_all = set(re.findall(r"\b_global_\w+", source))
    assert of_all
    assert of_all <= set(nn.modules.module._has_any_global_hook.__code__.co_names)


def test_a_fresh_network_is_not_refused_in_any_form() -> None:
    for norm in ("spectral", "none", "batch"):
        for activation in ("relu", "elu", "softplus"):
            model = small(norm=norm, activation=activation, dropout=0.1)
            certify(model, "fast")
            certify(model.train(), "fast")


def give_kernels(model: IResNet, kernel: tuple[int, int]) -> None:
    """Other sizes to the first and the last kernel of a block."""
    for index in (1, 5):
        layer = convolution(model, index)
        layer.weight = nn.Parameter(torch.randn(*layer.weight.shape[:2], *kernel))
        layer.padding = (kernel[0] // 2, kernel[1] // 2)


def shared_weight(model: IResNet) -> None:
    own = block_of(model)
    own.residual[5].weight = nn.Parameter(10 * torch.randn(4, 2, 3, 3))
    own.residual[1].weight = nn.Parameter(own.residual[5].weight.detach().transpose(0, 1))


def odd_names(model: IResNet) -> None:
    block = block_of(model)
    block.residual = nn.Sequential(OrderedDict(zip("abcdef", block.residual, strict=True)))


def strange_batch_norm(model: IResNet) -> None:
    norm = nn.BatchNorm2d(4)
    assert norm.running_var is not None
    norm.running_var.uniform_(1e-4, 10)
    nn.init.normal_(norm.weight, std=10)
    insert(model, 0, norm)


BOUNDED: dict[str, Callable[[IResNet], object]] = {
    "taps that only zeros meet": lambda m: give_kernels(m, (11, 11)),
    "oblong kernels": lambda m: give_kernels(m, (1, 3)),
    "the same block twice": lambda m: operator.setitem(m.body, 1, m.body[2]),
    "a shared weight": shared_weight,
    "more layers": lambda m: block_of(m).residual.extend(
        [nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1)]
    ),
    "odd names": odd_names,
    "a strange BatchNorm": strange_batch_norm,
    "dropout of everything": lambda m: insert(m, 1, nn.Dropout(1.0)),
    "strided memory": lambda m: set_kernel(m, torch.randn(3, 3, 4, 2).permute(3, 2, 0, 1)),
    # What torch makes of the imaginary part of a conjugate: its bytes have the other sign.
    "a negative bit": lambda m: set_kernel(m, torch._neg_view(convolution(m).weight.detach())),
}


@pytest.mark.parametrize("change", BOUNDED.values(), ids=BOUNDED.keys())
def test_no_jacobian_of_what_runs_exceeds_the_bound(change: Callable[[IResNet], object]) -> None:
    model = small()
    change(model)
    model = model.double().eval()
    result = certify(model, "fast")
    names = dict(model.named_modules(remove_duplicate=False))
    assert {layer.name for layer in result.layers} <= names.keys()
    attained = {}
    for bound in result.blocks:
        block: Any = names[bound.name]
        points = [3 * torch.randn(1, *block.in_shape, dtype=torch.float64) for _ in range(5)]
        attained[bound.name] = max(jacobian_norm(lambda x, g=block: g(x) - x, x) for x in points)
        assert attained[bound.name] <= bound.upper_bound
    assert max(attained.values()) > 0


@pytest.mark.parametrize("norm", ["spectral", "none", "batch"])
def test_a_number_that_is_not_finite_anywhere_bounds_nothing(norm: str) -> None:
    one_pixel = partial(small, in_shape=(2, 2, 2), norm=norm)  # of the second stage
    tensors = one_pixel().body.state_dict().items()
    names = [name for name, tensor in tensors if tensor.is_floating_point()]
    for name, value in zip(names, cycle((math.nan, math.inf, -math.inf)), strict=False):
        model = one_pixel()
        # The last entry: of a kernel that is a corner tap, which a map of one pixel does not use.
        # It meets zeros alone, and infinity times zero is no number.
        set_entry(model.body.state_dict()[name], -1, value)
        result = certify(model, "fast")
        assert result.lipschitz_upper_bound == math.inf, name
        assert sum(block.upper_bound == math.inf for block in result.blocks) == 1, name


@pytest.mark.parametrize("exponent", [-300, -200, -160, -150, 0, 100, 150, 160, 200, 300])
def test_weights_of_any_scale_have_a_true_bound_or_none(exponent: int) -> None:
    """Against the same kernels at scale 1, whose bounds other tests hold to dense matrices."""
    model = small().double()
    expected = certify(model, "fast")
    with torch.no_grad():
        for layer in block_of(model).residual:
            if isinstance(layer, nn.Conv2d):
                layer.weight *= 10.0**exponent
    result = certify(model, "fast")
    for of_one, scaled in zip(expected.layers, result.layers, strict=True):
        if scaled.name.startswith("body.2."):
            wanted = math.log10(of_one.upper_bound) + exponent
            assert math.log10(scaled.upper_bound) == pytest.approx(wanted, abs=1e-9)
            assert 0 < scaled.lower_bound <= scaled.upper_bound
    wanted = math.log10(expected.blocks[1].upper_bound) + 3 * exponent
    upper_bound = result.blocks[1].upper_bound
    if wanted > 308:
        assert upper_bound == math.inf
    elif wanted > -300:
        assert math.log10(upper_bound) == pytest.approx(wanted, abs=1e-9)
    else:
        assert 0 < upper_bound < 1e-290


def test_kernels_of_the_least_numbers_are_not_bounded_by_zero() -> None:
    model = small().double()
    with torch.no_grad():
        convolution(model).weight.fill_(0.0)[0, 0, 1, 1] = 5e-324
    (first, *_) = (x for x in certify(model, "fast").layers if x.name.startswith("body.2."))
    assert 5e-324 <= first.upper_bound < 1e-290
    with torch.no_grad():
        convolution(model).weight.fill_(0.0)
    assert certify(model, "fast").blocks[1].upper_bound == 0


def test_the_factors_of_a_product_may_be_of_any_scale() -> None:
    """Whose product in float64 would be zero on the way."""
    model = small().double()
    expected = certify(model, "fast").blocks[1]
    with torch.no_grad():
        for index, scale in ((1, 1e-200), (3, 1e-200), (5, 1e300)):
            convolution(model, index).weight *= scale
    bound = certify(model, "fast").blocks[1]
    assert bound.layer_product == pytest.approx(expected.layer_product * 1e-100, rel=1e-9, abs=0)
    assert bound.upper_bound == pytest.approx(expected.upper_bound * 1e-100, rel=1e-9, abs=0)


def test_dropout_of_everything_has_no_bound_in_training_mode() -> None:
    model = small()
    block_of(model).residual.insert(5, nn.Dropout(1.0).eval())
    result = certify(model, "fast")
    assert result.lipschitz_upper_bound < math.inf
    assert result.train_lipschitz_upper_bound == math.inf


def test_the_digest_is_of_all_that_decides() -> None:
    model = small(norm="spectral", dropout=0.1)
    digest = forward_sha256(model.body)
    assert forward_sha256(model.train().body) == digest
    assert forward_sha256(model.to(memory_format=torch.contiguous_format).body) == digest
    assert forward_sha256(small(norm="none").body) != digest
    for name in model.body.state_dict():
        changed = small(norm="spectral", dropout=0.1)
        changed.load_state_dict(model.state_dict())
        assert forward_sha256(changed.body) == digest
        set_entry(changed.body.state_dict()[name], 0, 7)
        assert forward_sha256(changed.body) != digest, name
    dropout = next(m for m in model.body.modules() if isinstance(m, nn.Dropout))
    dropout.p = 0.2
    assert forward_sha256(model.body) != digest


class Sequential(nn.Sequential):
    """Of the bare name of torch's."""

    def forward(self, x: Tensor) -> Tensor:
        return -super().forward(x)


class Forged(nn.Sequential):
    """That says to be torch's."""

    __module__ = nn.Sequential.__module__
    __qualname__ = nn.Sequential.__qualname__

    def forward(self, x: Tensor) -> Tensor:
        return -super().forward(x)


class ForgedRelu(nn.ReLU):
    """That says to be one of this package."""

    __module__ = "models.network.iresnet"
    __qualname__ = "GlobalAveragePool"


@pytest.mark.parametrize("kind", [Sequential, Forged])
def test_a_classifier_of_another_class_is_not_the_certified_one(kind: type[nn.Module]) -> None:
    """Its tensors and settings are the same, its answers are not."""
    model, images = small(), torch.rand(4, 2, 4, 4)
    labels, certificate = model(images).argmax(1), certify(model, "fast")
    certified_radius(model, images, labels, certificate)
    model.classifier.__class__ = kind
    assert not bool((model(images).argmax(1) == labels).any())
    with pytest.raises(ValueError, match="certificate must be that of the classifier as it is"):
        certified_radius(model, images, labels, certificate)


def test_a_digest_tells_a_class_from_another_that_takes_its_name() -> None:
    pairs: list[tuple[nn.Module, type[nn.Module]]] = [
        (nn.Sequential(), Sequential),
        (nn.Sequential(), Forged),
        (GlobalAveragePool(), ForgedRelu),
        (nn.Conv2d(1, 1, 1), torch.ao.nn.qat.Conv2d),
    ]
    for module, other in pairs:
        digest = forward_sha256(module)
        assert module.__class__.__qualname__ == other.__qualname__
        module.__class__ = other
        assert forward_sha256(module) != digest


def test_a_part_whose_name_could_stand_for_two_is_refused() -> None:
    model = small()
    layer = block_of(model).residual
    layer.add_module("5\n6", layer._modules.pop("5"))
    with pytest.raises(ValueError, match=r"parts with printable names, but has '5\\n6'"):
        certify(model, "fast")


def test_digests_are_those_of_earlier_versions() -> None:
    """By bare names of classes: certificates that were stored before can be verified."""
    for changes in ({}, {"norm": "spectral"}, {"norm": "batch"}, {"activation": "softplus"}):
        model = small(**changes)
        text = hashlib.sha256()
        for path, module in model.body.named_modules():
            settings = [(k, v) for k, v in vars(module).items() if k[0] != "_" and k != "training"]
            text.update(f"{path} {type(module).__name__} {dict(sorted(settings))}\n".encode())
            own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
            for name, tensor in own:
                content = f"{tensor.dtype} {tuple(tensor.shape)} ".encode()
                content += tensor.detach().contiguous().numpy().tobytes()
                text.update(f"{name} {hashlib.sha256(content).hexdigest()}\n".encode())
        assert forward_sha256(model.body) == text.hexdigest()
