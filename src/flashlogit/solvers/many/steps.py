"""Steps of many models between passes: points accepted or refused, L-BFGS's pairs, directions and step lengths.

They are operations on [P C, K] arrays, or, where a backend has kernels for it, a program for each model: on a GPU the
host would need longer to launch a hundred operations than the device for a pass.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flashlogit_kernels.models import ModelSums

from ...objectives.models import Array, ModelObjectives, ModelPoints
from ..method import ROUNDING, SUFFICIENT
from .hessians import Preconditioner
from .proximal import ProximalDirections


@dataclass(frozen=True)
class StepTuning:
    """When steps are refused, and models given up."""

    memory: int = 20
    """Pairs kept."""
    curved: float = 1e-14
    """Least s . y as a share of |y|^2 at which a pair is kept."""
    rough_rounding: float = 1e-6
    """Differences of P below this share are noise where one of two points was evaluated in float32."""
    near: float = 100.0
    """Estimated gaps of so many times the goal may be below it after the next step, whose pass then proves gaps."""
    refusals: int = 20
    """A model gives up after so many refusals in a row."""
    stalled: int = 12
    """A model gives up after so many points in a row that do not lower its best gap by a tenth."""


@dataclass(frozen=True)
class Limits:
    """What ends K models: gaps of at most goal [K], proven ones only where `proven` says so. At gaps of at most floor
    [K] passes are in float64. tuning: when steps are refused."""

    goal: NDArray[np.float64]
    floor: NDArray[np.float64]
    proven: bool
    tuning: StepTuning


@dataclass(frozen=True)
class Standing:
    """How K models stand at their accepted points, [K] on the host: whether a gap ends one; whether it ends, for that
    or another reason; and whether its gap is at most the goal, at most the floor of passes in float32, and near."""

    done: NDArray[np.bool_]
    over: NDArray[np.bool_]
    reached: NDArray[np.bool_]
    low: NDArray[np.bool_]
    near: NDArray[np.bool_]

    def chosen(self, models: NDArray[np.int64]) -> Standing:
        """Return that of some of the models."""
        return Standing(**{name: each[models] for name, each in vars(self).items()})


class Pairs:
    """Directions of L-BFGS: steps and changes of the gradient, which correct M^-1 by the two-loop recursion."""

    def __init__(self, preconditioner: Preconditioner, tuning: StepTuning) -> None:
        self._preconditioner, self._tuning = preconditioner, tuning
        self._S: list[Array] = []
        self._Y: list[Array] = []
        self._used: list[Array] = []
        """Pairs, the newest first, [P C, K], and 1 / s . y [K], 0 where a model has none."""

    def learn(self, s: Array, y: Array, accepted: Array) -> None:
        """Take up steps s and changes of the gradient y [P C, K] of the models `accepted` [K]."""
        xp, kept = np if isinstance(s, np.ndarray) else torch, self._tuning.memory - 1
        sy, yy = (s * y).sum(0), (y * y).sum(0)
        keep = accepted & (sy > self._tuning.curved * yy)
        self._S = [xp.where(keep, s, 0.0), *self._S[:kept]]
        self._Y = [xp.where(keep, y, 0.0), *self._Y[:kept]]
        self._used = [xp.where(keep, 1.0 / xp.where(keep, sy, 1.0), 0.0), *self._used[:kept]]

    def renew(self) -> None:
        """Go on with another M."""
        if self._preconditioner.exact:  # steps from where the curvature was another one would spoil it
            self._S, self._Y, self._used = [], [], []

    def chosen(self, models: NDArray[np.int64]) -> None:
        """Go on with some of the models."""
        self._S, self._Y = ([each[:, models] for each in pairs] for pairs in (self._S, self._Y))
        self._used = [each[models] for each in self._used]

    def at(self, point: ModelPoints, objectives: ModelObjectives, wanted: Array) -> Array:
        """Return directions from a point, [P C, K]: of all models, whichever are wanted."""
        q, alphas = point.gradient + 0.0, []
        pairs = list(zip(self._S, self._Y, self._used, strict=True))
        for s, y, rho in pairs:
            alpha = rho * (s * q).sum(0)
            q = q - alpha * y
            alphas.append(alpha)
        r = self._preconditioner.times(q)
        for (s, y, rho), alpha in zip(reversed(pairs), reversed(alphas), strict=True):
            r = r + (alpha - rho * (y * r).sum(0)) * s
        return -r


class Steps:
    """K models at their accepted points, on the way to the next ones.

    theta [P C, K]: the points. objectives: of the models that are left.
    """

    def __init__(
        self,
        point: ModelPoints,
        objectives: ModelObjectives,
        preconditioner: Preconditioner,
        limits: Limits,
        *,
        rough: bool,
    ) -> None:
        """Begin at a point, with a preconditioner that is made; rough: whether the point's pass was in float32."""
        self.objectives, self._preconditioner, self._tuning = objectives, preconditioner, limits.tuning
        self._proven, self._rough = limits.proven, rough
        self._goal, self._floor = objectives.on_device(limits.goal), objectives.on_device(limits.floor)
        self._point = point
        self._step, self._refused = 0.0 * point.value + 1.0, 0.0 * point.value
        self._best, self._stalled = 0.0 * point.value + np.inf, 0.0 * point.value
        self._directions: ProximalDirections | Pairs
        if objectives.sparse:
            self._directions = ProximalDirections(preconditioner)
        else:
            self._directions = Pairs(preconditioner, limits.tuning)
        self._direction = self._directions.at(point, objectives, point.value == point.value)
        self._count()

    @property
    def theta(self) -> Array:
        """The accepted points [P C, K]."""
        return self._point.theta

    def values(self, models: NDArray[np.int64]) -> list[NDArray[np.float64]]:
        """Return values, gaps and held-out losses of some models, [k] each."""
        point = self._point
        return [_host(each[models]) for each in (point.value, point.gap, point.held_loss)]

    def standing(self) -> Standing:
        """Return how models stand."""
        xp, point, tuning = self.objectives.xp, self._point, self._tuning
        reached = point.gap <= self._goal
        done = reached & (point.proven or not self._proven)
        given_up = (self._refused >= tuning.refusals) | (self._stalled >= tuning.stalled) | ~xp.isfinite(point.value)
        low, near = point.gap <= self._floor, point.gap <= tuning.near * self._goal
        return Standing(*_host(xp.stack([done, done | given_up, reached, low, near])))

    def chosen(self, models: NDArray[np.int64]) -> None:
        """Go on with some of the models."""
        self.objectives = self.objectives.chosen(models)
        self._preconditioner.chosen(models)
        self._point = self._point[models]
        self._directions.chosen(models)
        self._direction = self._direction[:, models]
        for name in ("_step", "_refused", "_best", "_stalled", "_goal", "_floor"):
            setattr(self, name, getattr(self, name)[models])

    def advance(self, dtype: torch.dtype, *, proven: bool, renew: bool) -> None:
        """Evaluate the trial points in `dtype`, and accept or refuse each.

        proven: whether to prove gaps there. renew: whether M is made anew for what follows.
        """
        xp, tuning, point, step = self.objectives.xp, self._tuning, self._point, self._step
        new = self.objectives.evaluate(point.theta + step * self._direction, dtype=dtype, proven=proven)
        moved = new.theta - point.theta
        predicted = (point.gradient * moved).sum(0)
        if self.objectives.sparse:
            predicted = predicted + (self.objectives.array("l1_of") * (abs(new.theta) - abs(point.theta))).sum(0)
        change = new.value - point.value
        rough = dtype == torch.float32
        rounding = tuning.rough_rounding if rough or self._rough else ROUNDING
        self._rough = rough
        accepted = change <= SUFFICIENT * predicted + rounding * abs(point.value)
        parabola = -0.5 * predicted / (change - predicted)
        parabola = xp.where(xp.isfinite(parabola), parabola, 0.1 + 0.0 * parabola)
        shorter = step * xp.clip(parabola, 0.1, 0.5)
        y = new.gradient - point.gradient
        self._directions.learn(moved, y, accepted)
        self._point = point = _merged(xp, accepted, new, point)
        self._step = xp.where(accepted, 1.0, shorter)
        self._refused = xp.where(accepted, 0.0, self._refused + 1)
        if renew:
            self._preconditioner.make(point.theta)
            self._directions.renew()
        self._direction = xp.where(accepted, self._directions.at(point, self.objectives, accepted), self._direction)
        self._count()

    def _count(self) -> None:
        """Count points in a row that do not lower a model's best gap."""
        xp, gap = self.objectives.xp, self._point.gap
        better = gap < 0.9 * self._best
        self._best, self._stalled = xp.minimum(self._best, gap), xp.where(better, 0.0, self._stalled + 1)


