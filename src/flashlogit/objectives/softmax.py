"""The convex objective of more than two classes, in coordinates that solvers know, and its certificate.

    P(W, b) = 1/S sum_i s_i (logsumexp_k z_ik - z_i,y_i) + l1 ||W||_1 + l2/2 ||W||_F^2,      z = X W + b

with a column of W [D, K] and an entry of b [K] for every class, all of them penalised, as scikit-learn has it. The sum
over K of the probabilities is 1, so that adding the same number to all of b changes nothing; without a penalty neither
does adding the same vector to all columns of W. Of all optima the one whose intercepts add up to 0 is given, without a
penalty the one whose rows of W do too.

Products are torch's, over row blocks: X is read once for an evaluation, as with two classes, and is multiplied by K
columns. Losses and gradients are float64, products with the Hessian the dtype of X but float32 at least.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..reference.blocks import block_rows, over_parts, row_blocks
from .certificate import FARTHEST_SHIFT, Certificate, penalty_gap, provable, shrinkage
from .coordinates import Coordinates, measure_coordinates
from .logistic import Point, sample_rows
from .sampled_hessian import half_dtype, second_moments

_MEASURED_ROWS, _MEASURED_VALUES = 1024, 1 << 19
"""As for two classes: rows, and values of X, from which the coordinates are measured."""
_NO_CURVATURE = 1e-12
"""Largest curvature, of about 1 in these coordinates, that is taken for rounding."""


class SoftmaxObjective:
    """P over X [N, D], y [N] int64 class numbers and sample_weight [N] or None.

    Solvers see theta [P K, 1] float64, which is [P, K] row by row: P = D, and one row more with an intercept. For the
    meaning of the attributes see `flashlogit.objectives.logistic.ConvexObjective`; `curvature` is the probabilities
    [N, K] here.
    """

    def __init__(
        self,
        X: Tensor,
        y: Tensor,
        classes: int,
        sample_weight: Tensor | None,
        *,
        l1: float,
        l2: float,
        intercept: bool,
        tolerance: float = math.inf,
        coordinates: Coordinates | None = None,
        share: float = 1.0,
    ) -> None:
        """Raises ValueError where a class has no row of positive weight."""
        self.X, self.y, self.classes = X, y, classes
        self.sample_weight = None if sample_weight is None else sample_weight.double()
        self.intercept, self.l1, self.l2 = intercept, l1, l2
        self.share, self.reads = share, 0.0
        mass = torch.bincount(y, weights=self.sample_weight, minlength=classes).double()
        self.weight_sum = float(mass.sum())
        self.rates = mass / self.weight_sum
        missing = torch.nonzero(mass <= 0).reshape(-1).tolist()
        if intercept and missing:
            raise ValueError(
                f"class {missing[0]} of y has no row of positive weight; with an intercept a fit needs rows of every"
                " class"
            )
        rates = self.rates if intercept else torch.full_like(self.rates, 1 / classes)
        spread = rates * (1 - rates)
        mean_spread = float(spread.mean())
        if coordinates is None:
            rows = max(_MEASURED_ROWS, _MEASURED_VALUES // X.shape[1])
            coordinates = measure_coordinates(
                X, sample_rows(len(X), rows, X.device), curvature=mean_spread, l2=l2, intercept=intercept
            )
            self.reads += share * min(1.0, rows / len(X))
        self.coordinates = coordinates
        # A class has curvature of its own: rare ones less.
        diagonal = coordinates.scale[:, None] ** -2
        penalty = torch.full_like(diagonal, l2)
        if intercept:
            penalty[-1] = 0.0
        diagonal = spread / mean_spread * (diagonal - penalty).clamp(min=0.0) + penalty
        self.scale = torch.where(diagonal > 0, diagonal, 1.0).rsqrt()
        weights = torch.ones_like(self.scale)
        if intercept:
            weights[-1] = 0.0
        self.l1_of = (weights * l1 * self.scale).reshape(-1, 1)
        self.l2_of = (weights * l2 * self.scale.square()).reshape(-1, 1)
        l1_proves, l2_proves = provable(
            l1, l2, coordinates, tolerance=tolerance, null=self.null_value, classes=classes
        )
        self.penalised = l1_proves or l2_proves
        self._proving_l2 = l2 if l2_proves else 0.0
        self.product_dtype = torch.float64 if X.dtype == torch.float64 else torch.float32
        self._center = coordinates.subtracted
        uniform = 1 / self.scale
        if self.penalised:
            uniform = uniform * (1 - weights)
        self._uniform = uniform / uniform.norm(dim=1, keepdim=True).clamp(min=1e-300)
        self.null_space: Tensor | None = None
        self.curvature = X.new_empty(0)
        self._kept: _Kept | None = None

    @property
    def parameters(self) -> int:
        """P K."""
        return self.scale.numel()

    @property
    def null_value(self) -> float:
        """P of the model with intercepts only; log K without them."""
        if not self.intercept:
            return math.log(self.classes)
        return float(torch.special.entr(self.rates).sum())

    def null_theta(self) -> Tensor:
        """The null model, [P K, 1]."""
        theta = torch.zeros_like(self.scale)
        if self.intercept:
            theta[-1] = (self.rates.log() - self.rates.log().mean()) / self.scale[-1]
        return theta.reshape(-1, 1)

    def to_user(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """(W [D, K], b [K]) in the units of X, the intercepts adding up to 0; without a penalty each row of W too."""
        W, c = self._centred(theta)
        b = c - self.coordinates.center @ W
        # Which lowers an l2 penalty too, by what rounding has moved along.
        if self.l1 == 0 or not self.penalised:
            W = W - W.mean(dim=1, keepdim=True)
        return W, b - b.mean() if self.intercept else torch.zeros_like(b)

    def from_user(self, W: Tensor, b: Tensor) -> Tensor:
        """theta [P K, 1] of W [D, K] and b [K]."""
        rows = [W, (b + self.coordinates.center @ W)[None, :]] if self.intercept else [W]
        return (torch.cat(rows) / self.scale).reshape(-1, 1)

    def settled(self, theta: Tensor) -> Tensor:
        """Of all theta [P K, 1] with the same probabilities the one with the least penalty.

        What all classes of a column have in common, c, changes the penalty only, and sum_k (l1 |w_k - c| +
        l2/2 (w_k - c)^2) is least at the median of the K weights and of mean + l1 (K - 2 j) / (l2 K), j = 0..K: its
        slope jumps by 2 l1 at each weight and rises by l2 K in between. Newton's steps cannot find it, for want of
        curvature.
        """
        if not self.penalised:
            return theta
        scaled = theta.reshape(self.scale.shape) * self.scale
        W = scaled[: self.X.shape[1]]
        if self.l1 == 0:
            common = W.mean(dim=1)
        elif self.l2 == 0:
            common = W.median(dim=1).values
        else:
            j = torch.arange(self.classes + 1, dtype=W.dtype, device=W.device)
            steps = self.l1 * (self.classes - 2 * j) / (self.l2 * self.classes)
            common = torch.cat([W, W.mean(dim=1, keepdim=True) + steps], dim=1).median(dim=1).values
        return torch.cat([W - common[:, None], scaled[len(W) :]]).div(self.scale).reshape(-1, 1)

    def evaluate(self, theta: Tensor, *, curvature: bool = False, keep: bool = False) -> Point:
        """P and its gradient at theta, for one read of X.

        `curvature` keeps every row's probabilities for `product`, `keep` what `certify` and `separated` need.
        """
        D, K = self.X.shape[1], self.classes
        W, b = self._for_pass(theta)
        if curvature:
            self.curvature = self.X.new_empty((len(self.X), K), dtype=self.product_dtype)

        def of_part(part: slice) -> Tensor:
            sums = self.X.new_zeros((D + 1 + K, K), dtype=torch.float64)
            loss, margin = sums.new_zeros(()), sums.new_full((), math.inf)
            for rows, X in self._blocks(part, torch.float64, parts=1 + K // D):
                z, own = torch.addmm(b, X, W), self.y[rows, None]
                p = torch.softmax(z, dim=1)
                others = (z - z.gather(1, own)).scatter(1, own, -math.inf)
                losses = torch.logaddexp(z.new_zeros(()), torch.logsumexp(others, dim=1))
                # p_y - 1 as what the other classes have: nothing cancels.
                r = p.scatter(1, own, 0.0)
                r = r.scatter(1, own, -r.sum(dim=1, keepdim=True))
                if curvature:
                    self.curvature[rows] = p.to(self.product_dtype)
                if keep:
                    margin = torch.minimum(
                        margin, -self._of_weight(rows, others.amax(dim=1), -math.inf).amax()
                    )
                if self.sample_weight is not None:
                    s = self.sample_weight[rows, None]
                    losses, r = losses * s[:, 0], r * s
                if keep:
                    sums[D + 1 :] -= (p if self.sample_weight is None else p * s).t() @ p
                    sums[D + 1 :] += torch.diag((p if self.sample_weight is None else p * s).sum(dim=0))
                sums[:D].addmm_(X.t(), r)
                sums[D] += r.sum(dim=0)
                loss += losses.sum()
            return torch.cat([sums.reshape(-1), loss[None], margin[None]])

        total = over_parts(
            self.X,
            len(self.X),
            of_part,
            lambda parts: torch.cat(
                [torch.stack(parts).sum(dim=0)[:-1], torch.stack(parts)[:, -1:].amin(dim=0)]
            ),
        )
        self.reads += self.share
        sums = total[:-2].reshape(D + 1 + K, K) / self.weight_sum
        data = self._off_null_space(self._pulled_back(sums[:D], sums[D]))
        smooth = (total[-2] / self.weight_sum).reshape(1) + (0.5 * self.l2_of * theta.square()).sum(dim=0)
        value = smooth + (self.l1_of * theta.abs()).sum(dim=0)
        point = Point(smooth, data + self.l2_of * theta, value, self._gap_estimate(theta, data, value))
        if keep:
            self._kept = _Kept(theta.clone(), point, data, sums[D + 1 :], float(total[-1]))
        return point

    def separated(self) -> bool:
        """Whether every row of the last point evaluated with `keep` has its largest logit at its own class."""
        assert self._kept is not None
        return self._kept.margin > 0

    def product(self, v: Tensor) -> Tensor:
        """The Hessian at the last point evaluated with `curvature`, times v [P K, 1]; one read of X."""
        dtype = self.product_dtype
        data = self._hessian_sums(v, dtype, lambda rows, X: self.curvature[rows])
        return self._off_null_space(data) + self.l2_of * v

    def hessian(self, theta: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
        """Second derivative of the smooth part, [1, P K, P K] float64, by sums in `dtype`.

        sum_i s_i (diag p - p p^T) (x) x x^T: the products of the columns p_k x make the second term at once.
        """
        dtype = dtype or self.product_dtype
        P, K = self.scale.shape
        W, b = (value.to(dtype) for value in self._for_pass(theta))
        # Centred, or the matrix loses the digits of the means.
        center = self.coordinates.center.to(dtype)
        scale = self.coordinates.scale.to(dtype)

        def of_part(part: slice) -> Tensor:
            total = self.X.new_zeros((P, K, P, K), dtype=torch.float64)
            flat = total.view(P * K, P * K)
            for rows, X in self._blocks(part, dtype, parts=K):
                p = torch.softmax(torch.addmm(b, X, W), dim=1)
                X = X if self._center is not None else X - center
                if self.intercept:
                    X = torch.cat([X, X.new_ones((len(X), 1))], dim=1)
                X = X * scale
                if self.sample_weight is not None:
                    s = self.sample_weight[rows, None].to(dtype)
                    X = X * s.sqrt()
                Xp = X[:, :, None] * p[:, None, :]
                wide = Xp.reshape(len(X), -1)
                flat -= wide.t() @ wide
                for k in range(K):
                    total[:, k, :, k] += Xp[:, :, k].t() @ X
            return flat

        matrix = over_parts(
            self.X,
            len(self.X),
            of_part,
            lambda parts: torch.stack(parts).sum(dim=0) if parts[1:] else parts[0],
        )
        self.reads += self.share
        relative = (self.scale / self.coordinates.scale[:, None]).reshape(-1)
        matrix = matrix * (relative[:, None] / self.weight_sum) * relative
        matrix.diagonal().add_(self.l2_of[:, 0])
        if self.null_space is not None:  # any curvature will do there, and a matrix without has no factors
            return (matrix + self.null_space @ self.null_space.t())[None]
        matrix.view(P, K, P, K).diagonal(dim1=0, dim2=2).add_(
            torch.einsum("pk,pl->klp", self._uniform, self._uniform)
        )
        return matrix[None]

    def sampled_hessian(self, rows: int, *, rough: bool = False) -> Tensor:
        """About the block of the Hessian that each class has, from about `rows` rows, [1, P, P].

        With the mean over classes of p (1 - p) for curvature: in coordinates of unit curvature the blocks are alike.
        """
        p = self.curvature
        h = (p * (1 - p)).mean(dim=1)
        if self.sample_weight is not None:
            h = h * self.sample_weight.to(h.dtype)
        matrix, share = second_moments(
            self.X,
            h,
            self.coordinates,
            rows,
            compute_dtype=self.product_dtype,
            product_dtype=half_dtype(self.X) if rough else None,
        )
        self.reads += self.share * share
        matrix = matrix / (self.weight_sum * share)
        D = self.X.shape[1]
        diagonal = matrix.diagonal()
        diagonal[:D].add_(self.l2 * self.coordinates.scale[:D].square())
        # A constant column without a penalty worth the name: any curvature will do, but none would make noise of it.
        diagonal.copy_(torch.where(diagonal > _NO_CURVATURE, diagonal, 1.0))
        return matrix[None]

    def certify(self, theta: Tensor) -> Certificate:
        """The duality gap at theta, by one or two reads of X more unless theta is the last point, with `keep`.

        As with two classes (`flashlogit.objectives.certificate`), with u_i = q_i - e_{y_i} for distributions q_i:
        the residuals
        p - e_y need not add up to 0 for each class, but with an intercept u has to. Those of intercepts t lower do, to
        first order,

            q_ik = p_ik (1 - t_k + p_i . t),      sum_i s_i (diag p_i - p_i p_i^T) t = sum_i s_i (p_i - e_{y_i}),

        which are distributions for max |t| <= 1/2, and KL(q_i | p_i) is at most t^T (diag p_i - p_i p_i^T) t.
        """
        assert self.penalised
        if self._kept is None or not torch.equal(self._kept.theta, theta):
            self.evaluate(theta, keep=True)
        assert self._kept is not None
        kept, D = self._kept, self.X.shape[1]
        # `to_user` takes off what the classes of a column have in common, for so much less of an l2 penalty.
        common = self._centred(theta)[0].mean(dim=1)
        saved = 0.5 * self.l2 * self.classes * float(common.square().sum()) if self.l1 == 0 else 0.0
        value = float(kept.point.value) - saved
        trivial = Certificate("gap", value, value, self.null_value)
        a = kept.data.reshape(self.scale.shape)
        gap, shift = 0.0, torch.zeros(self.classes, dtype=torch.float64, device=self.X.device)
        if self.intercept:
            shift = torch.linalg.pinv(kept.intercepts, hermitian=True) @ (a[D] / self.scale[D])
            shift = shift - (shift.amax() + shift.amin()) / 2
            if not float(shift.abs().amax()) <= FARTHEST_SHIFT:
                return trivial
            move = torch.zeros_like(a)
            move[D] = shift / self.scale[D]
            W, b = self._for_pass(theta)
            a = a - self._hessian_sums(
                move.reshape(-1, 1), torch.float64, lambda rows, X: torch.softmax(torch.addmm(b, X, W), dim=1)
            ).reshape(a.shape)
            gap = float(shift @ kept.intercepts @ shift)
        weight, a = self._centred(theta)[0].reshape(-1, 1), (a[:D] / self.scale[:D]).reshape(-1, 1)
        l1, l2 = torch.full_like(weight, self.l1), torch.full_like(weight, self._proving_l2)
        tau = float(shrinkage(a, l1, l2))
        if tau < 1:
            gap = self._shrunk_divergence(theta, tau, shift)
        gap += float((penalty_gap(weight, tau * a, l1, l2) + 0.5 * (self.l2 - l2) * weight.square()).sum())
        return Certificate("gap", min(max(gap - saved, 0.0), value), value, self.null_value)

    def sample(self, rows: int) -> SoftmaxObjective | None:
        """The same objective over about `rows` random rows; None if a class would have too few of them."""
        chosen = sample_rows(len(self.X), rows, self.X.device)
        assert chosen is not None
        y = self.y[chosen]
        counts = torch.bincount(y, minlength=self.classes)
        if int(counts.min()) < 8 * len(self.scale):
            return None
        s = None if self.sample_weight is None else self.sample_weight[chosen]
        if s is not None and float(torch.bincount(y, weights=s, minlength=self.classes).min()) <= 0:
            return None
        share = rows / len(self.X)
        self.reads += self.share * share
        sample = SoftmaxObjective(
            self.X.index_select(0, chosen),
            y,
            self.classes,
            s,
            l1=self.l1,
            l2=self.l2,
            intercept=self.intercept,
            coordinates=self.coordinates,
            share=self.share * share,
        )
        sample.rescale(self.scale)
        return sample

    def rescale(self, scale: Tensor) -> None:
        """Take other coordinates' scale [P, K]."""
        ratio = (scale / self.scale).reshape(-1, 1)
        self.l1_of, self.l2_of = self.l1_of * ratio, self.l2_of * ratio.square()
        uniform = self._uniform / ratio.reshape(scale.shape)
        self._uniform = uniform / uniform.norm(dim=1, keepdim=True).clamp(min=1e-300)
        self.scale = scale

    def gram(self) -> Tensor:
        """sum_i s_i (x_i - c, 1) (x_i - c, 1)^T of the centred columns in the units of X, [D + 1, D + 1] float64."""
        h = self.X.new_ones(len(self.X), dtype=torch.float64)
        if self.sample_weight is not None:
            h = self.sample_weight
        D, center = self.X.shape[1], self.coordinates.center

        def of_part(part: slice) -> Tensor:
            total = self.X.new_zeros((D + 1, D + 1), dtype=torch.float64)
            for rows, X in self._blocks(part, torch.float64):
                X = X if self._center is not None else X - center
                X = torch.cat([X, X.new_ones((len(X), 1))], dim=1)
                total.addmm_((X * h[rows, None]).t(), X)
            return total

        self.reads += self.share
        return over_parts(self.X, len(self.X), of_part, lambda parts: torch.stack(parts).sum(dim=0))

    def flatten_along(self, basis: Tensor) -> None:
        """Know combinations of columns, [D, r] in the units of X, that leave P flat in every class."""
        P, K = self.scale.shape
        D, r = basis.shape
        flat = basis.new_zeros((P, K, r * K + P))
        for k in range(K):
            flat[:D, k, k * r : (k + 1) * r] = basis / self.scale[:D, k, None]
        for j in range(P):
            flat[j, :, r * K + j] = self._uniform[j]
        left, size, _ = torch.linalg.svd(flat.reshape(P * K, -1), full_matrices=False)
        self.null_space = left[:, size > 1e-10 * size[0]]

    def _blocks(self, part: slice, dtype: torch.dtype, *, parts: int = 1) -> Iterator[tuple[slice, Tensor]]:
        """Row blocks of a part in `dtype`, less the centre if that is subtracted, with their row numbers.

        `parts`: so many times as much is made of a block, which is the smaller for it.
        """
        center = None if self._center is None else self._center.to(dtype)
        height = max(1, block_rows(self.X, dtype) // parts)
        for start in range(part.start, part.stop, height):
            piece = slice(start, min(start + height, part.stop))
            for rows, X in row_blocks(self.X, None, piece, dtype, center):
                yield slice(start + rows.start, start + rows.stop), X

    def _of_weight(self, rows: slice, values: Tensor, other: float) -> Tensor:
        """The values of rows with a weight above 0, and `other` for the rest."""
        if self.sample_weight is None:
            return values
        return torch.where(self.sample_weight[rows] > 0, values, other)

    def _hessian_sums(
        self, v: Tensor, dtype: torch.dtype, probabilities: Callable[[slice, Tensor], Tensor]
    ) -> Tensor:
        """The data's part of the Hessian times v, [P K, 1] float64."""
        D, K = self.X.shape[1], self.classes
        V, c = (value.to(dtype) for value in self._for_pass(v))

        def of_part(part: slice) -> Tensor:
            sums = self.X.new_zeros((D + 1, K), dtype=torch.float64)
            for rows, X in self._blocks(part, dtype, parts=1 + K // D):
                p, u = probabilities(rows, X), torch.addmm(c, X, V)
                u.sub_(torch.linalg.vecdot(p, u)[:, None]).mul_(p)
                if self.sample_weight is not None:
                    u.mul_(self.sample_weight[rows, None].to(dtype))
                sums[:D] += X.t() @ u
                sums[D] += u.sum(dim=0)
            return sums

        sums = over_parts(self.X, len(self.X), of_part, lambda parts: torch.stack(parts).sum(dim=0))
        self.reads += self.share
        sums = sums / self.weight_sum
        return self._pulled_back(sums[:D], sums[D])

    def _shrunk_divergence(self, theta: Tensor, tau: float, shift: Tensor) -> float:
        """Weighted mean of KL((1 - tau) e_y + tau q | p)."""
        W, b = self._for_pass(theta)

        def of_part(part: slice) -> Tensor:
            total = self.X.new_zeros((), dtype=torch.float64)
            for rows, X in self._blocks(part, torch.float64):
                p, own = torch.softmax(torch.addmm(b, X, W), dim=1), self.y[rows, None]
                moved = tau * p * ((p @ shift)[:, None] - shift)
                towards = (-(1 - tau) * p).scatter(1, own, 0.0)
                d = moved + towards.scatter(1, own, -towards.sum(dim=1, keepdim=True))
                q = (p + d).clamp(min=0.0)
                # Each term of q log(q / p) - (q - p) is at least 0, and the q - p add up to 0.
                kl = (torch.where(q > 0, q * torch.log1p(d / p), 0.0) - d).clamp(min=0.0).sum(dim=1)
                total += (kl if self.sample_weight is None else kl * self.sample_weight[rows]).sum()
            return total

        self.reads += self.share
        sums = over_parts(self.X, len(self.X), of_part, lambda parts: torch.stack(parts).sum(dim=0))
        return float(sums) / self.weight_sum

    def _centred(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """(W [D, K], intercepts [K] of the centred columns)."""
        scaled = theta.reshape(self.scale.shape) * self.scale
        D = self.X.shape[1]
        return scaled[:D], scaled[D] if self.intercept else torch.zeros_like(scaled[0])

    def _for_pass(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """(W [D, K], b [K]) for the blocks as `_blocks` gives them."""
        W, c = self._centred(theta)
        return W, c if self._center is not None else c - self.coordinates.center @ W

    def _pulled_back(self, of_weight: Tensor, of_bias: Tensor) -> Tensor:
        """Derivatives [D, K] and [K] by what `_for_pass` gives, as one by theta, [P K, 1]."""
        if self._center is None:
            of_weight = of_weight - torch.outer(self.coordinates.center, of_bias)
        rows = [of_weight, of_bias[None, :]] if self.intercept else [of_weight]
        return (torch.cat(rows) * self.scale).reshape(-1, 1)

    def _off_null_space(self, gradient: Tensor) -> Tensor:
        N = self.null_space
        if N is not None:
            return gradient - N @ (N.t() @ gradient)
        rows = gradient.reshape(self.scale.shape)
        along = (self._uniform * rows).sum(dim=1, keepdim=True)
        projected: Tensor = rows - self._uniform * along
        return projected.reshape(-1, 1)

    def _gap_estimate(self, theta: Tensor, data: Tensor, value: Tensor) -> Tensor:
        if not self.penalised:
            return value
        weights = self.X.shape[1] * self.classes
        l1, l2 = self.l1_of[:weights], self.l2_of[:weights]
        if not self._proving_l2 > 0:
            l2 = torch.zeros_like(l2)
        tau = shrinkage(data[:weights], l1, l2)
        gap = penalty_gap(theta[:weights], tau * data[:weights], l1, l2).sum(dim=0)
        gap = gap + (1 - tau).square() * value + data[weights:].square().sum(dim=0)
        return torch.minimum(gap, value)


@dataclass(frozen=True)
class _Kept:
    """The last point evaluated with `keep`: the data's part of the gradient [P K, 1], the Hessian of the intercepts
    [K, K] in their own units, and the smallest margin."""

    theta: Tensor
    point: Point
    data: Tensor
    intercepts: Tensor
    margin: float
