"""Many models over one X: targets x penalties x folds, solved side by side for a few reads of X.

Every model minimises the objective of `flashlogit.fit`, or `flashlogit.fit_softmax`, over the rows that train it. Those
with l2 > 0 and no l1 term are stepped together (`flashlogit.solvers.models`); the others, and whatever does not reach
its tolerance there, are fitted one after the other, each from its neighbour on the path of penalties.
"""

from __future__ import annotations

import math
import time as clock
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flashlogit_kernels.checks import check_matrix
from flashlogit_kernels.compiling import compile_seconds
from flashlogit_kernels.cpu.pool import share
from flashlogit_kernels.models import MISSING, NO_FOLD, Models

from ..metrics.scores import logsumexp, rank
from ..objectives.design import what_is_not_finite
from ..objectives.models import Counts, ModelObjectives
from ..objectives.row_loss import check_weights
from ..passes import Backend, BackendName, choose_backend
from ..reference import row_blocks
from ..solvers.driver import Ending
from ..solvers.models import Path, solve_models
from .fit import fit, fit_softmax
from .folds import Folds, make_folds
from .groups import Problems, solve_problems
from .task import Fit
from .tiny import most_rows

Selection = Literal["best", "one_standard_error"]
NO_CLASS: Literal["class missing"] = "class missing"
"""How a model ends whose training rows lack a class: it is left out."""
ManyEnding = Ending | Literal["class missing"]
Floats = NDArray[np.float64]
Told = Callable[[int, int], object]
"""Called with the numbers of models that are done, and of all."""
_SCORED_LOGITS = 1 << 22
"""Logits that are made at once for areas and accuracies: 32 MB."""


@dataclass(frozen=True)
class TargetFits:
    """The models of one target: L penalties and F folds.

    weight [L, F, D] and bias [L, F] float64, in the units of X, on its device; for a softmax [L, F, C, D] and
    [L, F, C]. All others are arrays [L, F]: l2 and l1 are the penalties in P; objective, gap and relative_gap as in a
    certificate; ending as in a `Fit`, or "class missing" for a model that is left out, and is NaN, as its training rows
    lack the class named in `lacks`; iterations are evaluations. held_loss (mean, in nats), accuracy and roc_auc are
    those of the rows that the fold holds out, NaN where there are none, or of one class only.
    """

    name: str
    classes: int
    weight: Tensor = field(repr=False)
    bias: Tensor = field(repr=False)
    l2: Floats = field(repr=False)
    l1: Floats = field(repr=False)
    objective: Floats = field(repr=False)
    gap: Floats = field(repr=False)
    relative_gap: Floats = field(repr=False)
    ending: NDArray[np.object_] = field(repr=False)
    iterations: NDArray[np.int64] = field(repr=False)
    held_loss: Floats = field(repr=False)
    accuracy: Floats = field(repr=False)
    roc_auc: Floats = field(repr=False)
    lacks: NDArray[np.int64] = field(repr=False)
    """[L, F]: a class that is absent, or -1."""
    best: int | None = None
    """Place of the chosen penalty; None where nothing was held out, or no penalty has a model of every fold."""
    refit: TargetFits | None = field(default=None, repr=False)
    """The model of the chosen penalty on all rows, [1, 1]."""

    @property
    def mean_loss(self) -> Floats:
        """Mean over the folds of the held-out loss, [L]; NaN where a fold has no model."""
        return np.asarray(self.held_loss.mean(axis=1))

    @property
    def standard_error(self) -> Floats:
        """Standard error of that mean, [L], as if folds were independent."""
        F = self.held_loss.shape[1]
        return np.asarray(self.held_loss.std(axis=1, ddof=1) / math.sqrt(F)) if F > 1 else np.full(len(self.l2), np.nan)


