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

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from flashlogit_kernels.models import MISSING

from ..objectives.design import rows_by_weight, sample_rows
from ..objectives.models import Array, ModelObjectives, ModelPoints
from .method import ROUNDING, SUFFICIENT


@dataclass(frozen=True)
class Tuning:
    """How models are solved side by side."""

    memory: int = 10
    """Pairs kept."""
    curved: float = 1e-14
    """Least s . y as a share of |y|^2 at which a pair is kept."""
    rough: float = 1e-4
    """Estimated gap, as a share of the null model's P, from which on passes are in float64."""
    above_noise: float = 100.0
    """The same, in gaps that rounding errors of float32 alone would make."""
    rough_rounding: float = 1e-6
    """Differences of P below this share are noise where one of two points was evaluated in float32."""
    near: float = 100.0
    """Estimated gaps of so many times the goal may be below it after the next step, whose pass then proves gaps."""
    many_near: float = 0.25
    """Share of the models that have to be near, for the pass costs half as much again."""
    refusals: int = 20
    """A model gives up after so many refusals in a row."""
    stalled: int = 12
    """A model gives up after so many points in a row that lower neither its best gap by a tenth nor P."""
    renewed: int = 6
    """M is made anew after so many evaluations."""
    renewed_exact: int = 2
    """The same where each model has its own, of all rows, for half the evaluations of nearly separated classes."""
    own_parameters: int = 64
    """Most parameters for which each model has its own: it costs as much as an eighth as many evaluations."""
    columns: tuple[int, int] = (96, 1024)
    """Columns of a wave on a CPU, where more make products no quicker, and on a GPU, where each step of a wave takes a
    hundred launches."""
    most_numbers: tuple[int, int] = (1 << 23, 1 << 27)
    """Most numbers of the steps of a wave, of 64 MB and 1 GB; their changes of the gradient are as many."""
    parameters: int = 2048
    """Most parameters of a class for which M is made."""
    hessian_rows: int = 10
    """Rows of the sample for M for each parameter."""
    least_hessian_rows: int = 4096
    """It has at least so many rows."""
    shrink: int = 16
    """Rows of a sample that is solved first are one in so many."""
    rows_a_parameter: int = 32
    """It has at least so many rows for each parameter."""
    known: float = 0.02
    """Gap on a sample that is small enough, in parameters for each row: what its optimum is off by anyway."""


TUNING = Tuning()


