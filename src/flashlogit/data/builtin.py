"""Data that no file holds: scikit-learn's breast-cancer set and digits, and rows of a known logistic model."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import torch

from ..config.data import SyntheticData
from ..system.errors import UserError
from .columns.encoding import Standardization
from .dataset import NAMES, TEST, TRAIN, VALIDATION, Dataset, Rows, split_sizes
from .files.arrow import ArrowFile
from .files.open import named_files
from .files.tables import from_text, numbered_names
from .files.text import with_column
from .placement import allocate, require_room

_BREAST_CANCER = "package:sklearn/datasets/data/breast_cancer.csv"
"""Read as a file: scikit-learn's import takes 1 s."""
DIGITS = tuple(f"digit_{k}" for k in range(10))
"""Labels of the digits."""
_DIGITS = "package:sklearn/datasets/data/digits.csv.gz"
_MEASURED = (
    *("radius", "texture", "perimeter", "area", "smoothness"),
    *("compactness", "concavity", "concave points", "symmetry", "fractal dimension"),
)


def breast_cancer() -> ArrowFile:
    """Return 569 rows: 30 feature columns and the text column `diagnosis`, `malignant` or `benign`."""
    path, target = named_files(_BREAST_CANCER, "data.source breast_cancer")[0], "diagnosis"
    columns = [name.format(what) for name in ("mean {}", "{} error", "worst {}") for what in _MEASURED]
    options = pyarrow.csv.ReadOptions(column_names=[*columns, target], skip_rows=1)
    kinds = dict.fromkeys(columns, pa.float64())
    table = pyarrow.csv.read_csv(path, options, convert_options=pyarrow.csv.ConvertOptions(column_types=kinds))
    table = with_column(table, target, pc.take(from_text(["malignant", "benign"]), table[target]))
    return ArrowFile("the breast_cancer data", table.column_names, lambda names, _: table.select(names))


def digits() -> ArrowFile:
    """Return 1,797 rows: 64 feature columns `pixel_ROW_COLUMN`, from 0 to 16, and the labels `digit_0` to `digit_9`."""
    path = named_files(_DIGITS, "data.source digits")[0]
    pixels = [f"pixel_{i}_{j}" for i in range(8) for j in range(8)]
    options = pyarrow.csv.ReadOptions(column_names=[*pixels, "digit"])
    table = pyarrow.csv.read_csv(path, options)
    for k, name in enumerate(DIGITS):
        table = table.append_column(name, pc.equal(table["digit"], k).cast(pa.int8()))
    names = [name for name in table.column_names if name != "digit"]
    return ArrowFile("the digits data", names, lambda names, _: table.select(names))


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
    counts, first = list(sizes.values()), 1
    for split, X_part, y_part in zip(sizes, torch.split(X, counts), torch.split(y, counts), strict=True):
        number = None if split == TRAIN else np.arange(first, first + len(X_part))
        splits[NAMES[split]] = Rows(X_part, y_part, number=number)
        first += len(X_part)
        if int(y_part.sum(dtype=torch.int64)) in (0, len(y_part)):
            problem = f"the {NAMES[split]} split of {len(y_part)} rows has labels of one class only"
            remedy = "raise data.rows, or bring data.intercept nearer to 0"
            raise UserError(problem, setting="data.source synthetic", remedy=remedy)
    train, validation, test = splits["train"], splits.get("validation"), splits.get("test")
    return Dataset(train, validation, test, names, ("0", "1"), Standardization.identity(settings.columns))
