"""Threads of torch, for computations on the CPU whose batches are of small matrices."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch
from torch import Tensor

MOST_LAYERS = 8
"""Layers in one batch, at most."""


def in_threads(
    function: Callable[..., Tensor],
    *batches: Tensor,
    most: int = MOST_LAYERS,
    n_threads: int | None = None,
) -> Tensor:
    """function(*batches), with the batches (L, ...) in parts of at most `most`, on n_threads, by
    default as many as torch has.
    LAPACK takes the matrices of a batch one after another, on one thread; and the symbols of a few
    layers fit into the caches, the symbols of all layers do not."""
    n_layers, n_threads = len(batches[0]), n_threads or torch.get_num_threads()
    n_chunks = min(n_layers, max(n_threads, -(-n_layers // most)))
    with ThreadPoolExecutor(n_threads) as pool:
        return torch.cat(list(pool.map(function, *(batch.chunk(n_chunks) for batch in batches))))


@contextmanager
def single_threaded_operations() -> Iterator[int]:
    """Let each operation of torch run on one thread, also in threads that begin here; gives the
    number of threads of before. On more, products with vectors are summed in an order that depends
    on what else the processor does, and a search that starts from them ends elsewhere; and many
    small operations take several times as long."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield n_threads
    finally:
        torch.set_num_threads(n_threads)
