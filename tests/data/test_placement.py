"""Row blocks into tensors: every row in its split, in every dtype, and X that does not fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from refused import refused

from flashlogit.data import Standardization
from flashlogit.data.files.matrices import MatrixTable
from flashlogit.data.placement import place
from flashlogit.data.splits import DROPPED, TEST, TRAIN, VALIDATION

CPU = torch.device("cpu")


def placed(X, splits, dtype, standardization=None):
    names = [f"x{j}" for j in range(X.shape[1])]
    standardization = standardization or Standardization.identity(X.shape[1])
    return place(MatrixTable("d.npy", X, names, {}), names, splits, standardization, dtype, CPU)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_rows_go_to_their_split_in_order(dtype):
    generator = np.random.default_rng(0)
    X = generator.normal(5, 2, size=(5000, 300))  # wide, so that there are several blocks
    splits = generator.choice(np.array([TRAIN, VALIDATION, TEST, DROPPED], np.uint8), 5000)
    splits[1000:3000], splits[3000:4800] = TRAIN, DROPPED  # whole blocks of one split, or of none
    X[splits == DROPPED] = np.nan
    mean, scale = generator.normal(size=300), generator.uniform(1, 2, 300)
    tensors = placed(X, splits, dtype, Standardization(mean, scale))
    assert set(tensors) == {TRAIN, VALIDATION, TEST}
    for split, rows in tensors.items():
        expected = torch.from_numpy((X[splits == split] - mean) / scale).to(dtype)
        assert torch.equal(rows, expected)


@pytest.mark.parametrize(
    ("dtype", "kept", "beyond"), [(torch.float16, 65519.0, 65521.0), (torch.float32, 3.40282350e38, 3.4028236e38)]
)
def test_what_is_rounded_to_the_greatest_number_fits(dtype, kept, beyond):
    X, splits = np.array([[1.0, 2.0], [-kept, kept]]), np.zeros(2, np.uint8)
    assert placed(X, splits, dtype)[TRAIN].abs().max() == torch.finfo(dtype).max
    for sign in (-1, 1):
        X[0, 1] = sign * beyond
        with refused('row 1 (the first is 1) of column "x1"', "data.dtype", setting="d.npy"):
            placed(X, splits, dtype)


def test_a_row_that_is_infinite_once_standardised():
    X, splits = np.array([[1.0], [1e300]]), np.array([TRAIN, TEST], np.uint8)
    with refused("row 2 "):
        placed(X, splits, torch.float64, Standardization(np.zeros(1), np.full(1, 1e-10)))
