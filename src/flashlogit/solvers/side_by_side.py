"""Many models side by side: L-BFGS for each of them, every step of all of them for one pass over X.

The recursion (Nocedal 1980) begins with M^-1, M being the Hessian of a sample of the rows. Models of one target and one
penalty share M: folds leave out a few rows each, and what those change the pairs of steps and gradients correct. Where
the sample is all rows each model has its own, and steps are Newton's. A
model has its own step length, pairs, refusals and certificate, and leaves when its gap is proven.

Where there are many, they are solved in waves, from strong penalties to weak ones. The optimum of a neighbour on the
path starts the next,

    theta - M^-1 (l2' - l2) theta,

which is a Newton step from there, for the gradient at an optimum is known. Where a sample of the rows says enough, all
models are solved on it first, and a neighbour says how far off the sample's optimum is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..objectives.models import Array, ModelObjectives, ModelPoints
from .many_hessians import HessianRows, Path, Preconditioner
from .method import ROUNDING, SUFFICIENT


@dataclass(frozen=True)
class Tuning:
    """How models are solved side by side."""

    memory: int = 20
    """Pairs kept."""
    curved: float = 1e-14
    """Least s . y as a share of |y|^2 at which a pair is kept."""
    above_noise: float = 100.0
    """Estimated gap, in gaps that rounding errors of float32 alone would make, from which passes are in float64: they
    are so too once the tolerance is reached, to prove it."""
    rough_rounding: float = 1e-6
    """Differences of P below this share are noise where one of two points was evaluated in float32."""
    near: float = 100.0
    """Estimated gaps of so many times the goal may be below it after the next step, whose pass then proves gaps."""
    many_near: float = 0.5
    """Share of the models that have to be near, for the pass costs half as much again."""
    refusals: int = 20
    """A model gives up after so many refusals in a row."""
    stalled: int = 12
    """A model gives up after so many points in a row that do not lower its best gap by a tenth."""
    renewed: tuple[int, int] = (6, 12)
    """M is made anew after so many evaluations, of two classes and of a softmax, whose curvature it only comes near."""
    renewed_exact: tuple[int, int] = (2, 5)
    """The same where each model has its own, of all rows, for half the evaluations of nearly separated classes."""
    columns: tuple[int, int] = (96, 1024)
    """Columns of a wave on a CPU, where more make products no quicker, and on a GPU, where each step of a wave takes a
    hundred launches."""
    most_numbers: tuple[int, int] = (1 << 23, 1 << 27)
    """Most numbers of the steps of a wave, of 64 MB and 1 GB; their changes of the gradient are as many."""
    shrink: int = 16
    """Rows of a sample that is solved first are one in so many."""
    rows_a_parameter: int = 32
    """It has at least so many rows for each parameter."""
    least_rows: int = 2048
    """It has at least so many rows."""
    known: float = 0.02
    """Gap on a sample that is small enough, in parameters for each row: what its optimum is off by anyway."""


TUNING = Tuning()


@dataclass
class Solved:
    """What became of K models: theta [P C, K]; values, gaps, held-out losses summed, evaluations and whether the gap is
    proven to be at most the goal, [K] each."""

    theta: Array
    value: NDArray[np.float64]
    gap: NDArray[np.float64]
    held_loss: NDArray[np.float64]
    iterations: NDArray[np.int64]
    done: NDArray[np.bool_]

    @classmethod
    def begun(cls, theta: Array) -> Solved:
        """Return K models of which nothing is known but theta [P C, K], which is not copied."""
        K = theta.shape[1]
        value, gap, held_loss = (np.full(K, np.nan) for _ in range(3))
        return cls(theta, value, gap, held_loss, np.zeros(K, np.int64), np.zeros(K, np.bool_))


def solve_models(
    objectives: ModelObjectives,
    path: Path,
    *,
    tolerance: float,
    iterations: int,
    proven: bool = True,
    on_done: Callable[[int], object] | None = None,
) -> Solved:
    """Minimise K objectives.

    Args:
        objectives: them.
        path: how they belong together.
        tolerance: on gaps relative to the null models' P.
        iterations: most evaluations of each.
        proven: whether a model is done with a proven gap only, or with an estimate of it.
        on_done: told how many models have just been done, or have met the limit.
    """
    rows = HessianRows.of(objectives)
    on_sample = _of_sample(objectives, path, iterations)
    theta = on_sample.theta if on_sample else objectives.null
    starts = theta
    theta = theta + 0.0
    solved = Solved.begun(theta)
    last: dict[int, int] = {}
    """The last model of each chain that has been solved."""
    for wave in _waves(objectives, path):
        some = objectives.chosen(wave)
        preconditioner = Preconditioner(some, path, wave, rows)
        at = theta[:, wave]
        previous = np.array([last.get(chain, -1) for chain in path.chain[wave].tolist()])
        if (previous >= 0).all():
            scale = objectives.array("scale_of")
            there, here = scale[:, previous], scale[:, wave]
            if on_sample:
                at = at + (theta[:, previous] - starts[:, previous]) * there / here
            else:
                at = theta[:, previous] * there / here
                l2_of = objectives.array("l2_of")
                change = l2_of[:, wave] - l2_of[:, previous] * (here / there) ** 2
                preconditioner.make(at)
                at = at - preconditioner.times(change * at)
        found = _Wave(some, at, preconditioner, tolerance, iterations, proven=proven).solve(on_done)
        theta[:, wave] = found.theta
        for name in ("value", "gap", "held_loss", "iterations", "done"):
            getattr(solved, name)[wave] = getattr(found, name)
        order = np.argsort(path.level[wave], kind="stable")
        last |= dict(zip(path.chain[wave][order].tolist(), wave[order].tolist(), strict=True))
    return solved


def _waves(objectives: ModelObjectives, path: Path) -> list[NDArray[np.int64]]:
    """Return the numbers of the models of each wave: those of some levels, of strong penalties first."""
    order = np.argsort(path.level, kind="stable")
    chains = len(np.unique(path.chain))
    on_gpu = objectives.X.is_cuda
    most = max(TUNING.columns[on_gpu] // objectives.classes, 1)
    most = min(
        most, max(TUNING.most_numbers[on_gpu] // (TUNING.memory * len(objectives.scale) * objectives.classes), 1)
    )
    if chains >= most:  # waves of some chains each, level by level
        waves = []
        for level in np.unique(path.level):
            here = order[path.level[order] == level]
            waves += np.array_split(here, -(-len(here) // most))
        return waves
    levels = np.unique(path.level)
    groups = np.array_split(levels, -(-len(levels) * chains // most))
    return [order[np.isin(path.level[order], group)] for group in groups]


def _of_sample(objectives: ModelObjectives, path: Path, iterations: int) -> Solved | None:
    """Return the models of a sample of the rows, solved as far as these know; None where they say too little."""
    N, P = len(objectives.X), len(objectives.scale)
    rows = N // TUNING.shrink
    if rows < max(TUNING.least_rows, TUNING.rows_a_parameter * P):
        return None
    sample = objectives.sample(rows)
    if sample is None:
        return None
    goal = TUNING.known * P / rows / float(objectives.null_value.max())
    found = solve_models(sample, path, tolerance=goal, iterations=min(iterations, 20), proven=False)
    objectives.counter.passes += sample.counter.passes * rows / N
    return found


class _Wave:
    """The models of a wave at their accepted points."""

    def __init__(
        self,
        objectives: ModelObjectives,
        theta: Array,
        preconditioner: Preconditioner,
        tolerance: float,
        iterations: int,
        *,
        proven: bool,
    ) -> None:
        self.objectives, self._preconditioner, self._proven = objectives, preconditioner, proven
        self._iterations = iterations
        K = objectives.count
        self._goal = objectives.on_device(tolerance * objectives.null_value)
        null = objectives.null_value
        floor = np.maximum(tolerance * null, TUNING.above_noise * objectives.rough_gap)
        self._floor = objectives.on_device(floor)
        exact = objectives.X.dtype == torch.float64 or bool((floor >= null).all())
        self._dtype = torch.float64 if exact else torch.float32
        renewed = TUNING.renewed_exact if preconditioner.exact else TUNING.renewed
        self._renewed = renewed[objectives.classes > 1]
        self._models = np.arange(K)
        """Numbers of the models that are left."""
        self._begin(theta)

    def _begin(self, theta: Array) -> None:
        """Go to the start, or to the null model where that is better."""
        objectives, xp = self.objectives, self.objectives.xp
        point = objectives.evaluate(theta, dtype=self._dtype)
        null = objectives.on_device(objectives.null_value)
        worse = ~(point.value <= null * (1 + TUNING.rough_rounding))
        if bool(worse.any()):
            theta = xp.where(worse, objectives.null, theta)
            point = objectives.evaluate(theta, dtype=self._dtype)
        self._point = point
        self._preconditioner.make(point.theta)

    def solve(self, on_done: Callable[[int], object] | None) -> Solved:
        """Return what became of the models."""
        objectives, xp = self.objectives, self.objectives.xp
        point = self._point
        whole = Solved.begun(0.0 * point.theta)
        S: list[Array] = []
        Y: list[Array] = []
        used: list[Array] = []
        """Pairs, the newest first, [P C, K], and 1 / s . y [K], 0 where a model has none."""
        step, refused = 0.0 * point.value + 1.0, 0.0 * point.value
        best, stalled = 0.0 * point.value + np.inf, 0.0 * point.value
        direction = -self._preconditioner.times(point.gradient)
        rough_before = self._dtype == torch.float32
        for iteration in range(1, self._iterations + 2):
            # What is done leaves, and what has given up.
            better = point.gap < 0.9 * best
            best, stalled = xp.minimum(best, point.gap), xp.where(better, 0.0, stalled + 1)
            done = (point.gap <= self._goal) & (point.proven or not self._proven)
            over = done | (refused >= TUNING.refusals) | (stalled >= TUNING.stalled) | ~xp.isfinite(point.value)
            if iteration > self._iterations:
                over = over | True
            leaving, staying = _numbers(over), _numbers(~over)
            if len(leaving):
                gone = self._models[leaving]
                whole.theta[:, gone] = point.theta[:, leaving]
                for name in ("value", "gap", "held_loss"):
                    getattr(whole, name)[gone] = _host(getattr(point, name)[leaving])
                whole.iterations[gone], whole.done[gone] = iteration - 1, _host(done[leaving])
                if on_done is not None:
                    on_done(len(leaving) if iteration > self._iterations else int(whole.done[gone].sum()))
                if not len(staying):
                    break
                self._models = self._models[staying]
                self.objectives = objectives = objectives.chosen(staying)
                self._preconditioner.chosen(staying)
                point = point[staying]
                S, Y = ([each[:, staying] for each in pairs] for pairs in (S, Y))
                used = [each[staying] for each in used]
                step, refused, best, stalled = (each[staying] for each in (step, refused, best, stalled))
                direction = direction[:, staying]
                self._goal, self._floor = self._goal[staying], self._floor[staying]
            rough = self._dtype == torch.float32
            if rough and bool((point.gap <= self._floor).any()):
                self._dtype, rough = torch.float64, False
            near = point.gap <= TUNING.near * self._goal
            proven = self._proven and not rough
            proven = proven and (
                bool((point.gap <= self._goal).any()) or float(near.sum()) >= TUNING.many_near * len(near)
            )
            new = objectives.evaluate(point.theta + step * direction, dtype=self._dtype, proven=proven)
            moved = new.theta - point.theta
            predicted = (point.gradient * moved).sum(0)
            change = new.value - point.value
            rounding = TUNING.rough_rounding if rough or rough_before else ROUNDING
            rough_before = rough
            accepted = change <= SUFFICIENT * predicted + rounding * abs(point.value)
            parabola = -0.5 * predicted / (change - predicted)
            parabola = xp.where(xp.isfinite(parabola), parabola, 0.1 + 0.0 * parabola)
            shorter = step * xp.clip(parabola, 0.1, 0.5)
            y = new.gradient - point.gradient
            sy, yy = (moved * y).sum(0), (y * y).sum(0)
            keep = accepted & (sy > TUNING.curved * yy)
            S = [xp.where(keep, moved, 0.0), *S[: TUNING.memory - 1]]
            Y = [xp.where(keep, y, 0.0), *Y[: TUNING.memory - 1]]
            used = [xp.where(keep, 1.0 / xp.where(keep, sy, 1.0), 0.0), *used[: TUNING.memory - 1]]
            point = _merged(xp, accepted, new, point)
            step = xp.where(accepted, 1.0, shorter)
            refused = xp.where(accepted, 0.0, refused + 1)
            if iteration % self._renewed == 0:
                self._preconditioner.make(point.theta)
                if self._preconditioner.exact:  # steps from where the curvature was another one would spoil it
                    S, Y, used = [], [], []
            fresh = -_inverse_times(point.gradient, S, Y, used, self._preconditioner)
            direction = xp.where(accepted, fresh, direction)
        return whole


def _merged(xp: Any, accepted: Array, new: ModelPoints, old: ModelPoints) -> ModelPoints:
    """Return the new points of the models that went there, and the old ones of the others."""
    names = ("theta", "gradient", "value", "gap", "held_loss")
    gap_new = new.gap
    values = {name: xp.where(accepted, getattr(new, name), getattr(old, name)) for name in names}
    if new.proven and not old.proven:
        # An estimate of a point that stays is no proof.
        values["gap"] = xp.where(accepted, gap_new, xp.maximum(old.gap, 1e300 + 0.0 * old.gap))
    return ModelPoints(**values, proven=new.proven)


def _inverse_times(v: Array, S: list[Array], Y: list[Array], used: list[Array], M: Preconditioner) -> Array:
    """Return H v for v [P C, K] by the two-loop recursion."""
    q, alphas = v + 0.0, []
    for s, y, rho in zip(S, Y, used, strict=True):
        alpha = rho * (s * q).sum(0)
        q = q - alpha * y
        alphas.append(alpha)
    r = M.times(q)
    for s, y, rho, alpha in zip(reversed(S), reversed(Y), reversed(used), reversed(alphas), strict=True):
        r = r + (alpha - rho * (y * r).sum(0)) * s
    return r


def _numbers(mask: Array) -> NDArray[np.int64]:
    return np.flatnonzero(_host(mask))


def _host(array: Array) -> NDArray[Any]:
    return array if isinstance(array, np.ndarray) else array.cpu().numpy()
