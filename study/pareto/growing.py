"""A front to which points are added one after another."""

from collections.abc import Sequence

import numpy as np

from study.pareto.dominance import Losses, hypervolume, nondominated


class GrowingFront:
    """The nondominated rows of all losses added so far.

    Attributes:
        losses: (n, m), distinct rows.
        hypervolume: of the front within reference_point (m,), in losses; exact.
    """

    def __init__(self, reference_point: Sequence[float]) -> None:
        self._reference_point = reference_point
        self.losses: Losses = np.empty((0, len(reference_point)))
        self.hypervolume = 0.0

    def add(self, losses: Losses) -> None:
        """Add rows of losses (n, m); n may be 0."""
        rows = np.concatenate([self.losses, losses])
        kept = nondominated(rows)
        if kept[len(self.losses) :].any():
            self.losses = np.unique(rows[kept], axis=0)
            self.hypervolume = hypervolume(self.losses, self._reference_point)
