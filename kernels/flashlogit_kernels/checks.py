"""From the arguments of a pass to a `RowPass`: shapes, dtypes and devices are checked, never values.

Looking at values would wait for the device. The kernels and the reference check here, so that they accept the same
calls and refuse the same mistakes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

import torch
from torch import Tensor

from .contract import HESSIAN_COLUMNS, Clamp, PassOptions, ProductOptions, RowOptions, RowPass

FLOAT_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def bce_pass(X: Tensor, y: Tensor, weight: Tensor, bias: Tensor | None, **given: Unpack[PassOptions]) -> RowPass:
    """Return the pass that gives each visited row's loss and residual.

    Raises:
        TypeError: a dtype that cannot be used.
        ValueError: shapes that do not fit, tensors on several devices, no rows, or eps outside [0, 0.5).
    """
    options = _options(PassOptions.__optional_keys__, given)
    clamp = Clamp(options.eps, options.clamp_gradient)
    X = check_matrix(X)
    s, q, N = options.sample_weight, options.pos_weight, X.shape[0]
    _visited(X, options)
    check_vector("y", y, N)
    check_vector("weight", weight, X.shape[1])
    check_vector("sample_weight", s, N)
    check_scalar("bias", bias)
    check_scalar("pos_weight", q)
    named = {"y": y, "weight": weight, "bias": bias, "sample_weight": s, "pos_weight": q}
    compute = _check_kinds(X, named, weight, options)
    y, s = (
        readable_labels(y, torch.float32),
        readable_weights(s, compute),
    )  # which holds labels of any dtype that is cast
    return _row_pass(X, options, compute, clamp, weight, bias, y, s)


def product_pass(
    X: Tensor, curvature: Tensor, v: Tensor, v_bias: Tensor | None, **given: Unpack[ProductOptions]
) -> RowPass:
    """Return the pass that gives each visited row's curvature times (x v + v_bias); errors as for `bce_pass`."""
    options = _options(ProductOptions.__optional_keys__, given)
    X = check_matrix(X)
    check_vector("curvature", curvature, _visited(X, options))
    check_vector("v", v, X.shape[1])
    check_scalar("v_bias", v_bias)
    compute = _check_kinds(X, {"curvature": curvature, "v": v, "v_bias": v_bias}, v, options)
    return _row_pass(X, options, compute, _UNUSED, v, v_bias, None, curvature.detach().to(compute).contiguous())


def column_pass(X: Tensor, v: Tensor, **given: Unpack[ProductOptions]) -> RowPass:
    """Return the pass that gives each visited row's number in v; errors as for `bce_pass`, but there may be no rows."""
    options = _options(ProductOptions.__optional_keys__, given)
    X = check_matrix(X)
    check_vector("v", v, _visited(X, options, empty=True))
    compute = _check_kinds(X, {"v": v}, v, options)
    return _row_pass(X, options, compute, _UNUSED, None, None, None, readable_weights(v, compute))


_UNUSED = Clamp(0.0, "through")


def _options(names: frozenset[str], given: Mapping[str, Any]) -> RowOptions:
    """Return the options; TypeError for one that is none of the names."""
    if unknown := given.keys() - names:
        raise TypeError(f"the pass has no option {min(unknown)}; it has {', '.join(sorted(names))}")
    return RowOptions(**given)


def _visited(X: Tensor, options: RowOptions, *, empty: bool = False) -> int:
    """Return the number of visited rows.

    Raises:
        ValueError: there are none, unless `empty` allows that.
    """
    check_vector("rows", options.rows, None)
    n = X.shape[0] if options.rows is None else options.rows.shape[0]
    if n == 0 and not empty:
        raise ValueError(f"X is {list(X.shape)}: there are no rows; a pass needs at least one")
    return n


def _check_kinds(X: Tensor, named: dict[str, Tensor | None], weight: Tensor, options: RowOptions) -> torch.dtype:
    """Check devices and kinds of numbers; return the arithmetic's dtype."""
    check_same_device(X, {**named, "rows": options.rows, "center": options.center})
    check_real(named)
    return arithmetic_dtype(X, weight, options.compute_dtype)


def _row_pass(
    X: Tensor,
    options: RowOptions,
    compute: torch.dtype,
    clamp: Clamp,
    weight: Tensor | None,
    bias: Tensor | None,
    y: Tensor | None,
    sample_weight: Tensor | None,
) -> RowPass:
    q, rows, center = options.pos_weight, options.rows, options.center
    if rows is not None and rows.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"rows is {rows.dtype}; must be int64 or int32 row numbers")
    if center is not None and center.shape != X.shape[1:]:
        raise ValueError(f"center is {list(center.shape)}; must be [{X.shape[1]}], a number for each column of X")
    check_real({"center": center})
    return RowPass(
        X=X,
        n=X.shape[0] if rows is None else rows.shape[0],
        compute=compute,
        weight=None if weight is None else weight.detach().contiguous(),
        bias=None if bias is None else bias.detach().reshape(1),
        y=y,
        sample_weight=sample_weight,
        pos_weight=None if q is None else q.detach().to(compute).reshape(1),
        rows=None if rows is None else rows.to(torch.int64).contiguous(),
        center=None if center is None else center.detach().to(compute).contiguous(),
        clamp=clamp,
    )


