"""The convex objective that full-batch solvers minimise, in their coordinates, and its certificate.

    P(w, b) = 1/S sum_i s_i loss_i + l1 ||w||_1 + l2/2 ||w||_2^2,      S = sum_i s_i,      eps = 0

A solver sees theta [P, K] float64 (`flashlogit.objectives.coordinates`), losses, gradients, products and matrices,
and neither
kernels nor where X is. Every loss and gradient is computed in float64 from X as it is stored: a float32 mean loss is
good to 6e-8 only, and with little penalty a relative gap of 1e-8 asks for a mean gradient good to 3e-8. Products with
the Hessian and the Hessian itself only choose directions and are float32, unless X is float64 or more is asked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from flashlogit_kernels.checks import readable_labels, readable_weights
from flashlogit_kernels.contract import HESSIAN_COLUMNS, BCESums, PassOptions
from flashlogit_kernels.gram import weighted_gram

from ..passes.backend import Passes
from ..reference.blocks import over_parts
from .certificate import FARTHEST_SHIFT, Certificate, penalty_gap, provable, shrinkage, shrunk_divergence
from .coordinates import Coordinates, measure_coordinates
from .sampled_hessian import half_dtype, second_moments

_MEASURED_ROWS, _MEASURED_VALUES = 1024, 1 << 19
"""Rows, and values of X, from which the coordinates are measured: whichever are more rows."""
_GRAM_BYTES = {"cpu": 8 << 20, "cuda": 256 << 20}
"""Rows of X that a wide Hessian takes at once: large enough for a matrix product to be quick."""


@dataclass(frozen=True)
class Point:
    """The objective at theta [P, K]: all float64, on the device of X.

    smooth [K] is P without its l1 term, gradient [P, K] its derivative, value [K] is P. gap [K] is an estimate of
    the bound on P - P* that `ConvexObjective.certify` proves.
    """

    smooth: Tensor
    gradient: Tensor
    value: Tensor
    gap: Tensor


class ConvexObjective:
    """P over X [N, D], y [N] (0 and 1, or soft) and sample_weight [N] or None, for K = 1 model.

    y and sample_weight are held in a dtype that every pass reads as it is; labels that are all 0 or 1 are uint8.
    null_space [P, r], if it is set: orthonormal directions in which P is flat. Rounding slopes it, and a solver that
    followed would go far for nothing; gradients and products have no part in it.
    product_dtype: of products with the Hessian and of the Hessian itself.
    penalised: whether there is an l1 or l2 term, and one large enough for a duality gap of the tolerance to be seen.
    curvature [N]: of the last point evaluated with `curvature`.
    """

    def __init__(
        self,
        X: Tensor,
        y: Tensor,
        sample_weight: Tensor | None,
        passes: Passes,
        *,
        l1: float,
        l2: float,
        intercept: bool,
        tolerance: float = math.inf,
        coordinates: Coordinates | None = None,
        share: float = 1.0,
        labels_known: bool = False,
    ) -> None:
        """The arguments as in the class, and some more; the last three are for a sample of the user's rows.

        Args:
            tolerance: the relative gap that is asked for.
            share: the share of the user's rows that these are, for counting passes.
            labels_known: whether y is in the dtype of `narrow_labels` already, which looks at all values.
        """
        self.X = X
        self.y = y if labels_known else narrow_labels(y)
        self.sample_weight = readable_weights(sample_weight, torch.float64)
        self.intercept = intercept
        self.l1, self.l2 = l1, l2
        self._passes = passes
        self.share = share
        self.reads = 0.0
        s, target = self.sample_weight, self.y.double()
        self.weight_sum = float(len(X) if s is None else s.sum(dtype=torch.float64))
        self.mean_label = float(target.sum() if s is None else (target * s).sum()) / self.weight_sum
        if intercept and not 0 < self.mean_label < 1:
            raise ValueError(
                f"y has the weighted mean {self.mean_label:g}; with an intercept a fit needs rows of both classes"
            )
        if coordinates is None:
            rows = max(_MEASURED_ROWS, _MEASURED_VALUES // X.shape[1])
            curvature = self.mean_label * (1 - self.mean_label) if intercept else 0.25
            coordinates = measure_coordinates(
                X, sample_rows(len(X), rows, X.device), curvature=curvature, l2=l2, intercept=intercept
            )
            self.reads += share * min(1.0, rows / len(X))
        self.coordinates = coordinates
        D, scale = X.shape[1], coordinates.scale
        self.l1_of = torch.where(torch.arange(len(scale), device=X.device) < D, l1 * scale, 0.0)[:, None]
        self.l2_of = torch.where(torch.arange(len(scale), device=X.device) < D, l2 * scale.square(), 0.0)[
            :, None
        ]
        l1_proves, l2_proves = provable(l1, l2, coordinates, tolerance=tolerance, null=self.null_value)
        self.penalised = l1_proves or l2_proves
        self._proving_l2 = l2 if l2_proves else 0.0
        self.product_dtype = torch.float64 if X.dtype == torch.float64 else torch.float32
        self._center = coordinates.subtracted
        self.null_space: Tensor | None = None
        self.curvature = X.new_empty(0)
        self._kept: _Kept | None = None

    @property
    def parameters(self) -> int:
        """P: D, and 1 with an intercept."""
        return self.coordinates.scale.shape[0]

    @property
    def null_value(self) -> float:
        """P of the model with an intercept only; log 2 without one."""
        if not self.intercept:
            return math.log(2)
        return sum(-p * math.log(p) for p in (self.mean_label, 1 - self.mean_label) if p > 0)

    def null_theta(self) -> Tensor:
        """The null model, [P, 1]."""
        theta = self.X.new_zeros((self.parameters, 1), dtype=torch.float64)
        if self.intercept:
            odds = self.mean_label / (1 - self.mean_label)
            theta[-1] = math.log(odds) / self.coordinates.scale[-1]
        return theta

    def settled(self, theta: Tensor) -> Tensor:
        """theta itself: no other has the same probabilities, unless columns are collinear."""
        return theta

    def evaluate(self, theta: Tensor, *, curvature: bool = False, keep: bool = False) -> Point:
        """P and its gradient at theta [P, 1], for one read of X. Waits for nothing.

        Args:
            theta: the point.
            curvature: keep every row's curvature, for `product`.
            keep: keep what `certify` needs of every row, or without a penalty the `logits`.
        """
        w, b = self.coordinates.for_pass(theta)
        # A gap without l2 is of shrunk residuals, which takes the logits.
        certified = keep and self.penalised
        logits = keep and not self._proving_l2 > 0
        sums = self._passes.bce_onepass(
            self.X,
            self.y,
            w,
            b,
            sample_weight=self.sample_weight,
            eps=0.0,
            compute_dtype=torch.float64,
            curvature=curvature or (certified and self.intercept),
            logits=logits,
            center=self._center,
        )
        self.reads += self.share
        if curvature:
            assert sums.curvature is not None
            self.curvature = sums.curvature.to(self.product_dtype)
        point = self._point(theta, sums)
        self._kept = _Kept(theta.clone(), point, sums) if keep else None
        return point

    def hessian(self, theta: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
        """Second derivative of the smooth part, [1, P, P] float64, by sums in `dtype` (default: see the module)."""
        dtype = dtype or self.product_dtype
        w, b = (value.to(dtype) for value in self.coordinates.for_pass(theta))
        options: PassOptions = {
            "sample_weight": self.sample_weight,
            "center": self._center,
            "eps": 0.0,
            "compute_dtype": dtype,
        }
        self.reads += self.share
        if self.X.shape[1] <= HESSIAN_COLUMNS:
            matrix = self._passes.bce_hessian(self.X, self.y, w, b, **options).matrix
        else:
            h = self._passes.bce_onepass(self.X, self.y, w, b, curvature=True, **options).curvature
            assert h is not None
            matrix = self._gram(h, dtype)
            self.reads += self.share
        return self.in_coordinates(matrix, centred=self._center is not None)

    def sampled_hessian(self, rows: int, *, rough: bool = False) -> Tensor:
        """The Hessian at the last point evaluated with `curvature`, from about `rows` rows, [1, P, P].

        It is in the arithmetic of `product`, or with `rough` in that of `half_dtype`, if there is one, which is right
        to about 1e-2 of the diagonal.
        """
        matrix, share = second_moments(
            self.X,
            self.curvature,
            self.coordinates,
            rows,
            compute_dtype=self.product_dtype,
            product_dtype=half_dtype(self.X) if rough else None,
        )
        self.reads += self.share * share
        hessian = matrix / (self.weight_sum * share)
        hessian.diagonal().add_(self.l2_of[:, 0])
        if self.null_space is not None:
            hessian += self.null_space @ self.null_space.t()
        return hessian[None]

    def in_coordinates(self, matrix: Tensor, *, centred: bool) -> Tensor:
        """Sums over (x, 1) (x, 1)^T [D + 1, D + 1], or over (x - c, 1), as the Hessian by theta, [1, P, P]."""
        if not centred:
            matrix = self.coordinates.about_center(matrix)
        P, scale = self.parameters, self.coordinates.scale
        hessian = (matrix[:P, :P] * (scale[:, None] / self.weight_sum)).mul_(scale)
        hessian.diagonal().add_(self.l2_of[:, 0])
        if self.null_space is not None:  # any curvature will do there, and a matrix without has no factors
            hessian = hessian + self.null_space @ self.null_space.t()
        return hessian[None]

    def product(self, v: Tensor) -> Tensor:
        """The Hessian at the last point evaluated with `curvature`, times v [P, 1]; one read of X."""
        w, b = self.coordinates.for_pass(v)
        dtype = self.product_dtype
        sums = self._passes.hessian_product(
            self.X,
            self.curvature,
            w.to(dtype),
            b.to(dtype),
            compute_dtype=dtype,
            center=self._center,
        )
        self.reads += self.share
        return self._off_null_space(
            self.coordinates.pulled_back(sums[:-1], sums[-1]) / self.weight_sum + self.l2_of * v
        )

    def gram(self) -> Tensor:
        """sum_i s_i (x_i - c, 1) (x_i - c, 1)^T of the centred columns in the units of X, [D + 1, D + 1] float64."""
        s = self.sample_weight
        s = self.X.new_ones(len(self.X), dtype=torch.float64) if s is None else s.double()
        self.reads += self.share
        matrix = self._gram(s, torch.float64)
        return matrix if self._center is not None else self.coordinates.about_center(matrix)

    @property
    def logits(self) -> Tensor:
        """z [N] float64 at the last point evaluated with `logits`."""
        assert self._kept is not None
        assert self._kept.sums.logits is not None
        return self._kept.sums.logits

    def certify(self, theta: Tensor) -> Certificate:
        """The duality gap at theta [P, 1].

        With an intercept one read of X, and another one unless theta is the last point evaluated, with `keep`.
        """
        assert self.penalised
        if self._kept is None or not torch.equal(self._kept.theta, theta):
            self.evaluate(theta, keep=True)
        assert self._kept is not None
        point, sums = self._kept.point, self._kept.sums
        value = float(point.value)
        trivial = Certificate("gap", value, value, self.null_value)  # as P* >= 0
        D, scale = self.X.shape[1], self.coordinates.scale
        a = point.gradient - self.l2_of * theta
        gap, shift = value * 0.0, 0.0
        if self.intercept:
            column = self._curvature_of_intercept(sums)
            move = float(a[D] / column[D]) if float(column[D]) > 0 else math.inf
            shift = move * float(scale[D])
            if not abs(shift) <= FARTHEST_SHIFT:
                return trivial
            a = a - move * column
            gap = move * move * float(column[D])
        w, a = self.coordinates.centred(theta)[0], a[:D] / scale[:D, None]
        l1, l2 = torch.full_like(w, self.l1), torch.full_like(w, self._proving_l2)
        tau = float(shrinkage(a, l1, l2))
        if tau < 1:
            gap = self._mean(shrunk_divergence(self.logits, self.y, tau, shift))
        gap += float((penalty_gap(w, tau * a, l1, l2) + 0.5 * (self.l2 - l2) * w.square()).sum())
        return Certificate("gap", min(gap, value), value, self.null_value)

    def _curvature_of_intercept(self, sums: BCESums) -> Tensor:
        """The Hessian's column of the intercept, [P, 1], by one read of X in float64."""
        h = sums.curvature
        assert h is not None
        column = self._passes.column_sums(self.X, h, compute_dtype=torch.float64, center=self._center)
        self.reads += self.share
        return self.coordinates.pulled_back(column, h.sum(dtype=torch.float64)) * (
            self.coordinates.scale[-1] / self.weight_sum
        )

    def sample(self, rows: int) -> ConvexObjective | None:
        """The same objective over about `rows` random rows; None if a class would have too few of them.

        A sample in which a class hardly occurs is separable, and its optimum far from that of all rows.
        """
        chosen = sample_rows(len(self.X), rows, self.X.device)
        assert chosen is not None
        y = self.y[chosen]
        s = None if self.sample_weight is None else self.sample_weight[chosen]
        mass = y.double() if s is None else y.double() * s
        total = float(len(y) if s is None else s.sum())
        if total <= 0:
            return None
        rate = float(mass.sum()) / total
        if min(rate, 1 - rate) * len(y) < 8 * self.parameters:
            return None
        self.reads += self.share * rows / len(self.X)
        return ConvexObjective(
            self.X.index_select(0, chosen),
            y,
            s,
            self._passes,
            l1=self.l1,
            l2=self.l2,
            intercept=self.intercept,
            coordinates=self.coordinates,
            share=self.share * rows / len(self.X),
            labels_known=True,
        )

    def _off_null_space(self, gradient: Tensor) -> Tensor:
        N = self.null_space
        return gradient if N is None else gradient - N @ (N.t() @ gradient)

    def _point(self, theta: Tensor, sums: BCESums) -> Point:
        data = self._off_null_space(
            self.coordinates.pulled_back(sums.weight_grad, sums.bias_grad) / self.weight_sum
        )
        smooth = (sums.loss / self.weight_sum).reshape(1) + (0.5 * self.l2_of * theta.square()).sum(dim=0)
        value = smooth + (self.l1_of * theta.abs()).sum(dim=0)
        return Point(smooth, data + self.l2_of * theta, value, self._gap_estimate(theta, data, value))

    def _gap_estimate(self, theta: Tensor, data: Tensor, value: Tensor) -> Tensor:
        if not self.penalised:
            return value
        D = self.X.shape[1]
        l1, l2 = self.l1_of[:D], self.l2_of[:D]
        if not self._proving_l2 > 0:
            l2 = torch.zeros_like(l2)
        tau = shrinkage(data[:D], l1, l2)
        gap = penalty_gap(theta[:D], tau * data[:D], l1, l2).sum(dim=0)
        # The divergence is of second order in 1 - tau; this is its size, not a bound.
        gap = gap + (1 - tau).square() * value
        if (
            self.intercept
        ):  # twice what the intercept alone could still gain, if its curvature were the null model's
            gap = gap + data[D].square()
        return torch.minimum(gap, value)

    def _gram(self, h: Tensor, dtype: torch.dtype) -> Tensor:
        """Sums over all rows with the weights h [N]."""
        bytes_at_once = _GRAM_BYTES.get(self.X.device.type, _GRAM_BYTES["cuda"])
        height = max(1, bytes_at_once // (self.X.shape[1] * dtype.itemsize))

        def of_part(part: slice) -> Tensor:
            return weighted_gram(
                self.X[part],
                h[part].to(dtype),
                None,
                block_rows=height,
                compute_dtype=dtype,
                center=self._center,
            )

        return over_parts(self.X, len(self.X), of_part, lambda parts: torch.stack(parts).sum(dim=0))

    def _mean(self, values: Tensor) -> float:
        """Weighted mean over rows."""
        total = values.sum() if self.sample_weight is None else (values * self.sample_weight).sum()
        return float(total) / self.weight_sum


@dataclass(frozen=True)
class _Kept:
    """The last point evaluated, and what the pass gave there."""

    theta: Tensor
    point: Point
    sums: BCESums


def narrow_labels(y: Tensor) -> Tensor:
    """Labels [N] in the narrowest dtype that the passes read as it is, contiguous.

    Labels that are all 0 or 1 become uint8, whatever their dtype is; others stay float32 or become float64.
    """
    if y.dtype not in (torch.bool, torch.uint8) and bool(((y == 0) | (y == 1)).all()):
        y = y.to(torch.uint8)
    return readable_labels(y, torch.float64)


def sample_rows(N: int, n: int, device: torch.device) -> Tensor | None:
    """n random rows of N in ascending order, [n] int64, some of them twice; None for all where there are no more."""
    if n >= N:
        return None
    generator = torch.Generator(device).manual_seed(0)
    return torch.randint(N, (n,), generator=generator, device=device).sort().values
