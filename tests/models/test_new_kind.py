"""A kind of block that only the two tables know: all else asks the block itself."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models import certified_radius, certify, deployed, project, read_network, write_network
from models.blocks.invertible_block import BlockBound, Layers
from models.blocks.kinds import KINDS
from models.blocks.potential import PotentialBlock, PotentialReading
from models.floats.raised import UP
from models.layers.convolution import convolved
from models.layers.power_iteration import adjoint_kernel
from models.norms.layer_bounds import LayerBound
from models.spec import BLOCKS, KindOfBlock
from tests.support.networks import network


class ExpandingReading(PotentialReading):
    def bound(self, norms: Mapping[str, LayerBound]) -> BlockBound:
        """Its Jacobians are symmetric, with eigenvalues in [1, 1 + |W|^2]."""
        bound = super().bound(norms)
        largest = UP * (1 + bound.upper_bound)
        return replace(bound, map_lipschitz_upper_bound=largest, inverse_lipschitz_upper_bound=1.0)


class Expanding(PotentialBlock):
    """x + W^T k(W x + b)."""

    def forward(self, x: Tensor, weights: Mapping[nn.Module, Tensor] | None = None) -> Tensor:
        weight = self._weight() if weights is None else weights.get(self.conv, self.conv.weight)
        inner = self.activation(convolved(x, weight, self.conv.bias))
        return x + convolved(inner, adjoint_kernel(weight))

    def deployed(self) -> nn.Sequential:
        first, activation, last = super().deployed()
        assert isinstance(last, nn.Conv2d)
        last.weight = nn.Parameter(-last.weight.detach(), requires_grad=False)
        return nn.Sequential(first, activation, last)

    def layers(self) -> Layers:
        *inner, last = super().layers()
        return [*inner, lambda x: -last(x)]

    def read(self, path: str) -> ExpandingReading:
        return ExpandingReading(**vars(super().read(path)))


def test_a_kind_in_the_tables_is_proven_inverted_projected_and_stored(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(KINDS, "expanding", Expanding)
    monkeypatch.setitem(BLOCKS, "expanding", KindOfBlock())
    architecture: dict[str, Any] = {
        "in_shape": [2, 4, 4], "n_classes": 3, "blocks": [1, 1], "block": "expanding",
        "head": "lipschitz", "coeff": 0.8, "dropout": 0.0, "norm": "none",
    }  # fmt: skip
    model = deployed(network(**{**architecture, "norm": "spectral"})).eval()
    images = torch.rand(16, 2, 4, 4) - 0.5
    labels = model(images).argmax(1)
    certificate = certify(model)
    for block, proven in zip(model.blocks, certificate.blocks, strict=True):
        assert proven.proven_by is None
        point = torch.randn(1, *block.in_shape)
        jacobian = torch.autograd.functional.jacobian(block, point).flatten(4).flatten(0, 3)
        values = torch.linalg.svdvals(jacobian.double())
        assert values[0] <= proven.map_lipschitz_upper_bound * (1 + 1e-6)
        assert values[-1] * proven.inverse_lipschitz_upper_bound >= 1 - 1e-6
    assert bool((certified_radius(model, images, labels, certificate) > 0).any())
    solution = model.inverse(model.features(images), certificate=certificate)
    off = (solution.last_iterate - images).flatten(1).norm(dim=1)
    assert solution.image_error_bound is not None
    assert bool((off <= solution.image_error_bound).all())
    projected = project(model, lipschitz=0.1, images=images)
    assert 0.09 < projected.lipschitz_upper_bound <= 0.1
    write_network(tmp_path, model, {"architecture": architecture})
    again = read_network(tmp_path)
    assert torch.equal(again(images), model(images))
    assert certify(again) == projected
