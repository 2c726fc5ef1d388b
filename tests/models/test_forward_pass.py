"""Networks whose forward pass is not what their modules say: each is refused, with the module's
path, or has a bound that its Jacobian does not exceed.

The Jacobian is that of what runs: the output of a block as it is called, less its input.
"""

import inspect
import math
import operator
import re
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from itertools import cycle
from typing import Any

import pytest
import torch
from torch import nn

from models import IResNet, certified_radius, certify
from tests.support.changed_networks import (
    EACH_REFUSED,
    block_of,
    convolution,
    insert,
    set_entry,
    set_kernel,
    small,
    ten_times,
)
from tests.support.oracles import jacobian_norm

# torch says that the old ones are old.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.nn.utils.*:FutureWarning")


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


def test_what_was_not_changed_has_its_numbers() -> None:
    for number in certified()[1].values():
        number()


@pytest.mark.parametrize(("message", "change"), EACH_REFUSED)
def test_no_number_is_proven_of_what_was_changed_after_it_was_certified(
    message: str, change: Callable[[IResNet], object]
) -> None:
    """The same changes as above: whatever `certify` refuses has no proven number either."""
    model, proven = certified()
    change(model)
    model.eval()
    for number in proven.values():
        with pytest.raises(ValueError, match=r"\S"):
            number()


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


@pytest.mark.slow
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


def test_a_part_whose_name_could_stand_for_two_is_refused() -> None:
    model = small()
    layer = block_of(model).residual
    layer.add_module("5\n6", layer._modules.pop("5"))
    with pytest.raises(ValueError, match=r"parts with printable names, but has '5\\n6'"):
        certify(model, "fast")
