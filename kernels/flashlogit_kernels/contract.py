"""What a pass over rows of X takes and gives: the values that the kernels and the torch reference share.

`checks` makes a `RowPass` from what a caller gives. Both modules need torch only, so that the reference works where
Triton is not installed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypedDict

import torch
from torch import Tensor

ClampGradient = Literal["through", "exact"]

BIAS_GRAD, LOSS, WEIGHT_SUM, NONFINITE, MAX_ABS_LOGIT = range(5)
"""Places of the five scalars in a program's totals, and behind the gradient in `BCESums.packed`."""
SCALARS = 5
"""Number of those scalars."""
HESSIAN_COLUMNS = 128
"""Largest number of columns that `bce_hessian` takes: the matrix of a wider X does not stay in registers."""
_LOAD_BYTES = 16
"""Bytes that a thread can load at once. Rows that begin at whole ones of them are padded rows."""
_NARROWEST_BYTES = 32
"""Rows of fewer bytes are not padded: the bytes that padding adds cost more than wide loads gain (measured on an H100
at 10 columns of bfloat16: 2.08 TB/s as they are, 2.02 padded)."""


@dataclass(frozen=True)
class Clamp:
    """Clamp of the logit to +-bound, which is what clamping the probability to [eps, 1 - eps] means.

    In float32 ``1 - 1e-8 == 1``, so a clamped probability still gives an infinite loss; a clamped logit never does.
    """

    eps: float
    gradient: ClampGradient

    def __post_init__(self) -> None:
        if not isinstance(self.eps, int | float):
            raise TypeError(f"eps is {self.eps!r}; must be a number")
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


class ProductOptions(TypedDict, total=False):
    """Keywords of every pass.

    rows: [n] int64 or int32; visit only these rows of X and of what belongs to them, in this order. Like all values,
        they are not checked: each must lie in [0, N), or memory outside X is read.
    center: [D] subtracted from every row of X before anything else: x_i - center stands wherever x_i does.
    compute_dtype: torch.float32 or torch.float64; default float64 where X or the weights are float64.
    """

    rows: Tensor | None
    center: Tensor | None
    compute_dtype: torch.dtype | None


class PassOptions(ProductOptions, total=False):
    """Further keywords of every pass over X and y.

    sample_weight: [N] weights s of the rows; default ones.
    pos_weight: [] factor on the loss of the positive part, as in torch.nn.BCEWithLogitsLoss; default 1.
    eps, clamp_gradient: see `Clamp`; default 1e-8 and "through".
    """

    sample_weight: Tensor | None
    pos_weight: Tensor | None
    eps: float
    clamp_gradient: ClampGradient


@dataclass(frozen=True)
class RowOptions:
    """The options of a pass as they were given, with their defaults."""

    rows: Tensor | None = None
    center: Tensor | None = None
    compute_dtype: torch.dtype | None = None
    sample_weight: Tensor | None = None
    pos_weight: Tensor | None = None
    eps: float = 1e-8
    clamp_gradient: ClampGradient = "through"


@dataclass(frozen=True)
class RowPass:
    """A checked pass over n rows of X: the one value from which every implementation computes.

    Row i gives z_i = (x_i - center) weight + bias. With labels y it contributes its loss and residual, times its
    sample_weight. Without labels it contributes sample_weight times z_i, a product with the Hessian, or only its
    sample_weight where there is no weight either; sample_weight then has an entry for each visited row, not for each
    row of X.

    X [N, D] with a unit stride in one dimension; weight [D] contiguous; bias [1]; y [N] uint8, float32 or float64;
    sample_weight [N] or [n] float32 or float64; pos_weight [1] and center [D] in the arithmetic's dtype `compute`; rows
    [n] int64, the rows of X to visit, in this order. All but X may be None.
    """

    X: Tensor
    n: int
    compute: torch.dtype
    weight: Tensor | None
    bias: Tensor | None
    y: Tensor | None
    sample_weight: Tensor | None
    pos_weight: Tensor | None
    rows: Tensor | None
    center: Tensor | None
    clamp: Clamp

    def empty(self, **wanted: bool) -> RowValues:
        """Return memory for the wanted numbers of each visited row."""
        return RowValues(
            **{name: self.X.new_empty(self.n, dtype=self.compute) for name, asked in wanted.items() if asked}
        )


@dataclass(frozen=True)
class RowValues:
    """Numbers of every visited row, [n] in the arithmetic's dtype: s loss, s r, s dr/dz and z; None where unwanted."""

    loss: Tensor | None = None
    residual: Tensor | None = None
    curvature: Tensor | None = None
    logits: Tensor | None = None


