"""Threads that share the parts of a pass: one small pool for all fits of a process.

A compiled loop holds no lock of Python's, so that threads of Python's run side by side. Nothing of torch runs in
them, and torch's own number of threads is read at each call, so that OMP_NUM_THREADS, joblib and containers are obeyed.
It is set in a forked child only, where torch's own threads are missing.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

import torch

_MOST_THREADS = 256


def share(work: Callable[[int], object], count: int) -> None:
    """Call `work` with each number below `count`, in as many threads as torch may use, the calling one included.

    A thread that is done takes the next number, so that none waits for a busy core; what has not begun when the caller
    finds no more is not waited for. After an error, or Ctrl-C, no thread begins another one.
    """
    left, kept = deque(range(count)), [work]

    def take() -> None:
        try:
            while left:
                try:
                    place = left.popleft()
                except IndexError:
                    return
                kept[0](place)
        except BaseException:
            left.clear()
            raise

    others: list[Future[None]] = []
    with contextlib.suppress(RuntimeError):  # the interpreter is shutting down: the calling thread works alone
        others += (_pool().submit(take) for _ in range(min(torch.get_num_threads(), count) - 1))
    try:
        take()
    finally:
        begun = [other for other in others if not other.cancel()]
        wait(begun)
        kept.clear()  # what was cancelled stays in the queue until a thread looks at it, and would keep X
    for other in begun:
        other.result()


_lock = threading.Lock()
_pools: list[ThreadPoolExecutor] = []


def _pool() -> ThreadPoolExecutor:
    """Return the pool, whose threads begin when they are first needed."""
    with _lock:
        if not _pools:
            _pools.append(ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix="flashlogit"))
        return _pools[0]


def _begin_child() -> None:
    """Forget the parent's threads, which a forked process does not have, and let torch use none of its own there: it
    would wait for ever for those of the parent."""
    global _lock
    _lock = threading.Lock()
    _pools.clear()
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_child)
