"""Networks whose forward pass is not what their modules say: each is refused, with the module's
path, or has a bound that its Jacobian does not exceed.

The Jacobian is that of what runs: the output of a block as it is called, less its input.
"""

import inspect
import math
import re
from collections.abc import Callable
from types import MethodType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from models import IResNet, certify
from models.forward_pass import forward_sha256
from models.iresnet import InjectivePad, Squeeze
from models.residual_block import ResidualBlock
from models.spectral_norm import SpectralNormConv2d
from tests.support.networks import with_biases

# torch says that the old ones are old.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.nn.utils.*:FutureWarning")


def small(**changes: Any) -> IResNet:
    arguments: dict[str, Any] = {
        "in_shape": (2, 4, 4), "n_classes": 3, "blocks": (2, 1), "channel_multiplier": 2,
        "bottleneck": 2, "dropout": 0.0, "norm": "none",
    }  # fmt: skip
    return with_biases(IResNet(**{**arguments, **changes})).eval()


def block_of(model: IResNet) -> ResidualBlock:
    """The one at body.2, with an activation ahead."""
    block = model.body[2]
    assert isinstance(block, ResidualBlock)
    return block


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


class Liar(nn.Parameter):
    """A weight that multiplies what it is applied to."""


class Table(dict):  # type: ignore[type-arg]
    """A dict of parameters that gives another one than it lists."""

    def __getitem__(self, key: str) -> Any:
        return 10 * super().__getitem__(key)


def ten_times(*arguments: Any) -> Any:
    return 10 * arguments[-1]


def inplace_ahead(model: IResNet) -> None:
    block_of(model).residual[0] = nn.ReLU(inplace=True)


def inplace_elu(model: IResNet) -> None:
    block_of(model).residual[0] = nn.ELU(inplace=True)


def inplace_dropout(model: IResNet) -> None:
    block_of(model).residual.insert(0, nn.Dropout(0.1, inplace=True).eval())


def hook(model: IResNet) -> None:
    convolution(model).register_forward_hook(ten_times)


def pre_hook(model: IResNet) -> None:
    convolution(model).register_forward_pre_hook(lambda _, inputs: (10 * inputs[0],))


def hook_of_the_block(model: IResNet) -> None:
    block_of(model).register_forward_hook(ten_times)


def hook_of_the_network(model: IResNet) -> None:
    model.register_forward_hook(ten_times)


def hook_of_the_container(model: IResNet) -> None:
    block_of(model).residual.register_forward_hook(ten_times)


def hook_of_the_state(model: IResNet) -> None:
    convolution(model).register_state_dict_post_hook(lambda *_: None)


def backward_hook(model: IResNet) -> None:
    convolution(model).register_full_backward_hook(lambda *_: None)


def forward_of_its_own(model: IResNet) -> None:
    layer = convolution(model)
    layer.forward = lambda x: 10 * F.conv2d(x, layer.weight, padding=1)  # type: ignore[method-assign]


def inner_forward_of_its_own(model: IResNet) -> None:
    layer = convolution(model)
    layer._conv_forward = lambda x, w, b: 10 * F.conv2d(x, w, b, padding=1)  # type: ignore[method-assign]


def features_of_its_own(model: IResNet) -> None:
    model.features = MethodType(lambda self, x: 10 * x, model)  # type: ignore[method-assign]


def effective_weight_of_its_own(model: IResNet) -> None:
    layer = block_of(model).residual[1]
    assert isinstance(layer, SpectralNormConv2d)
    weight = layer.effective_weight()
    values = iter([weight])  # the first who asks gets it, the others more
    layer.effective_weight = lambda: next(values, 10 * weight)  # type: ignore[method-assign]


def activation_of_a_subclass(model: IResNet) -> None:
    block_of(model).residual[0] = TenTimes()


def container_of_a_subclass(model: IResNet) -> None:
    block = block_of(model)
    block.residual = Louder(*block.residual)


def block_of_a_subclass(model: IResNet) -> None:
    block_of(model).__class__ = OtherBlock


