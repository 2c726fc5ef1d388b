"""Settings of torch under which no proof holds: what depends on them is refused."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from models import IResNet, certified_radius, certify, project
from models.floats.torch_modes import refuse_reduced_products

RULE = r"products must be computed in full .* but torch\.backends\.{} is '{}'"


@pytest.fixture
def settings() -> Iterator[None]:
    """torch's own ones afterwards."""
    yield
    torch.set_flush_denormal(False)
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = True
    set_precision("mkldnn.conv", "none")


def set_precision(name: str, precision: str) -> None:
    """Of products of float32; torch's stubs do not know all of these modules."""
    backends: Any = torch.backends
    backend, of_operation = name.split(".")
    getattr(getattr(backends, backend), of_operation).fp32_precision = precision


def dense(n_classes: int = 10) -> IResNet:
    return IResNet(
        (1, 8, 8), n_classes, (), dense_blocks=2, bottleneck=2, channel_multiplier=1,
        head="lipschitz",
    ).eval()  # fmt: skip


@pytest.mark.skipif(
    not torch.backends.nnpack.is_available(), reason="torch was built without NNPACK"
)
def test_nothing_is_proven_of_the_fast_transforms_of_nnpack(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without oneDNN, torch convolves batches of 16 and more so; their rounding is another."""
    model = dense()
    images, certificate = torch.rand(4, 1, 8, 8), certify(model)
    z, labels = model.features(images), model(images).argmax(1)
    backends: Any = torch.backends
    monkeypatch.setattr(backends.mkldnn, "enabled", False)
    with pytest.raises(ValueError, match=r"call torch\.backends\.nnpack\.set_flags\(False\)"):
        certified_radius(model, images, labels, certificate)
    bound = model.inverse(z, certificate=certificate).image_error_bound
    assert bound is not None
    assert bool(bound.isinf().all())
    certified_radius(model, images.double(), labels, certificate)
    with backends.nnpack.flags(enabled=False):
        certified_radius(model, images, labels, certificate)


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize(
    ("precision", "found"), [("medium", "bf16"), ("high", "tf32"), ("highest", None)]
)
def test_no_radius_is_proven_where_matrices_may_be_multiplied_in_less_than_float32(
    precision: str, found: str | None
) -> None:
    """By a processor with AMX, for example. In float64 it does not matter."""
    model = dense()
    images, certificate = torch.rand(4, 1, 8, 8), certify(model)
    labels = model(images).argmax(1)
    expected = certified_radius(model, images.double(), labels, certificate)
    torch.set_float32_matmul_precision(precision)
    if found is None:
        assert certified_radius(model, images, labels, certificate).shape == (4,)
    else:
        with pytest.raises(ValueError, match=RULE.format("mkldnn.matmul.fp32_precision", found)):
            certified_radius(model, images, labels, certificate)
    assert certify(model) == certificate
    assert torch.equal(certified_radius(model, images.double(), labels, certificate), expected)


@pytest.mark.usefixtures("settings")
def test_nor_where_convolutions_may_be() -> None:
    model = IResNet((1, 4, 4), 3, (1,)).eval()
    images, labels, certificate = torch.rand(2, 1, 4, 4), torch.zeros(2).long(), certify(model)
    set_precision("mkldnn.conv", "bf16")
    with pytest.raises(ValueError, match=RULE.format("mkldnn.conv.fp32_precision", "bf16")):
        certified_radius(model, images, labels, certificate)
    z = model.features(images)
    solution = model.inverse(z, certificate=certificate)
    assert solution.error_bound is not None
    assert solution.image_error_bound is not None
    assert bool(solution.error_bound.isfinite().all())  # of z as it is
    assert bool(solution.image_error_bound.isinf().all())  # of how it was computed
    model, z = model.double(), z.double()
    solution = model.inverse(z, certificate=certify(model))
    assert solution.image_error_bound is not None
    assert bool(solution.image_error_bound.isfinite().all())


@pytest.mark.usefixtures("settings")
def test_tf32_of_a_gpu_is_refused_though_it_is_the_default_of_convolutions() -> None:
    """Here of maps that say that they are on a GPU."""
    maps: Any = SimpleNamespace(device=torch.device("cuda"), dtype=torch.float32)
    with pytest.raises(ValueError, match=RULE.format("cudnn.conv.fp32_precision", "tf32")):
        refuse_reduced_products(maps)
    torch.backends.cudnn.allow_tf32 = False
    refuse_reduced_products(maps)
    torch.set_float32_matmul_precision("high")
    with pytest.raises(ValueError, match=RULE.format("cuda.matmul.fp32_precision", "tf32")):
        refuse_reduced_products(maps)
    refuse_reduced_products(torch.zeros(1, dtype=torch.float64))


def test_no_radius_is_proven_under_autocast_where_answers_differ() -> None:
    """Of an image that float32 is proven to classify right, bfloat16 gives another answer."""
    model = dense(n_classes=100)
    certificate, images = certify(model), torch.rand(2000, 1, 8, 8)
    with torch.no_grad():
        labels = model(images).argmax(1)
        radii = certified_radius(model, images, labels, certificate)
        with torch.autocast("cpu", torch.bfloat16):
            answers = model(images).argmax(1)
            assert bool(((radii > 0) & (answers != labels)).any())
            assert certify(model) == certificate
            with pytest.raises(ValueError, match=r"but torch\.autocast\('cpu'\) is on"):
                certified_radius(model, images, labels, certificate)


@pytest.mark.usefixtures("settings")
def test_nothing_is_proven_while_denormals_are_flushed() -> None:
    """W of 1e-40 in every entry has the norm 1e-40 times 64 / sqrt(2), and not 0."""
    model = dense()
    with torch.no_grad():
        for block in model.body[1:]:
            block.conv.weight.fill_(1e-40)
    images, labels = torch.rand(2, 1, 8, 8), torch.zeros(2, dtype=torch.int64)
    expected = certify(model)
    of_ones = (64 * 32) ** 0.5
    norm = model.body[1].conv.coeff * 1e-40 * of_ones
    assert expected.layers[0].upper_bound == pytest.approx(norm, rel=1e-3, abs=0)
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush them")
    for what in (
        lambda: certify(model),
        lambda: project(model, lipschitz=0.5),
        lambda: certified_radius(model, images, labels, expected),
        lambda: model.inverse(images.view(2, 64, 1, 1), certificate=expected),
    ):
        with pytest.raises(ValueError, match=r"call torch.set_flush_denormal\(False\)"):
            what()
    torch.set_flush_denormal(False)
    assert certify(model) == expected
