"""An objective without a penalty: there may be no optimum, or many, and there is no duality gap.

With a penalty below rounding (`flashlogit.objectives.certificate.provable`) there is an optimum, however far away,
but no gap either; of many points as good as it, it is near the one with the smallest coefficients.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from flashlogit_kernels.fits import FLAT

from ...objectives.certificate import Certificate
from ...objectives.design import what_is_lost, what_is_not_finite
from ...objectives.objective import Objective, Point
from ..driver import Outcome
from ..newton_cg import ConjugateGradients
from ..proximal import factor, solve
from .collinearity import Collinear, find_collinear
from .finding import Separation, fewest_columns
from .separation import Undecided, find_separation


@dataclass(frozen=True)
class Bounds:
    """What is looked at, and how closely."""

    columns: int = 2048
    """Most columns of which a matrix is made to look for collinear ones and to measure the Newton decrement."""
    softmax_parameters: int = 1024
    """Most parameters, of all classes of a softmax, of which a matrix is made."""
    products: int = 200
    """Most products by which the decrement is measured where no matrix is made."""
    residual: float = 1e-3
    """Share of the gradient that these may leave."""
    flat: float = FLAT
    """Curvature in some direction, as a share of the null model's, from which separation is looked for."""
    very_flat: float = 1e-3
    """The same from which it is suspected where looking takes too long."""


BOUNDS = Bounds()


@dataclass(frozen=True)
class _Measured:
    """The Newton step [P C, 1] from a point, half its squared decrement, and the Hessian if it was made."""

    theta: Tensor
    step: Tensor
    decrement: Tensor
    hessian: Tensor | None


