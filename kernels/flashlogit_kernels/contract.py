"""What a pass over X takes and gives, shared by the kernels and by their pure-torch reference.

Both check and normalise their arguments here, so that they accept the same calls and refuse the same mistakes.
This module needs torch only: the reference works where Triton is not installed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypedDict

import torch
from torch import Tensor

from .checks import (
    arithmetic_dtype,
    check_center,
    check_matrix,
    check_real,
    check_rows,
    check_same_device,
    check_scalar,
    check_vector,
    readable_labels,
    readable_weights,
)

ClampGradient = Literal["through", "exact"]

SCALARS = 5
"""Entries of `BCESums.packed` behind the gradient."""
HESSIAN_COLUMNS = 128
"""Widest X of which `bce_hessian` is offered: the matrix of a wider one does not stay in registers."""


@dataclass(frozen=True)
class Clamp:
    """Clamp of the logit to +-bound, which is what clamping the probability to [eps, 1 - eps] means.

    In float32 ``1 - 1e-8 == 1``, so a clamped probability still gives an infinite loss; a clamped logit never does.
    """

    eps: float
    gradient: ClampGradient

    def __post_init__(self) -> None:
        if not 0 <= self.eps < 0.5:
            raise ValueError(f"eps is {self.eps}; must be at least 0 and less than 0.5 (0 for no clamp)")
        if self.gradient not in ("through", "exact"):
            raise ValueError(f"clamp_gradient is {self.gradient!r}; must be 'through' or 'exact'")

    @property
    def bound(self) -> float:
        """Z = log((1 - eps) / eps) in float64; inf for eps = 0."""
        return math.log1p(-self.eps) - math.log(self.eps) if self.eps else math.inf

    @property
    def tail(self) -> float:
        """exp(-Z) = eps / (1 - eps)."""
        return self.eps / (1 - self.eps)

    @property
    def zeroes_gradient(self) -> bool:
        """Whether rows beyond the bound have gradient 0."""
        return self.gradient == "exact" and self.eps > 0


@dataclass(frozen=True)
class BCESums:
    """Sums over rows of one pass, s_i being the rows' weights.

    packed [D + 5] float64: dL/dw, dL/db, loss, weight sum, non-finite logits, largest finite |logit|. All but the
    last add up over row blocks and devices. Where they were asked for, [n] in the arithmetic's dtype: residual s_i r_i,
    curvature s_i dr_i/dz_i, and logits z_i.
    """

    packed: Tensor
    residual: Tensor | None = None
    curvature: Tensor | None = None
    logits: Tensor | None = None

    @property
    def weight_grad(self) -> Tensor:
        """sum_i s_i r_i x_i, [D] float64."""
        return self.packed[:-SCALARS]

    @property
    def bias_grad(self) -> Tensor:
        """sum_i s_i r_i, [] float64."""
        return self.packed[-5]

    @property
    def loss(self) -> Tensor:
        """sum_i s_i loss_i with the clamped loss, [] float64."""
        return self.packed[-4]

    @property
    def weight_sum(self) -> Tensor:
        """S = sum_i s_i, [] float64."""
        return self.packed[-3]

    @property
    def nonfinite(self) -> Tensor:
        """Number of rows whose logit is NaN or infinite, [] float64."""
        return self.packed[-2]

    @property
    def max_abs_logit(self) -> Tensor:
        """Largest |z| among the finite logits, [] float64."""
        return self.packed[-1]


@dataclass(frozen=True)
class BCEHessian:
    """Sums over rows, and the Hessian of the summed loss.

    matrix [D + 1, D + 1] float64: sum_i s_i dr_i/dz_i (x_i, 1) (x_i, 1)^T; its last row and column are the intercept's.
    """

    sums: BCESums
    matrix: Tensor


@dataclass(frozen=True)
class BCERows:
    """Row by row, [n] in the arithmetic's dtype: s_i loss_i and s_i r_i."""

    loss: Tensor
    residual: Tensor


class PassOptions(TypedDict, total=False):
    """Keywords that every pass over X and y takes.

    sample_weight: [N] weights s of the rows; default ones.
    pos_weight: [] factor on the loss of the positive part, as in torch.nn.BCEWithLogitsLoss; default 1.
    rows: [n] int64 or int32; visit only these rows of X, y and sample_weight, in this order. Like all values, they are
        not checked: each must lie in [0, N), or memory outside X is read.
    center: [D] subtracted from every row of X before anything else: x_i - center stands wherever x_i does.
    eps, clamp_gradient: see `Clamp`; default 1e-8 and "through".
    compute_dtype: torch.float32 or torch.float64; default float64 where X or the weights are float64.
    """

    sample_weight: Tensor | None
    pos_weight: Tensor | None
    rows: Tensor | None
    center: Tensor | None
    eps: float
    clamp_gradient: ClampGradient
    compute_dtype: torch.dtype | None


@dataclass(frozen=True)
class PassInputs:
    """Arguments of a pass, checked and in the form that every pass reads.

    X [N, D] with a unit stride in one dimension; y [N] uint8, float32 or float64; weight [D] contiguous; bias [1] or
    None; sample_weight [N] float32 or float64, or None; pos_weight [1] and center [D], or None, in the arithmetic's
    dtype; rows [n] int64 or None, the rows of X, y and sample_weight to visit, in this order.
    """

    X: Tensor
    y: Tensor
    weight: Tensor
    bias: Tensor | None
    sample_weight: Tensor | None
    pos_weight: Tensor | None
    rows: Tensor | None
    center: Tensor | None
    clamp: Clamp
    compute_dtype: torch.dtype

    @property
    def n(self) -> int:
        """Rows that the pass visits."""
        return self.X.shape[0] if self.rows is None else self.rows.shape[0]


