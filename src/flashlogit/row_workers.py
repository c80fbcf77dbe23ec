"""Threads that share the rows of a pass on a CPU, one for each of torch's own.

torch splits every single operation over its threads and joins them again, so that all of them wait for main memory in X w
and all for the cache in X^T r. Threads with their own row blocks and one-threaded operations wait at different times:
measured on two cores, 200,000 x 1,024 took 39 ms in place of 63, and one X @ w, which reads as much, 40.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

import torch

Result = TypeVar("Result")

_lock = threading.Lock()
_pools: dict[int, ThreadPoolExecutor] = {}


def map_in_threads(work: Callable[[slice], Result], parts: Sequence[slice]) -> list[Result]:
    """`work` of each part, in order; consecutive parts go to the same thread, so that sums do not depend on timing."""
    count = min(torch.get_num_threads(), len(parts))
    if count < 2:
        return [work(part) for part in parts]
    bounds = [len(parts) * i // count for i in range(count + 1)]
    shares = [parts[start:stop] for start, stop in pairwise(bounds)]
    results = _pool(count).map(lambda share: [work(part) for part in share], shares)
    return [result for share in results for result in share]


def _pool(count: int) -> ThreadPoolExecutor:
    """A pool of `count` threads in each of which torch's operations run on that thread alone."""
    with _lock:
        if count not in _pools:
            started = threading.Barrier(count + 1)

            def initialize() -> None:
                torch.set_num_threads(1)
                started.wait()

            # The setting is a thread's own, but what new threads begin with is not: it is put back at once.
            threads = torch.get_num_threads()
            pool = ThreadPoolExecutor(count, thread_name_prefix="flashlogit", initializer=initialize)
            for _ in range(count):
                pool.submit(_nothing)
            started.wait()
            torch.set_num_threads(threads)
            _pools[count] = pool
        return _pools[count]


def _nothing() -> None:
    """Make a pool start a thread."""


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pools.clear)  # a child has none of its parent's threads