@dataclass(frozen=True)
class ManyFits(Mapping[str, TargetFits]):
    """All models by target's name, and what they took.

    penalties [L]: as they were given, ascending; folds: which rows each fold holds out, None where there are none.
    passes over X, each for as many models as were left; seconds without compile_seconds.
    """

    targets: dict[str, TargetFits]
    penalties: Floats
    penalty: Literal["l2", "C"]
    l1_ratio: float
    folds: Folds | None = field(repr=False)
    passes: float
    seconds: float
    compile_seconds: float
    bytes_read: float
    tolerance: float

    def __getitem__(self, name: str) -> TargetFits:
        return self.targets[name]

    def __iter__(self) -> Any:
        return iter(self.targets)

    def __len__(self) -> int:
        return len(self.targets)

    @cached_property
    def columns(self) -> list[tuple[str, float, int | None]]:
        """(target, penalty, fold) of each column of `weights`."""
        folds: Sequence[int | None] = range(self.folds.count) if self.folds else [None]
        return [(name, float(each), fold) for name in self.targets for each in self.penalties for fold in folds]

    def weights(self) -> Tensor:
        """Return the weights of all models side by side, [D, K], as `columns` names them; two classes only.

        Raises:
            ValueError: a softmax, whose models have a column for each class.
        """
        many = [name for name, of in self.targets.items() if of.classes > 2]
        if many:
            raise ValueError(f"target {many[0]} has {self[many[0]].classes} classes; take its own weight")
        return torch.cat([of.weight.reshape(-1, of.weight.shape[-1]) for of in self.targets.values()]).t()

    def rows(self) -> list[dict[str, Any]]:
        """Return a row of a table for each model, by name of the column."""
        names = ("objective", "gap", "relative_gap", "ending", "iterations", "held_loss", "accuracy", "roc_auc")
        table = []
        for name, of in self.targets.items():
            for place, value in enumerate(self.penalties.tolist()):
                for fold in range(of.l2.shape[1]):
                    row = {"target": name, self.penalty: value, "fold": fold if self.folds else None}
                    at = {each: getattr(of, each)[place, fold] for each in names}
                    table.append(
                        row | {key: each.item() if hasattr(each, "item") else each for key, each in at.items()}
                    )
        return table


