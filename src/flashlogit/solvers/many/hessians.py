"""Hessians of many models from a sample of the rows, and products with their inverses."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...objectives.design import rows_by_weight, sample_rows
from ...objectives.models import Array, ModelObjectives


@dataclass(frozen=True)
class Tuning:
    """How many rows Hessians are made of, and for whom."""

    parameters: int = 2048
    """Most parameters of a class for which they are made."""
    rows_a_parameter: int = 10
    """Rows of the sample for each parameter."""
    least_rows: int = 8192
    """It has at least so many rows."""
    share: int = 256
    """One row in so many is in it at least: that costs next to nothing beside a pass."""
    joint_parameters: int = 1024
    """Most parameters of all classes of a softmax for which they are those of all classes jointly. Without what classes
    have to do with each other, models of nearly separated classes take hundreds of steps."""
    shared_cost: float = 1.0
    """Targets of one penalty share one where theirs would cost more evaluations than this. 5 targets x 10 penalties x 5
    folds of 30,000 x 384 took 28 passes in place of 27, and two fifths of the time of theirs for Hessians."""
    own_parameters: int = 64
    """Most parameters of two classes for which each model has its own: it costs as much as an eighth as many
    evaluations. Softmaxes have their own where it is of all classes jointly."""


TUNING = Tuning()


@dataclass(frozen=True)
class Path:
    """How K models belong together, [K] each: chains of models that differ by their penalty alone, from strong ones to
    weak ones by their level; and a number for each target."""

    chain: NDArray[np.int64]
    level: NDArray[np.int64]
    target: NDArray[np.int64]


class HessianRows:
    """Rows of X from which Hessians are made, centred and scaled to a spread of 1, with ones for the intercept.

    spread [P]; all: whether they are all rows there are; joint: whether Hessians are those of all classes jointly.
    """

    def __init__(self, objectives: ModelObjectives) -> None:
        X, P, models = objectives.X, len(objectives.scale), objectives.models
        n = max(TUNING.least_rows, TUNING.rows_a_parameter * P, len(X) // TUNING.share)
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
        self.joint = objectives.classes > 1 and P * objectives.classes <= TUNING.joint_parameters
        self.rows = objectives.program.sample_rows(rows, joint=self.joint)

    def weights(self, target: int, fold: tuple[int, int] | None) -> Array:
        """Return the shares [n] float32 of the rows in a mean: of those with a label of the target, and of a fold's
        training rows only, if its column and number are given."""
        models = self._models
        counted = models.codes[target] != models.missing
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
    for each model, of the rows that train it. Folds of nearly separated classes have very different optima.

    Where that costs much, targets of one level share M = R A R + diag(penalty), with the means of sqrt(c_t) R_t and of
    A_t / c_t, c_t being the sum of a target's curvatures.
    """

    def __init__(
        self, objectives: ModelObjectives, path: Path, wave: NDArray[np.int64], rows: HessianRows | None
    ) -> None:
        self._objectives, self._rows = objectives, rows
        few = len(objectives.scale) <= TUNING.own_parameters if objectives.classes == 1 else bool(rows and rows.joint)
        self.exact = rows is not None and rows.all and few
        keys = np.arange(len(wave))[None] if self.exact else np.stack([path.target[wave], path.level[wave]])
        self._cells = _alike(keys)
        """Models of one target and level, or each one, of which a matrix could be made."""
        self._members = self._cells
        """Models of one matrix."""
        self._factors: Any = None
        """Inverse factors of each group, in its order; where there is an l1 term the matrices."""
        self._weights: Array = None
        if rows is not None:
            models = objectives.models
            numbers = torch.stack([models.target_of, models.fold_of, models.held]).tolist()
            firsts = [int(members[0]) for members in self._cells]
            folds = [(numbers[1][k], numbers[2][k]) if self.exact else None for k in firsts]
            same = functools.cache(rows.weights)
            weights = [same(numbers[0][k], fold) for k, fold in zip(firsts, folds, strict=True)]
            self._weights = objectives.xp.stack(weights)
            own = self.exact or rows.joint or objectives.sparse
            if not own and len(set(path.target[wave].tolist())) > 1 and self.cost > TUNING.shared_cost:
                self._members = _alike(path.level[wave][None])
        self._index()

    def _index(self) -> None:
        """Write where the models of each group are, [G, k], with the first one's number where there are fewer; which of
        these places are of a model; and what means over a cell and, where groups share cells, over these are made with,
        [K, cells] and [G, cells]."""
        widest = max(len(members) for members in self._members)
        places = np.stack([np.resize(members, widest) for members in self._members])
        real = np.stack([np.arange(widest) < len(members) for members in self._members])
        mean = np.zeros((self._objectives.count, len(self._cells)))
        for cell, members in enumerate(self._cells):
            mean[members, cell] = 1 / len(members)
        of_groups = np.stack([(mean[members] > 0).any(axis=0) for members in self._members])
        of_groups = of_groups / of_groups.sum(axis=1, keepdims=True)
        on_device = self._objectives.on_device
        self._places, self._mean, self._of_groups = on_device(places), on_device(mean), on_device(of_groups)
        self._firsts = on_device(np.array([members[0] for members in self._cells]))
        self._of_models = on_device(places[real]), on_device(np.flatnonzero(real))

    @property
    def cost(self) -> float:
        """About how many evaluations of all models take as many products as making it does."""
        if self._rows is None:
            return 0.0
        N, P = len(self._objectives.X), len(self._objectives.scale)
        C = self._objectives.classes if self._rows.joint else 1
        n = self._weights.shape[1]
        made = len(self._members) * (0.5 * n * (C * P) ** 2 + (C * P) ** 3)
        return float(made / (2 * N * P * self._objectives.count * self._objectives.classes))

    def make(self, theta: Array) -> None:
        """Make them at the mean of each group's theta [P C, K]."""
        if self._rows is None:
            return
        rows = self._rows.rows
        made = rows.hessians if self._objectives.sparse else rows.inverse_factors
        self._factors = made(*self._arguments(self._rows, theta))

    def matrices(self) -> Array:
        """Return M of each model, [K, Q, Q], where there is an l1 term; Q is P C, or P where there is one class."""
        group = np.empty(self._objectives.count, np.int64)
        for g, members in enumerate(self._members):
            group[members] = g
        return self._factors[group]

    def _arguments(self, rows: HessianRows, theta: Array) -> tuple[Array, Array, Array, Array]:
        """Return what Hessians are made of: weights of rows, coefficients, and R's and the penalty's diagonals."""
        objectives, spread = self._objectives, rows.spread
        scale, l2_of = objectives.array("scale"), objectives.array("l2_of")
        (P, K), C, G = scale.shape, objectives.classes, len(self._cells)
        mean = (theta.reshape(P, C, K) * scale[:, None]) @ self._mean * spread[:, None, None]
        classes = C if rows.joint else 1
        relative = scale[:, self._firsts] * spread[:, None]
        relative = (relative[:, None] * objectives.on_device(np.ones((1, classes, 1)))).reshape(-1, G)
        penalties = l2_of[:: C // classes] @ self._mean
        weights, at = self._weights, mean.swapaxes(0, 2).swapaxes(1, 2).reshape(G, P, C)
        relative, penalties = relative.T, penalties.T
        if len(self._members) < G:
            curvatures = objectives.xp.asarray(rows.rows.curvatures(weights, at), dtype=objectives.xp.float64)
            total = curvatures.sum(1)[:, None] + 1e-30
            flat = 1 / 4 if C == 1 else (C - 1) / C**2  # the curvature of a row at coefficients of 0
            mean = self._of_groups @ (curvatures / total) / flat
            weights, at = objectives.xp.asarray(mean, dtype=objectives.xp.float32), 0.0 * at[: len(self._members)]
            relative, penalties = self._of_groups @ (relative * total**0.5), self._of_groups @ penalties
        return weights, at, relative, penalties

    def times(self, v: Array) -> Array:
        """Return M^-1 v for v [P C, K]; v itself where there is none."""
        if self._factors is None or self._rows is None:
            return v
        G = len(self._members)
        C = 1 if self._rows.joint else self._objectives.classes  # columns of a model that M multiplies
        Q, k = len(v) // C, self._places.shape[1]
        some = v[:, self._places].reshape(Q, C, G, k).swapaxes(0, 2).swapaxes(1, 2).reshape(G, Q, C * k)
        found = self._rows.rows.products(self._factors, some)
        turned = found.reshape(G, Q, C, k).swapaxes(1, 2).swapaxes(0, 2).reshape(Q * C, G * k)
        result = 0.0 * v
        models, places = self._of_models
        result[:, models] = turned[:, places]
        return result

    def places(self) -> tuple[NDArray[np.int64], int, int]:
        """Return where `products` has vectors: number i of model k's at first[k] + i width, and of how many numbers."""
        K, parameters = self._objectives.count, len(self._objectives.scale) * self._objectives.classes
        if self._rows is None:
            return np.arange(K), K, parameters * K
        width = self._places.shape[1]
        first = np.empty(K, dtype=np.int64)
        for g, members in enumerate(self._members):
            first[members] = g * parameters * width + np.arange(len(members))
        return first, width, len(self._members) * parameters * width

    def products(self, vectors: Tensor) -> Tensor:
        """Return M^-1 v, as the vectors are: tensors laid out by `places`, [G, Q, k] where there is an M [G, Q, Q]."""
        if self._factors is None or self._rows is None:
            return vectors
        G, Q = len(self._members), self._factors.shape[-1]
        found: Tensor = self._rows.rows.products(self._factors, vectors.view(G, Q, -1))
        return found

    def chosen(self, models: NDArray[np.int64]) -> None:
        """Go on with some models of the wave only."""
        place = {int(k): new for new, k in enumerate(models)}
        shared = len(self._members) < len(self._cells)
        self._cells, cells = _left(self._cells, place)
        self._members, groups = _left(self._members, place) if shared else (self._cells, cells)
        if self._rows is not None:
            self._weights = self._weights[cells]
            self._factors = None if self._factors is None else self._factors[groups]
        self._objectives = self._objectives.chosen(models)
        self._index()


def _alike(keys: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return the numbers of the models with the same keys [., K]."""
    groups, place = np.unique(keys, axis=1, return_inverse=True)
    return [np.flatnonzero(place.reshape(-1) == g) for g in range(groups.shape[1])]


def _left(groups: list[NDArray[np.int64]], place: dict[int, int]) -> tuple[list[NDArray[np.int64]], list[int]]:
    """Return the groups by the models' new places, without those that are empty, and which these are."""
    kept = [[place[k] for k in members.tolist() if k in place] for members in groups]
    alive = [g for g, members in enumerate(kept) if members]
    return [np.array(kept[g]) for g in alive], alive
