"""Kernels of one shape as one batch, so that networks of many layers take few operations."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor


def stacked(kernels: Sequence[Tensor]) -> Tensor:
    """(c_out, c_in, k, k) each -> (L, c_out, k, k, c_in), contiguous for channels_last kernels."""
    return torch.stack([kernel.permute(0, 2, 3, 1) for kernel in kernels])


def map_kernels(
    function: Callable[..., Tensor],
    *kernels: Sequence[Tensor],
    settings: Sequence[Hashable] | None = None,
) -> list[Tensor]:
    """Apply a function to each kernel, in order; to all kernels of one shape and setting at once.

    Args:
        function: of as many tensors (L, c_out, k, k, c_in) as there are sequences, and of the
            setting if there are settings; gives one of that shape.
        kernels: (c_out, c_in, k, k) each; tensors at one place in the sequences have one shape.
        settings: one for each place.
    """
    groups: dict[tuple[torch.Size, Hashable], list[int]] = defaultdict(list)
    for index, kernel in enumerate(kernels[0]):
        groups[(kernel.shape, settings[index] if settings else None)].append(index)
    made: dict[int, Tensor] = {}
    for (_, setting), members in groups.items():
        batches = [stacked([sequence[index] for index in members]) for sequence in kernels]
        batch = function(*batches, *([setting] if settings else []))
        made.update(zip(members, batch.permute(0, 1, 4, 2, 3).unbind(), strict=True))
    return [made[index] for index in range(len(kernels[0]))]