def fit_many(
    X: Any,
    Y: Any,
    *,
    l2: float | Sequence[float] | None = None,
    C: float | Sequence[float] | None = None,
    l1_ratio: float = 0.0,
    folds: int | Sequence[Any] | NDArray[Any] | Iterable[tuple[Any, Any]] | None = None,
    groups: Any = None,
    time: Any = None,
    sample_weight: Any = None,
    intercept: bool = True,
    standardize: bool = False,
    classes: int | None = None,
    targets: Sequence[str] | None = None,
    select: Selection = "best",
    refit: bool = True,
    tolerance: float = 1e-6,
    max_iterations: int = 1000,
    seed: int = 0,
    backend: BackendName = "auto",
    on_done: Told | None = None,
) -> ManyFits:
    """Fit a model for each target, penalty and fold, and choose a penalty for each target.

        P(W, b) = 1/S sum_i s_i loss_i + l1 ||W||_1 + l2/2 ||W||_F^2,      S = sum_i s_i

    over the rows that train the model. X is read once for all models that are being stepped, and not copied.

    Args:
        X: [N, D] float64, float32, bfloat16 or float16, a tensor on any device or a NumPy array.
        Y: [N] or [N, T]: labels 0 and 1, or class numbers from 0 on for a softmax. NaN is a label that is missing: the
            row then counts for the other targets.
        l2: one or more penalties; with l1_ratio > 0 the sums l1 + l2, of which l1 is the share l1_ratio.
        C: scikit-learn's in their place: 1 / (C S), with S of each model's own rows; infinity is no penalty. Default:
            l2 of 20 numbers from 1e-6 to 100, evenly spread by their logarithms.
        l1_ratio: from 0 to 1.
        folds, groups, time: see `flashlogit.fitting.folds.make_folds`. With folds a model of each penalty is fitted for
            each of them.
        sample_weight: [N], at least 0.
        intercept: whether b is free, else it is 0. It is not penalised.
        standardize: whether the penalty is on weights of columns scaled to a standard deviation of 1 over the model's
            own training rows. Coefficients are those of the columns as they are, all the same.
        classes: C of all targets; default: for each target 2, or what its largest label asks for.
        targets: [T] names; default y, or y0, y1, ...
        select: by the least mean held-out loss, or the strongest penalty within one standard error of it.
        refit: whether to fit the chosen penalty on all rows.
        tolerance: on each duality gap relative to the intercept-only model's objective.
        max_iterations: evaluations of each model, at most.
        seed: of random folds.
        backend: as for `flashlogit.fit`.
        on_done: called with the number of models that are done, and of all.

    Raises:
        UserError: a backend that cannot be had.
        ValueError: an argument outside of these bounds, naming it, or values of X that are not finite.
        TypeError: a dtype that cannot be used.
    """
    began, compiled = clock.perf_counter(), compile_seconds()
    X = check_matrix(torch.as_tensor(X))
    codes, names, largest = _codes(Y, X, targets)
    penalties, penalty = _penalties(l2, C, l1_ratio)
    host = [None if each is None else np.asarray(each) for each in (groups, time)]
    of_folds = make_folds(folds, codes, groups=host[0], time=host[1], seed=seed)
    s = _weights(sample_weight, X)
    if not math.isfinite(tolerance) or not 0 < tolerance < 1:
        raise ValueError(f"tolerance is {tolerance}; must be above 0 and below 1")
    if select not in ("best", "one_standard_error"):
        raise ValueError(f"select is {select!r}; must be 'best' or 'one_standard_error'")
    task = _Task(
        X,
        codes,
        s,
        choose_backend(backend, X.device),
        l1_ratio=float(l1_ratio),
        by_C=penalty == "C",
        intercept=intercept,
        standardize=standardize,
        tolerance=tolerance,
        iterations=max_iterations,
    )
    counts = [_class_count(most, name, classes) for most, name in zip(largest, names, strict=True)]
    total = len(names) * len(penalties) * of_folds.count
    scored = bool((of_folds.held != NO_FOLD).all())
    total += len(names) if scored and refit else 0
    task.told = None if on_done is None else lambda done: on_done(done, total)
    found: dict[str, TargetFits] = {}
    for size in sorted(set(counts)):
        these = [t for t, count in enumerate(counts) if count == size]
        fits = task.solve(these, [names[t] for t in these], size, penalties[None].repeat(len(these), 0), of_folds)
        if scored:
            chosen = [_choose(of, select) for of in fits]
            fits = [replace(of, best=best) for of, best in zip(fits, chosen, strict=True)]
            if refit:
                fits = task.refit(these, fits, size, penalties)
        found |= {of.name: of for of in fits}
    compiling = compile_seconds() - compiled
    return ManyFits(
        targets={name: found[name] for name in names},
        penalties=penalties,
        penalty=penalty,
        l1_ratio=float(l1_ratio),
        folds=of_folds if scored else None,
        passes=task.passes,
        seconds=clock.perf_counter() - began - compiling,
        compile_seconds=compiling,
        bytes_read=task.passes * X.numel() * X.element_size(),
        tolerance=tolerance,
    )


