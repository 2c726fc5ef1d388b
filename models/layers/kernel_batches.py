"""Process small kernels of one shape as one batch, so that many layers take few operations."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

# On a CPU, a kernel with at least this many entries is a batch of its own: copying it takes longer
# than a call, and leaves it out of the cache. On a GPU the number of calls is what counts.
_LARGE = 2**16


def stacked(kernels: Sequence[Tensor]) -> Tensor:
    """L kernels (c_out, c_in, k, k) as one batch (L, c_out, k, k, c_in), contiguous; a view for a
    single kernel in channels_last."""
    return as_batch([kernel.permute(0, 2, 3, 1) for kernel in kernels]).contiguous()


def as_batch(tensors: Sequence[Tensor]) -> Tensor:
    """L tensors of one shape, stacked to (L, ...); a single tensor as a view."""
    return tensors[0].unsqueeze(0) if len(tensors) == 1 else torch.stack(list(tensors))


def alone(kernel: Tensor, index: int) -> int | None:
    """The index of a kernel that must be a batch of its own, else None: part of a grouping key."""
    return index if kernel.numel() >= _LARGE and kernel.device.type == "cpu" else None


def map_kernels(
    function: Callable[..., Tensor],
    *kernels: Sequence[Tensor],
    settings: Sequence[Hashable] | None = None,
) -> list[Tensor]:
    """The results of a function for each kernel, in order; it is called once for all small kernels
    of one shape and setting.

    Args:
        function: takes a batch (L, c_out, k, k, c_in) from each sequence of kernels, and the
            setting if there are settings; returns one batch of that shape.
        kernels: sequences of kernels (c_out, c_in, k, k), all of one shape at each index.
        settings: one for each index.
    """
    groups: dict[tuple[torch.Size, Hashable, int | None], list[int]] = defaultdict(list)
    for index, kernel in enumerate(kernels[0]):
        setting = settings[index] if settings else None
        groups[(kernel.shape, setting, alone(kernel, index))].append(index)
    made: dict[int, Tensor] = {}
    for (_, setting, _), members in groups.items():
        batches = [stacked([sequence[index] for index in members]) for sequence in kernels]
        batch = function(*batches, *([setting] if settings else []))
        made.update(zip(members, batch.permute(0, 1, 4, 2, 3).unbind(), strict=True))
    return [made[index] for index in range(len(kernels[0]))]