class LaunchedSteps:
    """The same by kernels, but for what comes rarely: gaps of softmaxes are proven, and M is made, in torch."""

    def __init__(
        self,
        point: ModelPoints,
        objectives: ModelObjectives,
        preconditioner: Preconditioner,
        limits: Limits,
        *,
        rough: bool,
    ) -> None:
        """Begin at a point, see `Steps`."""
        tuning, proven = limits.tuning, limits.proven
        self.objectives, self._preconditioner = objectives, preconditioner
        self._proven, self._were_proven = proven, point.proven
        self._step = objectives.program.step(
            objectives.array("scale"),
            objectives.array("l2_of")[:: objectives.classes],
            center=objectives.array("center") if objectives.folded else None,
            weight_sum=objectives.array("weight_sum"),
            goal=objectives.on_device(limits.goal),
            floor=objectives.on_device(limits.floor),
            classes=objectives.classes,
            intercept=objectives.intercept,
            memory=tuning.memory,
            curved=tuning.curved,
            noise=ROUNDING,
            rough_noise=tuning.rough_rounding,
            near=tuning.near,
            refusals=tuning.refusals,
            stalled=tuning.stalled,
        )
        proofs = point.proven or not proven
        q = self._step.begin(point.theta, point, preconditioner.places(), rough=rough, proofs=proofs)
        self._products: Tensor = preconditioner.products(q)

    @property
    def theta(self) -> Tensor:
        """The accepted points [P C, K]."""
        theta: Tensor = self._step.theta
        return theta

    def values(self, models: NDArray[np.int64]) -> list[NDArray[np.float64]]:
        """Return values, gaps and held-out losses of some models, [k] each."""
        return list(self._step.values(models))

    def standing(self) -> Standing:
        """Return how models stand: all that is read back of a step."""
        status = _host(self._step.status)
        return Standing(*(status >> bit & 1 == 1 for bit in range(5)))

    def chosen(self, models: NDArray[np.int64]) -> None:
        """Go on with some of the models."""
        self.objectives = self.objectives.chosen(models)
        self._preconditioner.chosen(models)
        self._step.chosen(models, self._preconditioner.places())

    def advance(self, dtype: torch.dtype, *, proven: bool, renew: bool) -> None:
        """Evaluate the trial points in `dtype`, and accept or refuse each, see `Steps.advance`."""
        objectives, preconditioner = self.objectives, self._preconditioner
        at = self._step.next_points(self._products, dtype)
        if proven and objectives.classes > 1:
            found: ModelPoints | ModelSums = objectives.evaluate(self._step.trial, dtype=dtype, proven=True)
        else:
            found = objectives.sums(at, dtype, proven=proven)
        q = self._step.judge(
            found,
            rough=dtype == torch.float32,
            proofs=proven or not self._proven,
            first_proofs=proven and not self._were_proven,
            forget=renew and preconditioner.exact,
        )
        self._were_proven = proven
        if renew:
            preconditioner.make(self._step.theta)
        self._products = preconditioner.products(q)


def steps_from(
    point: ModelPoints, objectives: ModelObjectives, preconditioner: Preconditioner, limits: Limits, *, rough: bool
) -> Steps | LaunchedSteps:
    """Return the steps from a point: by kernels where the backend has them for so many parameters."""
    kernels = objectives.program.step
    launched = kernels is not None and not objectives.sparse and kernels.fits(len(point.theta))
    return (LaunchedSteps if launched else Steps)(point, objectives, preconditioner, limits, rough=rough)


def _merged(xp: Any, accepted: Array, new: ModelPoints, old: ModelPoints) -> ModelPoints:
    """Return the new points of the models that went there, and the old ones of the others."""
    names = ("theta", "gradient", "value", "gap", "held_loss")
    gap_new = new.gap
    values = {name: xp.where(accepted, getattr(new, name), getattr(old, name)) for name in names}
    if new.proven and not old.proven:
        # An estimate of a point that stays is no proof.
        values["gap"] = xp.where(accepted, gap_new, xp.maximum(old.gap, 1e300 + 0.0 * old.gap))
    return replace(new, **values)


def _host(array: Array) -> NDArray[Any]:
    return array if isinstance(array, np.ndarray) else array.cpu().numpy()
