"""Threads that share the rows of a pass on a CPU, one for each of torch's own.

torch splits every single operation over its threads and joins them again, so that all of them wait for main memory in
X w and all for the cache in X^T r. Threads with row blocks of their own, in which an operation runs on one thread only,
wait at different times. Measured on two cores, 200,000 x 1,024: 39 ms in place of 63, and one X @ w takes 40.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import pairwise
from typing import TypeVar

import torch

Result = TypeVar("Result")

_lock = threading.Lock()
_pools: dict[int, ThreadPoolExecutor] = {}


def map_in_threads(work: Callable[[slice], Result], parts: Sequence[slice]) -> list[Result]:
    """`work` of each part, in order; consecutive parts go to the same thread, so that sums do not depend on timing.

    The calling thread takes the first share: with one thread more than cores, two of them end up on one core.
    """
    count = min(torch.get_num_threads(), len(parts))
    if count < 2:
        return _work_through(work, parts)
    bounds = [len(parts) * i // count for i in range(count + 1)]
    first, *others = (parts[start:stop] for start, stop in pairwise(bounds))
    pool = _pool(count - 1)
    running = [pool.submit(_work_through, work, share) for share in others]
    with _OneThread():
        try:
            results = _work_through(work, first)
        finally:
            wait(running)
    for share in running:
        results += share.result()
    return results


def _work_through(work: Callable[[slice], Result], parts: Sequence[slice]) -> list[Result]:
    return [work(part) for part in parts]


class _OneThread:
    """Within it, torch's operations run on the calling thread alone.

    The number of threads is a thread's own, but what new threads begin with is not: it is put back on leaving.
    """

    def __enter__(self) -> None:
        self._threads = torch.get_num_threads()
        torch.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self._threads)


def _pool(count: int) -> ThreadPoolExecutor:
    """A pool of `count` threads in each of which torch's operations run on that thread alone."""
    with _lock:
        if count not in _pools:
            pool = ThreadPoolExecutor(count, thread_name_prefix="flashlogit")
            with _OneThread():
                everybody = threading.Barrier(count + 1)
                for _ in range(count):
                    pool.submit(_begin, everybody)
                everybody.wait()
            _pools[count] = pool
        return _pools[count]


def _begin(everybody: threading.Barrier) -> None:
    """A thread's first work: it takes up the number of threads that is set now."""
    torch.set_num_threads(1)
    everybody.wait()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pools.clear)  # a child has none of its parent's threads
