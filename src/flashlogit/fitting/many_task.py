"""Solves many models over one X: side by side where that can be, small tables at once, and the rest one by one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flashlogit_kernels.models import Models

from ..objectives.design import what_is_not_finite
from ..objectives.models import Counts, ModelObjectives
from ..passes import Backend
from ..reference import row_blocks
from ..solvers.many.hessians import Path
from ..solvers.many.side_by_side import solve_models, takes_l1
from .fit import fit, fit_softmax
from .folds import Folds
from .grid import NO_CLASS, Floats, TargetFits
from .groups import Problems, solve_problems
from .held_out import held_out_scores
from .task import Fit
from .tiny import most_rows

_MIDDLE_ROWS = 1024
"""Rows whose medians columns are measured about."""


class ManyTask:
    """What all models of a call have in common, and the passes so far."""

    def __init__(
        self,
        X: Tensor,
        codes: Tensor,
        sample_weight: Tensor | None,
        backend: Backend,
        *,
        l1_ratio: float,
        by_C: bool,
        intercept: bool,
        standardize: bool,
        tolerance: float,
        iterations: int,
        areas: bool,
    ) -> None:
        self.X, self.codes, self.weight, self.backend = X, codes, sample_weight, backend
        self.l1_ratio, self.by_C, self.intercept, self.standardize = l1_ratio, by_C, intercept, standardize
        self.tolerance, self.iterations, self.areas = tolerance, iterations, areas
        self.passes = 0.0
        self.told: Callable[[int], object] | None = None
        self._done = 0

    def solve(
        self, targets: Sequence[int], names: Sequence[str], classes: int, penalties: Floats, folds: Folds
    ) -> list[TargetFits]:
        """Return the models of some targets of so many classes, for penalties [T, L] ascending and folds."""
        models, path, strength = self._models(targets, classes, penalties, folds)
        T, (L, F), C = len(targets), (penalties.shape[1], folds.count), 1 if classes == 2 else classes
        K, D = T * L * F, self.X.shape[1]
        counts = Counts.of(models, classes)
        S = counts.training.sum(axis=1)
        absent = counts.training <= 0
        lacks = np.where(absent.any(axis=1), absent.argmax(axis=1), -1)
        if not self.intercept and classes == 2:
            lacks = np.where(S > 0, -1, lacks)
        with np.errstate(divide="ignore"):
            strength = 1 / (strength * S) if self.by_C else strength
        l1, l2 = self.l1_ratio * strength, (1 - self.l1_ratio) * strength
        W, b = self.X.new_zeros((D, C, K), dtype=torch.float64), self.X.new_zeros((C, K), dtype=torch.float64)
        W[:, :, lacks >= 0] = b[:, lacks >= 0] = math.nan
        nothing = np.full(K, np.nan)
        found = {name: nothing.copy() for name in ("objective", "gap", "relative_gap", "held_loss")}
        endings, iterations = np.full(K, NO_CLASS, dtype=object), np.zeros(K, dtype=np.int64)
        present = np.flatnonzero(lacks < 0)
        self._tell(K - len(present))
        small = self._are_small(models) and not l1.any()
        if small:
            self._solve_small(models, present, l2, W, b, found, endings, iterations)
        stepped = (l1 + l2 > 0) & (takes_l1(len(self.X), D, C) or not l1.any())
        together = present[stepped[present]] if not small else present[:0]
        waiting = set() if small else set(present.tolist())
        if len(together):
            variances = self._variances(models, together) if self.standardize else np.ones(1)
            of_rows = Counts(counts.training[together], counts.held[together])
            objectives = ModelObjectives.of(
                self.X,
                models.chosen(torch.from_numpy(together).to(self.X.device)),
                l1[None, together] * np.sqrt(variances),
                l2[None, together] * variances,
                of_rows,
                passes=self.backend.passes,
                program=self.backend.models_program,
                intercept=self.intercept,
            )
            by_l1, by_l2 = objectives.provable(self.tolerance)
            proves = np.flatnonzero(by_l1 | by_l2)
            if len(proves):
                objectives, together = objectives.proving(by_l2).chosen(proves), together[proves]
                here = Path(path.chain[together], path.level[together], path.target[together])
                # At a trial point where no row has curvature left the gap is not a number, which proves nothing.
                with np.errstate(all="ignore"):
                    done = solve_models(
                        objectives, here, tolerance=self.tolerance, iterations=self.iterations, on_done=self._tell
                    )
                self.passes += objectives.counter.passes
                weight, bias = (torch.as_tensor(each) for each in objectives.coefficients(done.theta))
                W[:, :, together], b[:, together] = weight, bias
                null = objectives.null_value
                found["objective"][together], found["gap"][together] = done.value, done.gap
                found["relative_gap"][together] = done.gap / null
                with np.errstate(all="ignore"):
                    found["held_loss"][together] = done.held_loss / counts.held[together].sum(axis=1)
                iterations[together] = done.iterations
                endings[together] = np.where(done.done, "tolerance", "limit")
                waiting -= set(together[done.done | (done.iterations >= self.iterations)].tolist())
        singles = sorted(waiting, key=lambda k: (path.chain[k], path.level[k]))
        self._fit_one_by_one(singles, models, path, l1, l2, W, b, found, endings, iterations)
        # Side by side held-out losses came with the passes.
        scored = present if self.areas else present[np.isnan(found["held_loss"][present])]
        (loss, accuracy, area), reads = held_out_scores(self.X, models, W, b, scored)
        self.passes += reads
        found["held_loss"] = np.where(np.isnan(found["held_loss"]), loss, found["held_loss"])
        shape = (T, L, F)
        arrays = {name: each.reshape(shape) for name, each in found.items()}
        arrays |= {"l1": l1.reshape(shape), "l2": l2.reshape(shape), "lacks": lacks.reshape(shape)}
        arrays |= {"accuracy": accuracy.reshape(shape), "roc_auc": area.reshape(shape)}
        arrays |= {"ending": endings.reshape(shape), "iterations": iterations.reshape(shape)}
        W, b = W.permute(2, 1, 0).reshape(*shape, C, D), b.t().reshape(*shape, C)
        result = []
        for t, name in enumerate(names):
            weight, bias = (W[t], b[t]) if C > 1 else (W[t, :, :, 0], b[t, :, :, 0])
            of = {key: each[t] for key, each in arrays.items()}
            result.append(TargetFits(name, classes, weight.contiguous(), bias.contiguous(), **of))
        return result

    def refit(
        self, targets: Sequence[int], fits: Sequence[TargetFits], classes: int, penalties: Floats
    ) -> list[TargetFits]:
        """Return the fits with the model of each one's chosen penalty on all rows."""
        whole = Folds.none(len(self.X))
        some = [place for place, of in enumerate(fits) if of.best is not None]
        if not some:
            return list(fits)
        best = np.array([[penalties[fits[place].best or 0]] for place in some])
        these = [targets[place] for place in some]
        again = self.solve(these, [fits[place].name for place in some], classes, best, whole)
        result = list(fits)
        for place, of in zip(some, again, strict=True):
            result[place] = replace(fits[place], refit=of)
        return result

    def _tell(self, done: int) -> None:
        self._done += done
        if self.told is not None and done:
            self.told(self._done)

    def _models(
        self, targets: Sequence[int], classes: int, penalties: Floats, folds: Folds
    ) -> tuple[Models, Path, Floats]:
        """Return the models of T targets, L penalties and F folds, in this order; how they belong together; and their
        penalties [K]."""
        T, L, F = len(targets), penalties.shape[1], folds.count
        t, place, f = (each.reshape(-1) for each in np.meshgrid(range(T), range(L), range(F), indexing="ij"))
        codes = self.codes if len(self.codes) == T else self.codes[list(targets)].contiguous()
        of_rows = torch.from_numpy(folds.codes).to(self.X.device)
        numbers = np.stack([t, folds.column[f], folds.held[f]]).astype(np.int32)
        target_of, fold_of, held = torch.from_numpy(numbers).to(self.X.device)
        models = Models(
            codes, of_rows, target_of, fold_of, held, folds.ordered, self.weight, 1 if classes == 2 else classes
        )
        level = place if self.by_C else L - 1 - place
        return models, Path(t * F + f, level, t), penalties[t, place]

    def _variances(self, models: Models, chosen: NDArray[np.int64]) -> Floats:
        """Return the variances of the columns over the rows that train each model, [D, K]; 1 for a constant one."""
        keys = np.stack([each.cpu().numpy()[chosen] for each in (models.target_of, models.fold_of, models.held)])
        groups, place = np.unique(keys, axis=1, return_inverse=True)
        targets, columns, held = (torch.from_numpy(each).to(self.X.device) for each in groups)
        counted = torch.ones_like(self.codes[0], dtype=torch.bool) if self.weight is None else self.weight > 0
        # About a median nothing cancels for models that do not see a row far off, and what no model sees counts as 0.
        some = counted.nonzero()[:: max(1, int(counted.sum()) // _MIDDLE_ROWS), 0]
        center = self.X[some].double().median(dim=0).values
        mass = center.new_zeros(len(targets))
        total, squares = (center.new_zeros((len(targets), len(center))) for _ in range(2))
        for rows, block in row_blocks(self.X, torch.float64, center=center):
            e = models.folds[:, rows][columns.long()]
            trains = (e < held[:, None]) if models.ordered else (e != held[:, None])
            trains = (trains & (models.codes[:, rows][targets.long()] != models.missing)).double()
            if self.weight is not None:
                trains = trains * self.weight[rows].double()
            block = torch.where((trains > 0).any(dim=0)[:, None], block, 0.0)
            mass, total = mass + trains.sum(dim=1), total + trains @ block
            squares = squares + trains @ block.square()
        self.passes += 1
        mean = total / mass[:, None]
        moment = squares / mass[:, None]
        variance = moment - mean.square()
        variance = torch.where(variance > 1e-14 * moment, variance, 1.0)
        return np.asarray(variance.t().cpu().numpy()[:, place.reshape(-1)])

    def _are_small(self, models: Models) -> bool:
        """Return whether models of two classes are fitted at once each, by a program for small tables."""
        return models.classes == 1 and not self.standardize and most_rows(self.X, self.backend.name) >= len(self.X)

    def _solve_small(
        self,
        models: Models,
        present: NDArray[np.int64],
        l2: Floats,
        W: Tensor,
        b: Tensor,
        found: dict[str, Floats],
        endings: NDArray[np.object_],
        iterations: NDArray[np.int64],
    ) -> None:
        """Fit models of a small table, as many problems at once for each target."""
        if not bool(self.X.isfinite().all()):
            raise ValueError(what_is_not_finite(self.X))
        targets = models.target_of.cpu().numpy()
        for target in np.unique(targets[present]):
            these = present[targets[present] == target]
            masks = [self._rows_of(models, int(k)) for k in these]
            if self.weight is not None:
                masks = [(mask & (self.weight > 0), y) for mask, y in masks]
            rows = [torch.nonzero(mask)[:, 0] for mask, _ in masks]
            starts = np.cumsum([0, *(len(each) for each in rows)])
            places = torch.cat(rows)
            s = None if self.weight is None else self.weight.double()[places]
            y = masks[0][1]

            def alone(rows: Tensor, s: Tensor | None, penalty: float, y: Tensor = y) -> Fit:
                how: Any = {"tolerance": self.tolerance, "max_iterations": self.iterations}
                how |= {"intercept": self.intercept, "backend": self.backend.name}
                return fit(self.X[rows], y[rows], sample_weight=s, l2=penalty, **how)

            done = solve_problems(
                self.X,
                y,
                Problems(places, s, starts, l2[these]),
                intercept=self.intercept,
                tolerance=self.tolerance,
                max_iterations=self.iterations,
                backend=self.backend.name,
                alone=alone,
            )
            W[:, 0, these], b[0, these] = done.weight.t(), done.bias
            found["objective"][these], found["gap"][these] = done.numbers[:, 0], done.numbers[:, 1]
            found["relative_gap"][these] = done.numbers[:, 1] / done.numbers[:, 2]
            endings[these], iterations[these] = done.ending, done.iterations
            self.passes += float(done.iterations.sum())
            self._tell(len(these))

    def _fit_one_by_one(
        self,
        singles: Sequence[int],
        models: Models,
        path: Path,
        l1: Floats,
        l2: Floats,
        W: Tensor,
        b: Tensor,
        found: dict[str, Floats],
        endings: NDArray[np.object_],
        iterations: NDArray[np.int64],
    ) -> None:
        """Fit some models, in the order of their paths, and write what becomes of them."""
        before = -1
        for k in singles:
            mask, y = self._rows_of(models, k)
            weight = mask.double() if self.weight is None else torch.where(mask, self.weight, 0.0)
            X, scale = self.X, None
            if self.standardize:
                # One column's scale is another's penalty: these fits have one penalty for all, so that X is scaled.
                scale = torch.from_numpy(self._variances(models, np.array([k]))[:, 0]).to(X.device).sqrt()
                X = X.double() / scale  # rounded to fewer digits it would be another table's gap that is proven
            linked = before >= 0 and path.chain[before] == path.chain[k]
            near = k if iterations[k] > 0 else before if linked else -1
            start = (W[:, :, near].t(), b[:, near]) if near >= 0 else None
            if start is not None and scale is not None:
                start = (start[0] * scale, start[1])
            how: dict[str, Any] = {
                "sample_weight": None if self.weight is None and bool(mask.all()) else weight,
                "l1": float(l1[k]),
                "l2": float(l2[k]),
                "intercept": self.intercept,
                "tolerance": self.tolerance,
                "max_iterations": self.iterations,
                "start": start,
                "backend": self.backend.name,
            }
            C = models.classes
            result = fit(X, y, **how) if C == 1 else fit_softmax(X, y.long(), classes=C, **how)
            weights = result.weight.reshape(C, -1)
            W[:, :, k] = (weights if scale is None else weights / scale).t()
            b[:, k] = result.bias
            found["objective"][k], found["gap"][k] = result.certificate.objective, result.gap
            found["relative_gap"][k] = result.relative_gap
            endings[k], iterations[k] = result.ending, iterations[k] + result.iterations
            self.passes += result.passes
            found["held_loss"][k] = math.nan
            before = k
            self._tell(1)

    def _rows_of(self, models: Models, k: int) -> tuple[Tensor, Tensor]:
        """Return which rows train model k, [N], and its labels [N], 0 where one is missing."""
        codes, e = models.codes[int(models.target_of[k])], models.folds[int(models.fold_of[k])]
        held = int(models.held[k])
        mask = (codes != models.missing) & ((e < held) if models.ordered else (e != held))
        return mask, torch.where(codes == models.missing, 0, codes)
