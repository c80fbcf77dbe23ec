"""Many models side by side: L-BFGS for each of them, every step of all of them for one pass over X.

The recursion (Nocedal 1980) begins with M^-1, M being the Hessian of a sample of the rows. Models of one target and one
penalty share M: folds leave out a few rows each, and what those change the pairs of steps and gradients correct. Where
the sample is all rows each model has its own, and steps are Newton's. With an l1 term a step goes to the minimum of a
quadratic model and that term (`flashlogit.solvers.many.proximal`). A model has its own step length, pairs, refusals and
certificate, and leaves when its gap is proven.

Where there are many, they are solved in waves, from strong penalties to weak ones. The optimum of a neighbour on the
path starts the next,

    theta - M^-1 (l2' - l2) theta,

which is a Newton step from there, for the gradient at an optimum is known (with an l1 term theta itself). Where a
sample of the rows says enough, all models are solved on it first, and a neighbour says how far off the sample's optimum
is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ...objectives.models import Array, ModelObjectives, ModelPoints
from .hessians import TUNING as HESSIANS
from .hessians import HessianRows, Path, Preconditioner
from .steps import Limits, StepTuning, steps_from


@dataclass(frozen=True)
class Tuning(StepTuning):
    """How models are solved side by side."""

    above_noise: float = 100.0
    """Estimated gap, in gaps that rounding errors of float32 alone would make, from which passes are in float64: they
    are so too once the tolerance is reached, to prove it."""
    many_near: float = 0.5
    """Share of the models that have to be near, for the pass costs half as much again."""
    renewed: tuple[int, int] = (6, 12)
    """M is made anew after so many evaluations at least, of two classes and of a softmax, whose curvature it only comes
    near; and after as many as take as long. 64 targets of 200,000 x 1,024 took an H200 45 ms for M and 1.5 for a pass.
    """
    renewed_exact: tuple[int, int] = (2, 5)
    """The same where each model has its own, of all rows, for half the evaluations of nearly separated classes."""
    columns: tuple[int, int] = (96, 1024)
    """Columns of a wave on a CPU, where more make products no quicker, and on a GPU, where the host takes as long for a
    wave of one model as for one of many."""
    l1_rows: int = 15
    """Rows for each column from which models with an l1 term are solved side by side."""
    most_numbers: tuple[int, int] = (1 << 23, 1 << 27)
    """Most numbers of the steps of a wave, of 64 MB and 1 GB; their changes of the gradient are as many. With an l1
    term they are those of its models' matrices."""
    shrink: tuple[int, int] = (16, 256)
    """Rows of a sample that is solved first are one in so many, on a CPU and on a GPU, where what happens between
    passes takes as long as a pass over millions of rows."""
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
            if not (on_sample or objectives.sparse):
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


def takes_l1(rows: int, columns: int, classes: int) -> bool:
    """Return whether models with an l1 term are solved side by side: those with a Hessian of all their weights, and
    rows enough, of two classes.

    Of few rows single fits find the weights that are not 0 sooner: 32 models of 120 x 400 took them 0.1 s, and 18 side
    by side; of 3,000 x 200 both took as long. What a softmax's classes have in common is hardly curved, so that
    coordinate descent takes long: 12 models of scikit-learn's digits took twice as long as one by one.
    """
    return columns < HESSIANS.parameters and rows >= TUNING.l1_rows * columns and classes == 1


def _waves(objectives: ModelObjectives, path: Path) -> list[NDArray[np.int64]]:
    """Return the numbers of the models of each wave: those of some levels, of strong penalties first."""
    order = np.argsort(path.level, kind="stable")
    chains = len(np.unique(path.chain))
    on_gpu = objectives.X.is_cuda
    most = max(TUNING.columns[on_gpu] // objectives.classes, 1)
    Q = len(objectives.scale) * objectives.classes
    numbers = Q * (Q if objectives.sparse else TUNING.memory)
    most = min(most, max(TUNING.most_numbers[on_gpu] // numbers, 1))
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
    rows = N // TUNING.shrink[objectives.X.is_cuda]
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
        self._proven, self._iterations = proven, iterations
        null = objectives.null_value
        goal, floor = tolerance * null, np.maximum(tolerance * null, TUNING.above_noise * objectives.rough_gap)
        exact = objectives.X.dtype == torch.float64 or bool((floor >= null).all())
        self._dtype = torch.float64 if exact else torch.float32
        renewed = TUNING.renewed_exact if preconditioner.exact else TUNING.renewed
        self._renewed = renewed[objectives.classes > 1]
        if not preconditioner.exact:
            self._renewed = max(self._renewed, math.ceil(preconditioner.cost))
        point = self._start(objectives, theta)
        preconditioner.make(point.theta)
        rough = self._dtype == torch.float32
        self._steps = steps_from(point, objectives, preconditioner, Limits(goal, floor, proven, TUNING), rough=rough)

    def _start(self, objectives: ModelObjectives, theta: Array) -> ModelPoints:
        """Return the start, or the null model where that is better."""
        point = objectives.evaluate(theta, dtype=self._dtype)
        null = objectives.on_device(objectives.null_value)
        worse = ~(point.value <= null * (1 + TUNING.rough_rounding))
        if bool(worse.any()):
            theta = objectives.xp.where(worse, objectives.null, theta)
            point = objectives.evaluate(theta, dtype=self._dtype)
        return point

    def solve(self, on_done: Callable[[int], object] | None) -> Solved:
        """Return what became of the models."""
        steps, models = self._steps, np.arange(self._steps.objectives.count)
        whole = Solved.begun(0.0 * steps.theta)
        for iteration in range(1, self._iterations + 2):
            # What is done leaves, and what has given up.
            standing = steps.standing()
            over = standing.over | (iteration > self._iterations)
            leaving, staying = np.flatnonzero(over), np.flatnonzero(~over)
            if len(leaving):
                gone = models[leaving]
                whole.theta[:, gone] = steps.theta[:, leaving]
                whole.value[gone], whole.gap[gone], whole.held_loss[gone] = steps.values(leaving)
                whole.iterations[gone], whole.done[gone] = iteration - 1, standing.done[leaving]
                if on_done is not None:
                    on_done(len(leaving) if iteration > self._iterations else int(whole.done[gone].sum()))
                if not len(staying):
                    break
                models, standing = models[staying], standing.chosen(staying)
                steps.chosen(staying)
            if standing.low.any():
                self._dtype = torch.float64
            rough = self._dtype == torch.float32
            enough = standing.reached.any() or standing.near.sum() >= TUNING.many_near * len(models)
            proven = self._proven and not rough and bool(enough)
            steps.advance(self._dtype, proven=proven, renew=iteration % self._renewed == 0)
        return whole