def network_of_a_subclass(model: IResNet) -> None:
    model.__class__ = OtherNetwork


def training_mode_within(model: IResNet) -> None:
    block_of(model).residual.insert(1, nn.Dropout(0.9).train())


def old_weight_norm(model: IResNet) -> None:
    layer = nn.utils.weight_norm(convolution(model))
    layer.weight_g.data *= 10


def old_spectral_norm(model: IResNet) -> None:
    nn.utils.spectral_norm(convolution(model)).weight_orig.data *= 10


def pruned(model: IResNet) -> None:
    layer = convolution(model)
    layer.weight.data = layer.weight.data.contiguous()
    prune.l1_unstructured(layer, "weight", amount=0.5)


def parametrized(model: IResNet) -> None:
    parametrizations.weight_norm(convolution(model))


def weight_behind_an_attribute(model: IResNet) -> None:
    layer = convolution(model)
    vars(layer)["weight"] = 10 * layer.weight.detach()


def weight_as_a_buffer(model: IResNet) -> None:
    layer = convolution(model)
    weight = layer.weight.detach()
    del layer.weight
    layer.register_buffer("weight", weight)


def weight_of_a_subclass(model: IResNet) -> None:
    convolution(model).weight = Liar(convolution(model).weight.detach())


def table_of_a_subclass(model: IResNet) -> None:
    layer = convolution(model)
    layer._parameters = Table(layer._parameters)


def hidden_tensor(model: IResNet) -> None:
    convolution(model).register_buffer("more", torch.ones(1))


def hidden_module(model: IResNet) -> None:
    convolution(model).add_module("more", nn.ReLU())


def compiled(model: IResNet) -> None:
    convolution(model).compile(backend="eager")


def size_of_another_map(model: IResNet) -> None:
    block_of(model).in_shape = (4, 1, 1)


def size_of_a_network_for_others(model: IResNet) -> None:
    model.in_shape = (2, 8, 8)


def size_that_changes(model: IResNet) -> None:
    model.in_shape = [2, 4, 4]  # type: ignore[assignment]


def one_channel_for_all(model: IResNet) -> None:
    """g gives one channel, which is added to all of x's."""
    block_of(model).residual[5] = nn.Conv2d(2, 1, 3, padding=1)


def one_pixel_for_all(model: IResNet) -> None:
    """g gives one pixel, which is added to all of x's."""
    layer = convolution(model, 5)
    layer.weight = nn.Parameter(torch.randn(4, 2, 5, 5))
    layer.padding = (0, 0)


def kernel_of_another_size(model: IResNet) -> None:
    """The settings are those of 3 x 3, the weight is 1 x 1: the map grows."""
    convolution(model).weight = nn.Parameter(torch.randn(2, 4, 1, 1))


def wrong_padding_of_a_wide_kernel(model: IResNet) -> None:
    layer = SpectralNormConv2d(4, 2, 3, size=(4, 4), coeff=0.9)
    layer.weight = nn.Parameter(torch.randn(2, 4, 1, 3))
    layer.outer = torch.zeros(2, 4, 1, 3)
    block_of(model).residual[1] = layer


def channels_cut_off(model: IResNet) -> None:
    """F.pad with a negative number drops channels, and no inverse brings them back."""
    model.body[0] = InjectivePad(-1)


def squeeze_of_a_subclass(model: IResNet) -> None:
    class Twice(Squeeze):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    model.body[3] = Twice()


def module_that_is_none(model: IResNet) -> None:
    block_of(model).residual.register_module("0", None)


def steep_elu(model: IResNet) -> None:
    block_of(model).residual[0] = nn.ELU(alpha=10.0)


def jumping_softplus(model: IResNet) -> None:
    block_of(model).residual[0] = nn.Softplus()


def batch_norm_of_the_batch(model: IResNet) -> None:
    block_of(model).residual.insert(0, nn.BatchNorm2d(4, track_running_stats=False).eval())


def weight_of_8_bits(model: IResNet) -> None:
    layer = convolution(model)
    layer.weight = nn.Parameter(layer.weight.detach().to(torch.float8_e4m3fn))


