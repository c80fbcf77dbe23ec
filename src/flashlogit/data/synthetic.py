"""Data from a known logistic model, made where it is used."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..config.settings import SyntheticData
from ..system.errors import UserError
from .dataset import Dataset, Rows, Standardization
from .files.tables import numbered_names
from .placement import allocate, require_room

_BLOCK_VALUES = 1 << 24


def synthetic(settings: SyntheticData, *, seed: int, device: torch.device) -> Dataset:
    """X ~ N(0, 1), w ~ N(0, signal^2 / D), y ~ Bernoulli(sigmoid(X w + intercept)), drawn on `device`.

    Labels are drawn from X as it is stored. The rows are independent, so the splits are consecutive slices of
    one allocation. The same seed gives the same data on the same kind of device; the narrower dtypes hold the
    float32 data, rounded. Raises UserError if a split is empty or has one class only.
    """
    dtype: torch.dtype = getattr(torch, settings.dtype)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    sizes = _sizes(settings)
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
    stops = [sum(sizes[: i + 1]) for i in range(3)]
    train, validation, test = (
        _rows(name, X[stop - size : stop], y[stop - size : stop])
        for name, size, stop in zip(("train", "validation", "test"), sizes, stops, strict=True)
    )
    if train is None:
        raise UserError(
            "data.split leaves no rows for training; lower data.split.validation or data.split.test"
        )
    return Dataset(
        train=train,
        validation=validation,
        test=test,
        feature_names=names,
        label_names=("0", "1"),
        standardization=Standardization.identity(settings.columns),
    )


def _sizes(settings: SyntheticData) -> tuple[int, int, int]:
    """Rows for training, validation and test."""
    asked = {"validation": settings.split.validation, "test": settings.split.test}
    sizes = {name: round(settings.rows * fraction) for name, fraction in asked.items()}
    for name, size in sizes.items():
        if asked[name] > 0 and size == 0:
            raise UserError(
                f"data.split.{name} is {asked[name]:g}, which of {settings.rows} rows is none; raise it or"
                " data.rows, or set it to 0"
            )
    return settings.rows - sum(sizes.values()), sizes["validation"], sizes["test"]


def _rows(name: str, X: Tensor, y: Tensor) -> Rows | None:
    if len(X) == 0:
        return None
    positives = int(y.sum(dtype=torch.int64))
    if positives in (0, len(y)):
        raise UserError(
            f"the {name} split of {len(y)} synthetic rows has labels of one class only; raise data.rows, or"
            " bring data.intercept nearer to 0"
        )
    return Rows(X=X, y=y)
