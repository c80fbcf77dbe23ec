"""Data that no file holds: scikit-learn's breast-cancer set, and rows of a known logistic model."""

from __future__ import annotations

import math

import pyarrow as pa
import torch

from ..config.data import SyntheticData
from ..system.errors import UserError
from .columns.encoding import Standardization
from .dataset import NAMES, TEST, TRAIN, VALIDATION, Dataset, Rows, split_sizes
from .files.arrow import ArrowFile
from .files.tables import numbered_names
from .placement import allocate, require_room


def breast_cancer() -> ArrowFile:
    """Return 569 rows: 30 feature columns and the text column `diagnosis`, `malignant` or `benign`."""
    from sklearn.datasets import load_breast_cancer

    bunch = load_breast_cancer()
    columns = {str(name): bunch.data[:, j] for j, name in enumerate(bunch.feature_names)}
    columns["diagnosis"] = bunch.target_names[bunch.target].astype(str)
    table = pa.table(columns)
    return ArrowFile("the breast_cancer data", table.column_names, lambda names, _: table.select(names))


_BLOCK_VALUES = 1 << 24


def synthetic(settings: SyntheticData, *, seed: int, device: torch.device) -> Dataset:
    """Make X ~ N(0, 1), w ~ N(0, signal^2 / D), y ~ Bernoulli(sigmoid(X w + intercept)), drawn on `device`.

    Labels are drawn from X as it is stored. The rows are independent, so the splits are consecutive slices of
    one allocation. The same seed gives the same data on the same kind of device; the narrower dtypes hold the
    float32 data, rounded. Raises UserError if a split is empty or has one class only.
    """
    dtype: torch.dtype = getattr(torch, settings.dtype)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    fractions = {VALIDATION: settings.split.validation, TEST: settings.split.test}
    sizes = split_sizes(fractions, settings.rows, classes=2)
    sizes = {TRAIN: settings.rows - sum(sizes.values()), **sizes}
    require_room(settings.rows, settings.columns, dtype, device, "data.source synthetic")
    names = numbered_names(0, settings.columns, "data.source synthetic")
    X = allocate(settings.rows, settings.columns, dtype, device)
    y = torch.empty(settings.rows, dtype=torch.uint8, device=device)
    generator = torch.Generator(device).manual_seed(seed)
    w = torch.randn(settings.columns, generator=generator, device=device, dtype=wide)
    w *= settings.signal / math.sqrt(settings.columns)
    block_rows = max(1, _BLOCK_VALUES // settings.columns)
    for start in range(0, settings.rows, block_rows):
        X_block, y_block = X[start : start + block_rows], y[start : start + block_rows]
        X_block.copy_(torch.randn(X_block.shape, generator=generator, device=device, dtype=wide))
        probability = torch.sigmoid(X_block.to(wide) @ w + settings.intercept)
        y_block.copy_(torch.bernoulli(probability, generator=generator))
    splits: dict[str, Rows] = {}
    counts = list(sizes.values())
    for split, X_part, y_part in zip(sizes, torch.split(X, counts), torch.split(y, counts), strict=True):
        splits[NAMES[split]] = Rows(X_part, y_part)
        if int(y_part.sum(dtype=torch.int64)) in (0, len(y_part)):
            problem = f"the {NAMES[split]} split of {len(y_part)} rows has labels of one class only"
            remedy = "raise data.rows, or bring data.intercept nearer to 0"
            raise UserError(problem, setting="data.source synthetic", remedy=remedy)
    train, validation, test = splits["train"], splits.get("validation"), splits.get("test")
    return Dataset(train, validation, test, names, ("0", "1"), Standardization.identity(settings.columns))
