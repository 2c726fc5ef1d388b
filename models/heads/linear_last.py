"""Heads of BatchNorms and activations, a pool and a linear layer."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.floats.norm import scaled_norm
from models.floats.raised import LEAST, UP
from models.heads.head import Head
from models.isometries import Shape
from models.layers.known import (
    check_layer,
    is_activation,
    product_or_nan,
    scale_of_batch_norm,
    unknown,
)
from models.norms.rounding import Running, after_layer, after_sums

# Ridge of the last layer's fit, relative to the mean variance of its inputs.
_RIDGE = 1e-4
# The number of the last layer's rows whose differences to all rows are held at a time.
_ROWS = 64


class LinearLast(Head):
    """A kind of head that ends with a pool and a linear layer.

    An activation with slopes in [0, 1] acts between two points as a diagonal matrix Q with entries
    in [0, 1]. With the factors s of the BatchNorms and the weight w of the linear layer, z_i - z_j
    therefore changes by at most the l2 norm of the gradient where all entries of all Q are 1:

        sqrt(sum_c ((w_ic - w_jc) s_c)^2 / (H W))     behind the mean over pixels,
        sqrt(sum_c ((w_ic - w_jc) s_c)^2)             behind a Flatten, with c over its outputs.
    """

    @abstractmethod
    def pooled(
        self, path: str, pool: nn.Module, factors: Tensor, n_pixels: int
    ) -> tuple[Tensor, float]:
        """Returns (outputs, divisor), from the factors (C,) of the pool's input channels: the
        factors of its outputs, and a number by which all of them must still be divided. Raises
        ValueError, with the path, for a pool with unknown settings."""

    @abstractmethod
    def after_pool(self, pool: nn.Module, before: Running) -> Running:
        """The state of a forward pass after the pool."""

    @torch.no_grad()
    def difference_bounds(self, classifier: nn.Sequential, shape: Shape) -> Tensor:
        weight, factors = self.checked_weight(classifier, shape)
        parts = weight.split(_ROWS)
        return torch.cat([_norms(part.unsqueeze(1) - weight, factors) for part in parts])

    def checked_weight(self, classifier: nn.Sequential, shape: Shape) -> tuple[Tensor, Tensor]:
        """Returns (w, s) of the class's docstring, float64 on the CPU: the weight (N, C) of the
        last layer, and the factors (C,) of its inputs, divided by the number behind the pool.
        Raises ValueError as `difference_bounds` does."""
        channels, height, width = shape
        factors = torch.ones(channels, dtype=torch.float64)
        *layers, (path, pool), (name, last) = (
            (f"classifier.{name}", module) for name, module in classifier._modules.items()
        )
        for path_of_layer, module in layers:
            check_layer(path_of_layer, module)
            if type(module) is nn.BatchNorm2d:
                scale = scale_of_batch_norm(path_of_layer, module, channels)
                factors = product_or_nan(factors, scale)
            elif not is_activation(module):
                raise ValueError(unknown(path_of_layer, module))
        assert pool is not None
        assert isinstance(last, nn.Linear)
        check_layer(name, last)
        factors, size = self.pooled(path, pool, factors, height * width)
        weight = last.weight.to("cpu", torch.float64)
        if weight.dim() != 2 or weight.shape[1] != len(factors):
            raise ValueError(
                f"the Linear at {name} must take {len(factors)} channels, but has a weight of "
                f"shape {tuple(weight.shape)}"
            )
        if not bool((weight * factors).isfinite().all()):
            raise ValueError(
                "the numbers of the classifier must be finite, and their products neither too "
                "large nor too small for float64, but some are not"
            )
        return weight, factors / size

    def rounding(self, classifier: nn.Sequential, features: Running) -> Tensor:
        *layers, pool, last = classifier
        running = features
        for module in layers:
            running = after_layer(module, running)
        running = self.after_pool(pool, running)
        assert isinstance(last, nn.Linear)
        bias = None if last.bias is None else last.bias.abs()
        of_terms = F.linear(running.value.abs(), last.weight.abs(), bias)
        return rounding_of_sums(running, last.weight, of_terms, last.weight.shape[1] + 1)

    def check_fittable(self, classifier: nn.Sequential) -> None:
        last_layer(classifier)

    def fit_to_logits(
        self, classifier: nn.Sequential, features: Sequence[Tensor], logits: Sequence[Tensor]
    ) -> None:
        """Add to the last layer the ridge regression, in float64, of the difference between the
        given logits and its own. Weights that the features do not determine stay."""
        before_last, last = classifier[:-1], last_layer(classifier)
        inputs = torch.cat([before_last(batch) for batch in features]).double()
        missing = torch.cat(list(logits)).double() - last(inputs.to(last.weight.dtype)).double()
        centered = inputs - inputs.mean(dim=0)
        covariance = centered.T @ centered / len(inputs)
        ridge = _RIDGE * covariance.diagonal().mean().clamp(min=torch.finfo(torch.float64).tiny)
        covariance.diagonal().add_(ridge)
        right = centered.T @ (missing - missing.mean(dim=0)) / len(inputs)
        change = torch.linalg.solve(covariance, right).T
        last.weight.add_(change)
        last.bias.add_(missing.mean(dim=0) - change @ inputs.mean(dim=0))


def rounding_of_sums(before: Running, weight: Tensor, of_terms: Tensor, n_terms: int) -> Tensor:
    """Bounds (B, N), float64, of the rounding of sums of n_terms terms, of which the inputs times
    `weight` (N, C) are all that depends on the input; `of_terms` (B, N) are the sums of the terms'
    absolute values."""
    norms = scaled_norm(weight.double()).unsqueeze(0)
    columns = replace(before, spread=before.spread.unsqueeze(1), error=before.error.unsqueeze(1))
    return after_sums(columns, of_terms, of_terms.double(), norms, n_terms).error


def last_layer(classifier: nn.Sequential) -> nn.Linear:
    """The last layer of a classifier. Raises ValueError if it is no Linear with a bias."""
    last = classifier[-1]
    if not isinstance(last, nn.Linear) or last.bias is None:
        raise ValueError(f"the classifier must end in a Linear with a bias, but ends in {last}")
    return last


def _norms(difference: Tensor, factors: Tensor) -> Tensor:
    """Upper bounds (R, K) of the l2 norms of the rows of difference * factors, for `difference`
    (R, K, C), which is overwritten, and factors (C,). Zero only for rows of `difference` that are
    zero, even where squares underflow."""
    is_zero = ~difference.any(dim=2)
    difference *= factors
    largest = torch.linalg.vector_norm(difference, ord=torch.inf, dim=2, keepdim=True)
    unit = torch.where((largest > 0) & largest.isfinite(), largest, 1.0)
    difference /= unit
    norms: Tensor = torch.linalg.vector_norm(difference, dim=2) * unit.squeeze(2) * UP
    return norms.clamp(min=LEAST).masked_fill(is_zero, 0.0)
