"""The logistic loss of two classes, summed by the passes of the kernels or of their torch reference.

    loss_i = log(1 + exp(z_i)) - y_i z_i,      z_i = x_i . w + b,      r_i = p_i - y_i,      h_i = p_i (1 - p_i)

for labels y_i in [0, 1], soft ones too. Losses and gradients are summed in float64 from X as it is stored: a float32
mean loss is good to 6e-8 only, and with little penalty a relative gap of 1e-8 asks for a mean gradient good to 3e-8.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from flashlogit_kernels.contract import HESSIAN_COLUMNS, PassOptions

from ..passes import Passes
from .certificate import shrunk_divergence
from .design import Design
from .row_loss import Coefficients, Keep, KeptRows, RowSums, Targets, check_weights


@dataclass(frozen=True)
class Logistic(Targets):
    """The loss of labels y [N] in [0, 1]: uint8 where all are 0 or 1, else float32 or float64."""

    passes: Passes

    @classmethod
    def of(cls, y: Tensor, sample_weight: Tensor | None, passes: Passes, *, intercept: bool) -> Self:
        """Return the loss of labels and weights of any real dtype, in dtypes that every pass reads as they are.

        All values are looked at, for one wait.

        Args:
            y: [N] in [0, 1].
            sample_weight: [N] or None.
            passes: the implementation.
            intercept: whether the model has one.

        Raises:
            ValueError: a label or a weight that cannot be used, or labels of one class only, with an intercept.
        """
        found = passes.label_sums(y, sample_weight)
        check_weights(negative=found.negative, total=found.weight_sum)
        if found.outside:
            raise ValueError("y holds a label outside [0, 1], or NaN; labels must lie in [0, 1]")
        mean = found.label_sum / found.weight_sum
        if intercept and not 0 < mean < 1:
            raise ValueError(f"y has the weighted mean {mean:g}; with an intercept a fit needs rows of both classes")
        return cls(found.labels, found.weights, _shares(mean, intercept), found.weight_sum, intercept, passes)

    @property
    def columns(self) -> int:
        """One column of weights."""
        return 1

    def null_intercepts(self) -> list[float]:
        """Return the log odds of the mean label."""
        off, on = self.shares
        return [math.log(on / off)]

    def null_curvature(self) -> Tensor:
        """Return ybar (1 - ybar)."""
        off, on = self.shares
        return torch.tensor([[on * off]], dtype=torch.float64, device=self.y.device)

    def sums(self, design: Design, at: Coefficients, keep: Keep) -> RowSums:
        """Sum losses and gradients in the dtype of `at`, in one pass over X; waits for nothing."""
        # A GPU's registers may not hold the border, which then takes two more reads.
        border = keep.border and keep.intercepts and not design.X.is_cuda
        wanted = {"curvature": keep.products is not None or (keep.intercepts and not border), "border": border}
        options = self._options(design, at.W.dtype)
        design.count()
        sums = self.passes.bce_onepass(design.X, self.y, at.W[:, 0], at.b, logits=keep.margins, **wanted, **options)
        h = sums.curvature
        kept = None if h is None or keep.products is None else _cast(h, keep.products)
        border_sums = torch.cat([sums.border, sums.corner.reshape(1)]) if border else None
        rows = KeptRows(kept, h, sums.logits, border=border_sums)
        return RowSums(sums.loss, Coefficients(sums.weight_grad[:, None], sums.bias_grad.reshape(1)), rows)

    def product(self, design: Design, curvature: Tensor, v: Coefficients) -> Coefficients:
        """Return the Hessian of the sum times v, sum_i s_i h_i (x_i, 1) (x_i . v + c); one pass over X."""
        sums = self.passes.hessian_product(
            design.X, curvature, v.W[:, 0], v.b, compute_dtype=curvature.dtype, center=design.center
        )
        design.count()
        return Coefficients(sums[:-1, None], sums[-1:])

    def hessian(self, design: Design, at: Coefficients) -> Tensor:
        """Return sum_i s_i h_i x_i x_i^T in the design's coordinates, [P, P] float64, by sums in the dtype of `at`.

        A narrow one takes one pass over X, a wide one two.
        """
        dtype = at.W.dtype
        if design.X.shape[1] <= HESSIAN_COLUMNS:
            design.count()
            found = self.passes.bce_hessian(design.X, self.y, at.W[:, 0], at.b, **self._options(design, dtype))
            return design.in_coordinates(design.about_center(found.matrix))
        h = self.sums(design, at, Keep(dtype, intercepts=False, margins=False)).rows.curvature
        assert h is not None
        return design.in_coordinates(design.gram(h, dtype))

    def mean_curvature(self, rows: KeptRows) -> Tensor:
        """Return a row's curvature s_i h_i, [N]."""
        assert rows.curvature is not None
        return rows.curvature

    def margin(self, rows: KeptRows) -> Tensor:
        """Return the least (2 y_i - 1) z_i of a row of positive weight, []."""
        assert rows.logits is not None
        return smallest_margin(rows.logits, self.y, self.sample_weight)

    def intercept_hessian(self, rows: KeptRows) -> Tensor:
        """Return the second derivative of the sum by the intercept, sum_i s_i h_i, [1, 1] float64."""
        if rows.border is not None:
            return rows.border[-1:, None]
        assert rows.exact is not None
        return rows.exact.sum(dtype=torch.float64).reshape(1, 1)

    def intercept_shift(self, hessian: Tensor, slope: Tensor) -> Tensor:
        """Return the t [1] with hessian @ t = slope; not finite where there is none."""
        return slope / hessian[0]

    def intercept_product(self, design: Design, rows: KeptRows, at: Coefficients, shift: Tensor) -> Coefficients:
        """Return the Hessian of the sum times (0, shift [1]), float64; one pass over X, unless its border was kept."""
        if rows.border is not None:
            return Coefficients(rows.border[:-1, None] * shift, rows.border[-1:] * shift)
        h = rows.exact
        assert h is not None
        column = self.passes.column_sums(design.X, h, compute_dtype=torch.float64, center=design.center)
        design.count()
        return Coefficients(column[:, None] * shift, h.sum(dtype=torch.float64) * shift)

    def shrunk_divergence(self, design: Design, rows: KeptRows, at: Coefficients, tau: float, shift: Tensor) -> Tensor:
        """Return sum_i s_i KL(y_i + tau u_i | p_i), [], for the corrected residuals u, from the logits of a point."""
        assert rows.logits is not None
        values = shrunk_divergence(rows.logits, self.y, tau, shift)
        s = self.sample_weight
        # A row of weight 0 may be so far off that its divergence is no number.
        return values.sum() if s is None else torch.where(s > 0, values * s, 0.0).sum()

    def sample(self, chosen: Tensor, parameters: int) -> Self | None:
        """Return the loss of some rows; a sample in which a class hardly occurs is separable."""
        y, s = self.y[chosen], None if self.sample_weight is None else self.sample_weight[chosen]
        found = self.passes.label_sums(y, s)
        positive, total = found.label_sum, found.weight_sum
        if not total > 0 or min(positive, total - positive) / total * len(y) < 8 * parameters:
            return None
        return replace(self, y=y, sample_weight=s, shares=_shares(positive / total, self.intercept), weight_sum=total)

    def _options(self, design: Design, dtype: torch.dtype) -> PassOptions:
        return {"sample_weight": self.sample_weight, "center": design.center, "eps": 0.0, "compute_dtype": dtype}


