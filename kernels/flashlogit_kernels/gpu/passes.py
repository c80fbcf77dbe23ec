"""The passes over X as Triton kernels: each checks its arguments, launches, and names what comes back."""

from __future__ import annotations

import dataclasses
from typing import Unpack

import torch
from torch import Tensor

from ..checks import arithmetic_dtype, bce_pass, check_hessian_columns, check_matrix, column_pass, product_pass
from ..contract import (
    SCALARS,
    BCEHessian,
    BCERows,
    BCESums,
    PassOptions,
    ProductOptions,
    RowPass,
    RowValues,
)
from ..gram import bordered, weighted_gram
from .launch import LaunchConfig
from .plan import Plan
from .run import columns_plan, hessian_plan, pass_plan, rows_plan

_FLOAT64_BLOCK_BYTES = 256 << 20
"""Bytes of X in float64 that are multiplied at once for a Hessian; its product with h takes as many again."""


def bce_onepass(
    X: Tensor,
    y: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    residual: bool = False,
    curvature: bool = False,
    logits: bool = False,
    border: bool = False,
    launch: LaunchConfig | None = None,
    **options: Unpack[PassOptions],
) -> BCESums:
    """Sum the clamped binary cross-entropy and its gradient over rows, reading X once.

    A row too wide for the registers (more than 16384 columns in float32 arithmetic) is read twice.

    Args:
        X: [N, D] float64, float32, bfloat16 or float16, with contiguous rows or contiguous columns (any other layout is
            copied once).
        y: [N] labels in [0, 1] of any real dtype. Values are not checked: that would wait for the device.
        weight: [D] of any floating dtype.
        bias: one number, or None.
        residual: also return s_i r_i of every visited row.
        curvature: also return s_i dr_i/dz_i, which is s_i p_i (1 - p_i) where nothing is clamped.
        logits: also return z_i.
        border: also sum h_i x_i and h_i, h_i being the curvature: what the Hessian has for an intercept. A row too wide
            for the registers is read a third time, and fewer columns fit beside a border: 8192 in float32.
        launch: instead of the launch table's entry.
        **options: see `PassOptions`.

    Raises:
        TypeError: a dtype that cannot be used.
        ValueError: shapes or devices that do not fit, no rows, or eps outside [0, 0.5).
    """
    row_pass = bce_pass(X, y, weight, bias, **options)
    values = row_pass.empty(residual=residual, curvature=curvature, logits=logits)
    packed = pass_plan(row_pass, values, launch, border=border).run(row_pass.weight, row_pass.bias)
    return BCESums(packed, values.residual, values.curvature, values.logits, border)


class Plans:
    """Plans of passes over the same rows: of X, y and their options, which are checked once for all of them.

    A plan does for one weight vector after another what a public function does for one. A run takes weight [D] and
    bias, 0 by default, of the arithmetic's dtype.
    """

    def __init__(self, X: Tensor, y: Tensor, **options: Unpack[PassOptions]) -> None:
        """Check the arguments, which are those of `bce_onepass`, with its errors."""
        X = check_matrix(X)
        self._default = arithmetic_dtype(X, X, options.get("compute_dtype"))
        # The two numbers lie at no multiple of 16 bytes, so that kernels are compiled for numbers that lie anywhere.
        self._zeros = X.new_zeros(4, dtype=torch.int32)
        # In float64, from which the other arithmetic follows.
        weight, bias = X.new_empty(X.shape[1], dtype=torch.float64), self._zeros[2:].view(torch.float64)
        options["compute_dtype"] = torch.float64
        self._row_pass = bce_pass(X, y, weight, bias, **options)

    def onepass(self, compute: torch.dtype | None = None, *, border: bool = False, **wanted: bool) -> Plan:
        """Return a plan whose runs return `BCESums.packed`.

        Args:
            compute: dtype of the arithmetic; default: `compute_dtype` of the options, else that of `bce_onepass` for
                weights no wider than X.
            border: as for `bce_onepass`.
            **wanted: residual, curvature, logits or loss of the rows, which runs write to `Plan.values`.

        Raises:
            TypeError: a dtype of arithmetic, or a name, that there is not.
        """
        row_pass = self._in(compute)
        return pass_plan(row_pass, row_pass.empty(**wanted), border=border, guard=self._zeros[1:2])

    def hessian(self) -> Plan:
        """Return a plan of passes in float32 arithmetic that sum the Hessian too. It takes no guard.

        A run returns [2 D + 6 + D D] float64: `BCESums.packed` with its border, then X^T diag(h) X row by row, where
        h_i is s_i dr_i/dz_i.

        Raises:
            ValueError: more columns than `bce_hessian` takes.
        """
        check_hessian_columns(self._row_pass.X)
        return hessian_plan(self._in(torch.float32))

    def _in(self, compute: torch.dtype | None) -> RowPass:
        """Return the pass in this arithmetic, with memory for weights that are still to come, and a bias of 0."""
        given = self._row_pass
        compute = arithmetic_dtype(given.X, given.X, compute or self._default)
        if compute == given.compute:
            return given
        weight, bias = given.X.new_empty(given.X.shape[1], dtype=compute), self._zeros[2:3].view(compute)
        center, q = (None if t is None else t.to(compute) for t in (given.center, given.pos_weight))
        return dataclasses.replace(given, compute=compute, weight=weight, bias=bias, center=center, pos_weight=q)


