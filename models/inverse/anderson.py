"""Anderson acceleration, sample by sample (Anderson 1965; type II as in Walker and Ni 2011)."""

import torch
from torch import Tensor

# History entries. The worst cases have two eigenvalues; more entries cost more than they save.
_MEMORY = 3
# Added to the diagonal of the normal equations, whose columns have norm 1 or 0.
_RIDGE = 1e-7


class History:
    """The last changes of the image fn(x) and of the residual fn(x) - x of b samples, one change at
    first. n_entries, int64 (b,), counts the changes since the last `clear`."""

    def __init__(self, image_change: Tensor, residual_change: Tensor) -> None:
        n_samples, n = len(image_change), image_change[0].numel()
        self.n_entries = torch.zeros(n_samples, dtype=torch.int64, device=image_change.device)
        # (b, m, n). Both are scaled so that the residual changes, which shrink by orders of
        # magnitude, have norm 1; zero where there is no entry.
        self._images = image_change.new_zeros(n_samples, _MEMORY, n)
        self._residuals = self._images.clone()
        self._oldest = 0
        self.append(image_change, residual_change)

    def append(self, image_change: Tensor, residual_change: Tensor) -> None:
        """Add a change of each sample, in place of the oldest one."""
        norm = sample_norm(residual_change)
        scale = torch.where(norm > 0, 1 / norm, 0).unsqueeze(1)
        self._images[:, self._oldest] = image_change.flatten(1) * scale
        self._residuals[:, self._oldest] = residual_change.flatten(1) * scale
        self._oldest = (self._oldest + 1) % _MEMORY
        self.n_entries += 1

    def clear(self, samples: Tensor) -> None:
        """Drop the entries where samples (b,) is true."""
        self._images.masked_fill_(samples.view(-1, 1, 1), 0)
        self._residuals.masked_fill_(samples.view(-1, 1, 1), 0)
        self.n_entries.masked_fill_(samples, 0)

    def select(self, samples: Tensor) -> None:
        """Keep only the samples at these indices, int64."""
        self._images, self._residuals = self._images[samples], self._residuals[samples]
        self.n_entries = self.n_entries[samples]

    def combination(self, residual: Tensor) -> Tensor:
        """What to subtract from a Picard step: the past changes of the image, weighted such that
        the past changes of the residual are nearest to `residual`. Zero without a history."""
        gram = torch.bmm(self._residuals, self._residuals.transpose(1, 2)).double()
        gram.diagonal(dim1=1, dim2=2).add_(_RIDGE)
        right = torch.bmm(self._residuals, residual.flatten(1).unsqueeze(2)).double()
        # An unsolvable system gives a candidate that is not finite, which is rejected.
        gamma = torch.linalg.solve_ex(gram, right)[0].to(residual.dtype)
        return torch.bmm(gamma.transpose(1, 2), self._images).view_as(residual)


def sample_norm(x: Tensor) -> Tensor:
    """l2 norm of each sample of x (b, ...)."""
    norm: Tensor = torch.linalg.vector_norm(x, dim=tuple(range(1, x.dim())))
    return norm
