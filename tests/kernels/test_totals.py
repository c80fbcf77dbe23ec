"""Counting rows past what int32 can hold, which no test machine has the memory to pass over."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch

triton = pytest.importorskip("triton")
tl = pytest.importorskip("triton.language")
terms = pytest.importorskip("flashlogit_kernels.gpu._terms")


@triton.jit
def count_kernel(TOTALS, N, tiles, programs, BLOCK_N: tl.constexpr):
    """Totals of programs that have seen no row, but for their number of rows."""
    program = tl.program_id(0).to(tl.int64)
    terms.store_totals(TOTALS, program, terms.no_totals(tl.float32, 8), N, tiles, programs, BLOCK_N, True)


@pytest.mark.parametrize("n", [1, 7, 8, 9, 24, 25, 2**31 - 1, 2**31 + 12345, 2**34 + 1])
@pytest.mark.parametrize("most_programs", [1, 3, 8])
@pytest.mark.parametrize("block_n", [8, 2048])
def test_every_row_is_counted_once(
    n: int, most_programs: int, block_n: int, kernels: ModuleType, device: torch.device
) -> None:
    tiles = -(-n // block_n)
    programs = min(tiles, most_programs)
    totals = torch.full((programs, 5), torch.nan, dtype=torch.float64, device=device)
    count_kernel[(programs,)](totals, n, tiles, programs, BLOCK_N=block_n)
    assert totals[:, 2].sum().item() == n
    # Full tiles everywhere but in the last one's program.
    assert (totals[:, 2] % block_n != 0).sum().item() == (n % block_n != 0)
    assert totals[:, [0, 1, 3, 4]].abs().max().item() == 0
