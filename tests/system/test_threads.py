"""Threads that share rows: order, errors, and torch's own number of threads."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

import flashlogit
from flashlogit import reference
from flashlogit.system import threads as pools

PARTS = [slice(i, i + 1) for i in range(11)]


def map_in_threads(work: Callable[[slice], Any], parts: list[slice]) -> list[Any]:
    """The results themselves, put together by one thread."""

    def combine(results: list[Any]) -> list[Any]:
        assert len(parts) < 2 or torch.get_num_threads() == 1
        return results

    return pools.map_in_threads(work, parts, combine)


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """torch with so many threads, whatever the machine has, and without the threads that other tests have left."""
    count = threading.active_count
    others = count() - sum(pools._pools) - 1
    monkeypatch.setattr(threading, "active_count", lambda: count() - others)
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def in_a_thread(work: Callable[[], object]) -> None:
    other = threading.Thread(target=work)
    other.start()
    other.join()


def test_results_keep_the_parts_order_and_new_threads_begin_as_before(threads: int) -> None:
    begun: list[int] = []
    assert map_in_threads(lambda part: part.start, PARTS) == list(range(11))
    in_a_thread(lambda: begun.append(torch.get_num_threads()))
    assert begun == [threads]
    assert map_in_threads(lambda part: part.start, []) == []


def test_threads_work_alone_and_the_caller_is_one_of_them(threads: int) -> None:
    all_at_work = threading.Barrier(threads)

    def work(_: slice) -> tuple[int, int]:
        all_at_work.wait(timeout=30)
        return threading.get_ident(), torch.get_num_threads()

    seen = map_in_threads(work, [slice(0)] * (8 * threads))  # every one of them has eight parts
    workers = {worker for worker, _ in seen}
    assert threading.get_ident() in workers
    assert len(workers) == threads
    assert threads == 1 or {inside for _, inside in seen} == {1}
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("threads", [2], indirect=True)
def test_a_thread_that_is_held_up_leaves_its_parts_to_the_others(threads: int) -> None:
    last_done = threading.Event()

    def work(part: slice) -> bool:
        if part == PARTS[-1]:
            last_done.set()
        return part != PARTS[0] or last_done.wait(timeout=30)

    assert all(map_in_threads(work, PARTS))


@pytest.mark.parametrize("bad", [0, 10])
def test_an_error_comes_through_from_any_thread(bad: int, threads: int) -> None:
    def work(part: slice) -> int:
        if part.start == bad:
            raise ArithmeticError(f"part {bad}")
        return part.start

    with pytest.raises(ArithmeticError, match=f"part {bad}"):
        map_in_threads(work, PARTS)
    assert torch.get_num_threads() == threads
    assert map_in_threads(lambda part: part.start, PARTS) == list(range(11))


@pytest.mark.parametrize("in_main", [True, False])
def test_after_an_interruption_no_thread_begins_another_part(
    in_main: bool, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = []
    cleared = threading.Event()

    class Parts(deque[Any]):
        def clear(self) -> None:
            super().clear()
            cleared.set()

    monkeypatch.setattr(pools, "deque", Parts)

    def work(part: slice) -> None:
        begun.append(part.start)
        is_main = threading.current_thread() is threading.main_thread()
        if threads == 1 or is_main == in_main:
            raise KeyboardInterrupt
        assert cleared.wait(timeout=30)

    with pytest.raises(KeyboardInterrupt):
        map_in_threads(work, PARTS)
    assert len(begun) <= threads
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("threads", [3], indirect=True)
def test_a_pass_in_threads_is_the_same_from_run_to_run(threads: int) -> None:
    X, y, weight = torch.randn(100_000, 8), torch.rand(100_000) < 0.5, torch.randn(8)
    first, second = (reference.bce_onepass(X, y, weight).packed for _ in range(2))
    assert torch.equal(first, second)
    exact = X.double().t() @ (torch.sigmoid(X.double() @ weight.double()) - y.double())
    torch.testing.assert_close(first[:8], exact, rtol=1e-5, atol=1e-2)


def test_a_thread_beside_others_leaves_the_numbers_alone(threads: int) -> None:
    """Passes run in workers there too, and neither the caller nor threads begun meanwhile lose any of torch's."""
    seen: list[int] = []

    def begin_another(part: slice) -> int:
        in_a_thread(lambda: seen.append(torch.get_num_threads()))
        return torch.get_num_threads()

    def call() -> None:
        with pools.threads_for_passes():
            seen.append(torch.get_num_threads())
            inside.extend(pools.map_in_threads(begin_another, PARTS, list))
            seen.append(torch.get_num_threads())

    inside: list[int] = []
    in_a_thread(call)
    assert set(inside) == {1}
    assert set(seen) == {threads}


