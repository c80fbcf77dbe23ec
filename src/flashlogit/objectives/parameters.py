"""What solvers see of a model: theta, in coordinates in which every class has about unit curvature.

Theta [P C, 1] is [P, C] row by row for a loss with C columns of weights: P = D, and one row more with an intercept,

    W_jk = d_jk theta_jk        b_k = d_bk theta_bk - c . W_k

with the centre c of the columns (`flashlogit.objectives.coordinates`) and scales d.

The probabilities of a softmax stay the same when a number is added to all entries of b, and without a penalty when a
vector is added to all columns of W. Of all optima the one whose intercepts add up to 0 is given, without a penalty the
one whose rows of W do too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .certificate import provable
from .coordinates import uploaded
from .design import Design, PassCounter
from .logistic import Logistic
from .row_loss import Coefficients
from .softmax import Softmax

RowLoss = Logistic | Softmax
"""A loss of rows; what both offer is listed in `flashlogit.objectives.row_loss`."""
_SAME_DIRECTION = 1e-10
"""Share of the largest singular value below which flat directions are combinations of others."""


@dataclass(frozen=True)
class Parameterisation:
    """Theta of a loss over a table, and what it costs.

    scales: d [P, C], on the host. proving_l2 is l2, or 0 where rounding hides a gap that l2 proves; penalised: whether
    there is a penalty that proves a gap of the tolerance. null_space [P C, r]: orthonormal directions in which P is
    flat. Rounding slopes them and those of the `gauge`, and a solver that followed would go far for nothing; gradients
    and products have no part in either.
    """

    design: Design
    loss: RowLoss
    l1: float
    l2: float
    scales: NDArray[np.float64]
    penalised: bool
    proving_l2: float
    null_space: Tensor | None = None

    @classmethod
    def of(cls, X: Tensor, loss: RowLoss, *, l1: float, l2: float, tolerance: float = math.inf) -> Self:
        """Return the objective over X [N, D], whose columns are measured; tolerance: on the relative gap."""
        curvatures = np.array([p * (1 - p) for p in loss.shares])
        curvature, C = float(curvatures.mean()), loss.columns
        design = Design.measured(
            X, loss.passes, curvature=curvature, l2=l2, intercept=loss.intercept, sample_weight=loss.sample_weight
        )
        coordinates = design.coordinates
        scales = coordinates.scales[:, None]
        if C > 1:
            scales = _class_scale(scales, l2 * _penalised(scales, loss), curvatures / curvature)
        rounding, sizes = coordinates.rounding, coordinates.sizes
        by_l1, by_l2 = provable(l1, l2, rounding, sizes, tolerance=tolerance, null=loss.null_value, classes=C)
        return cls(design, loss, l1, l2, scales, by_l1 or by_l2, l2 if by_l2 else 0.0)

    @cached_property
    def scale(self) -> Tensor:
        """d on the device, [P, C]."""
        return self._on_device["scale"] if self.loss.columns > 1 else self.design.coordinates.scale[:, None]

    @property
    def l1_of(self) -> Tensor:
        """The l1 penalty of each parameter, [P C, 1]."""
        return self._on_device["l1_of"]

    @property
    def l2_of(self) -> Tensor:
        """The l2 penalty of each parameter, [P C, 1]."""
        return self._on_device["l2_of"]

    @property
    def gauge(self) -> Tensor | None:
        """For a softmax [P, C]: unit vectors along each of which the probabilities of a parameter's classes stay the
        same, 0 where the penalty does not; else None."""
        return self._on_device["gauge"] if self.loss.columns > 1 else None

    @cached_property
    def _on_device(self) -> dict[str, Tensor]:
        """What only solvers in torch need, copied there at once."""
        scales, weights = self.scales, _penalised(self.scales, self.loss)
        with np.errstate(all="ignore"):
            arrays = {"l1_of": weights * self.l1 * scales, "l2_of": weights * self.l2 * np.square(scales)}
        arrays = {name: each.reshape(-1, 1) for name, each in arrays.items()}
        if self.loss.columns > 1:
            gauge = (1 / scales) * (1 - weights if self.penalised else 1.0)
            gauge = gauge / np.linalg.norm(gauge, axis=1, keepdims=True).clip(min=1e-300)
            arrays |= {"scale": scales, "gauge": gauge}
        return dict(zip(arrays, uploaded(self.X.device, *arrays.values()), strict=True))

    @cached_property
    def null(self) -> Tensor:
        """The null model, [P C, 1]."""
        null = np.zeros_like(self.scales)
        if self.intercept:
            null[-1] = self.loss.null_intercepts() / self.scales[-1]
        return torch.from_numpy(null.reshape(-1, 1)).to(self.X.device, non_blocking=True)

    @property
    def X(self) -> Tensor:  # noqa: N802
        """The table [N, D]."""
        return self.design.X

    @property
    def counter(self) -> PassCounter:
        """The passes over X so far."""
        return self.design.counter

    @property
    def intercept(self) -> bool:
        """Whether b is free; else it is 0."""
        return self.loss.intercept

    @property
    def parameters(self) -> int:
        """P C."""
        return self.scales.size

    @property
    def bounded(self) -> bool:
        """Whether there is a penalty, and with it an optimum."""
        return self.l1 > 0 or self.l2 > 0

    def centred(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Return (W [D, C], b [C]) of the centred columns."""
        scaled = theta.reshape(self.scale.shape) * self.scale
        D = self.X.shape[1]
        return scaled[:D], scaled[D] if self.intercept else torch.zeros_like(scaled[0])

    def from_centred(self, W: Tensor, b: Tensor) -> Tensor:
        """Return theta [P C, 1] of W [D, C] and b [C] of the centred columns."""
        rows = [W, b[None, :]] if self.intercept else [W]
        return (torch.cat(rows) / self.scale).reshape(-1, 1)

    def to_user(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Return (W [D, C], b [C]) in the units of X, of the same probabilities and no larger penalty."""
        W, b = self.centred(theta)
        if self.intercept:
            b = b - (self.design.coordinates.center[:, None] * W).sum(dim=0)
        if self.gauge is not None:
            if self.l1 == 0 or not self.penalised:
                W = W - W.mean(dim=1, keepdim=True)
            b = b - b.mean()
        return W, b

    def from_user(self, W: Tensor, b: Tensor) -> Tensor:
        """Return theta [P C, 1] of W [D, C] and b [C] in the units of X."""
        return self.from_centred(W, b + self.design.coordinates.center @ W)

    def canonical(self, theta: Tensor) -> Tensor:
        """Return the theta [P C, 1] with the least penalty of all that have the same probabilities.

        What all classes of a column have in common, c, changes the penalty only, and sum_k (l1 |w_k - c| +
        l2/2 (w_k - c)^2) is least at the median of the K weights and of mean + l1 (K - 2 j) / (l2 K), j = 0..K: its
        slope jumps by 2 l1 at each weight and rises by l2 K in between. Newton's steps cannot find it, for want of
        curvature.
        """
        if self.gauge is None or not self.penalised:
            return theta
        W, b = self.centred(theta)
        K = W.shape[1]
        if self.l1 == 0:
            common = W.mean(dim=1)
        elif self.l2 == 0:
            common = W.median(dim=1).values
        else:
            j = torch.arange(K + 1, dtype=W.dtype, device=W.device)
            steps = self.l1 * (K - 2 * j) / (self.l2 * K)
            common = torch.cat([W, W.mean(dim=1, keepdim=True) + steps], dim=1).median(dim=1).values
        return self.from_centred(W - common[:, None], b)

    def flattened(self, basis: Tensor) -> Self:
        """Return this objective knowing combinations of columns, [D, r] in the units of X, that leave it flat."""
        P, C = self.scale.shape
        D, r = basis.shape
        flat = basis.new_zeros((P, C, r * C))
        for k in range(C):
            flat[:D, k, k * r : (k + 1) * r] = basis / self.scale[:D, k, None]
        if self.gauge is None:
            return replace(self, null_space=torch.linalg.qr(flat.reshape(P, r)).Q)
        along = torch.diag_embed(self.gauge.t()).permute(1, 0, 2)
        left, size, _ = torch.linalg.svd(torch.cat([flat, along], dim=2).reshape(P * C, -1), full_matrices=False)
        return replace(self, null_space=left[:, size > _SAME_DIRECTION * size[0]])

    def for_pass(self, theta: Tensor) -> Coefficients:
        """Return W and b as a pass takes them."""
        W, b = self.centred(theta)
        folded = self.intercept and self.design.center is None
        return Coefficients(W, b - self.design.coordinates.center @ W if folded else b)

    def pulled_back(self, sums: Coefficients) -> Tensor:
        """Return sums by what `for_pass` gives as the mean over rows by theta, [P C, 1]."""
        of_weight, of_bias = sums
        if self.design.center is None:
            of_weight = of_weight.addr(self.design.coordinates.center, of_bias, alpha=-1)
        rows = [of_weight, of_bias[None, :]] if self.intercept else [of_weight]
        return (torch.cat(rows) * self.scale).reshape(-1, 1) / self.loss.weight_sum

    def off_flat(self, gradient: Tensor) -> Tensor:
        """Return a gradient [P C, 1] without its part along flat directions."""
        N = self.null_space
        if N is not None:
            return gradient - N @ (N.t() @ gradient)
        if self.gauge is None:
            return gradient
        rows = gradient.reshape(self.scale.shape)
        along = (self.gauge * rows).sum(dim=1, keepdim=True)
        projected: Tensor = rows - self.gauge * along
        return projected.reshape(-1, 1)

    def with_penalty(self, matrix: Tensor) -> Tensor:
        """Return sums [P C, P C] in the design's coordinates as the Hessian by theta, [1, P C, P C].

        Flat directions get curvature of their own: any will do, and a matrix without has no factors.
        """
        P, C = self.scale.shape
        hessian = matrix / self.loss.weight_sum
        if C > 1:
            relative = (self.scale / self.design.coordinates.scale[:, None]).reshape(-1)
            hessian = (hessian * relative[:, None]).mul_(relative)
        hessian.diagonal().add_(self.l2_of[:, 0])
        if self.null_space is not None:
            hessian = hessian + self.null_space @ self.null_space.t()
        elif self.gauge is not None:
            hessian.view(P, C, P, C).diagonal(dim1=0, dim2=2).add_(torch.einsum("pk,pl->klp", self.gauge, self.gauge))
        return hessian[None]


def _penalised(scales: NDArray[np.float64], loss: RowLoss) -> NDArray[np.float64]:
    """Return 1 for the rows of `scales` [P, C] that belong to columns of X, and 0 for the intercepts, [P, 1]."""
    weights = np.ones((len(scales), 1))
    if loss.intercept:
        weights[-1] = 0.0
    return weights


def _class_scale(
    scale: NDArray[np.float64], penalty: NDArray[np.float64], spread: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return d [P, C] in which every class has about unit curvature: rare classes have less of their own.

    scale [P, 1]: of coordinates for the mean curvature. penalty [P, 1]: l2 in the units of X. spread [C]: the classes'
    curvature as a share of the mean.
    """
    with np.errstate(all="ignore"):
        diagonal = spread * (scale**-2 - penalty).clip(min=0.0) + penalty
        return 1 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
