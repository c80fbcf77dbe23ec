"""Compiled loops: how many there are, their cache on disk, half precision, and what they write beside their sums."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

numba = pytest.importorskip("numba")

import flashlogit  # noqa: E402
from flashlogit import reference  # noqa: E402
from flashlogit_kernels.cpu import passes  # noqa: E402

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
_PROGRAM = """
import sys, torch, flashlogit
from flashlogit_kernels.compiling import compile_seconds
generator = torch.Generator().manual_seed(0)
X = torch.randn(40_000, 30, generator=generator, dtype=torch.float64)
y = (X[:, 0] + torch.randn(40_000, generator=generator) > 0).to(torch.uint8)
found = [flashlogit.fit(X, y, l2=1e-4, tolerance=1e-9, solver="newton-cg") for _ in range(2)]
assert torch.equal(found[0].weight, found[1].weight) and found[1].compile_seconds == 0.0
print(found[0].weight.numpy().tobytes().hex(), found[0].compile_seconds, sep="\\n")
"""


def fitted(cache: Path | None, **variables: str) -> tuple[str, float]:
    """The bits of a fit in a process of its own, twice the same, and the seconds that it spent on compiling."""
    environment = {**os.environ, **variables} | ({"NUMBA_CACHE_DIR": str(cache)} if cache else {})
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], env=environment, capture_output=True, text=True, check=True, timeout=300
    )
    bits, seconds = done.stdout.split()
    return bits, float(seconds)


def test_compiled_and_cached_loops_give_the_same_bits(tmp_path: Path) -> None:
    """Warm ones too: the program fits twice."""
    cold, compiling = fitted(tmp_path)
    cached, loading = fitted(tmp_path)
    assert cold == cached
    assert 0 < loading < compiling


def test_a_damaged_cache_is_compiled_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from numba.core import config

    from flashlogit_kernels.cpu import loops

    def thrice(x: float) -> float:
        return 3 * x

    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
    assert loops.loop(thrice)(1.5) == 4.5
    (file,) = tmp_path.rglob("*.nbc")
    whole = file.read_bytes()
    for damaged in (whole[:100], b"", b"nothing"):
        file.write_bytes(damaged)
        again = loops.loop(thrice)
        assert again(1.5) == 4.5
        assert sum(again.stats.cache_hits.values()) == 0
    again = loops.loop(thrice)
    assert again(1.5) == 4.5
    assert sum(again.stats.cache_hits.values()) == 1


@pytest.mark.parametrize("collecting", [True, False])
def test_the_collector_waits_while_a_loop_is_compiled(monkeypatch: pytest.MonkeyPatch, *, collecting: bool) -> None:
    """Before and after, it is as it was."""
    from flashlogit_kernels.cpu import loops

    found = []
    monkeypatch.setattr(loops._Cache, "load_overload", lambda *_: found.append(gc.isenabled()))
    monkeypatch.setattr(loops._Cache, "save_overload", lambda *_: None)
    (gc.enable if collecting else gc.disable)()
    try:
        assert loops.loop(lambda x: x + 1)(1) == 2
        assert gc.isenabled() == collecting
    finally:
        gc.enable()
    assert found == [False]


def test_the_function_for_the_types_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is reordered where it is exact: 1 is lost beside 2^60."""
    from flashlogit_kernels.cpu import loops

    monkeypatch.setattr(loops._Cache, "load_overload", lambda *_: None)
    monkeypatch.setattr(loops._Cache, "save_overload", lambda *_: None)

    def lost(x: Any) -> Any:
        return (x + 1.0) - x

    exact, fast = (
        loops.by_types(exact=each)(lambda x: (lambda x: 2 * x) if x == numba.int64 else lost) for each in (True, False)
    )
    of_exact, of_fast = loops.loop(lambda x: exact(x)), loops.loop(lambda x: fast(x))
    assert (of_exact(2.0**60), of_fast(2.0**60)) == (0.0, 1.0)
    assert (of_exact(3), of_fast(3)) == (6, 6)


