"""Threads that share rows: order, errors, and torch's own number of threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch

from flashlogit import reference
from flashlogit.row_workers import map_in_threads

PARTS = [slice(i, i + 1) for i in range(11)]


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


def test_every_thread_takes_consecutive_parts_and_works_alone(threads: int) -> None:
    seen = map_in_threads(lambda _: (threading.get_ident(), torch.get_num_threads()), PARTS)
    workers = [worker for worker, _ in seen]
    assert workers[0] == threading.get_ident()
    changes = sum(a != b for a, b in pairwise(workers))
    assert len(set(workers)) <= threads
    assert changes <= threads - 1
    assert {inside for _, inside in seen} == {1}
    assert torch.get_num_threads() == threads


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


def test_a_pass_in_threads_is_the_same_from_run_to_run(threads: int) -> None:
    X, y = torch.randn(300_000, 8), torch.rand(300_000) < 0.5
    weight = torch.randn(8)
    first, second = (reference.bce_onepass(X, y, weight).packed for _ in range(2))
    assert torch.equal(first, second)
    z = X.double() @ weight.double()
    exact = X.double().t() @ (torch.sigmoid(z) - y.double())
    torch.testing.assert_close(first[:8], exact, rtol=1e-5, atol=1e-2)
