"""What a whole fit of a small table gives, whoever makes it, and what ends one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

TOLERANCE, LIMIT, STALLED, REFUSED, UNSOUND = range(5)
"""How a fit ended: only the first with a proven gap, or without a penalty with classes that overlap beyond doubt, and
any other is for another method to go on from the beginning. UNSOUND: there is nothing to fit."""
TINY_ITERATIONS = 100
"""Most evaluations after the first."""
TRIALS = 60
"""Refusals in a row after which no smaller step will do either."""
PATIENCE = 8
"""Points in a row that may fail to lower the best gap by a tenth."""
NO_CURVATURE = 1e-10
"""Smallest pivot of a Hessian with about ones on its diagonal that is not taken for rounding."""
NO_FLOAT32_CURVATURE = 1e-5
"""The same of an unpenalised one whose tiles are products in float32: what a penalty would add is missing."""
FLAT = 0.05
"""Share of the null model's curvature in some direction from which on an unpenalised optimum may be at infinity: a
direction that the data leave free loses its curvature step by step."""
FARTHEST_SHIFT = 0.5
"""Largest shift of the intercept, in nats of its logit, by which residuals are corrected in a certificate; beyond it
only P* >= 0 is claimed."""
NUMBERS = 8
"""Numbers of a record before its points."""
ROW = 5
"""Numbers of a point."""


@dataclass(frozen=True)
class TinyFits:
    """What was found of M problems: weight [M, D] and bias [M] float64 in the units of X, of a softmax [M, K, D] and
    [M, K], and a record [M, n] float64.

    A record has the ending, P, gap and null model's P in nats, the evaluations after the first, the number of accepted
    points, and the squared errors and sizes of the columns, as `flashlogit.objectives.coordinates` has them; then for
    each of up to `TINY_ITERATIONS` + 1 accepted points the evaluations before it, P, gap, |gradient| and the length of
    the step that led there.
    """

    weight: Tensor
    bias: Tensor
    record: Tensor

    @classmethod
    def empty(cls, X: Tensor, problems: int) -> TinyFits:
        """Return those of so many problems over X, on its device, whose numbers are to be written."""
        shapes = (problems, X.shape[1]), (problems,), (problems, NUMBERS + (TINY_ITERATIONS + 1) * ROW)
        return cls(*(X.new_empty(shape, dtype=torch.float64) for shape in shapes))


def problems(rows: Tensor | None) -> int:
    """Return M of row numbers [M, places], or 1 of numbers [places] or of all rows."""
    return len(rows) if rows is not None and rows.dim() > 1 else 1
