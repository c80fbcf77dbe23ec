"""The objective that full-batch solvers minimise, as a function of points in their coordinates.

    P(W, b) = 1/S sum_i s_i loss_i(x_i W + b) + l1 ||W||_1 + l2/2 ||W||_F^2,      S = sum_i s_i

for a loss of rows (`flashlogit.objectives.logistic`, `flashlogit.objectives.softmax`) with C columns of weights, all of
them penalised, as scikit-learn has it. Solvers see theta (`flashlogit.objectives.parameters`), values, gradients,
products and matrices, and neither kernels nor where X is.

Values and gradients are float64. Products with the Hessian and the Hessian itself only choose directions and are
float32, unless X is float64 or more is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .. import reference
from ..passes import are_few
from .certificate import FARTHEST_SHIFT, Certificate, l1_gap, penalty_gap, shrinkage
from .design import sample_rows
from .logistic import Logistic
from .parameters import Parameterisation
from .row_loss import Keep, KeptRows

_NO_CURVATURE = 1e-12
"""Largest curvature, of about 1 in these coordinates, that is taken for rounding."""


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
    rows: KeptRows | None = None


@dataclass(frozen=True)
class Objective(Parameterisation):
    """P over a table for K = 1 model. It is a value: nothing of it changes but the count of its passes."""

    @property
    def product_dtype(self) -> torch.dtype:
        """The dtype of products and of the Hessian where no other is asked for."""
        return torch.float64 if self.X.dtype == torch.float64 else torch.float32

    @property
    def compiled(self) -> bool:
        """Whether loops on the host are compiled: all but those of a small table whose passes torch makes, for which a
        fit takes less time than loading them."""
        return not (isinstance(self.loss, Logistic) and self.loss.passes is reference and are_few(self.X, l1=True))

    @property
    def null_value(self) -> float:
        """P of the null model, which has intercepts only."""
        return self.loss.null_value

    def evaluate(
        self, theta: Tensor, *, products: torch.dtype | None = None, certified: bool = False, last: bool = False
    ) -> Point:
        """Return P and its gradient at theta [P C, 1], for one pass over X. Waits for nothing.

        Args:
            theta: the point.
            products: the dtype of the products that `product` is to make at this point, None for none.
            certified: whether to keep what `certify` and `separated` need of the rows.
            last: whether `certify` is likely to be called there, and is to take no pass of its own, if that can be.
        """
        keep = Keep(
            products,
            intercepts=certified and self.penalised and self.intercept,
            margins=certified and not self.proving_l2 > 0,
            border=last,
        )
        sums = self.loss.sums(self.design, self.for_pass(theta), keep)
        data = self.off_flat(self.pulled_back(sums.gradient))
        l2_theta = self.l2_of * theta
        value = (sums.loss / self.loss.weight_sum).reshape(1) + 0.5 * (l2_theta * theta).sum(dim=0)
        if self.l1 > 0:
            value = value + (self.l1_of * theta.abs()).sum(dim=0)
        gradient = data + l2_theta
        gap = self.gap_estimate(theta, data, gradient, value) if self.penalised else value
        return Point(theta, gradient, value, gap, sums.rows)

    def product(self, point: Point, v: Tensor) -> Tensor:
        """Return the Hessian at a point evaluated for `products`, times v [P C, 1]; one pass over X."""
        assert point.rows is not None
        h = point.rows.curvature
        assert h is not None
        data = self.pulled_back(self.loss.product(self.design, h, self.for_pass(v).to(h.dtype)))
        return self.off_flat(data) + self.l2_of * v

    def hessian(self, theta: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
        """Return the second derivative of the smooth part, [1, P C, P C] float64, by sums in `dtype`."""
        at = self.for_pass(theta).to(dtype or self.product_dtype)
        return self.with_penalty(self.loss.hessian(self.design, at))

    def null_hessian(self, gram: Tensor) -> Tensor:
        """Return the Hessian at the null model, [1, P C, P C], from what `gram` gives."""
        of_data = torch.kron(self.design.in_coordinates(gram), self.loss.null_curvature())
        return self.with_penalty(of_data)

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

    def sample(self, rows: int) -> tuple[Objective, Tensor] | None:
        """Return this objective over about `rows` random rows, and which columns rest on enough of them, [D] bool.

        None if a class would have too few rows: the optimum of such a sample is far from that of all rows.
        """
        chosen = sample_rows(len(self.X), rows, self.X.device)
        assert chosen is not None
        loss = self.loss.sample(chosen, len(self.scale))
        if loss is None:
            return None
        design, known = self.design.sample(chosen, self.loss.passes)
        return replace(self, design=design, loss=loss), known

    def separated(self, point: Point) -> bool:
        """Return whether there is no optimum, every row being on its label's side at a point evaluated `certified`.

        For objectives that are not `bounded`.
        """
        assert point.rows is not None
        return bool(self.loss.margin(point.rows) > 0)

    def certify(self, point: Point) -> Certificate:
        """Return the duality gap at a point; with an intercept for one pass over X or two, if it was evaluated
        `certified`, for none, if as the last one, and else for another one.

        As in `flashlogit.objectives.certificate`, for a softmax with u_i = q_i - e_{y_i} for distributions q_i: the
        residuals p - e_y need not add up to 0 for each class, but with an intercept u has to. Those of intercepts t
        lower do, to first order,

            q_ik = p_ik (1 - t_k + p_i . t),      sum_i s_i (diag p_i - p_i p_i^T) t = sum_i s_i (p_i - e_{y_i}),

        which are distributions for max |t| <= 1/2, and KL(q_i | p_i) is at most t^T (diag p_i - p_i p_i^T) t.
        """
        assert self.penalised
        point = point if point.rows else self.evaluate(point.theta, certified=True)
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
        at = self.for_pass(point.theta)
        if self.intercept:
            moved = self.loss.intercept_product(self.design, point.rows, at, shift)
            a = a - self.pulled_back(moved).reshape(a.shape)
        weight, a = W.reshape(-1, 1), (a[:D] / self.scale[:D]).reshape(-1, 1)
        l1, l2 = torch.full_like(weight, self.l1), torch.full_like(weight, self.proving_l2)
        shrunk = shrinkage(a, l1, l2)
        penalties = penalty_gap(weight, shrunk * a, l1, l2) if self.proving_l2 > 0 else l1_gap(weight, shrunk * a, l1)
        if self.l2 > self.proving_l2:  # else weights whose squares are beyond float64 would make a NaN of it
            penalties = penalties + 0.5 * self.l2 * weight.square()
        tau, of_rows, of_penalties = torch.stack([shrunk[0], divergence, penalties.sum()]).tolist()
        if tau < 1:
            of_rows = float(self.loss.shrunk_divergence(self.design, point.rows, at, tau, shift)) / S
        gap = max(of_rows + of_penalties - saving, 0.0)
        return Certificate("gap", min(gap, value), value, self.null_value)

    def gap_estimate(self, theta: Tensor, data: Tensor, gradient: Tensor, value: Tensor) -> Tensor:
        """Return about what `certify` would prove, [K]; data: the gradient without the penalty's."""
        weights = self.X.shape[1] * self.loss.columns
        l2 = self.l2_of[:weights]
        if self.l1 == 0:  # what `penalty_gap` comes to then
            gap = (gradient[:weights].square() / (2 * l2)).sum(dim=0)
        else:
            l1, l2 = self.l1_of[:weights], l2 if self.proving_l2 > 0 else torch.zeros_like(l2)
            tau = shrinkage(data[:weights], l1, l2)
            at = theta[:weights], tau * data[:weights], l1
            gap = (penalty_gap(*at, l2) if self.proving_l2 > 0 else l1_gap(*at)).sum(dim=0)
            # The divergence is of second order in 1 - tau; this is its size, not a bound.
            gap = gap + (1 - tau).square() * value
        if self.intercept:
            # Twice what the intercepts alone could still gain, if their curvature were the null model's.
            gap = gap + data[weights:].square().sum(dim=0)
        return torch.minimum(gap, value)
