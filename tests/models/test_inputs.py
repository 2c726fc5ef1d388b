"""What the public functions are given: what they do not take is an error of one line, with the
argument, the rule and the value."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models import (
    Certificate,
    IResNet,
    certified_radius,
    certify,
    deployed,
    empirical_lipschitz,
    fixed_point,
    predicted_steps,
    project,
    read_network,
    recompute_batch_norm,
    write_network,
)
from models.layers.spectral_norm import update_spectral_norm


class Given:
    """A network of 10 classes and what belongs to it."""

    model: IResNet
    certificate: Certificate
    x: Tensor
    y: Tensor

    @classmethod
    def make(cls) -> None:
        torch.manual_seed(0)
        cls.model = IResNet((1, 4, 4), 10, (1,), dropout=0.0).eval()
        cls.certificate = certify(cls.model, "fast")
        cls.x = torch.rand(4, 1, 4, 4) - 0.5
        with torch.no_grad():
            cls.y = cls.model(cls.x).argmax(1)


@pytest.fixture(scope="module", autouse=True)
def _given() -> None:
    Given.make()


def radius(images: Any = None, labels: Any = None, certificate: Any = 0, scale: Any = 1.0) -> Any:
    g = Given
    return certified_radius(
        g.model,
        g.x if images is None else images,
        g.y if labels is None else labels,
        g.certificate if certificate == 0 else certificate,
        scale=scale,
    )


def built(*shape_and_blocks: Any, **changes: Any) -> IResNet:
    in_shape, blocks = shape_and_blocks or ((1, 4, 4), (1,))
    return IResNet(in_shape, **{"n_classes": 10, "blocks": blocks, **changes})


def potential(**changes: Any) -> IResNet:
    return built((1, 4, 4), (1, 1), **{"block": "potential", **changes})


def inverse(z: Any = None, **settings: Any) -> Any:
    with torch.no_grad():
        return Given.model.inverse(Given.model.features(Given.x) if z is None else z, **settings)


def steps(y0: Any, **settings: Any) -> Any:
    return fixed_point(lambda x, rows: x / 2, y0, **settings)


def fitted(**arguments: Any) -> Any:
    model = IResNet((1, 4, 4), 10, (1,), head="lipschitz")
    return project(model, 0.5, G.x, **arguments)


def written(architecture: Any = None, folder: Any = None, base: Any = None) -> None:
    of_model = {"in_shape": [1, 4, 4], "n_classes": 10, "blocks": [1], "dropout": 0.0}
    description = {"architecture": of_model if architecture is None else architecture}
    write_network(Path() if folder is None else folder, Given.model, description, base)


G = Given
OTHER = TypeError
WRONG = ValueError
# What is given -> the error, and what it says.
REFUSED: list[tuple[Callable[[], object], type[Exception], str]] = [
    # Images of another dtype, of another kind, of another shape.
    (lambda: G.model(G.x.double()), WRONG, "images must be torch.float32, .* got a torch.float64"),
    (lambda: G.model(G.x.half()), WRONG, "images must be torch.float32, .* but got a torch.float1"),
    (lambda: G.model(G.x.byte()), WRONG, "images must be torch.float32, .* but got a torch.uint8"),
    (lambda: G.model(G.x.numpy()), OTHER, "images must be a Tensor, but got ndarray: array"),
    (lambda: G.model(G.x.tolist()), OTHER, "images must be a Tensor, but got list: "),
    (lambda: G.model(None), OTHER, "images must be a Tensor, but got NoneType: None"),
    (lambda: G.model(G.x[0]), WRONG, r"shape \(B, 1, 4, 4\), but got .* of shape \(1, 4, 4\)"),
    (lambda: G.model(G.x.to("meta")), WRONG, "images must be on cpu, .* on meta"),
    (lambda: radius(G.x.half()), WRONG, "images must be float32 or float64, but got .*float16"),
    (lambda: radius(G.x.bfloat16()), WRONG, "images must be float32 or float64, .*bfloat16"),
    (lambda: radius(G.x.byte()), WRONG, "images must be float32 or float64, but got .*uint8"),
    (lambda: radius(G.x.numpy()), OTHER, "images must be a Tensor, but got ndarray"),
    (lambda: radius(G.x.tolist()), OTHER, "images must be a Tensor, but got list"),
    (lambda: radius(G.x[:0], G.y[:0]), WRONG, r"images must be one or more, .* \(0, 1, 4, 4\)"),
    (lambda: radius(G.x[:, :, :3]), WRONG, r"images must have the shape .* \(4, 1, 3, 4\)"),
    # Labels, certificates, scales.
    (lambda: radius(labels=F.one_hot(G.y, 10)), WRONG, r"labels must have the shape \(4,\)"),
    (lambda: radius(labels=G.y[:3]), WRONG, r"labels must have the shape \(4,\), .* \(3,\)"),
    (lambda: radius(labels=G.y.unsqueeze(1)), WRONG, r"labels must have the shape \(4,\)"),
    (lambda: radius(labels=G.y[:1]), WRONG, r"labels must have the shape \(4,\), .* \(1,\)"),
    (lambda: radius(labels=G.y * 0 + 10), WRONG, "labels must be from 0 to 9, but got 10"),
    (lambda: radius(labels=G.y * 0 - 1), WRONG, "labels must be from 0 to 9, but got -1"),
    (lambda: radius(labels=G.y.float()), WRONG, "labels must be whole numbers, .*float32"),
    (lambda: radius(labels=G.y > 5), WRONG, "labels must be whole numbers, but got .*bool"),
    (lambda: radius(labels=G.y.tolist()), OTHER, "labels must be of type Tensor, but got list"),
    (lambda: radius(certificate=None), OTHER, "certificate must be of type Certificate, .*None"),
    (lambda: radius(certificate=G.certificate.to_dict()), OTHER, "Certificate, but got dict"),
    (lambda: radius(scale="a"), OTHER, "scale must be a number, but got str: 'a'"),
    (lambda: certified_radius(None, G.x, G.y, G.certificate), WRONG, "an IResNet, but is a None"),  # type: ignore[arg-type]
    (lambda: radius(labels=G.y.to_sparse()), WRONG, "labels must have values, but got"),
    (lambda: radius(labels=G.y.to("meta")), WRONG, "labels must have values, but got"),
    (lambda: radius(G.x.to_sparse()), WRONG, "images must be dense and real, but got"),
    (lambda: radius(G.x.to(torch.complex64)), WRONG, "images must be dense and real, but got"),
    (lambda: radius(scale=10**400), WRONG, "scale must be positive and finite, but got scale=inf"),
    (lambda: radius(scale=-1.0), WRONG, "scale must be positive and finite, but got scale=-1"),
    (lambda: radius(scale=math.nan), WRONG, "scale must be positive and finite, .* scale=nan"),
    (lambda: radius(scale=torch.tensor(1j)), OTHER, "scale must be a number, but got"),
    # Arguments of a network.
    (lambda: built((1, 4, 4), 2), OTHER, "blocks must be whole numbers, but got int: 2"),
    (lambda: built(64, (1,)), OTHER, "in_shape must be whole numbers, but got int: 64"),
    (lambda: built((1, 4, 4), "3"), OTHER, "blocks must be whole numbers, but got str: '3'"),
    (lambda: built((1, 4, 4), (1.0,)), OTHER, r"blocks\[0\] must be a whole number, .*1\.0"),
    (lambda: built((4, 4), (1,)), WRONG, r"in_shape must be three whole .* but got \(4, 4\)"),
    (lambda: built(n_classes="10"), OTHER, "n_classes must be a whole number, but got str: '10'"),
    (lambda: built(bottleneck=2.0), OTHER, "bottleneck must be a whole number, but got float: 2"),
    (lambda: built(n_power_iterations=1.5), OTHER, "n_power_iterations must be a whole number"),
    (lambda: built(coeff="0.9"), OTHER, "coeff must be a number, but got str: '0.9'"),
    (lambda: built(dropout=None), OTHER, "dropout must be a number, but got NoneType: None"),
    (lambda: built(activation=[]), OTHER, r"activation must be of type str, but got list: \[\]"),
    (lambda: built(dense_blocks=10**30), WRONG, "dense_blocks must have 64 bits, but got int"),
    (lambda: built((1, 4, 4), (10**9,)), WRONG, "at most 1000 blocks together"),
    (lambda: built(n_classes=0), WRONG, "n_classes >= 1 must hold"),
    (lambda: built((1, 4, 4), (2, 0)), WRONG, "blocks must be counts >= 1"),
    (lambda: built(norm="layer"), WRONG, "norm must be one of spectral, batch, none, but got lay"),
    (lambda: built(activation="gelu"), WRONG, "activation must be one of relu, elu, softplus"),
    (lambda: built(coeff=2.0), WRONG, "0 < coeff < 2 must hold, but got 2.0"),
    (lambda: built(budget="first"), WRONG, "budget must be one of even, last, but got first"),
    (lambda: built(n_power_iterations=0), WRONG, "1 <= n_power_iterations <= 1000 must hold"),
    (lambda: built(dropout=1.0), WRONG, "0 <= dropout < 1 must hold, but got 1.0"),
    (lambda: built(bottleneck=5), WRONG, "bottleneck must divide the channels of the first stage"),
    (lambda: built((3, 6, 8), (1, 1, 1)), WRONG, "must be multiples of 4, but got 6 x 8"),
    (lambda: built(block="wavelet"), WRONG, "one of bottleneck, potential, or package.*: *Class"),
    (lambda: built(head="none"), WRONG, "head must be one of batch_norm, lipschitz, rows, but"),
    (lambda: built(head="rows", rows=0), WRONG, "1 <= rows <= 10000 must hold, but got 0"),
    (lambda: potential(patch=-2), WRONG, "patch >= 0 must hold, but got -2"),
    (lambda: built(patch=2), WRONG, "patch must be 0 without potential blocks, but got 2"),
    (lambda: potential(patch=3), WRONG, "patches of 6 pixels, those of the last stage, must divi"),
    (lambda: potential(dense_bottleneck=-1), WRONG, "0 <= dense_bottleneck <= 1000 must hold"),
    (lambda: potential(dense_blocks=-1), WRONG, "0 <= dense_blocks <= 1000 must hold, but got -1"),
    (lambda: potential(norm="batch"), WRONG, "norm must be spectral or none with potential blocks"),
    (lambda: built(norm="batch", dense_blocks=1), WRONG, "spectral or none with potential blocks"),
    # The other functions.
    (lambda: certify(G.model, search_room=-1), WRONG, "search_room must be .* search_room=-1"),
    (lambda: certify(G.model, search_room=math.nan), WRONG, "search_room must be finite and >= 0"),
    (lambda: inverse(G.x.numpy()), OTHER, "z must be of type Tensor, but got ndarray"),
    (lambda: inverse(G.x.half()), WRONG, "z must be torch.float32, as the weights are, .*float16"),
    (lambda: inverse(G.x.byte()), WRONG, "z must be torch.float32, as the weights are, .*uint8"),
    (lambda: inverse(certificate=G.certificate.to_dict()), OTHER, "certificate must be of type"),
    (lambda: inverse(rtol="a"), OTHER, "rtol must be a number, but got str: 'a'"),
    (lambda: inverse(rtol=math.nan), WRONG, "rtol, atol >= 0 must hold, but got rtol=nan"),
    (lambda: inverse(rtol=-1.0), WRONG, "rtol, atol >= 0 must hold, .* rtol=-1.0, atol=0.0"),
    (lambda: inverse(max_steps=0), WRONG, "max_steps >= 1 must hold, but got max_steps=0"),
    (lambda: inverse(max_steps=2.5), OTHER, r"max_steps must be a whole number, .*2\.5"),
    (lambda: inverse(max_steps=10**30), WRONG, "max_steps must have 64 bits, but got int"),
    (lambda: inverse(max_steps=torch.tensor([1, 2])), WRONG, r"int64 of shape \(4,\), but got"),
    (lambda: steps([1.0]), OTHER, "y0 must be of type Tensor, but got list"),
    (lambda: steps(torch.ones(2, 3).long()), WRONG, "y0 must be floating point, .*int64"),
    (lambda: steps(torch.tensor(1.0)), WRONG, r"y0 must be floating point, \(B, n, ...\), but got"),
    (lambda: predicted_steps("a", 1, 1), OTHER, "lipschitz must be a number, but got str"),  # type: ignore[arg-type]
    (lambda: predicted_steps(-0.5, 1, 1), WRONG, "lipschitz >= 0 must hold, .*lipschitz=-0.5"),
    (lambda: predicted_steps(0.5, -1e-6, 1), WRONG, "rtol >= 0 must hold, but got rtol=-1e-06"),
    (lambda: predicted_steps(0.5, 0.1, -1), WRONG, "first_error >= 0 must hold"),
    (lambda: empirical_lipschitz(G.model, G.x[:0]), WRONG, "images must be one or more, but got"),
    (lambda: empirical_lipschitz(G.model, G.x.double()), WRONG, "images must be torch.float32"),
    (lambda: empirical_lipschitz(G.model, G.x.numpy()), OTHER, "images must be a Tensor"),  # type: ignore[arg-type]
    (lambda: empirical_lipschitz(G.model, G.x, 2.5), OTHER, "n_iterations must be a whole number"),  # type: ignore[arg-type]
    (lambda: empirical_lipschitz(None, G.x), OTHER, "model must be of type IResNet, .*None"),  # type: ignore[arg-type]
    (lambda: empirical_lipschitz(G.model, G.x, 0), WRONG, "n_iterations >= 1 must hold"),
    (lambda: empirical_lipschitz(built(), G.x), RuntimeError, r"call model\.eval"),
    (lambda: update_spectral_norm([], 0), WRONG, "n_power_iterations >= 1 must hold, but got"),
    (lambda: recompute_batch_norm(G.model, G.x[:0]), WRONG, "images must be one or more, but got"),
    (lambda: recompute_batch_norm(G.model, G.x.byte()), WRONG, "images must be torch.float32"),
    (lambda: recompute_batch_norm(G.model, None), OTHER, "images must be of type Iterable, .*None"),  # type: ignore[arg-type]
    (lambda: recompute_batch_norm(None, G.x), OTHER, "model must be of type IResNet"),  # type: ignore[arg-type]
    (lambda: project(G.model, "a"), OTHER, "coeff must be a number, but got str: 'a'"),  # type: ignore[arg-type]
    (lambda: project(G.model, 0.5, G.x[:0]), WRONG, "images must be one or more, but got"),
    (lambda: project(G.model, 0.5, certificate={}), OTHER, "certificate must be of type"),  # type: ignore[arg-type]
    (lambda: project(None, 0.5), OTHER, "model must be of type IResNet, but got NoneType"),  # type: ignore[arg-type]
    (lambda: fitted(labels=G.y.float()), WRONG, "labels must be whole numbers, .*float32"),
    (lambda: fitted(labels=G.y - 100), WRONG, "labels must be from 0 to 9, but got -"),
    (lambda: fitted(labels=G.y, seed=2**70), WRONG, "seed must have 64 bits"),
    (lambda: fitted(labels=G.y, margin="a"), OTHER, "margin must be a number, but got str"),
    (lambda: fitted(labels=G.y, temperature=None), OTHER, "temperature must be a number"),
    (lambda: deployed(None), OTHER, "model must be of type IResNet, but got NoneType"),  # type: ignore[arg-type]
    (lambda: read_network("nowhere"), OTHER, "folder must be of type Path, .*'nowhere'"),  # type: ignore[arg-type]
    (lambda: write_network("x", G.model, {}), OTHER, "folder must be of type Path"),  # type: ignore[arg-type]
    (lambda: write_network(Path(), G.model, {}), WRONG, "description must have the arguments of"),
    (lambda: written({}), WRONG, r"network\.json describes no network: TypeError"),
    (lambda: written(folder=Path("nowhere")), WRONG, "folder must be a folder that is there"),
    (lambda: written(base=built((1, 8, 8), (1,))), WRONG, "base"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "rule"), REFUSED)
def test_what_is_not_taken_is_named_in_one_line(
    call: Callable[[], object], error: type[Exception], rule: str
) -> None:
    with pytest.raises(error, match=rule) as refused:
        call()
    text = str(refused.value)
    assert "\n" not in text
    assert len(text) < 250


def test_numbers_of_numpy_and_torch_are_taken() -> None:
    model = built(
        (1, 4, 4),
        np.array([1]),
        n_classes=np.int64(10),
        coeff=torch.tensor(0.9),
        dropout=np.float32(0.1),
        bottleneck=torch.tensor(4),
    )
    assert model(Given.x).shape == (4, 10)
    assert torch.equal(radius(scale=np.float64(1)), radius(scale=torch.tensor(1)))
    assert inverse(max_steps=np.int64(3)).n_steps.max() <= 3


def test_an_empty_batch_has_features_and_an_inverse() -> None:
    z = Given.model.features(Given.x[:0])
    assert z.shape == (0, 4, 4, 4)
    assert inverse(z, certificate=Given.certificate).value.shape == (0, 1, 4, 4)


def test_under_autocast_images_of_any_precision_are_taken() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert Given.model(Given.x.bfloat16()).shape == (4, 10)
        with pytest.raises(ValueError, match=r"images must be torch\.float32"):
            Given.model(Given.x.byte())


def test_one_image_of_one_pixel_has_no_variance() -> None:
    model = built((1, 1, 1), (1,))
    with pytest.raises(ValueError, match="images must be two or more where the features have one"):
        recompute_batch_norm(model, torch.rand(1, 1, 1, 1))
    recompute_batch_norm(model, torch.rand(2, 1, 1, 1))
