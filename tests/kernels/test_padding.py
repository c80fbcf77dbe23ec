"""Rows at whole 16 bytes: which are padded, and that nothing of the padding gets into a result."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from budget import check, make_case

from flashlogit_kernels.gpu.arguments import readable_columns
from flashlogit_kernels.gpu.launch import LaunchConfig, pipeline_stages, vector_length
from flashlogit_kernels.padding import pad_rows, padded_columns

SMALL = LaunchConfig(block_n=8, num_warps=4, programs_per_sm=1, num_stages=3)


@pytest.mark.parametrize(
    ("columns", "dtype", "padded"),
    [
        (50, torch.bfloat16, 56),
        (100, torch.float16, 104),
        (56, torch.bfloat16, 56),
        (10, torch.bfloat16, 10),
        (15, torch.bfloat16, 15),
        (17, torch.bfloat16, 24),
        (37, torch.float32, 37),
        (37, torch.float64, 37),
    ],
)
def test_which_rows_are_padded(columns: int, dtype: torch.dtype, padded: int) -> None:
    assert padded_columns(columns, dtype) == padded
    X = torch.randn(4, columns).to(dtype)
    found = pad_rows(X)
    assert torch.equal(found, X)
    assert found.stride() == (padded, 1)
    assert (found is X) == (padded == columns)
    assert pad_rows(found) is found


def test_a_column_major_matrix_is_padded_into_rows() -> None:
    X = torch.randn(50, 9).to(torch.bfloat16).t()
    assert pad_rows(X).stride() == (56, 1)
    assert torch.equal(pad_rows(X), X)


@pytest.mark.parametrize("columns", [17, 37, 50])
@pytest.mark.parametrize("split", [False, True])
def test_what_lies_in_the_padding_is_not_seen(
    columns: int, split: bool, kernels: ModuleType, device: torch.device
) -> None:
    case = make_case(25, columns, storage=torch.bfloat16, device=device)
    launch = LaunchConfig(8, 4, 1, split=split)
    expected = kernels.bce_onepass(*case.arguments(), launch=launch).packed
    X = pad_rows(case.X)
    X.as_strided((25, X.stride(0) - columns), X.stride(), columns).fill_(torch.nan)
    assert readable_columns(X) == X.stride(0) > columns
    case.X = X
    sums = kernels.bce_onepass(*case.arguments(), launch=launch)
    check(sums, case)
    torch.testing.assert_close(sums.packed, expected, rtol=1e-6, atol=1e-6)
    v = torch.randn(25, device=device)
    exact = X.double().t() @ v.double()
    torch.testing.assert_close(kernels.column_sums(X, v), exact, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        kernels.bce_hessian(*case.arguments(), launch=LaunchConfig(16, 4, 1)).sums.packed,
        expected,
        rtol=1e-5,
        atol=1e-5,
    )
    assert kernels.bce_rows(*case.arguments()).loss.isfinite().all()


def test_memory_after_the_last_row_is_not_read() -> None:
    full = torch.zeros(4, 56, dtype=torch.bfloat16)
    assert readable_columns(full[:, :50]) == 56
    assert readable_columns(full.flatten()[:-1].as_strided((4, 50), (56, 1))) == 56
    cut = torch.zeros(3 * 56 + 50, dtype=torch.bfloat16).as_strided((4, 50), (56, 1))
    assert readable_columns(cut) == 50
    assert readable_columns(full[:, 6:]) == 50
    assert readable_columns(torch.zeros(4, 50, dtype=torch.bfloat16)) == 50
    assert readable_columns(full[:1, :50].expand(4, 50)) == 50


@pytest.mark.parametrize(
    ("columns", "dtype", "vector", "stages"),
    [
        (56, torch.bfloat16, 8, 3),
        (50, torch.bfloat16, 2, 3),
        (37, torch.bfloat16, 1, 1),
        (37, torch.float32, 1, 3),
        (28, torch.float32, 4, 3),
    ],
)
def test_loads_are_as_wide_as_rows_are_aligned(
    columns: int, dtype: torch.dtype, vector: int, stages: int
) -> None:
    X = torch.zeros(2, columns, dtype=dtype)
    assert vector_length(X) == vector
    assert pipeline_stages(SMALL, X) == stages
