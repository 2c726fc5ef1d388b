"""A layer of prototypes: linear rows, several for each class."""

import torch.nn.functional as F
from torch import Tensor, nn


class Rows(nn.Linear):
    """(B, D) -> (B, K): the score of a class is the largest of the scores of its rows.

    The score of a row a is a.x - |a|^2 / 2: it is the larger, the nearer x is to a, so the nearest
    row decides.

    Args:
        n_features: D.
        n_classes: K. The rows of class k are k n_rows to (k + 1) n_rows - 1.
        n_rows: for each class.
    """

    def __init__(self, n_features: int, n_classes: int, n_rows: int) -> None:
        super().__init__(n_features, n_classes * n_rows, bias=False)
        self.n_classes = n_classes

    def scores(self, x: Tensor) -> Tensor:
        """(B, D) -> (B, N): the score of each row."""
        return F.linear(x, self.weight) - 0.5 * self.weight.square().sum(dim=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.largest(self.scores(x))

    def largest(self, scores: Tensor) -> Tensor:
        """(B, N) -> (B, K): the largest score of each class."""
        largest: Tensor = scores.unflatten(1, (self.n_classes, -1)).amax(dim=2)
        return largest
