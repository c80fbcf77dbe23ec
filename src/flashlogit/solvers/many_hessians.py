"""Hessians of many models from a sample of the rows, and products with their inverses."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from flashlogit_kernels.models import MISSING

from ..objectives.design import rows_by_weight, sample_rows
from ..objectives.models import Array, ModelObjectives


@dataclass(frozen=True)
class Tuning:
    """Of how many rows Hessians are made, and for whom."""

    parameters: int = 2048
    """Most parameters of a class for which they are made."""
    rows_a_parameter: int = 10
    """Rows of the sample for each parameter."""
    least_rows: int = 4096
    """It has at least so many rows."""
    own_parameters: int = 64
    """Most parameters for which each model has its own: it costs as much as an eighth as many evaluations."""


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

    spread [P]; all: whether they are all rows there are.
    """

    def __init__(self, objectives: ModelObjectives) -> None:
        X, P, models = objectives.X, len(objectives.scale), objectives.models
        n = max(TUNING.least_rows, TUNING.rows_a_parameter * P)
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