def normalized(model: IResNet) -> SpectralNormConv2d:
    """A normalized layer in the place of a plain one."""
    layer = SpectralNormConv2d(4, 2, 3, size=(4, 4), coeff=0.9)
    block_of(model).residual[1] = layer
    return layer


def target_as_text(model: IResNet) -> None:
    normalized(model).coeff = "0.9"  # type: ignore[assignment]


def target_of_400_digits(model: IResNet) -> None:
    normalized(model).coeff = 10**400


def no_singular_vectors(model: IResNet) -> None:
    normalized(model).outer = None  # type: ignore[assignment]


def alpha_as_text(model: IResNet) -> None:
    block_of(model).residual[0] = nn.ELU(alpha="1")  # type: ignore[arg-type]


def probability_as_text(model: IResNet) -> None:
    block_of(model).residual.insert(0, nn.Dropout(0.1).eval())
    block_of(model).residual[0].p = "0.1"  # type: ignore[union-attr, assignment]


def complex_weight(model: IResNet) -> None:
    convolution(model).weight = nn.Parameter(torch.randn(2, 4, 3, 3, dtype=torch.complex64))


def weight_without_values(model: IResNet) -> None:
    convolution(model).weight = nn.Parameter(torch.empty(2, 4, 3, 3, device="meta"))


def setting_that_is_no_number(model: IResNet) -> None:
    block_of(model).residual.insert(0, nn.Dropout(torch.tensor(0.1)).eval())  # type: ignore[arg-type]


WHERE = r"body\.2|the root|the network must be"
REFUSED: list[tuple[Callable[[IResNet], None], str]] = [
    (inplace_ahead, "must not change its input"),
    (inplace_elu, "must not change its input"),
    (inplace_dropout, "must not change its input"),
    (hook, "must have no hook, but has _forward_hooks"),
    (pre_hook, "must have no hook, but has _forward_pre_hooks"),
    (hook_of_the_block, "must have no hook"),
    (hook_of_the_network, "must have no hook"),
    (hook_of_the_container, "must have no hook"),
    (hook_of_the_state, "must have no hook, but has _state_dict_hooks"),
    (backward_hook, "must have no hook"),
    (forward_of_its_own, "has a forward of its own"),
    (inner_forward_of_its_own, "has a _conv_forward of its own"),
    (features_of_its_own, "has a features of its own"),
    (activation_of_a_subclass, "no Lipschitz bound is known for the module TenTimes"),
    (container_of_a_subclass, "no Lipschitz bound is known for the module Louder"),
    (block_of_a_subclass, "no Lipschitz bound is known for the module OtherBlock"),
    (network_of_a_subclass, "must be an IResNet itself, but is a OtherNetwork"),
    (training_mode_within, "must be in the network's mode"),
    (old_weight_norm, "hook, but has _forward_pre_hooks: WeightNorm"),
    (old_spectral_norm, "hook, but has _forward_pre_hooks: SpectralNorm"),
    (pruned, "hook, but has _forward_pre_hooks: L1Unstructured"),
    (parametrized, "ParametrizedConv2d"),
    (weight_behind_an_attribute, "an attribute hides that in _parameters"),
    (weight_as_a_buffer, "must have its weight as a parameter"),
    (weight_of_a_subclass, "plain tensors, but weight is a Liar"),
    (table_of_a_subclass, "in a dict, but has a Table"),
    (hidden_tensor, "no parts but bias, weight, but has more"),
    (hidden_module, "no parts but bias, weight, but has more"),
    (compiled, "is compiled"),
    (size_of_another_map, "must be for maps of shape"),
    (size_of_a_network_for_others, "must be for maps of shape"),
    (size_that_changes, "in_shape"),
    (one_channel_for_all, "must give 4 channels"),
    (one_pixel_for_all, "'same' zero padding"),
    (kernel_of_another_size, "'same' zero padding"),
    (wrong_padding_of_a_wide_kernel, "'same' zero padding"),
    (channels_cut_off, "must append channels, but has n_channels=-1"),
    (squeeze_of_a_subclass, "no Lipschitz bound is known for the module Twice"),
    (module_that_is_none, "no Lipschitz bound is known for the module NoneType"),
    (steep_elu, "0 <= alpha <= 1 must hold"),
    (jumping_softplus, "no Lipschitz bound is known for the module Softplus"),
    (batch_norm_of_the_batch, "must have running statistics"),
    (complex_weight, "real tensors, but weight is torch.complex64"),
    (weight_without_values, "on the device meta"),
    (setting_that_is_no_number, "must have plain settings, but p is a Tensor"),
    *(
        (change, r"the ResidualBlock at body\.2 must be one that runs")
        for change in (
            weight_of_8_bits,
            target_as_text,
            target_of_400_digits,
            no_singular_vectors,
            alpha_as_text,
            probability_as_text,
        )
    ),
]