def _cast(h: Tensor, dtype: torch.dtype) -> Tensor:
    """Return h in a dtype. On a CPU by NumPy: threads of OpenMP, once woken, go on looking for work for 200 ms, on
    cores that the next passes need."""
    if h.device.type != "cpu" or h.dtype == dtype:
        return h.to(dtype)
    return torch.from_numpy(h.numpy().astype(str(dtype).removeprefix("torch.")))


def _shares(mean: float, intercept: bool) -> tuple[float, float]:
    """Return the shares of labels 0 and 1 in the null model, for the mean label."""
    return (1 - mean, mean) if intercept else (0.5, 0.5)


def smallest_margin(logits: Tensor, y: Tensor, sample_weight: Tensor | None) -> Tensor:
    """Return the smallest (2 y_i - 1) z_i of a row of positive weight, [] in the logits' dtype. Waits for no device.

    Above 0 it proves complete separation, by the very parameters of these logits.

    Args:
        logits: [N] of a floating dtype; a NaN gives NaN.
        y: [N] of any real dtype; a label other than 0 and 1 counts as a margin of -inf.
        sample_weight: [N], or None for ones.

    Returns:
        The minimum; inf where no row has a positive weight.
    """
    margin = torch.where(y == 1, logits, torch.where(y == 0, -logits, -torch.inf))
    if sample_weight is not None:
        margin = torch.where(sample_weight > 0, margin, torch.inf)
    return torch.cat([margin, margin.new_full((1,), torch.inf)]).amin()
