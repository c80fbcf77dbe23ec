"""Data from a known logistic model."""

from __future__ import annotations

import math

import pytest
import torch
from refused import NONE, refused

from flashlogit.config.data import SyntheticData
from flashlogit.data import load

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def made(device="cpu", seed=0, **settings):
    return load(SyntheticData(source="synthetic", **settings), seed=seed, device=torch.device(device))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_shapes_names_and_moments(dtype, device):
    data = made(device, rows=20_000, columns=5, dtype=dtype)
    assert [len(rows) for rows in data.splits.values()] == [14_000, 3000, 3000]
    assert data.feature_names == ("x0", "x1", "x2", "x3", "x4")
    assert data.label_names == ("0", "1")
    X = data.train.X
    assert (X.dtype, X.device.type, data.train.y.dtype) == (getattr(torch, dtype), device, torch.uint8)
    assert X.double().mean(dim=0).abs().max() < 5 / math.sqrt(len(X))
    assert (X.double().std(dim=0) - 1).abs().max() < 5 / math.sqrt(len(X))
    assert abs(data.train.y.double().mean() - 0.5) < 0.02


@pytest.mark.parametrize("device", DEVICES)
def test_same_seed_same_data(device):
    first, again, other = (made(device, rows=1000, columns=4, seed=seed) for seed in (5, 5, 6))
    assert torch.equal(first.train.X, again.train.X)
    assert torch.equal(first.train.y, again.train.y)
    assert not torch.equal(first.train.X, other.train.X)


def test_splits_share_one_allocation_and_narrow_dtypes_hold_the_same_data_rounded():
    wide = made(rows=1000, columns=4)
    assert len({rows.X.untyped_storage().data_ptr() for rows in wide.splits.values()}) == 1
    assert all(rows.X.is_contiguous() for rows in wide.splits.values())
    for dtype in ("bfloat16", "float16"):
        narrow = made(rows=1000, columns=4, dtype=dtype).train.X
        assert torch.equal(narrow, wide.train.X.to(narrow.dtype))


def test_rows_beyond_one_block_without_splits(monkeypatch):
    monkeypatch.setattr("flashlogit.data.builtin._BLOCK_VALUES", 1 << 10)
    data = made(rows=1003, columns=4, split=NONE)
    assert list(data.splits) == ["train"]
    assert (data.train.X.double().std(dim=0) - 1).abs().max() < 0.2
    assert data.train.X.unique(dim=0).shape == (1003, 4)


@pytest.mark.parametrize(("signal", "intercept"), [(2.0, -1.5), (0.0, 1.0)])
def test_labels_come_from_the_model(signal, intercept):
    """A fit finds the intercept, and coefficients whose squares add up to about signal^2."""
    from sklearn.linear_model import LogisticRegression

    settings = {"signal": signal, "intercept": intercept, "dtype": "float64", "split": NONE}
    data = made(rows=50_000, columns=50, **settings)
    fit = LogisticRegression(C=1e6).fit(data.train.X.numpy(), data.train.y.numpy())
    assert abs(fit.intercept_[0] - intercept) < 0.1
    found = float((fit.coef_**2).sum()) ** 0.5
    # A chi-distributed length of 50 draws has a relative spread of 0.1; noise alone gives 0.07 to 0.1.
    assert abs(found - signal) < 0.12 + 0.35 * signal


@pytest.mark.parametrize(
    ("settings", "setting", "word"),
    [
        ({"split": {"validation": 0.001}}, "data.split.validation", "this is 0 of 100 rows"),
        ({"split": {"validation": 0.5, "test": 0.499}}, "data.split", "leaves 0 of 100 rows for training"),
        ({"intercept": 50.0}, "data.source synthetic", "the train split of 70 rows has labels of one class"),
    ],
)
def test_refused(settings, setting, word):
    with refused(word, setting=setting):
        made(rows=100, columns=2, **settings)