@pytest.mark.skipif(os.name == "nt", reason="no /dev/full")
def test_without_a_folder_for_a_cache_loops_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flashlogit_kernels.cpu import loops

    def no_folder(self: Any, function: Any) -> None:
        raise RuntimeError("no locator available")

    monkeypatch.setattr(loops._Cache, "__init__", no_folder)
    assert loops.loop(lambda x: x + 1)(1) == 2
    monkeypatch.undo()

    def full(self: Any, *_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(loops.FunctionCache, "save_overload", full)

    def twice(x: float) -> float:
        return 2 * x

    assert loops.loop(twice)(1.5) == 3.0


def dispatchers() -> Iterator[Any]:
    """Every compiled loop of the package."""
    from flashlogit_kernels.cpu import descent
    from flashlogit_kernels.cpu.loops import _Cache

    yield from descent._compiled()
    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "").startswith("flashlogit_kernels.cpu."):
            for value in vars(module).values():
                if isinstance(getattr(value, "_cache", None), _Cache):
                    yield value


def test_there_are_few_signatures() -> None:
    """Of all that a whole suite can make: options are arguments, and not types."""
    generator = torch.Generator().manual_seed(0)
    options: dict[str, Any] = {"sample_weight": torch.ones(60), "center": torch.zeros(3), "eps": 0.01}
    options |= {"rows": torch.arange(5), "clamp_gradient": "exact", "pos_weight": torch.ones(1)}
    for dtype in DTYPES:
        X = torch.randn(60, 3, generator=generator).to(dtype)
        passes.column_moments(X)
        passes.column_moments(X, torch.arange(7))
        for compute in (torch.float32, torch.float64):
            for labels in (torch.uint8, torch.float32, torch.float64, torch.int64, torch.bool):
                y, w = (X[:, 0] > 0).to(labels), torch.zeros(3)
                passes.label_sums(y, torch.ones(60))
                for more in ({}, options):
                    passes.bce_onepass(X, y, w, compute_dtype=compute, logits=bool(more), border=bool(more), **more)
                    passes.bce_rows(X.t().contiguous().t(), y, w, compute_dtype=compute, **more)
                    passes.bce_hessian(X, y, w, torch.ones(1), compute_dtype=compute, **more)
            passes.hessian_product(X, torch.ones(60), w, compute_dtype=compute)
            passes.column_sums(X, torch.ones(60), compute_dtype=compute)
        for solver in ("newton", "newton-cg"):
            flashlogit.fit_softmax(X, (X[:, 0] > 0).long() + (X[:, 1] > 0), l2=0.1, solver=solver)
        flashlogit.fit(X, X[:, 0] + X[:, 1] > 0, l2=0.1)
        flashlogit.fit(X, X[:, 0] + X[:, 1] > 0, l2=0.1, l1=0.01)
    assert sum(len(each.signatures) for each in set(dispatchers())) <= 31


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("layout", ["rows", "columns"])
def test_all_bit_patterns_of_half_precision_are_widened(dtype: torch.dtype, layout: str) -> None:
    """Each as a logit by itself; NaN stays NaN."""
    X = torch.arange(1 << 16).to(torch.int32).to(torch.uint16).view(dtype).reshape(-1, 1)
    X = torch.cat([X, torch.zeros_like(X)], dim=1)
    X = X if layout == "rows" else X.t().contiguous().t()
    zeros = torch.zeros(len(X), dtype=torch.uint8)
    found = passes.bce_onepass(X, zeros, torch.tensor([1.0, 0.0]), logits=True, eps=0.0, rows=torch.arange(len(X)))
    expected = X[:, 0].float()
    finite = expected.isfinite()
    assert found.logits is not None
    assert torch.equal(found.logits[finite], expected[finite])
    assert bool(found.logits[~finite].isnan().eq(expected[~finite].isnan()).all())
    assert int(found.nonfinite) == int((~finite).sum())


def test_wide_rows_and_many_parts() -> None:
    """Rows beyond a block, and parts whose borders are no multiples of one."""
    generator = torch.Generator().manual_seed(1)
    for N, D in ((37, 70_001), (300_001, 3), (5_003, 517)):
        X, y = torch.randn(N, D, generator=generator), torch.rand(N, generator=generator)
        w = torch.randn(D, generator=generator) / D**0.5
        found = passes.bce_onepass(X, y, w, compute_dtype=torch.float64, border=True, eps=0.0)
        exact = reference.bce_onepass(X, y, w, compute_dtype=torch.float64, border=True, eps=0.0)
        torch.testing.assert_close(found.packed, exact.packed, rtol=1e-10, atol=1e-9 * N**0.5)
