import pytest
import torch

from models import IResNet, certify, empirical_lipschitz
from models.blocks.bottleneck import ResidualBlock
from tests.support.networks import network
from tests.support.oracles import jacobian_norm


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["spectral", "none", "batch"])
def test_it_is_the_norm_of_the_jacobian_at_the_worst_image(norm: str) -> None:
    """Against the singular values of the dense Jacobian, block by block."""
    model = network(in_shape=(2, 4, 4), norm=norm, dropout=0.0)
    for _ in range(3):
        model.train()(torch.randn(16, 2, 4, 4))
    model = model.double().eval()
    images = torch.randn(3, 2, 4, 4, dtype=torch.float64)
    estimates = empirical_lipschitz(model, images, n_iterations=300)
    x, expected = images, []
    for module in model.body:
        if isinstance(module, ResidualBlock):
            expected.append(max(jacobian_norm(module.residual, sample[None]) for sample in x))
        with torch.no_grad():
            x = module(x)
    assert len(estimates) == 3
    for estimate, exact, bound in zip(
        estimates, expected, certify(model, "fast").block_bounds, strict=True
    ):
        assert estimate <= exact * (1 + 1e-12)
        assert estimate == pytest.approx(exact, rel=1e-3)
        assert exact <= bound


def test_no_value_is_above_the_bound_by_its_rounding() -> None:
    """Blocks of one channel and one pixel attain their bound, the product of three numbers."""
    for seed in range(30):
        torch.manual_seed(seed)
        model = IResNet(
            (1, 1, 1), 2, (1,), bottleneck=1, channel_multiplier=1, norm="none", dropout=0.0
        ).eval()
        with torch.no_grad():
            for layer in (m for m in model.body.modules() if hasattr(m, "weight")):
                layer.weight.abs_()
        (estimate,), (bound,) = (
            empirical_lipschitz(model, torch.ones(1, 1, 1, 1)), certify(model, "fast").block_bounds
        )  # fmt: skip
        assert bound * (1 - 1e-8) <= estimate <= bound