def check_inputs(
    X: Tensor,
    y: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    sample_weight: Tensor | None = None,
    pos_weight: Tensor | None = None,
    rows: Tensor | None = None,
    center: Tensor | None = None,
    eps: float = 1e-8,
    clamp_gradient: ClampGradient = "through",
    compute_dtype: torch.dtype | None = None,
) -> PassInputs:
    """Check shapes, dtypes and devices (never values: that would wait for the device) and normalise them.

    Raises:
        TypeError: a dtype that cannot be used.
        ValueError: shapes that do not fit, tensors on several devices, no rows, or eps outside [0, 0.5).
    """
    clamp = Clamp(eps, clamp_gradient)
    X = check_matrix(X)
    N, D = X.shape
    check_vector("rows", rows, None)
    if (N if rows is None else rows.shape[0]) == 0:
        raise ValueError(f"X is {list(X.shape)}: there are no rows; a pass needs at least one")
    check_vector("y", y, N)
    check_vector("weight", weight, D)
    check_vector("sample_weight", sample_weight, N)
    check_scalar("bias", bias)
    check_scalar("pos_weight", pos_weight)
    named = {"y": y, "weight": weight, "bias": bias, "sample_weight": sample_weight, "pos_weight": pos_weight}
    check_same_device(X, {**named, "rows": rows, "center": center})
    check_real(named)
    compute = arithmetic_dtype(X, weight, compute_dtype)
    return PassInputs(
        X=X,
        y=readable_labels(y, compute),
        weight=weight.detach().contiguous(),
        bias=None if bias is None else bias.detach().reshape(1),
        sample_weight=readable_weights(sample_weight, compute),
        pos_weight=None if pos_weight is None else pos_weight.detach().to(compute).reshape(1),
        rows=check_rows(rows),
        center=check_center(center, X, compute),
        clamp=clamp,
        compute_dtype=compute,
    )


def check_hessian_columns(X: Tensor) -> None:
    """Raise ValueError for more columns than `bce_hessian` takes."""
    if X.ndim == 2 and X.shape[1] > HESSIAN_COLUMNS:
        raise ValueError(
            f"X is {list(X.shape)}; bce_hessian takes at most {HESSIAN_COLUMNS} columns: multiply by the Hessian with"
            " hessian_product instead"
        )


@dataclass(frozen=True)
class ProductInputs:
    """Arguments of a product with the Hessian, checked and in the form that every pass reads.

    X [N, D] with a unit stride in one dimension; curvature [n] in the arithmetic's dtype; v [D] contiguous; v_bias [1]
    or None; rows [n] int64 or None; center [D] in the arithmetic's dtype, or None.
    """

    X: Tensor
    curvature: Tensor
    v: Tensor
    v_bias: Tensor | None
    rows: Tensor | None
    center: Tensor | None
    compute_dtype: torch.dtype

    @property
    def n(self) -> int:
        """Rows that the pass visits."""
        return self.curvature.shape[0]


def check_product_inputs(
    X: Tensor,
    curvature: Tensor,
    v: Tensor,
    v_bias: Tensor | None,
    rows: Tensor | None,
    center: Tensor | None,
    compute_dtype: torch.dtype | None,
) -> ProductInputs:
    """Check shapes, dtypes and devices of `hessian_product`'s arguments and normalise them.

    Raises:
        TypeError: a dtype that cannot be used.
        ValueError: shapes that do not fit, tensors on several devices, or no rows.
    """
    X = check_matrix(X)
    rows = check_rows(rows)
    n = X.shape[0] if rows is None else rows.shape[0]
    if n == 0:
        raise ValueError(f"X is {list(X.shape)}: there are no rows; a pass needs at least one")
    check_vector("curvature", curvature, n)
    check_vector("v", v, X.shape[1])
    check_scalar("v_bias", v_bias)
    named = {"curvature": curvature, "v": v, "v_bias": v_bias}
    check_same_device(X, {**named, "rows": rows, "center": center})
    check_real(named)
    compute = arithmetic_dtype(X, v, compute_dtype)
    return ProductInputs(
        X=X,
        curvature=curvature.detach().to(compute).contiguous(),
        v=v.detach().contiguous(),
        v_bias=None if v_bias is None else v_bias.detach().reshape(1),
        rows=rows,
        center=check_center(center, X, compute),
        compute_dtype=compute,
    )


@dataclass(frozen=True)
class ColumnInputs:
    """Arguments of sums over the columns, checked.

    X [N, D] with a unit stride in one dimension; v [n] of any real dtype; rows [n] int64 or None; center [D] in the
    arithmetic's dtype, or None.
    """

    X: Tensor
    v: Tensor
    rows: Tensor | None
    center: Tensor | None
    compute_dtype: torch.dtype


def check_column_inputs(
    X: Tensor,
    v: Tensor,
    rows: Tensor | None,
    center: Tensor | None,
    compute_dtype: torch.dtype | None,
) -> ColumnInputs:
    """Check shapes, dtypes and devices of `column_sums`'s arguments and normalise them.

    Raises:
        TypeError: a dtype that cannot be used.
        ValueError: shapes that do not fit, or tensors on several devices.
    """
    X = check_matrix(X)
    rows = check_rows(rows)
    check_vector("v", v, X.shape[0] if rows is None else rows.shape[0])
    check_same_device(X, {"v": v, "rows": rows, "center": center})
    check_real({"v": v})
    compute = arithmetic_dtype(X, v, compute_dtype)
    return ColumnInputs(X, v.detach().contiguous(), rows, check_center(center, X, compute), compute)
