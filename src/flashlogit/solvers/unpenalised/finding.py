"""Separated classes as they are told to users: by the fewest columns, the most telling first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Tuning:
    """Which columns are named."""

    tie: float = 1e-3
    """Price of an intercept beside a weight in standard deviations: it decides between columns that cost the same."""
    negligible: float = 1e-6
    """Share of the largest coefficient in standard deviations below which one is not mentioned."""
    named: int = 3
    """Most columns that a message names."""


TUNING = Tuning()
PRECISE = {
    "presolve": False,  # it does not heed the limit: 23 s for 2,000 rows of 500 columns that are one category
    # The smallest that HiGHS accepts for a constraint and for a reduced cost.
    "primal_feasibility_tolerance": 1e-10,
    "dual_feasibility_tolerance": 1e-10,
}
"""Options of HiGHS."""


@dataclass(frozen=True, eq=False)
class Separation:
    """The classes are separated, or seem to be.

    `kind` is "suspected" where a fit's own course is the evidence, without proof. `evidence` is a part of a sentence.
    `weight` [D] float64 and `bias` are a direction in the units of X along which the loss falls for ever.
    `standardized` [D] float64 are weights times the columns' standard deviations: its own, or where columns are
    collinear those that give the same logits by the fewest columns, see `fewest_columns`. All on the CPU, None if
    unknown.
    """

    kind: Literal["complete", "quasi-complete", "suspected"]
    evidence: str
    weight: Tensor | None = None
    bias: float | None = None
    standardized: Tensor | None = None


def fewest_columns(standardized: Tensor, bias: float, null_space: Tensor, units: Tensor, mean: Tensor) -> Tensor:
    """Return the weights of the smallest sum of magnitudes among those that give the same logits, [D]; all float64 on
    the CPU.

    The columns of a one-hot group add up to 1, so that a number can move between all of their weights and the
    intercept: a single category that separates is a direction of all of them, until all but that one are 0. Where two
    choices are equal, that of the smaller intercept is taken: of the two columns of yes and no the one that separates.

    Args:
        standardized: [D] weights times `units`.
        bias: the intercept that goes with them, of columns that are not centred.
        null_space: [D, r] of weights that change no logit but for a constant, none of them of a constant column only.
        units: [D] standard deviations, 0 for a column to leave alone.
        mean: [D] of the columns.

    Returns:
        `standardized` itself where no columns are collinear, or the programme is not solved within two seconds.
    """
    from scipy.optimize import linprog

    free = null_space * units[:, None]
    scale = free.norm(dim=0)
    if not bool((scale > 0).any()):
        return standardized
    free, shift = free[:, scale > 0] / scale[scale > 0], -(mean @ null_space)[scale > 0] / scale[scale > 0]
    mixed = free.abs().amax(dim=1) > TUNING.negligible
    change = torch.cat([free[mixed], shift[None]]).numpy()
    size = float(standardized.abs().max())
    start = np.append(standardized[mixed].numpy(), bias) / max(size, 1e-300)
    m, r = change.shape
    result = linprog(
        np.r_[np.zeros(r), np.ones(m - 1), TUNING.tie],
        A_ub=np.block([[change, -np.eye(m)], [-change, -np.eye(m)]]),
        b_ub=np.r_[-start, start],
        bounds=[(None, None)] * r + [(0, None)] * m,
        method="highs",
        options={**PRECISE, "time_limit": 2.0},
    )
    if result.x is None:
        return standardized
    least: Tensor = standardized + size * (free @ torch.from_numpy(result.x[:r]))
    return least


def separation_message(separation: Separation, names: Sequence[str], l2: str = "l2") -> str:
    """Return, without a full stop, what was found, the columns that matter most in it, and the remedy.

    Args:
        separation: of a fit without a penalty.
        names: [D] of the columns of X.
        l2: the parameter that sets the penalty.
    """
    found, so = {
        "complete": ("are completely separated", "no finite optimum exists"),
        "quasi-complete": ("are quasi-completely separated", "no finite optimum exists"),
        "suspected": ("seem to be separated", "there may be no finite optimum"),
    }[separation.kind]
    return (
        f"the classes {found}{_leading_columns(separation, names)} ({separation.evidence}), so that {so}: add a"
        f" penalty ({l2}), or leave out columns that give the label away"
    )


def _leading_columns(separation: Separation, names: Sequence[str]) -> str:
    """Return "by ..." with the columns of the largest coefficients in standard deviations; nothing where they are
    unknown."""
    if separation.standardized is None:
        return ""
    size = separation.standardized.abs()
    order = size.argsort(descending=True, stable=True)
    columns = [f'"{names[j]}"' for j in order[size[order] > TUNING.negligible * size.max()].tolist()]
    named = _listed(columns[: TUNING.named])
    if len(columns) > TUNING.named:
        return f" by a combination of {len(columns):,} columns, above all {named}"
    return {0: "", 1: f" by column {named}"}.get(len(columns), f" by a combination of columns {named}")


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
