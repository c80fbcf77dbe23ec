"""The part of a run that solves many models over the training rows: the penalties and folds of `grid`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from flashlogit_kernels.models import MOST_CLASSES

from ..config.grid import GridSettings
from ..config.settings import SolverSettings
from ..data.dataset import RowOrigins, Rows
from ..data.files.tables import from_numpy, from_text
from ..fitting.folds import Folds, make_folds
from ..fitting.many import ManyFits, fit_many
from ..metrics.scores import expit, softmax
from ..reference import row_blocks
from ..report.grid import GridReport, named
from ..system.errors import UserError, rows_text
from .results import Interrupted, ProgressBar, RunTask, column_deviation

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Grid:
    """The models of a grid, solved, and a penalty chosen for each target."""

    task: RunTask
    settings: GridSettings
    origins: RowOrigins
    labels: Floats
    """[N, T], NaN where one is missing."""
    classes: Mapping[str, tuple[str, ...]]
    """Names of each target's classes."""
    fits: ManyFits

    def report(self, target: str) -> GridReport:
        """Return what is told of a target."""
        dataset = self.task.dataset
        return GridReport.of(
            self.fits,
            target,
            select=self.settings.select,
            along=self.origins.kind,
            deviation=column_deviation(dataset) / dataset.standardization.scale,
            columns=dataset.feature_names,
            classes=self.classes[target],
        )

    def models(self) -> pa.Table:
        """Return a row for each target, penalty and fold, the folds counted from 1; what is undefined is null."""
        rows = [named(row) for row in self.fits.rows()]
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        return pa.table({name: pa.array(values, from_pandas=True) for name, values in columns.items()})

    def out_of_fold_logits(self) -> dict[str, Floats]:
        """Return for each target the logit [N], or logits [N, C], of each training row by the model of the chosen
        penalty that has not seen it, NaN for rows that no fold holds out. X is read once for all targets."""
        chosen = {}
        for name, of in self.fits.items():
            assert of.best is not None
            chosen[name] = of.weight[of.best], of.bias[of.best]
        fold = self._fold()
        return linear_logits(self.task.dataset.train.X, chosen, pick=fold)

    def out_of_fold(self, logits: Mapping[str, Floats]) -> Iterator[tuple[str, pa.Table]]:
        """Yield for each target a row for each training row that has a label: its number in the file, its fold, label,
        and the out-of-fold logit and probability. These and the fold are null for rows that no fold holds out: the
        earliest, where folds follow time."""
        fold = self._fold()
        for t, (name, z) in enumerate(logits.items()):
            y, classes = self.labels[:, t], self.classes[name]
            columns = {"row": from_numpy(self.origins.number), "fold": pa.array(fold + 1, mask=fold < 0)}
            columns["label"] = from_text(classes).take(pa.array(np.nan_to_num(y).astype(np.int64)))
            if z.ndim == 1:
                values = {"logit": z, "probability": expit(z)}
            else:
                p = softmax(z)
                values = {f"logit_{each}": z[:, k] for k, each in enumerate(classes)}
                values |= {f"probability_{each}": p[:, k] for k, each in enumerate(classes)}
            columns |= {key: pa.array(each, from_pandas=True) for key, each in values.items()}
            yield name, pa.table(columns).filter(pa.array(~np.isnan(y)))

    def _fold(self) -> NDArray[np.int64]:
        """Return the number of the fold that holds out each row [N], or -1."""
        folds = self.fits.folds
        assert folds is not None
        numbers = np.full(len(self.labels), -1)
        for fold in range(folds.count):
            numbers[folds.test(fold)] = fold
        return numbers


def solve_grid(
    task: RunTask, rows: Rows, labels: Floats, classes: Mapping[str, tuple[str, ...]], *, refit: bool
) -> Grid:
    """Solve all models of the run's grid and choose a penalty for each target.

    Args:
        task: a run with sections `grid` and `solver`, whose data set has `origins`.
        rows: the training rows, with the weights that training gives them.
        labels: [N, T] class numbers, NaN where one is missing.
        classes: by name of each of the T targets the names of its classes.
        refit: whether to fit each target's chosen penalty to all rows.

    Raises:
        UserError: folds that these rows do not have, or that leave a model without one of its classes.
        Interrupted: Ctrl-C or a signal; nothing of the grid is kept.
    """
    settings, origins = task.settings.grid, task.dataset.origins
    assert settings is not None
    assert origins is not None
    _require_folds(task, settings, origins, labels, rows, classes)
    along = {} if origins.kind is None else {"groups" if origins.kind == "group" else "time": origins.along}
    # The penalty is on the columns' deviations over the rows that train a model, as that of a run is. With weights
    # those of the run are still the plain ones, which fits of weighted rows would not take: there the columns stay
    # as they are, and only their scale, no label, is known from the rows that are held out.
    standardized = bool((task.dataset.standardization.scale != 1).any()) and rows.sample_weight is None
    fits = solve_many(
        task,
        rows,
        labels,
        list(classes),
        l2=settings.penalties,
        l1_ratio=settings.l1_ratio,
        folds=settings.folds,
        standardize=standardized,
        select=settings.select,
        refit=refit,
        seed=task.settings.seed,
        **along,
    )
    for name, of in fits.items():
        if of.best is None:
            problem = f"without a penalty {name} has no optimum in some fold, where its classes are separated"
            raise UserError(problem, setting="grid.l2", value=settings.l2, remedy="take penalties above 0")
    return Grid(task, settings, origins, labels, classes, fits)


