"""Threads for computations of torch on the CPU, on batches of small matrices."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch
from torch import Tensor

MOST_LAYERS = 8
"""The most layers in one batch."""


def in_threads(
    function: Callable[..., Tensor],
    *batches: Tensor,
    most: int = MOST_LAYERS,
    n_threads: int | None = None,
) -> Tensor:
    """The result of function(*batches), computed in n_threads threads (by default as many as torch
    has) on parts of the batches (L, ...) with at most `most` of the L entries each. LAPACK takes
    the matrices of a batch one after another, on one thread; and the symbols of a few layers fit
    into the caches, while those of all layers do not."""
    n_layers, n_threads = len(batches[0]), n_threads or torch.get_num_threads()
    n_chunks = min(n_layers, max(n_threads, -(-n_layers // most)))
    with ThreadPoolExecutor(n_threads) as pool:
        return torch.cat(list(pool.map(function, *(batch.chunk(n_chunks) for batch in batches))))


@contextmanager
def single_threaded_operations() -> Iterator[int]:
    """Let each operation of torch run on one thread, also in threads that are started in this
    context; yields the former number of threads. With more threads, products with vectors are
    summed in an order that depends on what else the processor does, so that a search that uses them
    ends elsewhere; and many small operations take several times as long."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield n_threads
    finally:
        torch.set_num_threads(n_threads)
