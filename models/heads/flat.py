"""A linear head on all features, whose Lipschitz constant is known during training."""

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from models.floats.norm import scaled_norm
from models.heads.head import Loss
from models.heads.linear_last import LinearLast, last_layer
from models.heads.radius_loss import pair_distances, radii_of_classes
from models.isometries import Shape
from models.norms.rounding import UNITS, Running
from models.spec import NetworkSpec

# The number of images in a step, the number of steps, and Adam's largest learning rate for weights
# in units of their initial standard deviation.
_BATCH_SIZE, _N_STEPS, _LR = 1_000, 150, 0.2


class FlatHead(LinearLast):
    """The kind head="lipschitz": all features, flattened, and a linear layer."""

    ending: tuple[type[nn.Module], ...] = (nn.Flatten, nn.Linear)

    def build(self, spec: NetworkSpec, shape: Shape) -> nn.Sequential:
        n_features = math.prod(shape)
        linear = nn.Linear(n_features, spec.n_classes)
        # With this deviation, features of unit variance give logits of unit variance.
        nn.init.normal_(linear.weight, std=1 / math.sqrt(n_features))
        nn.init.zeros_(linear.bias)
        return nn.Sequential(nn.Flatten(), linear)

    def pooled(
        self, path: str, pool: nn.Module, factors: Tensor, n_pixels: int
    ) -> tuple[Tensor, float]:
        assert isinstance(pool, nn.Flatten)
        if (pool.start_dim, pool.end_dim) != (1, -1):
            raise ValueError(f"the Flatten at {path} must keep samples, but is {pool}")
        return factors.repeat_interleave(n_pixels), 1.0

    def after_pool(self, pool: nn.Module, before: Running) -> Running:
        return Running(pool(before.value), before.spread, before.error)

    def fit_to_labels(
        self, classifier: nn.Sequential, features: Tensor, labels: Tensor, loss: Loss, seed: int
    ) -> None:
        """Fit by 150 steps of Adam on batches of up to 1,000 images."""
        units, parameters = self.units(classifier), list[Tensor](classifier.parameters())
        scales = [units.get(parameter, 1.0) for parameter in parameters]
        means, squares = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
        counts = [torch.zeros(()) for _ in parameters]
        generator = torch.Generator().manual_seed(seed)
        n_batches = -(-len(labels) // _BATCH_SIZE)
        rows: list[Tensor] = []
        for step in range(_N_STEPS):
            if not rows:
                order = torch.randperm(len(labels), generator=generator).to(labels.device)
                rows = list(order.tensor_split(n_batches))
            batch = rows.pop()
            with torch.enable_grad():
                scores = self.scores(classifier, features[batch])
                radii = partial(self.radii, classifier, features[batch], scores, labels[batch])
                mean = loss(radii, self.logits(classifier, scores), labels[batch])
            gradients = torch.autograd.grad(mean, parameters)
            torch._foreach_div_(parameters, scales)
            adam(
                parameters,
                list(gradients),
                means,
                squares,
                [],
                counts,
                foreach=True,
                amsgrad=False,
                beta1=0.9,
                beta2=0.99,
                lr=_LR * 0.5 * (1 + math.cos(math.pi * step / _N_STEPS)),
                weight_decay=0.0,
                eps=1e-10,
                maximize=False,
            )
            torch._foreach_mul_(parameters, scales)

    @torch.no_grad()
    def mixture_slopes(
        self, classifier: nn.Sequential, own: Tensor, rivals: Tensor, shares: Tensor
    ) -> tuple[Tensor, float]:
        last = classifier[-1]
        assert isinstance(last, nn.Linear)
        weight, (unit, _) = last.weight.double(), UNITS[torch.float64]
        # Of the sums over Q rows, and of what is missing to a sum of shares of 1.
        off = 2 * (own.shape[1] + 2) * unit * scaled_norm(weight).amax().item()
        return weight[rivals] - shares @ weight[own], off

    def radii(
        self,
        classifier: nn.Sequential,
        features: Tensor,
        scores: Tensor,
        labels: Tensor,
        lipschitz: float,
    ) -> Tensor:
        slopes = pair_distances(last_layer(classifier).weight)
        return radii_of_classes(scores, labels, slopes, lipschitz)

    def units(self, classifier: nn.Sequential) -> dict[Tensor, float]:
        """The weight: a step then changes the logits equally for any number of features."""
        last = classifier[-1]
        assert isinstance(last, nn.Linear)
        return {last.weight: last.weight.shape[1] ** -0.5}