def check_hessian_columns(X: Tensor) -> None:
    """Raise ValueError for more columns than `bce_hessian` takes, TypeError for what is no tensor."""
    check_tensor("X", X)
    if X.ndim == 2 and X.shape[1] > HESSIAN_COLUMNS:
        raise ValueError(
            f"X is {list(X.shape)}; bce_hessian takes at most {HESSIAN_COLUMNS} columns: multiply by the Hessian with"
            " hessian_product instead"
        )


def arithmetic_dtype(X: Tensor, weight: Tensor, asked: torch.dtype | None) -> torch.dtype:
    """Return float64 where it was asked for or X or the weights hold it, else float32.

    Raises:
        TypeError: an asked dtype that is neither.
    """
    if asked not in (None, torch.float32, torch.float64):
        raise TypeError(f"compute_dtype is {asked}; must be torch.float32 or torch.float64")
    if asked is not None:
        return asked
    return torch.float64 if torch.float64 in (X.dtype, weight.dtype) else torch.float32


def check_matrix(X: Tensor) -> Tensor:
    """Return X detached, copied only where neither its rows nor its columns lie contiguously.

    Raises:
        TypeError: no dense tensor, or not of one of the four floating dtypes.
        ValueError: not two-dimensional, or without columns.
    """
    check_tensor("X", X)
    if X.ndim != 2 or X.shape[1] == 0:
        raise ValueError(f"X is {list(X.shape)}; must be [rows, columns] with at least one column")
    if X.dtype not in FLOAT_DTYPES:
        raise TypeError(f"X is {X.dtype}; must be float64, float32, bfloat16 or float16: convert it with X.float()")
    X = X.detach()
    return X if 1 in X.stride() else X.contiguous()


def check_labels(y: Tensor, sample_weight: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return labels [N] contiguous, bool ones as their bytes, and weights [N] in a dtype that is read as it is.

    Raises:
        TypeError: a dtype that is not real, or no tensor.
        ValueError: shapes or devices that do not fit, or no labels.
    """
    check_vector("y", y, None)
    check_vector("sample_weight", sample_weight, len(y))
    check_real({"y": y, "sample_weight": sample_weight})
    if len(y) == 0:
        raise ValueError("y is [0]: there are no labels; at least one is needed")
    if sample_weight is not None and sample_weight.device != y.device:
        raise ValueError(f"sample_weight is on {sample_weight.device} and y on {y.device}; move it with .to(y.device)")
    y = y.detach().contiguous()
    return y.view(torch.uint8) if y.dtype == torch.bool else y, readable_weights(sample_weight, torch.float64)


def check_tensor(name: str, value: Any) -> None:
    """Raise TypeError for what is no dense tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} is a {type(value).__name__}; must be a torch tensor: use torch.as_tensor({name})")
    if value.layout != torch.strided:
        raise TypeError(f"{name} is {value.layout}; must be dense: use {name}.to_dense()")


def check_vector(name: str, vector: Tensor | None, length: int | None) -> None:
    """Raise ValueError unless `vector` is None or one-dimensional, and of this length where one is given; TypeError for
    what is no tensor."""
    if vector is None:
        return
    check_tensor(name, vector)
    if vector.ndim != 1:
        raise ValueError(f"{name} is {list(vector.shape)}; must have one dimension: use {name}.reshape(-1)")
    if length is not None and vector.shape[0] != length:
        raise ValueError(f"{name} has {vector.shape[0]} entries; must have {length}, as X does")


def check_scalar(name: str, scalar: Tensor | None) -> None:
    """Raise ValueError unless `scalar` is None or holds one number; TypeError for what is no tensor."""
    if scalar is not None:
        check_tensor(name, scalar)
    if scalar is not None and scalar.numel() != 1:
        raise ValueError(f"{name} is {list(scalar.shape)}; must hold one number, as one model has one {name}")


def check_real(named: Mapping[str, Tensor | None]) -> None:
    """Raise TypeError for a tensor of complex numbers."""
    for name, tensor in named.items():
        if tensor is not None and tensor.is_complex():
            raise TypeError(f"{name} is {tensor.dtype}; must be a real dtype")


def check_same_device(X: Tensor, others: Mapping[str, Tensor | None]) -> None:
    """Raise ValueError for a tensor that is not on the device of X."""
    for name, tensor in others.items():
        if tensor is not None and tensor.device != X.device:
            raise ValueError(f"{name} is on {tensor.device} and X on {X.device}; move it with {name}.to(X.device)")


def readable_labels(y: Tensor, compute_dtype: torch.dtype) -> Tensor:
    """Return labels in a dtype that is read as it is: uint8 (bool as its bytes), float32 or float64; others are
    cast."""
    y = y.detach()
    if y.dtype == torch.bool:
        y = y.view(torch.uint8)
    elif y.dtype not in (torch.uint8, torch.float32, torch.float64):
        y = y.to(compute_dtype)
    return y.contiguous()


def readable_weights(sample_weight: Tensor | None, compute_dtype: torch.dtype) -> Tensor | None:
    """Return weights of rows in a dtype that is read as it is, float32 or float64; others are cast."""
    if sample_weight is None:
        return None
    s = sample_weight.detach()
    return (s if s.dtype in (torch.float32, torch.float64) else s.to(compute_dtype)).contiguous()
