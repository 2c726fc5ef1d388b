"""Small kernels of one shape as one batch, so that networks of many layers take few operations."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

# Entries of a kernel from which on it is a batch of its own on a CPU: to copy it takes longer than
# to call an operation, and what follows finds it in the cache. On a GPU it is the calls that count.
_LARGE = 2**16


def stacked(kernels: Sequence[Tensor]) -> Tensor:
    """(c_out, c_in, k, k) each -> (L, c_out, k, k, c_in), contiguous; a view if it is one kernel in
    channels_last."""
    return as_batch([kernel.permute(0, 2, 3, 1) for kernel in kernels]).contiguous()


def as_batch(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors of one shape as (L, ...); one alone as a view."""
    return tensors[0].unsqueeze(0) if len(tensors) == 1 else torch.stack(list(tensors))


def alone(kernel: Tensor, index: int) -> int | None:
    """The index of a kernel that is a batch of its own, None for one that shares a batch: a part of
    the key by which kernels are grouped."""
    return index if kernel.numel() >= _LARGE and kernel.device.type == "cpu" else None


def map_kernels(
    function: Callable[..., Tensor],
    *kernels: Sequence[Tensor],
    settings: Sequence[Hashable] | None = None,
) -> list[Tensor]:
    """Apply a function to each kernel, in order; to all small kernels of one shape and setting at
    once.

    Args:
        function: of as many tensors (L, c_out, k, k, c_in) as there are sequences, and of the
            setting if there are settings; gives one of that shape.
        kernels: (c_out, c_in, k, k) each; tensors at one place in the sequences have one shape.
        settings: one for each place.
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
