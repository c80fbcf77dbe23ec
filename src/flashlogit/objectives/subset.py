"""Some weights of an objective, and all intercepts: P as a function of these, the other weights being 0.

The columns that the weights belong to are copied, in the dtype of X, and everything else is as for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from flashlogit_kernels.gram import mirrored

from .design import Design
from .objective import Objective, Point

_PANEL = 256
"""Parameters whose rows of a softmax's Hessian are made at once, from the diagonal on."""


def of_parameters(objective: Objective, chosen: Tensor) -> Objective | Subset:
    """Return an objective as a function of the parameters numbered `chosen` [n], in ascending order and with all
    intercepts; for one that is `penalised`. Takes a part of a pass."""
    C, (P, D) = objective.loss.columns, (objective.scale.shape[0], objective.X.shape[1])
    rows = torch.unique_consecutive(chosen // C) if C > 1 else chosen
    columns, here = rows[: len(rows) - (P - D)], rows.cpu().numpy()
    at, share = objective.design.coordinates, len(columns) / D
    coordinates = replace(at, centers=at.centers[here[: len(columns)]], scales=at.scales[here])
    objective.design.count(share)
    X = objective.X.index_select(1, columns)
    design = Design(X, coordinates, objective.counter, objective.design.share * share)
    whole = replace(objective, design=design, scales=objective.scales[here])
    places = torch.searchsorted(rows, chosen // C) * C + chosen % C
    return whole if len(places) == whole.parameters else Subset(whole, places)


@dataclass(frozen=True)
class Subset:
    """P of a softmax as a function of the parameters numbered `places` [n] of `whole`, which has their columns."""

    whole: Objective
    places: Tensor

    @property
    def l1(self) -> float:
        """The l1 penalty in the units of X."""
        return self.whole.l1

    @property
    def l1_of(self) -> Tensor:
        """The l1 penalty of each parameter, [n, 1]."""
        return self.whole.l1_of[self.places]

    @property
    def parameters(self) -> int:
        """n."""
        return len(self.places)

    @property
    def product_dtype(self) -> torch.dtype:
        """The dtype of the Hessian where no other is asked for."""
        return self.whole.product_dtype

    @property
    def null_value(self) -> float:
        """P of the null model."""
        return self.whole.null_value

    def canonical(self, theta: Tensor) -> Tensor:
        """Return theta [n, 1]: what the classes of a column have in common is another subset's matter."""
        return theta

    def evaluate(self, theta: Tensor, *, certified: bool = False, last: bool = False) -> Point:
        """Return P and its gradient at theta [n, 1], and the gap over these parameters alone, for one pass."""
        whole, places = self.whole, self.places
        everywhere = self._everywhere(theta)
        point = whole.evaluate(everywhere, certified=certified, last=last)
        gradient = self._everywhere(point.gradient[places])
        gap = whole.gap_estimate(everywhere, gradient - whole.l2_of * everywhere, gradient, point.value)
        return Point(theta, point.gradient[places], point.value, gap, point.rows)

    def hessian(self, theta: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
        """Return the second derivative of the smooth part, [1, n, n] float64, for one pass.

            1/S sum_i s_i x_ij x_il (p_ik [k = m] - p_ik p_im)      for the weights j, k and l, m

        of column and class, in their coordinates.
        """
        whole, C = self.whole, self.whole.loss.columns
        dtype = dtype or self.product_dtype
        at, center = whole.for_pass(self._everywhere(theta)).to(dtype), whole.design.coordinates.center.to(dtype)
        column, of_class = self.places // C, self.places % C
        scale, s = whole.scale.to(dtype).reshape(-1)[self.places], whole.loss.sample_weight
        n = len(self.places)
        total = theta.new_zeros((n, n))
        for rows, block in whole.design.blocks(dtype, copies=1 + 3 * n // len(center)):
            p = torch.softmax(torch.addmm(at.b, block, at.W), dim=1)
            X = block if whole.design.center is not None else block - center
            if whole.intercept:
                X = torch.cat([X, X.new_ones((len(X), 1))], dim=1)
            V = X[:, column].mul_(scale)
            if s is not None:
                V *= s[rows, None].to(dtype).sqrt()
            Vp = V * p[:, of_class]
            for start in range(0, n, _PANEL):
                panel, rest = slice(start, start + _PANEL), slice(start, n)
                same = of_class[panel, None] == of_class[rest]
                of_panel = Vp[:, panel].t()
                total[panel, rest] += (of_panel @ V[:, rest]).mul_(same) - of_panel @ Vp[:, rest]
        hessian = mirrored(total) / whole.loss.weight_sum
        hessian.diagonal().add_(whole.l2_of[self.places, 0])
        if whole.intercept and whole.gauge is not None:
            hessian[-C:, -C:] += torch.outer(whole.gauge[-1], whole.gauge[-1])
        return hessian[None]

    def _everywhere(self, values: Tensor) -> Tensor:
        """Return values [n, 1] in their places among zeros."""
        return values.new_zeros((self.whole.parameters, 1)).index_copy_(0, self.places, values)