@pytest.mark.parametrize(("change", "message"), REFUSED, ids=lambda c: getattr(c, "__name__", ""))
def test_what_runs_something_else_is_refused(
    change: Callable[[IResNet], None], message: str
) -> None:
    model = small()
    change(model)
    if change is not training_mode_within:
        model.eval()
    with pytest.raises(ValueError, match=message) as refused:
        certify(model)
    assert str(refused.value).count("\n") == 0


def test_a_spectral_norm_that_gives_another_weight_is_refused() -> None:
    model = small(norm="spectral")
    effective_weight_of_its_own(model)
    with pytest.raises(ValueError, match="has a effective_weight of its own"):
        certify(model)


def test_a_hook_for_all_modules_is_refused() -> None:
    handle = nn.modules.module.register_module_forward_hook(ten_times)
    try:
        with pytest.raises(ValueError, match="torch has one for all modules"):
            certify(small())
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
            certify(model)
            certify(model.train())


def give_kernels(model: IResNet, kernel: tuple[int, int]) -> None:
    """Other sizes to the first and the last kernel of a block."""
    for index in (1, 5):
        layer = convolution(model, index)
        layer.weight = nn.Parameter(torch.randn(*layer.weight.shape[:2], *kernel))
        layer.padding = (kernel[0] // 2, kernel[1] // 2)


def wide(model: IResNet) -> None:
    """Taps that reach across the map: only zeros ever meet them."""
    give_kernels(model, (11, 11))


def oblong(model: IResNet) -> None:
    give_kernels(model, (1, 3))


def the_same_block_twice(model: IResNet) -> None:
    model.body[1] = model.body[2]


def shared_weight(model: IResNet) -> None:
    other = model.body[4]
    assert isinstance(other, ResidualBlock)
    own = block_of(model)
    own.residual[5].weight = nn.Parameter(10 * torch.randn(4, 2, 3, 3))
    own.residual[1].weight = nn.Parameter(own.residual[5].weight.detach().transpose(0, 1))


def more_layers(model: IResNet) -> None:
    block_of(model).residual.extend([nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1)])


def odd_names(model: IResNet) -> None:
    block = block_of(model)
    named = nn.Sequential()
    for index, module in enumerate(block.residual):
        named.add_module("abcdef"[index], module)
    block.residual = named


def strange_batch_norm(model: IResNet) -> None:
    norm = nn.BatchNorm2d(4).eval()
    assert norm.running_var is not None
    norm.running_var.uniform_(1e-4, 10)
    nn.init.normal_(norm.weight, std=10)
    block_of(model).residual.insert(0, norm)


def gradual_dropout(model: IResNet) -> None:
    block_of(model).residual.insert(1, nn.Dropout(1.0).eval())


def strided_memory(model: IResNet) -> None:
    layer = convolution(model)
    layer.weight = nn.Parameter(torch.randn(3, 3, 4, 2).permute(3, 2, 0, 1))


def negative_bit(model: IResNet) -> None:
    """What torch makes of the imaginary part of a conjugate: its bytes have the other sign."""
    layer = convolution(model)
    layer.weight = nn.Parameter(torch._neg_view(layer.weight.detach()))
    assert layer.weight.is_neg()


