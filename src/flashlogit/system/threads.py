"""Threads that share the rows of a pass on a CPU, one for each of torch's own.

torch splits every single operation over its threads and joins them again, so that all of them wait for main memory in
X w and all for the cache in X^T r. Threads with row blocks of their own, in which an operation runs on one thread only,
wait at different times. Measured on two cores, 200,000 x 1,024: 39 ms in place of 63, and one X @ w takes 40.

torch's number of threads is each thread's own, but what new threads begin with is the process's. So it is lowered only
by the main thread, and only while no other Python thread is there that might begin one. Elsewhere, as in a notebook or
in a server that answers in threads, the caller keeps its number and waits for the workers.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import TypeVar

import torch

Result = TypeVar("Result")
Total = TypeVar("Total")

_for_passes: ContextVar[int | None] = ContextVar("for_passes", default=None)
"""torch's number of threads where `threads_for_passes` began, which has lowered it since."""
_lock = threading.Lock()
_process = object()
_pools: dict[int, ThreadPoolExecutor] = {}


def thread_count() -> int:
    """Return how many threads a pass may use: torch's own number, as it was where `threads_for_passes` began."""
    return _for_passes.get() or torch.get_num_threads()


@contextmanager
def threads_for_passes() -> Iterator[None]:
    """Run passes in all of torch's threads and everything else in one, unless other Python threads run.

    What a solver does between two passes is hundreds of operations on some kilobytes. torch would split some of them
    over its threads, and each time wait until the last has been woken: on a busy machine a fit of 569 x 30 took 300 ms
    in place of 15.
    """
    if not _alone():
        yield
        return
    token = _for_passes.set(thread_count())
    try:
        with _Threads(1):
            yield
    finally:
        _for_passes.reset(token)


@contextmanager
def threads_as_before() -> Iterator[None]:
    """Give torch the number of threads again that it had before `threads_for_passes`: for a user's callback.

    Where the callback has left a thread behind, the number stays.
    """
    before = _for_passes.get()
    if before is None:
        yield
        return
    threads = _Threads(before)
    threads.__enter__()
    try:
        yield
    finally:
        if _alone():
            threads.__exit__()
        else:
            _for_passes.set(None)


@contextmanager
def threads_for_algebra() -> Iterator[None]:
    """Run torch's operations in all threads again: for matrices that are large enough for it to pay."""
    with _Threads(thread_count()):
        yield


def map_in_threads(
    work: Callable[[slice], Result], parts: Sequence[slice], combine: Callable[[list[Result]], Total]
) -> Total:
    """Return `combine` of the results of `work`, one for each part, in order.

    A thread that is done takes the next part, so that no thread waits for a busy core. A calling thread that is alone
    takes parts too: with one thread more than cores, two of them end up on one core. The caller combines by itself:
    torch's own threads sleep by then, and waking them can take longer than the whole pass.
    """
    count = min(thread_count(), len(parts))
    if count < 2:
        return combine([work(part) for part in parts])
    results: dict[int, Result] = {}
    left = deque(enumerate(parts))

    def take_parts() -> None:
        try:
            while True:
                try:
                    place, part = left.popleft()
                except IndexError:
                    return
                results[place] = work(part)
        except BaseException:
            left.clear()  # after an error, or Ctrl-C, no thread begins another part
            raise

    alone = _for_passes.get() is not None or _alone()
    workers = count - 1 if alone else count
    pool = _pool(workers)
    running = [pool.submit(take_parts) for _ in range(workers)]
    with _Threads(1) if alone else nullcontext():
        try:
            if alone:
                take_parts()
            wait(running)
        except BaseException:
            left.clear()
            wait(running)
            raise
        for other in running:
            other.result()
        return combine([results[place] for place in range(len(parts))])


def _alone() -> bool:
    """Return whether this is the main thread and there is no other but those of the pools."""
    main = threading.current_thread() is threading.main_thread()
    return main and threading.active_count() - sum(_pools) == 1


class _Threads:
    """A block in which torch's operations run in so many threads, the calling one included.

    The number of threads is a thread's own, but what new threads begin with is not: it is restored on leaving.
    """

    def __init__(self, count: int) -> None:
        self._count = count

    def __enter__(self) -> None:
        self._process = _process
        self._threads = torch.get_num_threads()
        if self._count != self._threads:
            torch.set_num_threads(self._count)

    def __exit__(self, *_: object) -> None:
        # A child that was forked meanwhile keeps to one.
        if self._count != self._threads and self._process is _process:
            torch.set_num_threads(self._threads)


def _pool(count: int) -> ThreadPoolExecutor:
    """Return a pool of `count` threads in each of which torch's operations run on that thread alone."""
    with _lock:
        if count not in _pools:
            pool = ThreadPoolExecutor(count, thread_name_prefix="flashlogit")
            all_begun = threading.Barrier(count + 1)
            before = torch.get_num_threads()
            for _ in range(count):
                pool.submit(_begin, all_begun)
            all_begun.wait()
            # A thread's own number cannot be set without the one that new threads begin with: for some microseconds,
            # once in the life of a process, this is 1.
            torch.set_num_threads(before)
            _pools[count] = pool
        return _pools[count]


def _begin(all_begun: threading.Barrier) -> None:
    """Let torch's operations run on the calling thread of a pool alone."""
    torch.get_num_threads()  # else the thread's first operation would take up the process's number
    torch.set_num_threads(1)
    all_begun.wait()


def _begin_child() -> None:
    """Forget the parent's threads, which a forked process does not have and for which torch would wait for ever."""
    global _lock, _process
    _lock, _process = threading.Lock(), object()
    _pools.clear()
    _for_passes.set(None)
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_child)
