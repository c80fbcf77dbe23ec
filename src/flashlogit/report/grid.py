"""What a grid of penalties says to people: which penalty was chosen and why, and how coefficients grow as it falls."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from .coefficients import LARGEST
from .text import digits, plural

if TYPE_CHECKING:  # it imports solvers, which runs without a grid do not need
    from ..fitting.many import ManyFits

Floats = NDArray[np.float64]
_MOST_MODELS = 300
"""Models listed one by one on the page; grid.csv has all."""
MEASURED = {"held_out_loss": "Held-out loss", "accuracy": "Accuracy", "roc_auc": "ROC AUC"}
MEANS = {"penalty": "Penalty", **MEASURED, "standard_error": "Standard error of the loss"}
"""What the page's table has of each penalty, with the columns' heads."""
MODELS = {"penalty": "Penalty", "fold": "Fold", **MEASURED, "iterations": "Iterations"}
MODELS |= {"relative_gap": "Relative gap", "ending": "Ended by"}
"""What it has of each model."""


@dataclass(frozen=True)
class GridReport:
    """The models of one target, L penalties and F folds.

    Arrays [L]: penalty ascending; mean over the folds of held-out loss, its standard error, accuracy and ROC AUC, NaN
    where a fold has none. path [L, J]: mean over the folds of the J largest coefficients for a standard deviation of
    the column; their names are a column's, and a class's for more than two classes.
    """

    penalty: Floats
    held_out_loss: Floats
    standard_error: Floats
    accuracy: Floats
    roc_auc: Floats
    chosen: int
    """Place of the chosen penalty."""
    l1: float
    l2: float
    """The two parts of the chosen penalty."""
    select: Literal["best", "one_standard_error"]
    l1_ratio: float
    folds: int
    along: Literal["group", "time"] | None
    """What the folds follow; None for folds drawn at random."""
    targets: int
    models: int
    """All of the run."""
    passes: float
    seconds: float
    compile_seconds: float
    path: Floats = field(repr=False)
    names: tuple[tuple[str, ...], ...] = field(repr=False)
    coefficients: int
    """All that there are, of which the path has the J largest."""
    listed: tuple[dict[str, Any], ...] = field(repr=False)
    """The models one by one, with the keys of `MODELS`; empty where there are more than the page can show."""

    @classmethod
    def of(
        cls,
        fits: ManyFits,
        target: str,
        *,
        select: Literal["best", "one_standard_error"],
        along: Literal["group", "time"] | None,
        deviation: Floats,
        columns: tuple[str, ...],
        classes: tuple[str, ...],
    ) -> GridReport:
        """Return what is told of one target, for which a penalty was chosen.

        Args:
            fits: of all targets.
            target: its name.
            select, along: as they were asked for.
            deviation: [D], standard deviations of the columns in the units of the coefficients.
            columns: their names.
            classes: names of the target's classes.
        """
        of = fits[target]
        assert of.best is not None
        assert fits.folds is not None
        coefficients = of.weight.mean(dim=1).cpu().numpy() * deviation
        coefficients = coefficients.reshape(len(fits.penalties), -1)
        largest = np.argsort(-np.abs(coefficients[of.best]), kind="stable")[:LARGEST]
        largest = largest[np.abs(coefficients[:, largest]).max(axis=0) > 0]
        places = [divmod(int(j), len(columns)) for j in largest]
        names = [(columns[j], classes[k]) if of.classes > 2 else (columns[j],) for k, j in places]
        rows = [named(row) for row in fits.rows() if row["target"] == target] if of.l2.size <= _MOST_MODELS else []
        return cls(
            penalty=fits.penalties,
            held_out_loss=of.mean_loss,
            standard_error=of.standard_error,
            accuracy=np.asarray(of.accuracy.mean(axis=1)),
            roc_auc=np.asarray(of.roc_auc.mean(axis=1)),
            chosen=of.best,
            l1=float(fits.l1_ratio * fits.penalties[of.best]),
            l2=float((1 - fits.l1_ratio) * fits.penalties[of.best]),
            select=select,
            l1_ratio=fits.l1_ratio,
            folds=fits.folds.count,
            along=along,
            targets=len(fits),
            models=sum(each.l2.size for each in fits.values()),
            passes=fits.passes,
            seconds=fits.seconds,
            compile_seconds=fits.compile_seconds,
            path=coefficients[:, largest],
            names=tuple(names),
            coefficients=coefficients.shape[1],
            listed=tuple(rows),
        )

    @property
    def least(self) -> int:
        """Place of the least mean held-out loss."""
        return int(np.nanargmin(self.held_out_loss))

    @property
    def parts(self) -> str:
        """The chosen penalty as a setting, which can be copied: `l2 = 0.01`."""
        return f"l1 = {self.l1:.4g}, l2 = {self.l2:.4g}" if self.l1_ratio else f"l2 = {self.l2:.4g}"

    @property
    def sentence(self) -> str:
        """One sentence on what was chosen, and why."""
        at = f"{digits(float(self.held_out_loss[self.chosen]))} ± {digits(float(self.standard_error[self.chosen]), 2)}"
        if self.select == "best":
            why = f"has the least mean held-out loss, {at} nats"
        else:
            least = digits(float(self.held_out_loss[self.least]))
            why = (
                f"is the strongest within one standard error of the least mean held-out loss, {least}: it has {at} nats"
            )
        return f"{self.parts} {why}"

    @property
    def work(self) -> str:
        """How many models were solved, and what they took."""
        targets = f"{plural(self.targets, 'target')} × " if self.targets > 1 else ""
        kinds = {None: "", "group": " that keep groups together", "time": " in the order of time"}
        return (
            f"{targets}{plural(len(self.penalty), 'penalty', 'penalties')} × {plural(self.folds, 'fold')}"
            f"{kinds[self.along]} = {plural(self.models, 'model')}, solved in {digits(self.seconds, 3)} s and"
            f" {self.passes:.0f} passes over the training rows"
        )

    @property
    def ends(self) -> str:
        """A warning where the chosen penalty is the first or last of several, else nothing."""
        if len(self.penalty) < 2 or 0 < self.least < len(self.penalty) - 1:
            return ""
        end, further = ("strongest", "stronger") if self.least else ("weakest", "weaker")
        return f"the least held-out loss is that of the {end} penalty tried: {further} ones may do better"

    @property
    def means(self) -> list[dict[str, float]]:
        """Return a row for each penalty, with the keys of `MEANS`."""
        columns = (getattr(self, name).tolist() for name in MEANS)
        return [dict(zip(MEANS, row, strict=True)) for row in zip(*columns, strict=True)]

    def to_json(self) -> dict[str, Any]:
        """Return `grid` of metrics.json; None for what is undefined."""
        rows = [{name: value if math.isfinite(value) else None for name, value in row.items()} for row in self.means]
        same = ("l1", "l2", "select", "l1_ratio", "folds", "along", "models", "passes", "seconds", "compile_seconds")
        chosen = {"chosen": float(self.penalty[self.chosen])}
        return chosen | {name: getattr(self, name) for name in same} | {"penalties": rows}


def named(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of `ManyFits.rows` with the names of grid.csv and its fold counted from 1."""
    names = {"l2": "penalty", "held_loss": "held_out_loss"}
    return {names.get(name, name): value for name, value in row.items()} | {"fold": row["fold"] + 1}