BOUNDED = [
    wide, oblong, the_same_block_twice, shared_weight, more_layers, odd_names, strange_batch_norm,
    gradual_dropout, strided_memory, negative_bit,
]  # fmt: skip


@pytest.mark.parametrize("change", BOUNDED, ids=lambda change: change.__name__)
def test_no_jacobian_of_what_runs_exceeds_the_bound(change: Callable[[IResNet], None]) -> None:
    model = small()
    change(model)
    model = model.double().eval()
    result = certify(model)
    names = dict(model.named_modules(remove_duplicate=False))
    assert {layer.name for layer in result.layers} <= names.keys()
    attained = {}
    for bound in result.blocks:
        block = names[bound.name]
        assert isinstance(block, ResidualBlock)
        for _ in range(5):
            x = 3 * torch.randn(1, *block.in_shape, dtype=torch.float64)

            def g(x: Tensor, block: ResidualBlock = block) -> Tensor:
                image: Tensor = block(x)
                return image - x

            n = x.numel()
            jacobian = torch.autograd.functional.jacobian(g, x).reshape(n, n)
            norm = torch.linalg.matrix_norm(jacobian, ord=2).item()
            attained[bound.name] = max(norm, attained.get(bound.name, 0.0))
        assert attained[bound.name] <= bound.upper_bound
    assert max(attained.values()) > 0


@pytest.mark.slow
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("norm", ["spectral", "none", "batch"])
def test_a_number_that_is_not_finite_anywhere_bounds_nothing(norm: str, value: float) -> None:
    names = dict(small(norm=norm).body.state_dict())
    for name in names:
        if not names[name].is_floating_point():
            continue
        model = small(norm=norm)
        # The last entry: of a kernel that is a corner tap, which a map of one pixel does not use.
        set_entry(model.body.state_dict()[name], -1, value)
        result = certify(model)
        assert result.lipschitz_upper_bound == math.inf, name
        assert sum(block.upper_bound == math.inf for block in result.blocks) == 1, name


def test_an_unused_tap_that_is_not_finite_bounds_nothing() -> None:
    """On maps of one pixel the outer taps meet zeros alone; infinity times zero is no number."""
    model = small(in_shape=(2, 1, 1), blocks=(1,))
    layer = model.body[1].residual[0]  # type: ignore[union-attr, index]
    with torch.no_grad():
        layer.weight[0, 0, 0, 0] = math.inf
    assert certify(model).lipschitz_upper_bound == math.inf


@pytest.mark.parametrize("exponent", [-300, -200, -160, -150, 0, 100, 150, 160, 200, 300])
def test_weights_of_any_scale_have_a_true_bound_or_none(exponent: int) -> None:
    """Against the same kernels at scale 1, whose bounds other tests hold to dense matrices."""
    model = small().double()
    expected = certify(model)
    with torch.no_grad():
        for layer in block_of(model).residual:
            if isinstance(layer, nn.Conv2d):
                layer.weight *= 10.0**exponent
    result = certify(model)
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
    (first, *_) = (x for x in certify(model).layers if x.name.startswith("body.2."))
    assert 5e-324 <= first.upper_bound < 1e-290
    with torch.no_grad():
        convolution(model).weight.fill_(0.0)
    assert certify(model).blocks[1].upper_bound == 0


def test_the_factors_of_a_product_may_be_of_any_scale() -> None:
    """Whose product in float64 would be zero on the way."""
    model = small().double()
    expected = certify(model).blocks[1]
    with torch.no_grad():
        for index, scale in ((1, 1e-200), (3, 1e-200), (5, 1e300)):
            convolution(model, index).weight *= scale
    bound = certify(model).blocks[1]
    assert bound.layer_product == pytest.approx(expected.layer_product * 1e-100, rel=1e-9)
    assert bound.upper_bound == pytest.approx(expected.upper_bound * 1e-100, rel=1e-9)


def test_dropout_of_everything_has_no_bound_in_training_mode() -> None:
    model = small()
    block_of(model).residual.insert(5, nn.Dropout(1.0).eval())
    result = certify(model)
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
