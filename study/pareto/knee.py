"""The knee of a front: every move away from it costs the most for what it gains."""

import numpy as np

from study.pareto.dominance import Losses


def trade_off(losses: Losses, least_ranges: Losses) -> Losses:
    """Cost of leaving each row of losses: (n,), 0 or more, infinite if there is no other row.

    A move to another row gives up something in some columns and gains something in others. The cost
    is the smallest ratio, over all moves, of the sum given up to the sum gained: the trade-off
    measure of Rachmawati and Srinivasan, "Multiobjective Evolutionary Algorithm With Controllable
    Focus on the Knees of the Pareto Front" (IEEE Transactions on Evolutionary Computation 13,
    2009), over all rows instead of neighbors.

    Args:
        losses: (n, m) distinct nondominated rows.
        least_ranges: (m,), 0 or more. A column is scaled by its range over the rows, or by this if
            it is larger, so that noise is not scaled up.
    """
    ranges = np.maximum(losses.max(axis=0) - losses.min(axis=0), least_ranges)
    scaled = losses / np.where(ranges > 0, ranges, 1.0)
    best_bargain: Losses = np.full(len(losses), np.inf)
    for index, row in enumerate(scaled):
        change = np.delete(scaled, index, axis=0) - row
        given_up, gained = np.maximum(change, 0).sum(axis=1), np.maximum(-change, 0).sum(axis=1)
        best_bargain[index] = (given_up / gained).min(initial=np.inf)
    return best_bargain


def knee(losses: Losses, least_ranges: Losses) -> int:
    """Index of the row with the largest `trade_off`, of equals the first; n must be 1 or more."""
    return int(trade_off(losses, least_ranges).argmax())
