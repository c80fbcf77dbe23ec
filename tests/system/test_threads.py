"""Threads that share rows: order, errors, and torch's own number of threads."""

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
    """torch with so many threads, whatever the machine has, and without the threads that other tests have left. In the
    end it has as many as before."""
    count = threading.active_count
    others = count() - sum(pools._pools) - 1
    monkeypatch.setattr(threading, "active_count", lambda: count() - others)
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    after = torch.get_num_threads()
    torch.set_num_threads(before)
    assert after == request.param


def in_a_thread(work: Callable[[], Any]) -> Any:
    """The result of work in a thread that is begun for it."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def test_results_keep_the_parts_order_and_new_threads_begin_as_before(threads: int) -> None:
    assert map_in_threads(lambda part: part.start, PARTS) == list(range(11))
    assert in_a_thread(torch.get_num_threads) == threads
    assert map_in_threads(lambda part: part.start, []) == []


def test_threads_work_alone_and_the_caller_is_one_of_them(threads: int) -> None:
    all_at_work = threading.Barrier(threads)

    def work(_: slice) -> tuple[int, int]:
        all_at_work.wait(timeout=30)
        return threading.get_ident(), torch.get_num_threads()

    seen = map_in_threads(work, [slice(0)] * (8 * threads))  # every one of them has eight parts
    workers, inside = map(set, zip(*seen, strict=True))
    assert threading.get_ident() in workers
    assert (len(workers), inside) == (threads, {1})


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


@pytest.mark.parametrize("threads", [3], indirect=True)
def test_a_pass_in_threads_is_the_same_from_run_to_run(threads: int) -> None:
    X, y, weight = torch.randn(100_000, 8), torch.rand(100_000) < 0.5, torch.randn(8)
    first, second = (reference.bce_onepass(X, y, weight).packed for _ in range(2))
    assert torch.equal(first, second)
    exact = X.double().t() @ (torch.sigmoid(X.double() @ weight.double()) - y.double())
    torch.testing.assert_close(first[:8], exact, rtol=1e-5, atol=1e-2)


def test_a_thread_beside_others_leaves_the_numbers_alone(threads: int) -> None:
    """Passes run in workers there too, and neither the caller nor threads begun meanwhile lose any of torch's."""

    def begin_another(_: slice) -> tuple[int, int]:
        return torch.get_num_threads(), in_a_thread(torch.get_num_threads)

    def call() -> tuple[int, list[tuple[int, int]], int]:
        with pools.threads_for_passes():
            return torch.get_num_threads(), pools.map_in_threads(begin_another, PARTS, list), torch.get_num_threads()

    before, in_parts, after = in_a_thread(call)
    assert (before, set(in_parts), after) == (threads, {(1, threads)}, threads)


def test_a_thread_that_waits_beside_the_main_one_is_enough(threads: int) -> None:
    done = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(done.wait, timeout=30)
        with pools.threads_for_passes():
            beside = torch.get_num_threads()
        done.set()
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
        found = list(pool.map(lambda _: solve(), range(8)))
        left = set(pool.map(lambda _: torch.get_num_threads(), range(32)))
    torch.testing.assert_close(found, [expected] * 8, rtol=1e-6, atol=1e-9)
    assert left == {threads}


def test_a_thread_begun_by_a_callback_has_all_of_torchs_threads(threads: int) -> None:
    done = threading.Event()
    seen: list[int] = []

    def other() -> None:
        done.wait(timeout=30)
        seen.append(torch.get_num_threads())

    def begin(*_: object) -> None:
        seen.append(torch.get_num_threads())
        if len(seen) == 1:
            pool.submit(other)

    X = torch.randn(300, 5)
    with ThreadPoolExecutor(1) as pool:
        flashlogit.fit(X, X[:, 0] > torch.randn(300), l2=1e-3, on_point=begin)
        done.set()
    assert len(seen) > 2
    assert set(seen) == {threads}


_FORK = """
import os, sys, torch, flashlogit
torch.set_num_threads(2)
X = torch.randn(20_000, 40)
y = (X[:, 0] + torch.randn(len(X)) > 0).to(torch.uint8)
(torch.randn(500, 500) @ torch.randn(500, 500)).exp().sum()  # torch's own threads have begun
def solve(**options):
    return flashlogit.fit(X, y, l2=1e-3, **options).objective
def child():
    if os.fork() == 0:
        z = torch.cat([X] * 4) @ torch.ones(40)
        os._exit(0 if abs(solve() - expected) < 1e-9 and len(z) else 1)
    if os.wait()[1]:
        sys.exit(1)
expected, once = solve(), [child]
child()
solve(on_point=lambda *_: once and once.pop()())
assert not once
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_computes_after_its_parent_has() -> None:
    assert subprocess.run([sys.executable, "-c", _FORK], timeout=60, check=False).returncode == 0
