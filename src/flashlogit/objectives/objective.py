"""The objective that full-batch solvers minimise, as a function of points in their coordinates.

    P(W, b) = 1/S sum_i s_i loss_i(x_i W + b) + l1 ||W||_1 + l2/2 ||W||_F^2,      S = sum_i s_i

for a loss of rows (`flashlogit.objectives.logistic`, `flashlogit.objectives.softmax`) with C columns of weights, all of
them penalised, as scikit-learn has it. Solvers see theta [P C, 1] float64, which is [P, C] row by row: P = D, and one
row more with an intercept,

    W_jk = d_jk theta_jk        b_k = d_bk theta_bk - c . W_k

with the centre c of the columns (`flashlogit.objectives.coordinates`) and scales d in which each class has about unit
curvature. Values and gradients are float64. Products with the Hessian and the Hessian itself only choose directions and
are float32, unless X is float64 or more is asked for.

The probabilities of a softmax stay the same when a number is added to all entries of b, and without a penalty when a
vector is added to all columns of W. Of all optima the one whose intercepts add up to 0 is given, without a penalty the
one whose rows of W do too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .certificate import FARTHEST_SHIFT, Certificate, penalty_gap, provable, shrinkage
from .design import Design, PassCounter, sample_rows
from .logistic import Logistic
from .row_loss import Coefficients, Keep, RowValues
from .softmax import Softmax

RowLoss = Logistic | Softmax
"""A loss of rows; what both offer is listed in `flashlogit.objectives.row_loss`."""
_NO_CURVATURE = 1e-12
"""Largest curvature, of about 1 in these coordinates, that is taken for rounding."""
_SAME_DIRECTION = 1e-10
"""Share of the largest singular value below which flat directions are combinations of others."""


@dataclass(frozen=True)
class Point:
    """The objective at theta [P, K] of K models side by side: all float64, on the device of X.

    gradient [P, K] is that of P without its l1 term, value [K] is P. gap [K] is an estimate of the bound on P - P* that
    `Objective.certify` proves. rows: what was kept of the rows, if anything was.
    """

    theta: Tensor
    gradient: Tensor
    value: Tensor
    gap: Tensor
    rows: RowValues | None = None


@dataclass(frozen=True)
class Objective:
    """P over a table for K = 1 model.

    scale: d [P, C]. l1_of, l2_of [P C, 1]: the penalties of each parameter. proving_l2 is l2, or 0 where rounding hides
    a gap that l2 proves; penalised: whether there is a penalty that proves a gap of the tolerance. gauge [P, C], for a
    softmax: unit vectors along each of which the probabilities of a parameter's classes stay the same, 0 where the
    penalty does not. null_space [P C, r]: orthonormal directions in which P is flat. Rounding slopes them, and a solver
    that followed would go far for nothing; gradients and products have no part in either.
    """

    design: Design
    loss: RowLoss
    l1: float
    l2: float
    scale: Tensor
    l1_of: Tensor
    l2_of: Tensor
    penalised: bool
    proving_l2: float
    gauge: Tensor | None
    null_space: Tensor | None = None

    @classmethod
    def of(
        cls,
        X: Tensor,
        loss: RowLoss,
        *,
        l1: float,
        l2: float,
        tolerance: float = math.inf,
    ) -> Objective:
        """Return the objective over X [N, D], whose columns are measured; tolerance: on the relative gap."""
        spread = loss.null_curvature().diagonal()
        curvature = sum(p * (1 - p) for p in loss.shares) / len(loss.shares)
        design = Design.measured(X, curvature=curvature, l2=l2, intercept=loss.intercept)
        coordinates = design.coordinates
        weights = torch.ones_like(coordinates.scale)[:, None]
        if loss.intercept:
            weights[-1] = 0.0
        scale = _class_scale(coordinates.scale[:, None], l2 * weights, spread / spread.mean())
        by_l1, by_l2 = provable(
            l1, l2, coordinates, tolerance=tolerance, null=loss.null_value, classes=loss.columns
        )
        gauge = None
        if loss.columns > 1:
            gauge = (1 / scale) * (1 - weights if by_l1 or by_l2 else 1.0)
            gauge = gauge / gauge.norm(dim=1, keepdim=True).clamp(min=1e-300)
        return cls(
            design=design,
            loss=loss,
            l1=l1,
            l2=l2,
            scale=scale,
            l1_of=(weights * l1 * scale).reshape(-1, 1),
            l2_of=(weights * l2 * scale.square()).reshape(-1, 1),
            penalised=by_l1 or by_l2,
            proving_l2=l2 if by_l2 else 0.0,
            gauge=gauge,
        )

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
        return self.scale.numel()

    @property
    def bounded(self) -> bool:
        """Whether there is a penalty, and with it an optimum."""
        return self.l1 > 0 or self.l2 > 0

    @property
    def product_dtype(self) -> torch.dtype:
        """The dtype of products and of the Hessian where no other is asked for."""
        return torch.float64 if self.X.dtype == torch.float64 else torch.float32

    @property
    def null_value(self) -> float:
        """P of the null model, which has intercepts only."""
        return self.loss.null_value

    def null_theta(self) -> Tensor:
        """Return the null model, [P C, 1]."""
        theta = torch.zeros_like(self.scale)
        if self.intercept:
            theta[-1] = self.loss.null_intercepts() / self.scale[-1]
        return theta.reshape(-1, 1)

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
        b = b - self.design.coordinates.center @ W
        if self.gauge is not None:
            if self.l1 == 0 or not self.penalised:
                W = W - W.mean(dim=1, keepdim=True)
            b = b - b.mean()
        return W, b if self.intercept else torch.zeros_like(b)

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

    def evaluate(
        self, theta: Tensor, *, products: torch.dtype | None = None, certified: bool = False
    ) -> Point:
        """Return P and its gradient at theta [P C, 1], for one pass over X. Waits for nothing.

        Args:
            theta: the point.
            products: the dtype of the products that `product` is to make at this point, None for none.
            certified: whether to keep what `certify` and `separated` need of the rows.
        """
        keep = Keep(
            products,
            intercepts=certified and self.penalised and self.intercept,
            margins=certified and not self.proving_l2 > 0,
        )
        sums = self.loss.sums(self.design, self._for_pass(theta), keep)
        data = self._off_flat(self._pulled_back(sums.gradient))
        l2_theta = self.l2_of * theta
        smooth = (sums.loss / self.loss.weight_sum).reshape(1) + 0.5 * (l2_theta * theta).sum(dim=0)
        value = smooth + (self.l1_of * theta.abs()).sum(dim=0)
        gap = self._gap_estimate(theta, data, value)
        return Point(theta, data + l2_theta, value, gap, sums.rows)

    def product(self, point: Point, v: Tensor) -> Tensor:
        """Return the Hessian at a point evaluated for `products`, times v [P C, 1]; one pass over X."""
        assert point.rows is not None
        h = point.rows.curvature
        assert h is not None
        data = self._pulled_back(self.loss.product(self.design, h, self._for_pass(v).to(h.dtype)))
        return self._off_flat(data) + self.l2_of * v

    def hessian(self, theta: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
        """Return the second derivative of the smooth part, [1, P C, P C] float64, by sums in `dtype`."""
        at = self._for_pass(theta).to(dtype or self.product_dtype)
        return self._with_penalty(self.loss.hessian(self.design, at))

    def null_hessian(self, gram: Tensor) -> Tensor:
        """Return the Hessian at the null model, [1, P C, P C], from what `gram` gives."""
        of_data = torch.kron(self.design.in_coordinates(gram), self.loss.null_curvature())
        return self._with_penalty(of_data)

    def sampled_hessian(self, point: Point, rows: int, *, rough: bool = False) -> Tensor:
        """Return about the block of the Hessian that each class has, [1, P, P], from about `rows` rows.

        The point was evaluated for `products`, and the sums are in their dtype, or with `rough` in that of
        `half_dtype`, if there is one, which is right to about 1e-2 of the diagonal. In coordinates of unit curvature
        the blocks of the classes are alike.
        """
        assert point.rows is not None
        h = self.loss.mean_curvature(point.rows)
        matrix, share = self.design.sampled_moments(h, rows, dtype=h.dtype, rough=rough)
        hessian = matrix / (self.loss.weight_sum * share)
        diagonal, D = hessian.diagonal(), self.X.shape[1]
        diagonal[:D].add_(self.l2 * self.design.coordinates.scale[:D].square())
        if self.loss.columns > 1:
            # A constant column without a penalty worth the name: any curvature will do, but none would be noise.
            diagonal.copy_(torch.where(diagonal > _NO_CURVATURE, diagonal, 1.0))
        elif self.null_space is not None:
            hessian += self.null_space @ self.null_space.t()
        return hessian[None]

    def gram(self) -> Tensor:
        """Return sum_i s_i (x_i - c, 1) (x_i - c, 1)^T in the units of X, [D + 1, D + 1] float64; one pass over X."""
        s = self.loss.sample_weight
        return self.design.gram(self.X.new_ones(len(self.X)) if s is None else s, torch.float64)

    def flattened(self, basis: Tensor) -> Objective:
        """Return this objective knowing combinations of columns, [D, r] in the units of X, that leave it flat."""
        P, C = self.scale.shape
        D, r = basis.shape
        flat = basis.new_zeros((P, C, r * C))
        for k in range(C):
            flat[:D, k, k * r : (k + 1) * r] = basis / self.scale[:D, k, None]
        if self.gauge is None:
            return replace(self, null_space=torch.linalg.qr(flat.reshape(P, r)).Q)
        along = torch.diag_embed(self.gauge.t()).permute(1, 0, 2)
        left, size, _ = torch.linalg.svd(
            torch.cat([flat, along], dim=2).reshape(P * C, -1), full_matrices=False
        )
        return replace(self, null_space=left[:, size > _SAME_DIRECTION * size[0]])

    def sample(self, rows: int) -> tuple[Objective, Tensor] | None:
        """Return this objective over about `rows` random rows, and which columns rest on enough of them, [D] bool.

        None if a class would have too few rows: the optimum of such a sample is far from that of all rows.
        """
        chosen = sample_rows(len(self.X), rows, self.X.device)
        assert chosen is not None
        loss = self.loss.sample(chosen, len(self.scale))
        if loss is None:
            return None
        design, known = self.design.sample(chosen)
        return replace(self, design=design, loss=loss), known

    def separated(self, point: Point) -> bool:
        """Return whether there is no optimum, every row being on its label's side at a point evaluated `certified`."""
        if self.bounded:
            return False
        assert point.rows is not None
        return bool(self.loss.margin(point.rows) > 0)

    def certify(self, point: Point) -> Certificate:
        """Return the duality gap at a point evaluated `certified`; with an intercept for one pass over X or two.

        As in `flashlogit.objectives.certificate`, for a softmax with u_i = q_i - e_{y_i} for distributions q_i: the
        residuals p - e_y need not add up to 0 for each class, but with an intercept u has to. Those of intercepts t
        lower do, to first order,

            q_ik = p_ik (1 - t_k + p_i . t),      sum_i s_i (diag p_i - p_i p_i^T) t = sum_i s_i (p_i - e_{y_i}),

        which are distributions for max |t| <= 1/2, and KL(q_i | p_i) is at most t^T (diag p_i - p_i p_i^T) t.
        """
        assert self.penalised
        assert point.rows is not None
        (D, C), S = (self.X.shape[1], self.loss.columns), self.loss.weight_sum
        W = self.centred(point.theta)[0]
        # `to_user` takes off what the classes of a column have in common, for so much less of an l2 penalty.
        saved = point.value.new_zeros(())
        if C > 1 and self.l1 == 0:
            saved = 0.5 * self.l2 * C * W.mean(dim=1).square().sum()
        a = (point.gradient - self.l2_of * point.theta).reshape(self.scale.shape)
        shift, divergence = a.new_zeros(C), a.new_zeros(())
        if self.intercept:
            curvature = self.loss.intercept_hessian(point.rows) / S
            shift = self.loss.intercept_shift(curvature, a[D] / self.scale[D])
            divergence = shift @ curvature @ shift
        farthest, value, saving = torch.stack([shift.abs().amax(), point.value[0], saved]).tolist()
        value -= saving
        if not farthest <= FARTHEST_SHIFT:
            return Certificate("gap", value, value, self.null_value)  # as P* >= 0
        at = self._for_pass(point.theta)
        if self.intercept:
            moved = self.loss.intercept_product(self.design, point.rows, at, shift)
            a = a - self._pulled_back(moved).reshape(a.shape)
        weight, a = W.reshape(-1, 1), (a[:D] / self.scale[:D]).reshape(-1, 1)
        l1, l2 = torch.full_like(weight, self.l1), torch.full_like(weight, self.proving_l2)
        shrunk = shrinkage(a, l1, l2)
        penalties = penalty_gap(weight, shrunk * a, l1, l2) + 0.5 * (self.l2 - l2) * weight.square()
        tau, of_rows, of_penalties = torch.stack([shrunk[0], divergence, penalties.sum()]).tolist()
        if tau < 1:
            of_rows = float(self.loss.shrunk_divergence(self.design, point.rows, at, tau, shift)) / S
        gap = max(of_rows + of_penalties - saving, 0.0)
        return Certificate("gap", min(gap, value), value, self.null_value)

    def _for_pass(self, theta: Tensor) -> Coefficients:
        """Return W and b as a pass takes them."""
        W, b = self.centred(theta)
        return Coefficients(
            W, b if self.design.center is not None else b - self.design.coordinates.center @ W
        )

    def _pulled_back(self, sums: Coefficients) -> Tensor:
        """Return sums by what `_for_pass` gives as the mean over rows by theta, [P C, 1]."""
        of_weight, of_bias = sums
        if self.design.center is None:
            of_weight = of_weight - torch.outer(self.design.coordinates.center, of_bias)
        rows = [of_weight, of_bias[None, :]] if self.intercept else [of_weight]
        return (torch.cat(rows) * self.scale).reshape(-1, 1) / self.loss.weight_sum

    def _off_flat(self, gradient: Tensor) -> Tensor:
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

    def _with_penalty(self, matrix: Tensor) -> Tensor:
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
            hessian.view(P, C, P, C).diagonal(dim1=0, dim2=2).add_(
                torch.einsum("pk,pl->klp", self.gauge, self.gauge)
            )
        return hessian[None]

    def _gap_estimate(self, theta: Tensor, data: Tensor, value: Tensor) -> Tensor:
        """Return about what `certify` would prove, [K]; data: the gradient without the penalty's."""
        if not self.penalised:
            return value
        weights = self.X.shape[1] * self.loss.columns
        l1, l2 = self.l1_of[:weights], self.l2_of[:weights]
        if not self.proving_l2 > 0:
            l2 = torch.zeros_like(l2)
        tau = shrinkage(data[:weights], l1, l2)
        gap = penalty_gap(theta[:weights], tau * data[:weights], l1, l2).sum(dim=0)
        # The divergence is of second order in 1 - tau; this is its size, not a bound.
        gap = gap + (1 - tau).square() * value
        if self.intercept:
            # Twice what the intercepts alone could still gain, if their curvature were the null model's.
            gap = gap + data[weights:].square().sum(dim=0)
        return torch.minimum(gap, value)


def _class_scale(scale: Tensor, penalty: Tensor, spread: Tensor) -> Tensor:
    """Return d [P, C] in which every class has about unit curvature: rare classes have less of their own.

    scale [P, 1]: of coordinates for the mean curvature. penalty [P, 1]: l2 in the units of X. spread [C]: the classes'
    curvature as a share of the mean.
    """
    if len(spread) == 1:
        return scale
    diagonal = scale**-2
    diagonal = spread * (diagonal - penalty).clamp(min=0.0) + penalty
    return torch.where(diagonal > 0, diagonal, 1.0).rsqrt()
