"""Run short computations in threads of one core each.

The many small steps of solving a plane are slower if torch divides each of them among its threads,
which sleep in between, than if every thread takes a part of the plane.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


def map_on_cores(function: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Return the results of a function for each item, computed at the same time.

    Parameters
    ----------
    function : callable
        Computes with torch on the CPU, in inference mode. It must not call `map_on_cores`.
    items : iterable
        Its arguments.

    Returns
    -------
    list
        In the order of the items.

    Examples
    --------
    >>> map_on_cores(lambda n: int(torch.arange(n).sum()), [3, 4])
    [3, 6]
    """

    def infer(item: T) -> R:
        with torch.inference_mode():
            return function(item)

    return list(_threads().map(infer, items))


@lru_cache(maxsize=1)
def _threads() -> ThreadPoolExecutor:
    """Return as many threads as torch uses, in each of which torch uses one."""
    count = torch.get_num_threads()
    ready = threading.Barrier(count + 1)

    def begin() -> None:
        torch.get_num_threads()  # so that torch does not set it later
        torch.set_num_threads(1)
        ready.wait()

    pool = ThreadPoolExecutor(count, "one-core", begin)
    for _ in range(count):
        pool.submit(int)
    ready.wait()
    # the threads also set what threads that begin later use
    torch.set_num_threads(count)
    return pool
