"""The head of the paper: BatchNorm, activation, mean over pixels, linear (appendix A)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.arguments import described
from models.heads.linear_last import LinearLast
from models.isometries import Shape
from models.layers.activations import ACTIVATIONS
from models.norms.rounding import Running, after_sums, norm_of
from models.spec import NetworkSpec


class GlobalAveragePool(nn.Module):
    """(B, C, H, W) -> (B, C), the mean over pixels. Unlike nn.AdaptiveAvgPool2d it has a
    deterministic gradient on CUDA."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3))


class PooledHead(LinearLast):
    """The kind head="batch_norm": BatchNorm, activation, mean over pixels and a linear layer."""

    ending = (GlobalAveragePool, nn.Linear)

    def build(self, spec: NetworkSpec, shape: Shape) -> nn.Sequential:
        channels, _, _ = shape
        return nn.Sequential(
            nn.BatchNorm2d(channels, eps=spec.classifier_eps),
            ACTIVATIONS[spec.activation](),
            GlobalAveragePool(),
            nn.Linear(channels, spec.n_classes),
        )

    def pooled(
        self, path: str, pool: nn.Module, factors: Tensor, n_pixels: int
    ) -> tuple[Tensor, float]:
        return factors, n_pixels**0.5

    def after_pool(self, pool: nn.Module, before: Running) -> Running:
        n_pixels = before.value[0, 0].numel()
        size = norm_of(before.value.abs().mean(dim=(2, 3)))
        return after_sums(before, pool(before.value), size, n_pixels**-0.5, n_pixels + 1)

    def check_fittable(self, classifier: nn.Sequential) -> None:
        batch_norm_of(classifier)
        super().check_fittable(classifier)

    def fit_to_logits(
        self, classifier: nn.Sequential, features: Sequence[Tensor], logits: Sequence[Tensor]
    ) -> None:
        set_statistics(classifier, features)
        super().fit_to_logits(classifier, features, logits)


def batch_norm_of(classifier: nn.Sequential) -> nn.BatchNorm2d:
    """The only BatchNorm of a classifier. Raises ValueError unless it has exactly one."""
    found = [m for m in classifier if isinstance(m, nn.BatchNorm2d)]
    if len(found) != 1 or not found[0].track_running_stats:
        raise ValueError(
            "the classifier must have one BatchNorm2d, with running statistics, but has "
            f"{', '.join(map(str, found)) or 'none'}"
        )
    return found[0]


@torch.no_grad()
def set_statistics(classifier: nn.Sequential, features: Sequence[Tensor]) -> None:
    """Set the running statistics of a classifier's only BatchNorm to the mean, over batches of
    features (B, C, H, W), of each batch's mean and variance. Raises ValueError if there is no such
    BatchNorm, or a batch has one entry in a channel."""
    batch_norm = batch_norm_of(classifier)
    assert batch_norm.running_mean is not None
    assert batch_norm.running_var is not None
    means, variances = [], []
    for batch in features:
        # torch's BatchNorm sums in float32, with rounding that may be as large as a small channel.
        by_channel = batch.transpose(0, 1).flatten(1).double()
        if by_channel.shape[1] < 2:
            raise ValueError(
                "images must be two or more where the features have one pixel, but got features: "
                f"{described(batch)}"
            )
        means.append(by_channel.mean(dim=1))
        variances.append(by_channel.var(dim=1))
    batch_norm.running_mean.copy_(torch.stack(means).mean(dim=0))
    batch_norm.running_var.copy_(torch.stack(variances).mean(dim=0))