class Unpenalised:
    """Collinear columns, the Newton decrement and separation of one objective without a penalty above rounding.

    objective: the one to minimise, which knows the directions that leave it flat.
    """

    def __init__(self, objective: Objective, names: Sequence[str] | None = None) -> None:
        """Look for collinear columns, which takes a pass over X with its second moments.

        Args:
            objective: see the class.
            names: [D] of the columns, for the error.

        Raises:
            ValueError: values of X that are not finite, or whose squares are not, or that float64 cannot tell apart.
        """
        if lost := what_is_lost(objective.X, objective.design.coordinates, names):
            raise ValueError(lost)
        self.objective = objective
        self.collinear: Collinear | None = None
        self._gram: Tensor | None = None
        self._known: _Measured | None = None
        self._two_classes = objective.loss.columns == 1
        self._dense = self._two_classes or objective.parameters <= BOUNDS.softmax_parameters
        if objective.X.shape[1] > BOUNDS.columns:
            self._dense = False
            return
        self._gram = objective.gram()
        if not self._gram.isfinite().all():
            raise ValueError(what_is_not_finite(objective.X, names))
        self.collinear = find_collinear(self._gram, intercept=objective.intercept)
        if self.collinear and self._dense:
            self.objective = objective.flattened(self.collinear.null_space)

    def remarks(self, names: Sequence[str]) -> list[str]:
        """Return a sentence on collinear columns, `names` [D] being those of all, if there are any."""
        if not self.collinear:
            return []
        return [f"{self.collinear.describe(names)}; of all optima the one with the smallest coefficients is given"]

    def certify(self, point: Point) -> Certificate:
        """Return what stands in for a gap: half the squared Newton decrement, and the penalty that it leaves out.

        That is an l1 term; and the l2 term, unless the decrement is of the exact Hessian and of all directions. No more
        can be gained by either, since P* is at least the rest's least. Where there is a penalty, and with it an
        optimum, P itself is a gap if it is less: P* is at least 0.
        """
        objective, theta = self.objective, point.theta
        whole = self._dense and objective.null_space is None
        left_out = objective.l1_of * theta.abs()
        if not whole:
            left_out = left_out + 0.5 * objective.l2_of * theta.square()
        measured = self._measured(point)
        gap, left, value = torch.stack([measured.decrement, left_out.sum(), point.value[0]]).tolist()
        if objective.bounded:
            gap += left
            if value <= gap:
                return Certificate("gap", value, value, objective.null_value)
        return Certificate("decrement", gap, value, objective.null_value)

    def separation(self, outcome: Outcome) -> Separation | None:
        """Return whether there is no optimum, where a method has ended: for a softmax judged by the curvature."""
        objective = self.objective
        if objective.bounded:
            return None
        if outcome.ending == "separated":
            return self._proven(outcome.point.theta)
        flatness = self._flatness(outcome.point)
        if flatness > (BOUNDS.flat if self._two_classes else BOUNDS.very_flat):
            return None
        evidence = "the curvature of the loss has all but vanished in some direction"
        if self._two_classes:
            loss = objective.loss
            found = find_separation(
                objective.X, loss.y, loss.sample_weight, intercept=loss.intercept, null_space=self._exchanges()
            )
            if not isinstance(found, Undecided):
                return found
            if flatness > BOUNDS.very_flat:
                return None
            evidence = f"{evidence} ({found.reason})"
        return Separation("suspected", evidence)

    def optimum(self, outcome: Outcome) -> tuple[Tensor, Certificate]:
        """Return theta [P C, 1] one Newton step after a method's end, and of all optima the one of least norm.

        The step is known from the certificate, and of a gap of 1e-10 it leaves about the square: a gap that is nothing
        to the loss of a million rows may still be a hundredth of a coefficient's standard error. It is taken if the
        point after it is no worse, which one pass over X tells; the gap stays that of the point before, an upper
        estimate.
        """
        theta, certificate = outcome.point.theta, outcome.certificate
        if outcome.ending == "tolerance" and certificate.gap > 0:
            further = theta + self._measured(outcome.point).step
            value = float(self.objective.evaluate(further).value)
            if value <= certificate.objective:
                theta, certificate = further, replace(certificate, objective=value)
        if self.collinear:
            W, b = self.objective.centred(theta)
            theta = self.objective.from_centred(self.collinear.minimum_norm(W), b)
        return theta, certificate

    def _proven(self, theta: Tensor) -> Separation:
        """Return complete separation, for two classes with the parameters at which every margin is positive."""
        objective = self.objective
        coordinates = objective.design.coordinates
        evidence = f"the fit came to parameters that have all {len(objective.X):,} rows on their labels' sides"
        if not self._two_classes:
            return Separation("complete", evidence)
        weight, bias = objective.to_user(theta)
        D = len(weight)
        # In these coordinates all columns have the same spread.
        standardized = theta[:D, 0].cpu()
        if (exchanges := self._exchanges()) is not None:
            units, center = 1 / coordinates.scale[:D].cpu(), coordinates.center.cpu()
            standardized = fewest_columns(standardized, float(bias), exchanges.cpu(), units, center)
        return Separation("complete", evidence, weight[:, 0].cpu(), float(bias), standardized)

    def _exchanges(self) -> Tensor | None:
        """Return the null space without constant columns, whose share only the intercept can take."""
        found = self.collinear
        return found.null_space[:, len(found.constant) :] if found else None

    def _measured(self, point: Point) -> _Measured:
        """Return the Newton step from a point; where a method has ended it is asked for several times."""
        if self._known is None or not torch.equal(self._known.theta, point.theta):
            self._known = self._measure(point)
        return self._known

    def _measure(self, point: Point) -> _Measured:
        objective, theta, g = self.objective, point.theta, point.gradient
        if self._dense:
            hessian = objective.hessian(theta, dtype=torch.float64)
            step = -solve(factor(hessian), g)
            decrement = -0.5 * (g * step).sum()
            # Of an infinite Hessian the step is 0.
            return _Measured(theta, step, torch.where(hessian.isfinite().all(), decrement, torch.inf), hessian)
        if point.rows is None or point.rows.curvature is None:
            point = replace(objective.evaluate(theta, products=objective.product_dtype), gradient=g)
        run = ConjugateGradients(objective, point)
        norm = float(g.norm())
        for _ in range(BOUNDS.products):
            if float(run.residual_norm) <= BOUNDS.residual * norm:
                break
            run.advance()
        return _Measured(theta, run.x, 0.5 * (-(g * run.x).sum()).clamp(min=0.0), None)

    def _flatness(self, point: Point) -> float:
        """Return the least curvature along any direction as a share of the null model's; 1 where no matrix is made."""
        if not self._dense:
            return 1.0
        assert self._gram is not None
        H = self._measured(point).hessian
        assert H is not None
        L = factor(self.objective.null_hessian(self._gram))[0]
        half = torch.linalg.solve_triangular(L, H[0], upper=False)
        least = float(torch.linalg.eigvalsh(torch.linalg.solve_triangular(L, half.t(), upper=False))[0])
        return least if math.isfinite(least) else 0.0
