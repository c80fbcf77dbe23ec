"""Checks of single arguments, shared by all passes: shapes, dtypes and devices, never values."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

FLOAT_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def arithmetic_dtype(X: Tensor, weight: Tensor, asked: torch.dtype | None) -> torch.dtype:
    """float64 where it was asked for or X or the weights hold it, else float32.

    Raises:
        TypeError: an asked dtype that is neither.
    """
    if asked not in (None, torch.float32, torch.float64):
        raise TypeError(f"compute_dtype is {asked}; must be torch.float32 or torch.float64")
    if asked is not None:
        return asked
    return torch.float64 if torch.float64 in (X.dtype, weight.dtype) else torch.float32


def check_matrix(X: Tensor) -> Tensor:
    """X detached, copied only where neither its rows nor its columns lie contiguously.

    Raises:
        TypeError: not one of the four floating dtypes.
        ValueError: not two-dimensional, or without columns.
    """
    if X.ndim != 2 or X.shape[1] == 0:
        raise ValueError(f"X is {list(X.shape)}; must be [rows, columns] with at least one column")
    if X.dtype not in FLOAT_DTYPES:
        raise TypeError(
            f"X is {X.dtype}; must be float64, float32, bfloat16 or float16: convert it with X.float()"
        )
    X = X.detach()
    return X if 1 in X.stride() else X.contiguous()


def check_vector(name: str, vector: Tensor | None, length: int | None) -> None:
    """Raise ValueError unless `vector` is None or one-dimensional, and of this length where one is given."""
    if vector is None:
        return
    if vector.ndim != 1:
        raise ValueError(f"{name} is {list(vector.shape)}; must have one dimension: use {name}.reshape(-1)")
    if length is not None and vector.shape[0] != length:
        raise ValueError(f"{name} has {vector.shape[0]} entries; must have {length}, as X does")


def check_scalar(name: str, scalar: Tensor | None) -> None:
    """Raise ValueError unless `scalar` is None or holds one number."""
    if scalar is not None and scalar.numel() != 1:
        raise ValueError(f"{name} is {list(scalar.shape)}; must hold one number, as one model has one {name}")


def check_real(named: Mapping[str, Tensor | None]) -> None:
    """Raise TypeError for a tensor of complex numbers."""
    for name, tensor in named.items():
        if tensor is not None and tensor.is_complex():
            raise TypeError(f"{name} is {tensor.dtype}; must be a real dtype")


def check_rows(rows: Tensor | None) -> Tensor | None:
    """Row numbers as contiguous int64.

    Raises:
        TypeError: not integers.
    """
    if rows is None:
        return None
    if rows.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"rows is {rows.dtype}; must be int64 or int32 row numbers")
    return rows.to(torch.int64).contiguous()


def check_center(center: Tensor | None, X: Tensor, compute_dtype: torch.dtype) -> Tensor | None:
    """`center` [D] in the arithmetic's dtype, contiguous.

    Raises:
        TypeError: complex numbers.
        ValueError: another shape.
    """
    if center is None:
        return None
    if center.shape != X.shape[1:]:
        raise ValueError(
            f"center is {list(center.shape)}; must be [{X.shape[1]}], a number for each column of X"
        )
    check_real({"center": center})
    return center.detach().to(compute_dtype).contiguous()


def check_same_device(X: Tensor, others: Mapping[str, Tensor | None]) -> None:
    """Raise ValueError for a tensor that is not on the device of X."""
    for name, tensor in others.items():
        if tensor is not None and tensor.device != X.device:
            raise ValueError(
                f"{name} is on {tensor.device} and X on {X.device}; move it with {name}.to(X.device)"
            )


def readable_labels(y: Tensor, compute_dtype: torch.dtype) -> Tensor:
    """Labels in a dtype that is read as it is: uint8 (bool as its bytes), float32 or float64; others are cast."""
    y = y.detach()
    if y.dtype == torch.bool:
        y = y.view(torch.uint8)
    elif y.dtype not in (torch.uint8, torch.float32, torch.float64):
        y = y.to(compute_dtype)
    return y.contiguous()


def readable_weights(sample_weight: Tensor | None, compute_dtype: torch.dtype) -> Tensor | None:
    """Weights of rows in a dtype that is read as it is, float32 or float64; others are cast."""
    if sample_weight is None:
        return None
    s = sample_weight.detach()
    return (s if s.dtype in (torch.float32, torch.float64) else s.to(compute_dtype)).contiguous()