def solve_many(task: RunTask, rows: Rows, labels: Floats, targets: Sequence[str], **options: Any) -> ManyFits:
    """Return `fit_many` of the training rows with the run's solver settings and `options`, under a progress bar that
    counts finished models.

    Raises:
        UserError: data that no fit can take.
        Interrupted: Ctrl-C or a signal.
    """
    solver = task.settings.solver
    assert isinstance(solver, SolverSettings)
    reached = "before any model was done"
    with ProgressBar(task, unit=" models", total=0) as bar:

        def show(done: int, total: int) -> None:
            nonlocal reached
            reached = f"after {done:,} of {total:,} models"
            bar.total = total
            bar.update(done - bar.n)

        try:
            return fit_many(
                rows.X,
                labels,
                targets=targets,
                sample_weight=rows.sample_weight,
                backend=task.backend.name,
                on_done=show,
                **solver.model_dump(include={"intercept", "tolerance", "max_iterations"}),
                **options,
            )
        except KeyboardInterrupt:
            raise Interrupted(f"interrupted {reached}; --resume starts them again") from None
        except ValueError as error:
            raise UserError(str(error)) from error


def _require_folds(
    task: RunTask,
    settings: GridSettings,
    origins: RowOrigins,
    labels: Floats,
    rows: Rows,
    classes: Mapping[str, tuple[str, ...]],
) -> None:
    """Raise UserError where the rows have too few groups, times or rows for the folds, or a fold's training rows lack a
    class of a target, or its held-out rows a label."""
    wanted = settings.folds
    if origins.along is not None:
        kind, count = origins.kind, len(np.unique(origins.along))
        most = count if kind == "group" else count - 1
        what = "groups" if kind == "group" else "times, of which the first is held out by none"
        what = f"the training rows have {count} {what}"
    else:
        most, what = len(labels), f"there are {rows_text(len(labels))} to train on"
    if wanted > most:
        remedy = f"set it to at most {most}" if most >= 2 else "leave out the section grid"
        raise UserError(what, setting="grid.folds", value=wanted, remedy=remedy)
    folds = _folds(task, settings, origins, labels)
    mass = None if rows.sample_weight is None else rows.sample_weight.double().cpu().numpy()
    of_target = "of {} " if len(classes) > 1 else ""
    counted = ~np.isnan(labels) if mass is None else ~np.isnan(labels) & (mass > 0)[:, None]
    for fold in range(folds.count):
        train, test = folds.train(fold), folds.test(fold)
        for t, (name, names) in enumerate(classes.items()):
            of, problem = of_target.format(name), ""
            if not counted[test, t].any():
                has = rows_text(counted[:, t].sum())
                problem = (
                    f"fold {fold + 1} holds out no row with a label {of}and a positive weight, of which there are {has}"
                )
            elif (lacking := lacks(np.where(train, labels[:, t], np.nan), mass, names)) is not None:
                problem = f'the rows that train the models {of}of fold {fold + 1} have none of the class "{lacking}"'
            if problem:
                remedy = "take fewer folds, leave out the section grid" + (f", or {name}" if of else "")
                raise UserError(problem, setting="grid.folds", value=wanted, remedy=remedy)


def lacks(labels: Floats, mass: Floats | None, names: Sequence[str]) -> str | None:
    """Return the name of a class of which rows with labels [N], NaN for none, and weights [N] have no row; or None."""
    known = ~np.isnan(labels)
    found = np.bincount(labels[known].astype(np.int64), None if mass is None else mass[known], minlength=len(names))
    return None if found.all() else names[int(np.argmin(found))]


def _folds(task: RunTask, settings: GridSettings, origins: RowOrigins, labels: Floats) -> Folds:
    """Return the folds as `fit_many` makes them."""
    of_kind = {kind: origins.along if origins.kind == kind else None for kind in ("group", "time")}
    codes = torch.from_numpy(np.where(np.isnan(labels), MOST_CLASSES, labels).T.astype(np.int16))
    try:
        return make_folds(settings.folds, codes, groups=of_kind["group"], time=of_kind["time"], seed=task.settings.seed)
    except ValueError as error:
        raise UserError(str(error), setting="grid.folds", value=settings.folds) from error


def linear_logits(
    X: Tensor, parameters: Mapping[str, tuple[Tensor, Tensor]], pick: NDArray[np.int64] | None = None
) -> dict[str, Floats]:
    """Return X w + b in float64 for several models by name, each [N], or [N, C], in one read of X.

    Args:
        X: [N, D].
        parameters: weight [D] and bias [], or [C, D] and [C]; with `pick` [F, D] and [F], or [F, C, D] and [F, C].
        pick: [N], which of F models is each row's, or -1 for none: the result is NaN.
    """
    W = torch.cat([weight.reshape(-1, weight.shape[-1]) for weight, _ in parameters.values()]).t().contiguous()
    b = torch.cat([bias.reshape(-1) for _, bias in parameters.values()])
    shapes = {name: bias.shape if pick is None else bias.shape[1:] for name, (_, bias) in parameters.items()}
    found = {name: np.full((len(X), *shape), np.nan) for name, shape in shapes.items()}
    for place, block in row_blocks(X, torch.float64):
        z, first = torch.addmm(b, block, W).cpu().numpy(), 0
        for name, (_, bias) in parameters.items():
            of_model = z[:, first : first + bias.numel()].reshape(len(z), *bias.shape)
            first += bias.numel()
            if pick is None:
                found[name][place] = of_model
            else:
                here = np.flatnonzero(pick[place] >= 0)
                found[name][place][here] = of_model[here, pick[place][here]]
    return found