class _Task:
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
    ) -> None:
        self.X, self.codes, self.weight, self.backend = X, codes, sample_weight, backend
        self.l1_ratio, self.by_C, self.intercept, self.standardize = l1_ratio, by_C, intercept, standardize
        self.tolerance, self.iterations = tolerance, iterations
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
        together = present[(l1[present] == 0) & (l2[present] > 0)] if not small else present[:0]
        waiting = set() if small else set(present.tolist())
        if len(together):
            scales = self._variances(models, together) if self.standardize else 1.0
            of_rows = Counts(counts.training[together], counts.held[together])
            objectives = ModelObjectives.of(
                self.X,
                models.chosen(torch.from_numpy(together).to(self.X.device)),
                l2[None, together] * scales,
                of_rows,
                passes=self.backend.passes,
                program=self.backend.models_program,
                intercept=self.intercept,
            )
            proves = np.flatnonzero(objectives.provable(self.tolerance))
            if len(proves):
                objectives, together = objectives.chosen(proves), together[proves]
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
        loss, accuracy, area = self._scores(models, W, b, present)
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
        first = self.X[0].double()
        mass = first.new_zeros(len(targets))
        total, squares = (first.new_zeros((len(targets), len(first))) for _ in range(2))
        for rows, block in row_blocks(self.X, torch.float64, center=first):
            e = models.folds[:, rows][columns.long()]
            trains = (e < held[:, None]) if models.ordered else (e != held[:, None])
            trains = (trains & (models.codes[:, rows][targets.long()] != MISSING)).double()
            if self.weight is not None:
                trains = trains * self.weight[rows].double()
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
                X = (X / scale.to(X.dtype)).to(X.dtype)
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
        mask = (codes != MISSING) & ((e < held) if models.ordered else (e != held))
        return mask, torch.where(codes == MISSING, 0, codes)

    def _scores(
        self, models: Models, W: Tensor, b: Tensor, present: NDArray[np.int64]
    ) -> tuple[Floats, Floats, Floats]:
        """Return mean loss, accuracy and area under the ROC curve of the rows held out from each model, [K] each, NaN
        where there are none; the area for two classes only. It reads each fold's rows once for a block of models."""
        K, C = models.count, models.classes
        loss, accuracy, area = (np.full(K, np.nan) for _ in range(3))
        columns, held = models.fold_of.cpu().numpy(), models.held.cpu().numpy()
        if (held[present] == NO_FOLD).all():
            return loss, accuracy, area
        s = None if self.weight is None else self.weight.double().cpu().numpy()
        codes = models.codes.cpu().numpy()
        targets = models.target_of.cpu().numpy()
        read = 0
        for column, h in sorted({(int(columns[k]), int(held[k])) for k in present}):
            rows = torch.nonzero(models.folds[column] == h)[:, 0]
            if not len(rows):
                continue
            these = present[(columns[present] == column) & (held[present] == h)]
            some = max(1, _SCORED_LOGITS // (len(rows) * C))
            X, on_host = self.X, rows.cpu().numpy()
            weight = None if s is None else s[on_host]
            for begin in range(0, len(these), some):
                block = these[begin : begin + some]
                at, bias = W[:, :, block].reshape(len(W), -1), b[:, block].reshape(-1)
                z = torch.cat([torch.addmm(bias, x, at) for _, x in row_blocks(X, torch.float64, rows=rows)])
                logits = z.cpu().numpy().reshape(-1, C, len(block))
                read += len(rows)

                def score(
                    place: int, block: Any = block, logits: Any = logits, at: Any = on_host, s: Any = weight
                ) -> None:
                    k = block[place]
                    y = codes[targets[k], at]
                    known = y != MISSING if s is None else (y != MISSING) & (s > 0)
                    if known.any():
                        of = None if s is None else s[known]
                        loss[k], accuracy[k], area[k] = _score(logits[known, :, place], y[known], of)

                share(score, len(block))
        self.passes += read / len(self.X)
        return loss, accuracy, area


def _score(z: Floats, y: NDArray[np.uint8], weight: Floats | None) -> tuple[float, float, float]:
    """Return mean loss, accuracy and area under the ROC curve of logits [n, C]; no area for a softmax, or one class."""
    if z.shape[1] > 1:
        own = np.take_along_axis(z, y[:, None].astype(np.int64), axis=1)[:, 0]
        losses, right = logsumexp(z) - own, z.argmax(axis=1) == y
        return float(np.average(losses, weights=weight)), float(np.average(right, weights=weight)), math.nan
    z = z[:, 0]
    positive = y == 1
    losses = np.logaddexp(0.0, np.where(positive, -z, z))
    areas = rank(np.ascontiguousarray(z), positive, weight).areas
    found = np.average(losses, weights=weight), np.average((z > 0) == positive, weights=weight)
    return float(found[0]), float(found[1]), math.nan if areas is None else areas[0]


def _codes(Y: Any, X: Tensor, names: Sequence[str] | None) -> tuple[Tensor, list[str], list[int]]:
    """Return labels as bytes on the device of X, [T, N], the targets' names, and each one's largest label."""
    Y = torch.as_tensor(Y).detach().to(X.device)
    N = len(X)
    if Y.ndim not in (1, 2) or len(Y) != N or Y.numel() == 0 or Y.is_complex():
        raise ValueError(f"Y is {list(Y.shape)} of {Y.dtype}; must be [{N}] or [{N}, T] numbers, a row for each of X's")
    Y = Y.reshape(N, -1).t()
    T = len(Y)
    found = ["y"] if T == 1 and names is None else [f"y{t}" for t in range(T)] if names is None else list(names)
    if len(found) != T or len(set(found)) != T:
        raise ValueError(f"targets is {found}; must be {T} different names, one for each column of Y")
    known = ~Y.isnan()
    counted = torch.where(known, Y, 0)
    wrong = (counted < 0) | (counted >= MISSING) | (counted != counted.floor()) if Y.is_floating_point() else None
    if wrong is None:
        wrong = (counted < 0) | (counted >= MISSING) if Y.dtype != torch.bool else torch.zeros_like(Y)
    if bool(wrong.any()):
        t, row = wrong.nonzero()[0].tolist()
        value = float(Y[t, row])
        raise ValueError(f"target {found[t]} has the label {value:g}; must be whole numbers from 0 to {MISSING - 1}")
    codes = counted.to(torch.uint8)
    some, largest = known.any(dim=1).tolist(), codes.amax(dim=1).tolist()
    if not all(some):
        raise ValueError(f"target {found[some.index(False)]} has no label; must have some")
    return torch.where(known, codes, MISSING).contiguous(), found, largest


def _class_count(largest: int, name: str, classes: int | None) -> int:
    """Return C of a target with this largest label."""
    most = max(2, largest + 1)
    if classes is not None and not most <= classes <= MISSING:
        raise ValueError(f"classes is {classes}; must be {most} to {MISSING} for target {name}")
    return most if classes is None else classes


def _penalties(l2: Any, C: Any, l1_ratio: float) -> tuple[Floats, Literal["l2", "C"]]:
    """Return the penalties, ascending, and what they are."""
    if l2 is not None and C is not None:
        raise ValueError("l2 and C are both given; each sets the penalties: give one")
    if not (isinstance(l1_ratio, int | float) and 0 <= l1_ratio <= 1):
        raise ValueError(f"l1_ratio is {l1_ratio!r}; must be from 0 to 1")
    name: Literal["l2", "C"] = "l2" if C is None else "C"
    given = np.logspace(-6, 2, 20) if l2 is None and C is None else np.atleast_1d(np.asarray(l2 if C is None else C))
    values = np.unique(given.astype(np.float64))
    # An infinite C is no penalty.
    finite = np.isfinite(values) | ((name == "C") & (values == math.inf))
    if given.ndim != 1 or not len(values) or not (finite.all() and values[0] >= 0):
        raise ValueError(f"{name} is {given.tolist()}; must be numbers of at least 0, and finite")
    if name == "C" and values[0] == 0:
        raise ValueError("C is 0 for some models; must be above 0")
    return values, name


def _weights(sample_weight: Any, X: Tensor) -> Tensor | None:
    """Return the weights on the device of X, float32 or float64."""
    if sample_weight is None:
        return None
    s = torch.as_tensor(sample_weight).detach().to(X.device)
    s = s if s.dtype in (torch.float32, torch.float64) else s.double()
    if s.shape != (len(X),):
        raise ValueError(f"sample_weight is {list(s.shape)}; must be [{len(X)}]")
    check_weights(negative=not bool((s >= 0).all()), total=float(s.sum()))
    return s.contiguous()


def _choose(of: TargetFits, select: Selection) -> int | None:
    """Return the place of the penalty with the least mean held-out loss, or of the strongest within one standard error
    of it."""
    mean = of.mean_loss
    if not np.isfinite(mean).any():
        return None
    best = int(np.nanargmin(mean))
    if select == "best" or not math.isfinite(of.standard_error[best]):
        return best
    good = np.flatnonzero(mean <= mean[best] + of.standard_error[best])
    strength = (of.l1 + of.l2).mean(axis=1)
    return int(good[np.argmax(strength[good])])