@dataclass(frozen=True)
class BCESums:
    """Sums over rows of one pass, s_i being the rows' weights.

    packed [D + 5] float64: dL/dw [D], then the five scalars at the places `BIAS_GRAD` to `MAX_ABS_LOGIT`. Where
    `has_border`, [2 D + 6]: `border` [D] and `corner` follow. All but the largest |z| add up over row blocks and
    devices, see `joined`. Where they were asked for, [n] in the arithmetic's dtype: residual s_i r_i, curvature
    h_i = s_i dr_i/dz_i, and logits z_i.
    """

    packed: Tensor
    residual: Tensor | None = None
    curvature: Tensor | None = None
    logits: Tensor | None = None
    has_border: bool = False

    @property
    def columns(self) -> int:
        """D."""
        return columns_of(self.packed, border=self.has_border)

    @property
    def weight_grad(self) -> Tensor:
        """sum_i s_i r_i x_i, [D] float64."""
        return self.packed[: self.columns]

    @property
    def gradient(self) -> Tensor:
        """The gradient by the weights and, last, by the intercept: [D + 1] float64."""
        return self.packed[: self.columns + BIAS_GRAD + 1]

    @property
    def scalars(self) -> Tensor:
        """The five scalars, [5] float64."""
        return self.packed[self.columns : self.columns + SCALARS]

    @property
    def bias_grad(self) -> Tensor:
        """sum_i s_i r_i, [] float64."""
        return self.packed[self.columns + BIAS_GRAD]

    @property
    def loss(self) -> Tensor:
        """sum_i s_i loss_i with the clamped loss, [] float64."""
        return self.packed[self.columns + LOSS]

    @property
    def weight_sum(self) -> Tensor:
        """S = sum_i s_i, [] float64."""
        return self.packed[self.columns + WEIGHT_SUM]

    @property
    def nonfinite(self) -> Tensor:
        """Number of rows whose logit is NaN or infinite, [] float64."""
        return self.packed[self.columns + NONFINITE]

    @property
    def max_abs_logit(self) -> Tensor:
        """Largest |z| among the finite logits, [] float64."""
        return self.packed[self.columns + MAX_ABS_LOGIT]

    @property
    def border(self) -> Tensor:
        """sum_i h_i x_i, [D] float64: what the Hessian has beside its matrix for an intercept.

        Raises:
            ValueError: the pass was not asked for it.
        """
        return self._curvature_sums()[:-1]

    @property
    def corner(self) -> Tensor:
        """sum_i h_i, [] float64; errors as for `border`."""
        return self._curvature_sums()[-1]

    def _curvature_sums(self) -> Tensor:
        if not self.has_border:
            raise ValueError("these sums have no border; ask for it with border=True")
        return self.packed[self.columns + SCALARS :]

    def add_scalars_to(self, total: Tensor) -> None:
        """Join the five scalars to a running `total` [5] in place."""
        total[:MAX_ABS_LOGIT] += self.scalars[:MAX_ABS_LOGIT]
        torch.maximum(total[MAX_ABS_LOGIT:], self.scalars[MAX_ABS_LOGIT:], out=total[MAX_ABS_LOGIT:])


def packed_sums(
    weight_grad: Tensor,
    *,
    bias_grad: Tensor | float,
    loss: Tensor | float,
    weight_sum: Tensor | float,
    nonfinite: Tensor | float,
    max_abs_logit: Tensor | float,
) -> Tensor:
    """Return `BCESums.packed` [..., D + 5] from the gradient [..., D] float64 and the scalars [...]."""
    values = (bias_grad, loss, weight_sum, nonfinite, max_abs_logit)
    if all(isinstance(value, float) for value in values):
        return torch.cat([weight_grad, weight_grad.new_tensor(values)])
    scalars = [torch.as_tensor(value, dtype=torch.float64, device=weight_grad.device) for value in values]
    return torch.cat([weight_grad, torch.stack(scalars, dim=-1)], dim=-1)


def columns_of(packed: Tensor, *, border: bool) -> int:
    """Return D from `BCESums.packed`, which is [D + 5], or [2 D + 6] with a border."""
    return (len(packed) - SCALARS - 1) // 2 if border else len(packed) - SCALARS


def joined(packed: list[Tensor], *, border: bool = False) -> Tensor:
    """Return `BCESums.packed` of all rows from those of parts of them: the largest |z| is a maximum, all else are
    sums."""
    if len(packed) == 1:
        return packed[0].clone()  # an ordinary tensor also where the part was made in inference mode
    parts = torch.stack(packed)
    total, largest = parts.sum(dim=0), columns_of(packed[0], border=border) + MAX_ABS_LOGIT
    total[largest] = parts[:, largest].amax()
    return total


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


@dataclass(frozen=True)
class LabelSums:
    """What a fit has to know of its labels and weights.

    labels [N]: uint8 where all are 0 or 1, else float32 or float64; they mean nothing where some are `outside` of
    [0, 1] or NaN. weights [N]: float32 or float64, or None for ones; some are `negative` or NaN. weight_sum and
    label_sum: the sum of the weights, and the weighted sum of the labels.
    """

    labels: Tensor
    weights: Tensor | None
    outside: bool
    negative: bool
    weight_sum: float
    label_sum: float


def padded_columns(D: int, dtype: torch.dtype) -> int:
    """Return how many columns lie between the beginnings of two rows: D, or a little more for float16 and bfloat16.

    Rows of four- and eight-byte numbers gain nothing worth their memory (float32 at 50 columns: 0.95 of the bandwidth
    without padding, measured on an H100).
    """
    unit = _LOAD_BYTES // dtype.itemsize
    if dtype.itemsize > 2 or D * dtype.itemsize < _NARROWEST_BYTES:
        return D
    return -(-D // unit) * unit


def empty_padded(rows: int, D: int, dtype: torch.dtype, device: torch.device | str) -> Tensor:
    """Return an uninitialised X [rows, D] whose rows are `padded_columns` apart."""
    return torch.empty(rows, padded_columns(D, dtype), dtype=dtype, device=device)[:, :D]


def pad_rows(X: Tensor) -> Tensor:
    """Return X [N, D] with rows at whole 16 bytes: X itself where they are already or where padding does not pay, else
    a copy.

    The passes read either. The copy takes up to 7 numbers a row more memory: 12 % at 50 columns, 4 % at 100.
    """
    unit = _LOAD_BYTES // X.element_size()
    if X.stride(1) == 1 and X.stride(0) % unit == 0:
        return X
    if padded_columns(X.shape[1], X.dtype) == X.shape[1]:
        return X
    padded = empty_padded(X.shape[0], X.shape[1], X.dtype, X.device)
    return padded.copy_(X)