def test_a_thread_that_waits_beside_the_main_one_is_enough(threads: int) -> None:
    done = threading.Event()
    other = threading.Thread(target=done.wait)
    other.start()
    with pools.threads_for_passes():
        beside = torch.get_num_threads()
    done.set()
    other.join()
    with pools.threads_for_passes():
        assert (beside, torch.get_num_threads()) == (threads, 1)


@pytest.mark.parametrize("threads", [3], indirect=True)
def test_fits_at_once_give_what_one_gives(threads: int) -> None:
    X = torch.randn(60_000, 8)
    y = (X[:, 0] + torch.randn(len(X)) > 0).to(torch.uint8)

    def solve() -> torch.Tensor:
        return flashlogit.fit(X, y, l2=1e-3, tolerance=1e-10).weight

    expected = solve()
    with ThreadPoolExecutor(4) as pool:
        fits = [pool.submit(solve) for _ in range(8)]
        found = [each.result() for each in fits]
        left = list(pool.map(lambda _: torch.get_num_threads(), range(32)))
    for weight in found:
        torch.testing.assert_close(weight, expected, rtol=1e-6, atol=1e-9)
    assert set(left) == {threads}
    assert torch.get_num_threads() == threads


def test_a_thread_begun_by_a_callback_has_all_of_torchs_threads(threads: int) -> None:
    done = threading.Event()
    seen: list[int] = []
    begun: list[threading.Thread] = []

    def other() -> None:
        done.wait()
        seen.append(torch.get_num_threads())

    def begin(*_: object) -> None:
        seen.append(torch.get_num_threads())
        if not begun:
            begun.append(threading.Thread(target=other))
            begun[0].start()

    X = torch.randn(300, 5)
    flashlogit.fit(X, (X[:, 0] > torch.randn(300)).to(torch.uint8), l2=1e-3, on_point=begin)
    done.set()
    begun[0].join()
    assert set(seen) == {threads}
    assert torch.get_num_threads() == threads


_FORK = """
import os, sys, torch, flashlogit
torch.set_num_threads(2)
X = torch.randn(20_000, 40)
y = (X[:, 0] + torch.randn(len(X)) > 0).to(torch.uint8)
(torch.randn(500, 500) @ torch.randn(500, 500)).exp().sum()  # torch's own threads have begun
expected = flashlogit.fit(X, y, l2=1e-3).objective

def child(compute):
    pid = os.fork()
    if pid == 0:
        z = torch.cat([X] * 4) @ torch.ones(40)
        os._exit(0 if abs(compute() - expected) < 1e-9 and len(z) else 1)
    _, status = os.waitpid(pid, 0)
    if status:
        sys.exit(1)

def fork_once(*_):
    global fork_once
    fork_once = lambda *_: None
    child(lambda: flashlogit.fit(X, y, l2=1e-3).objective)

child(lambda: flashlogit.fit(X, y, l2=1e-3).objective)
flashlogit.fit(X, y, l2=1e-3, on_point=lambda *given: fork_once(*given))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_computes_after_its_parent_has() -> None:
    done = subprocess.run([sys.executable, "-c", _FORK], timeout=60, check=False)
    assert done.returncode == 0
