"""The softmax loss of more than two classes, summed by compiled loops on a CPU, or by torch's products over row blocks.

    loss_i = logsumexp_k z_ik - z_i,y_i,      z_i = W^T x_i + b,      p_i = softmax(z_i)

with a column of W [D, K] and an entry of b [K] for every class. X is read once for an evaluation, as with two classes,
and is multiplied by K columns. Losses and gradients are float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from .. import reference
from ..passes import Passes
from .design import Design
from .row_loss import Coefficients, Keep, KeptRows, RowSums, Targets


@dataclass(frozen=True)
class Softmax(Targets):
    """The loss of class numbers y [N] int64, from 0 on.

    loops: `flashlogit_kernels.cpu.classes`, or None for torch's products.
    """

    loops: Any = None

    @classmethod
    def of(cls, y: Tensor, classes: int, sample_weight: Tensor | None, *, intercept: bool, loops: Any = None) -> Self:
        """Return the loss of K classes; ValueError where one has no row of positive weight, with an intercept."""
        s = None if sample_weight is None else sample_weight.double()
        mass = torch.bincount(y, weights=s, minlength=classes).double().tolist()
        total = math.fsum(mass)
        missing = [k for k, each in enumerate(mass) if not each > 0]
        if intercept and missing:
            raise ValueError(
                f"class {missing[0]} of y has no row of positive weight; with an intercept a fit needs rows of every"
                " class"
            )
        shares = [each / total for each in mass] if intercept else [1 / classes] * classes
        return cls(y, s, tuple(shares), total, intercept, loops)

    @property
    def passes(self) -> Passes:
        """What measures the columns of X."""
        return reference

    @property
    def columns(self) -> int:
        """K, the number of classes."""
        return len(self.shares)

    def null_intercepts(self) -> list[float]:
        """Return the logarithms of the shares less their mean."""
        logs = [math.log(share) if share > 0 else -math.inf for share in self.shares]
        return [each - math.fsum(logs) / len(logs) for each in logs]

    def null_curvature(self) -> Tensor:
        """Return diag(p) - p p^T for the shares p."""
        rates = self._rates()
        return torch.diag(rates) - torch.outer(rates, rates)

    def sums(self, design: Design, at: Coefficients, keep: Keep) -> RowSums:
        """Sum losses and gradients in one pass over X; waits for nothing."""
        D, K = at.W.shape
        kept = None
        if keep.products is not None:
            kept = design.X.new_empty((len(design.X), K), dtype=keep.products)
        if self.loops is not None:
            design.count()
            found = self.loops.softmax_onepass(
                design.X, self.y, *at, probabilities=kept, second=keep.intercepts, **self._options(design, at)
            )
            kept_rows = KeptRows(curvature=kept, margin=found.margin, intercepts=found.second)
            return RowSums(found.loss, Coefficients(found.weight_grad, found.bias_grad), kept_rows)
        least: list[Tensor] = []

        def add(rows: slice, X: Tensor, weight_grad: Tensor, bias_grad: Tensor, loss: Tensor, second: Tensor) -> None:
            z, own = torch.addmm(at.b, X, at.W), self.y[rows, None]
            p = torch.softmax(z, dim=1)
            others = (z - z.gather(1, own)).scatter(1, own, -math.inf)
            losses = torch.logaddexp(z.new_zeros(()), torch.logsumexp(others, dim=1))
            # p_y - 1 as what the other classes have: nothing cancels.
            r = p.scatter(1, own, 0.0)
            r = r.scatter(1, own, -r.sum(dim=1, keepdim=True))
            if kept is not None:
                kept[rows] = p.to(kept.dtype)
            if keep.margins:
                nearest = others.amax(dim=1)
                if self.sample_weight is not None:
                    nearest = torch.where(self.sample_weight[rows] > 0, nearest, -math.inf)
                least.append(-nearest.amax())
            weighted = self._weighted(rows, p)
            if keep.intercepts:
                second += torch.diag(weighted.sum(dim=0)) - weighted.t() @ p
            r = self._weighted(rows, r)
            weight_grad.addmm_(X.t(), r)
            bias_grad += r.sum(dim=0)
            loss += self._weighted(rows, losses[:, None]).sum()

        weight_grad, bias_grad, loss, second = self._over_blocks(
            design, torch.float64, [(D, K), (K,), (), (K, K)], add, copies=1 + K // D
        )
        margin = torch.stack(least).amin() if least else None
        rows = KeptRows(curvature=kept, margin=margin, intercepts=second)
        return RowSums(loss, Coefficients(weight_grad, bias_grad), rows)

    def product(self, design: Design, curvature: Tensor, v: Coefficients) -> Coefficients:
        """Return the Hessian of the sum times v from the probabilities of every row; one pass over X."""
        if self.loops is not None:
            design.count()
            return Coefficients(*self.loops.softmax_product(design.X, curvature, *v, **self._options(design, v)))
        return self._product(design, v, lambda rows, X: curvature[rows])

    def hessian(self, design: Design, at: Coefficients) -> Tensor:
        """Return sum_i s_i x_i x_i^T (x) (diag p_i - p_i p_i^T) in the design's coordinates, [P K, P K] float64.

        The sums are in the dtype of `at`. The products of the columns p_k x make the second term at once. X is centred
        and scaled, or the matrix loses the digits of the means.
        """
        dtype = at.W.dtype
        K = self.columns
        coordinates = design.coordinates
        center, scale = coordinates.center.to(dtype), coordinates.scale.to(dtype)
        P = len(scale)
        if self.loops is not None:
            # In float64, for the columns are not scaled before they are multiplied.
            design.count()
            W, b = at.to(torch.float64)
            middle = coordinates.center
            options = {"sample_weight": self.sample_weight, "center": middle}
            moved = b if design.center is not None else b + middle @ W
            found: Tensor = self.loops.softmax_hessian(design.X, self.y, W, moved, **options)
            exact = coordinates.scale[:, None]
            return (found[:P, :, :P] * exact[..., None, None]).mul_(exact).reshape(P * K, P * K)

        def add(rows: slice, X: Tensor, total: Tensor) -> None:
            p = _probabilities(X, at)
            X = X if design.center is not None else X - center
            if self.intercept:
                X = torch.cat([X, X.new_ones((len(X), 1))], dim=1)
            X = X * scale
            if self.sample_weight is not None:
                X = X * self.sample_weight[rows, None].to(dtype).sqrt()
            Xp = X[:, :, None] * p[:, None, :]
            wide = Xp.reshape(len(X), -1)
            flat = total.view(P * K, P * K)
            flat -= wide.t() @ wide
            for k in range(K):
                total[:, k, :, k] += Xp[:, :, k].t() @ X

        (total,) = self._over_blocks(design, dtype, [(P, K, P, K)], add, copies=K)
        return total.view(P * K, P * K)

    def mean_curvature(self, rows: KeptRows) -> Tensor:
        """Return s_i times the mean over the classes of p_ik (1 - p_ik), [N]."""
        p = rows.curvature
        assert p is not None
        mean: Tensor = (p * (1 - p)).mean(dim=1, keepdim=True)
        return self._weighted(slice(None), mean)[:, 0]

    def margin(self, rows: KeptRows) -> Tensor:
        """Return the least lead of the own class of a row of positive weight over the next, []."""
        assert rows.margin is not None
        return rows.margin

    def intercept_hessian(self, rows: KeptRows) -> Tensor:
        """Return the second derivative of the sum by the intercepts, sum_i s_i (diag p_i - p_i p_i^T), [K, K]."""
        assert rows.intercepts is not None
        return rows.intercepts

    def intercept_shift(self, hessian: Tensor, slope: Tensor) -> Tensor:
        """Return the t [K] with hessian @ t = slope whose largest and smallest entry are of one size."""
        shift: Tensor = torch.linalg.pinv(hessian, hermitian=True) @ slope
        return shift - (shift.amax() + shift.amin()) / 2

    def intercept_product(self, design: Design, rows: KeptRows, at: Coefficients, shift: Tensor) -> Coefficients:
        """Return the Hessian of the sum times (0, shift [K]), float64; one pass over X."""
        return self._product(design, Coefficients(torch.zeros_like(at.W), shift), lambda rows, X: _probabilities(X, at))

    def shrunk_divergence(self, design: Design, rows: KeptRows, at: Coefficients, tau: float, shift: Tensor) -> Tensor:
        """Return sum_i s_i KL((1 - tau) e_y + tau q_i | p_i), q_ik = p_ik (1 - shift_k + p_i . shift); one pass."""

        def add(rows: slice, X: Tensor, total: Tensor) -> None:
            p, own = _probabilities(X, at), self.y[rows, None]
            moved = tau * p * ((p @ shift)[:, None] - shift)
            towards = (-(1 - tau) * p).scatter(1, own, 0.0)
            d = moved + towards.scatter(1, own, -towards.sum(dim=1, keepdim=True))
            q = (p + d).clamp(min=0.0)
            # Each term of q log(q / p) - (q - p) is at least 0, and the q - p add up to 0.
            kl = (torch.where(q > 0, q * torch.log1p(d / p), 0.0) - d).clamp(min=0.0)
            total += self._weighted(rows, kl).sum()

        return self._over_blocks(design, torch.float64, [()], add)[0]

    def sample(self, chosen: Tensor, parameters: int) -> Self | None:
        """Return the loss of some rows, each class of which has some of positive weight."""
        y, s = self.y[chosen], None if self.sample_weight is None else self.sample_weight[chosen]
        counts = torch.bincount(y, minlength=self.columns)
        mass = torch.bincount(y, weights=s, minlength=self.columns)
        fewest, least = torch.stack([counts.min().double(), mass.min().double()]).tolist()
        if fewest < 8 * parameters or not least > 0:
            return None
        return self.of(y, self.columns, s, intercept=self.intercept, loops=self.loops)

    def _options(self, design: Design, at: Coefficients) -> dict[str, Tensor | None]:
        center = None if design.center is None else design.center.to(at.W.dtype)
        return {"sample_weight": self.sample_weight, "center": center}

    def _rates(self) -> Tensor:
        return torch.tensor(self.shares, dtype=torch.float64, device=self.y.device)

    def _weighted(self, rows: slice, values: Tensor) -> Tensor:
        """Return values [n, m] of some rows times their weights."""
        s = self.sample_weight
        return values if s is None else values * s[rows, None].to(values.dtype)

    def _product(
        self, design: Design, v: Coefficients, probabilities: Callable[[slice, Tensor], Tensor]
    ) -> Coefficients:
        D, K = v.W.shape

        def add(rows: slice, X: Tensor, of_weight: Tensor, of_bias: Tensor) -> None:
            p, u = probabilities(rows, X), torch.addmm(v.b, X, v.W)
            u.sub_(torch.linalg.vecdot(p, u)[:, None]).mul_(p)
            u = self._weighted(rows, u)
            of_weight += X.t() @ u
            of_bias += u.sum(dim=0)

        return Coefficients(*self._over_blocks(design, v.W.dtype, [(D, K), (K,)], add, copies=1 + K // D))

    def _over_blocks(
        self,
        design: Design,
        dtype: torch.dtype,
        shapes: list[tuple[int, ...]],
        add: Callable[..., None],
        *,
        copies: int = 1,
    ) -> list[Tensor]:
        """Return float64 sums of these shapes, to which `add(rows, X, *sums)` adds each row block; one pass over X."""

        design.count()
        with torch.inference_mode(), torch.autocast(design.X.device.type, enabled=False):
            totals = [design.X.new_zeros(shape, dtype=torch.float64) for shape in shapes]
            for rows, X in design.blocks(dtype, copies=copies):
                add(rows, X, *totals)
        return [total.clone() for total in totals]  # no tensors of inference mode


def _probabilities(X: Tensor, at: Coefficients) -> Tensor:
    """Return the rows' probabilities, [n, K]."""
    return torch.softmax(torch.addmm(at.b, X, at.W), dim=1)
