"""Is a contender's answer right? Checked before it is timed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .contenders import Contender
from .problem import Problem
from .truth import PassName, Truth, plain_float32, truth_of

FLOAT32_SHARE = 1e-7
"""Of the magnitude: what float32 arithmetic of ours may err by beyond plain float32 torch's own error."""
ROW_ROUNDING = 1e-6
"""What a row's own term of a Hessian, p (1 - p) x_i x_j from a float32 logit of size 10, may err by, relative to it.
Over n rows such errors shrink by sqrt(n), and with few rows plain torch's own error can be nil by luck."""
FLOAT64_SHARE = 1e-11
"""The same for float64 arithmetic, where plain torch's error is not added; 10^9 terms leave 2e-12 of noise."""
TORCH_SHARE, TORCH_16_BIT_SHARE = 1e-4, 1e-2
"""Loose bounds for torch's own ways, there to tell a broken one from one that is merely imprecise."""


@dataclass(frozen=True)
class Verdict:
    """How far off the answer's first part is (None where it is not finite), what was allowed, and what is wrong."""

    error: float | None
    allowed: float
    correct: bool
    reason: str = ""


class Checker:
    """Holds the answers to one problem against float64, computing each truth once."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._truths: dict[PassName, tuple[Truth, dict[str, float]]] = {}

    def check(self, contender: Contender, answer: Mapping[str, Tensor]) -> Verdict:
        """Judge every part of an answer; the first one's error is the one to report."""
        truth, plain = self._truth(contender.pass_name)
        verdicts = []
        for name, value in answer.items():
            error = relative_error(value.double() * contender.scale, name, truth)
            allowed = _allowed(contender, plain[name], self._problem.n)
            verdicts.append((name, error, allowed))
        bad = [_complaint(*verdict) for verdict in verdicts if not verdict[1] <= verdict[2]]
        _, error, allowed = verdicts[0]
        return Verdict(error if math.isfinite(error) else None, allowed, not bad, "; ".join(bad))

    def _truth(self, name: PassName) -> tuple[Truth, dict[str, float]]:
        if name not in self._truths:
            truth = truth_of(name, self._problem)
            plain = plain_float32(name, self._problem)
            self._truths[name] = truth, {part: relative_error(v, part, truth) for part, v in plain.items()}
        return self._truths[name]


def relative_error(value: Tensor, part: str, truth: Truth) -> float:
    """max |value - truth| / magnitude; NaN where the answer holds one or has another shape."""
    exact = truth.parts[part]
    if value.shape != exact.shape:
        return math.nan
    return float((value - exact).abs().max()) / truth.magnitudes[part]


def _allowed(contender: Contender, plain: float, rows: int) -> float:
    if not contender.ours:
        return TORCH_16_BIT_SHARE if getattr(torch, contender.arithmetic).itemsize == 2 else TORCH_SHARE
    if contender.arithmetic == "float64":
        return FLOAT64_SHARE
    share = FLOAT32_SHARE + (ROW_ROUNDING / math.sqrt(rows) if contender.pass_name == "hessian" else 0)
    # An error for which torch itself would be called wrong excuses nothing.
    return share + min(plain, TORCH_SHARE)


def _complaint(part: str, error: float, allowed: float) -> str:
    if not math.isfinite(error):
        return f"{part} is not finite or has the wrong shape"
    return f"{part} is off by {error:.1e}, {allowed:.1e} allowed"
