"""Threads that share the parts of a pass: order, errors, torch's own number of threads, and forked children."""

import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

import flashlogit
from flashlogit_kernels.cpu import pool

passes = pytest.importorskip("flashlogit_kernels.cpu.passes", exc_type=ImportError)

PARTS = 11


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """torch with so many threads, whatever the machine has. In the end it has as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    after = torch.get_num_threads()
    torch.set_num_threads(before)
    assert after == request.param


def test_every_part_is_worked_on_once_and_the_caller_takes_some(threads: int) -> None:
    all_at_work = threading.Barrier(threads)
    seen: list[tuple[int, int]] = []

    def work(part: int) -> None:
        if part < threads:
            all_at_work.wait(timeout=30)
        seen.append((part, threading.get_ident()))

    pool.share(work, PARTS)
    parts, workers = zip(*seen, strict=True)
    assert sorted(parts) == list(range(PARTS))
    assert threading.get_ident() in workers
    assert len(set(workers)) == threads
    pool.share(work, 0)


@pytest.mark.parametrize("threads", [2], indirect=True)
def test_a_thread_that_is_held_up_leaves_its_parts_to_the_others(threads: int) -> None:
    last_done = threading.Event()
    waited: list[bool] = []

    def work(part: int) -> None:
        if part == PARTS - 1:
            last_done.set()
        if part == 0:
            waited.append(last_done.wait(timeout=30))

    pool.share(work, PARTS)
    assert waited == [True]


@pytest.mark.parametrize("bad", [0, 10])
def test_an_error_comes_through_from_any_thread(bad: int, threads: int) -> None:
    def work(part: int) -> None:
        if part == bad:
            raise ArithmeticError(f"part {bad}")

    with pytest.raises(ArithmeticError, match=f"part {bad}"):
        pool.share(work, PARTS)


@pytest.mark.parametrize("in_main", [True, False])
def test_after_an_interruption_no_thread_begins_another_part(
    in_main: bool, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[int] = []
    cleared = threading.Event()

    class Parts(deque[Any]):
        def clear(self) -> None:
            super().clear()
            cleared.set()

    monkeypatch.setattr(pool, "deque", Parts)

    def work(part: int) -> None:
        begun.append(part)
        is_main = threading.current_thread() is threading.main_thread()
        if threads == 1 or is_main == in_main:
            raise KeyboardInterrupt
        assert cleared.wait(timeout=30)

    with pytest.raises(KeyboardInterrupt):
        pool.share(work, PARTS)
    assert len(begun) <= threads


def test_a_pass_has_the_same_bits_with_any_number_of_threads(threads: int) -> None:
    generator = torch.Generator().manual_seed(0)
    X, y, weight = torch.randn(200_000, 8, generator=generator), torch.rand(200_000, generator=generator), torch.ones(8)
    found, matrix = passes.bce_onepass(X, y, weight, border=True).packed, passes.bce_hessian(X, y, weight).matrix
    torch.set_num_threads(1)
    assert torch.equal(found, passes.bce_onepass(X, y, weight, border=True).packed)
    assert torch.equal(matrix, passes.bce_hessian(X, y, weight).matrix)
    torch.set_num_threads(threads)


@pytest.mark.parametrize("threads", [3], indirect=True)
def test_fits_at_once_give_what_one_gives_and_leave_torchs_threads_alone(threads: int) -> None:
    X = torch.randn(60_000, 8)
    y = (X[:, 0] + torch.randn(len(X)) > 0).to(torch.uint8)
    seen: list[int] = []

    def solve() -> torch.Tensor:
        seen.append(torch.get_num_threads())
        return flashlogit.fit(X, y, l2=1e-3, tolerance=1e-10).weight

    expected = solve()
    with ThreadPoolExecutor(4) as workers:
        found = list(workers.map(lambda _: solve(), range(8)))
        seen += workers.map(lambda _: torch.get_num_threads(), range(32))
    assert all(torch.equal(each, expected) for each in found)
    assert set(seen) == {threads}


_FORK = """
import os, sys, torch, flashlogit
torch.set_num_threads(2)
X = torch.randn(200_000, 28)
y = (X[:, 0] + torch.randn(len(X)) > 0).to(torch.uint8)
(torch.randn(500, 500) @ torch.randn(500, 500)).exp().sum()  # torch's own threads have begun
def solve(**options):
    return flashlogit.fit(X, y, l2=1e-3, **options).objective
def child():
    if os.fork() == 0:
        z = torch.cat([X] * 4) @ torch.ones(28)
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
    assert subprocess.run([sys.executable, "-c", _FORK], timeout=120, check=False).returncode == 0


_AT_THE_END = """
import atexit, threading, time, torch, flashlogit
X = torch.randn(300_000, 4)
y = X[:, 0] > torch.randn(len(X))
def fit():
    time.sleep(0.2)
    print(flashlogit.fit(X, y, l2=1e-3).converged)
atexit.register(fit)
threading.Thread(target=fit).start()
"""


def test_fits_work_while_the_interpreter_shuts_down() -> None:
    """When it begins no threads any more."""
    done = subprocess.run([sys.executable, "-c", _AT_THE_END], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.split() == ["True", "True"]