def bce_rows(
    X: Tensor,
    y: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    launch: LaunchConfig | None = None,
    **options: Unpack[PassOptions],
) -> BCERows:
    """Return s_i loss_i and s_i r_i of every visited row; arguments and errors as for `bce_onepass`."""
    row_pass = bce_pass(X, y, weight, bias, **options)
    values = row_pass.empty(loss=True, residual=True)
    rows_plan(row_pass, values, launch).run(row_pass.weight, row_pass.bias)
    assert values.loss is not None
    assert values.residual is not None
    return BCERows(values.loss, values.residual)


def bce_hessian(
    X: Tensor,
    y: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    launch: LaunchConfig | None = None,
    **options: Unpack[PassOptions],
) -> BCEHessian:
    """Sum the clamped binary cross-entropy, its gradient and its Hessian over rows, reading X once.

    In float64 arithmetic X is read again for the Hessian, by torch's own products. Arguments and errors are those of
    `bce_onepass`; X has at most 128 columns.
    """
    check_hessian_columns(X)
    row_pass = bce_pass(X, y, weight, bias, **options)
    if row_pass.compute != torch.float64:
        packed, D = hessian_plan(row_pass, launch).run(row_pass.weight, row_pass.bias), X.shape[1]
        sums, border, corner, inner = torch.split(packed, [D + SCALARS, D, 1, D * D])
        return BCEHessian(BCESums(sums.clone()), bordered(inner.view(D, D), border, corner))
    values = row_pass.empty(curvature=True)
    packed = pass_plan(row_pass, values).run(row_pass.weight, row_pass.bias)
    assert values.curvature is not None
    matrix = weighted_gram(
        row_pass.X,
        values.curvature,
        row_pass.rows,
        block_rows=_FLOAT64_BLOCK_BYTES // (8 * X.shape[1]),
        compute_dtype=torch.float64,
        center=row_pass.center,
    )
    return BCEHessian(BCESums(packed), matrix)


def hessian_product(
    X: Tensor,
    curvature: Tensor,
    v: Tensor,
    v_bias: Tensor | None = None,
    *,
    launch: LaunchConfig | None = None,
    **options: Unpack[ProductOptions],
) -> Tensor:
    """Return sum_i h_i (x_i v + v_bias) (x_i, 1): the Hessian of the summed loss times (v, v_bias), reading X once.

    Args:
        X: [N, D] as for `bce_onepass`, which a row too wide for the registers is read twice of here too.
        curvature: [n] h of the visited rows, as `bce_onepass` returns it.
        v: [D] of any floating dtype.
        v_bias: one number, or None for 0.
        launch: instead of the launch table's entry.
        **options: see `ProductOptions`.

    Returns:
        [D + 1] float64, the intercept's entry last.

    Raises:
        TypeError: a dtype that cannot be used.
        ValueError: shapes or devices that do not fit, or no rows.
    """
    row_pass = product_pass(X, curvature, v, v_bias, **options)
    return BCESums(pass_plan(row_pass, RowValues(), launch).run(row_pass.weight, row_pass.bias)).gradient


def column_sums(X: Tensor, v: Tensor, **options: Unpack[ProductOptions]) -> Tensor:
    """Return X^T v, or (X - center)^T v, [D] float64: the gradient once the residuals are known.

    Args:
        X: [N, D] as for `bce_onepass`; it is read once, whatever its width.
        v: one number of a real dtype for each visited row, [n].
        **options: see `ProductOptions`.

    Raises:
        TypeError: a dtype that cannot be used.
        ValueError: shapes or devices that do not fit.
    """
    row_pass = column_pass(X, v, **options)
    if row_pass.n == 0:
        return row_pass.X.new_zeros(row_pass.X.shape[1], dtype=torch.float64)
    return columns_plan(row_pass).run(None)[: X.shape[1]]
