"""Threads that share rows: order, errors, and torch's own number of threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from flashlogit import reference, row_workers

PARTS = [slice(i, i + 1) for i in range(11)]


def map_in_threads(work: Callable[[slice], Any], parts: list[slice]) -> list[Any]:
    """The results themselves, put together by one thread."""

    def combine(results: list[Any]) -> list[Any]:
        assert len(parts) < 2 or torch.get_num_threads() == 1
        return results

    return row_workers.map_in_threads(work, parts, combine)


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """torch with so many threads, whatever the machine has."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_results_keep_the_parts_order(threads: int) -> None:
    assert map_in_threads(lambda part: part.start, PARTS) == list(range(11))
    assert map_in_threads(lambda part: part.start, PARTS[:1]) == [0]
    assert map_in_threads(lambda part: part.start, []) == []


def test_threads_work_alone_and_the_caller_is_one_of_them(threads: int) -> None:
    def work(_: slice) -> tuple[int, int]:
        time.sleep(0.005)
        return threading.get_ident(), torch.get_num_threads()

    seen = map_in_threads(work, PARTS)
    workers = {worker for worker, _ in seen}
    assert threading.get_ident() in workers
    assert len(workers) == threads
    assert {inside for _, inside in seen} == {1}
    assert torch.get_num_threads() == threads


def test_a_thread_that_is_held_up_leaves_its_parts_to_the_others(threads: int) -> None:
    if threads == 1:
        return
    others_done = threading.Event()

    def work(part: slice) -> int:
        if part.start == 0:
            assert others_done.wait(timeout=30)
        elif part.start == len(PARTS) - 1:
            others_done.set()
        return part.start

    assert map_in_threads(work, PARTS) == list(range(11))


def test_new_threads_begin_with_the_number_that_was_set(threads: int) -> None:
    map_in_threads(lambda part: part, PARTS)
    begun: list[int] = []
    other = threading.Thread(target=lambda: begun.append(torch.get_num_threads()))
    other.start()
    other.join()
    assert begun == [threads]


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


def test_after_an_interruption_nobody_begins_another_part(threads: int) -> None:
    begun = []

    def work(part: slice) -> None:
        begun.append(part.start)
        if part.start == 0:
            raise KeyboardInterrupt
        time.sleep(0.05)

    with pytest.raises(KeyboardInterrupt):
        map_in_threads(work, PARTS)
    assert len(begun) <= threads
    assert torch.get_num_threads() == threads


def test_a_pass_in_threads_is_the_same_from_run_to_run(threads: int) -> None:
    X, y = torch.randn(300_000, 8), torch.rand(300_000) < 0.5
    weight = torch.randn(8)
    first, second = (reference.bce_onepass(X, y, weight).packed for _ in range(2))
    assert torch.equal(first, second)
    z = X.double() @ weight.double()
    exact = X.double().t() @ (torch.sigmoid(z) - y.double())
    torch.testing.assert_close(first[:8], exact, rtol=1e-5, atol=1e-2)