@dataclass(frozen=True)
class Path:
    """How K models belong together, [K] each: chains of models that differ by their penalty alone, from strong ones to
    weak ones by their level; and a number for each target."""

    chain: NDArray[np.int64]
    level: NDArray[np.int64]
    target: NDArray[np.int64]


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
        on_done: told how many models have just been done.
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
    if rows < max(TUNING.least_hessian_rows // 2, TUNING.rows_a_parameter * P):
        return None
    sample = objectives.sample(rows)
    if sample is None:
        return None
    goal = TUNING.known * P / rows / float(objectives.null_value.max())
    found = solve_models(sample, path, tolerance=goal, iterations=min(iterations, 20), proven=False)
    objectives.counter.passes += sample.counter.passes * rows / N
    return found


class HessianRows:
    """Rows of X from which Hessians are made, centred and scaled to a spread of 1, with ones for the intercept.

    spread [P]; all: whether they are all rows there are.
    """

    def __init__(self, objectives: ModelObjectives) -> None:
        X, P, models = objectives.X, len(objectives.scale), objectives.models
        n = max(TUNING.least_hessian_rows, TUNING.hessian_rows * P)
        s = models.sample_weight
        chosen = sample_rows(len(X), n, X.device)
        self.all = chosen is None
        if chosen is not None and s is not None:
            chosen = rows_by_weight(s, n)
        x = (X if chosen is None else X.index_select(0, chosen)).double()
        self._models = models if chosen is None else models.of_rows(chosen)
        if chosen is not None:  # those of large weights are there more often already
            self._models = replace(self._models, sample_weight=None)
        center, spread = (torch.from_numpy(each).to(x.device) for each in (objectives.center, objectives.variance))
        spread = torch.where(spread > 0, spread.sqrt(), 1.0)
        Z = (x - center) / spread
        if objectives.intercept:
            Z = torch.cat([Z, Z.new_ones((len(Z), 1))], dim=1)
            spread = torch.cat([spread, spread.new_ones(1)])
        on_host = objectives.program.on_host
        self.spread, rows = (each.numpy() if on_host else each for each in (spread, Z.float()))
        self.rows = objectives.program.sample_rows(rows)

    def weights(self, target: int, fold: tuple[int, int] | None) -> Array:
        """Return the shares [n] float32 of the rows in a mean: of those with a label of the target, and of a fold's
        training rows only, if its column and number are given."""
        models = self._models
        counted = models.codes[target] != MISSING
        if fold is not None:
            e, held = models.folds[fold[0]], fold[1]
            counted = counted & ((e < held) if models.ordered else (e != held))
        s = counted.float() if models.sample_weight is None else torch.where(counted, models.sample_weight, 0.0).float()
        s = s / s.sum().clamp(min=1e-30)
        return s.numpy() if isinstance(self.spread, np.ndarray) else s

    @classmethod
    def of(cls, objectives: ModelObjectives) -> HessianRows | None:
        """Return them, or None where there are too many columns for a Hessian."""
        return None if len(objectives.scale) > TUNING.parameters else cls(objectives)


class Preconditioner:
    """M^-1 for the models of a wave: one matrix for each target and level, or where it is made of all rows, and cheap,
    for each model, of the rows that train it. Folds of nearly separated classes have very different optima."""

    def __init__(
        self, objectives: ModelObjectives, path: Path, wave: NDArray[np.int64], rows: HessianRows | None
    ) -> None:
        self._objectives, self._rows = objectives, rows
        few = objectives.classes == 1 and len(objectives.scale) <= TUNING.own_parameters
        self.exact = rows is not None and rows.all and few
        keys = np.arange(len(wave))[None] if self.exact else np.stack([path.target[wave], path.level[wave]])
        groups, place = np.unique(keys, axis=1, return_inverse=True)
        self._members = [np.flatnonzero(place.reshape(-1) == g) for g in range(groups.shape[1])]
        self._factors: list[Any] = []
        models = objectives.models
        numbers = torch.stack([models.target_of, models.fold_of, models.held]).tolist()
        firsts = [int(members[0]) for members in self._members]
        folds = [(numbers[1][k], numbers[2][k]) if self.exact else None for k in firsts]
        self._weights: list[Array] = []
        if rows is not None:
            same = functools.cache(rows.weights)
            self._weights = [same(numbers[0][k], fold) for k, fold in zip(firsts, folds, strict=True)]

    def make(self, theta: Array) -> None:
        """Make them at the mean of each group's theta [P C, K]."""
        if self._rows is None:
            return
        objectives, C, spread = self._objectives, self._objectives.classes, self._rows.spread
        scale, l2_of = objectives.array("scale"), objectives.array("l2_of")
        at, relative, penalties = [], [], []
        for members in self._members:
            mean = (theta[:, members].reshape(len(scale), C, -1) * scale[:, None, members]).mean(-1)
            at.append(mean * spread[:, None])
            relative.append(scale[:, members[0]] * spread)
            penalties.append(l2_of[::C, members].mean(-1))
        self._factors = self._rows.rows.inverse_factors(self._weights, at, relative, penalties)

    def times(self, v: Array) -> Array:
        """Return M^-1 v for v [P C, K]; v itself where there is none."""
        if not self._factors:
            return v
        C, result = self._objectives.classes, 0.0 * v
        vectors = [v[:, members].reshape(len(v) // C, -1) for members in self._members]
        assert self._rows is not None
        for members, found in zip(self._members, self._rows.rows.products(self._factors, vectors), strict=True):
            result[:, members] = found.reshape(len(v), -1)
        return result

    def chosen(self, models: NDArray[np.int64]) -> None:
        """Go on with some models of the wave only."""
        place = {int(k): new for new, k in enumerate(models)}
        kept = [[place[k] for k in members.tolist() if k in place] for members in self._members]
        alive = [g for g, members in enumerate(kept) if members]
        self._members = [np.array(kept[g]) for g in alive]
        self._weights = [self._weights[g] for g in alive] if self._weights else []
        self._factors = [self._factors[g] for g in alive] if self._factors else []
        self._objectives = self._objectives.chosen(models)


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
        floor = np.maximum(tolerance * null, np.maximum(TUNING.rough * null, TUNING.above_noise * objectives.rough_gap))
        self._floor = objectives.on_device(floor)
        exact = objectives.X.dtype == torch.float64 or bool((floor >= null).all())
        self._dtype = torch.float64 if exact else torch.float32
        self._renewed = TUNING.renewed_exact if preconditioner.exact else TUNING.renewed
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
                    on_done(len(leaving))
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
