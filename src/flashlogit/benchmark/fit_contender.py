"""What a contender of `fit` is: ladders of settings, from loose to tight, each of which gives a solution."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from .fit_problems import FitProblem


@dataclass(frozen=True, eq=False)
class Solution:
    """weight [D] and bias, on the host.

    passes: reads of X, iterations: of the solver; None where the library does not say. solver: the one that ran, where
    the library chose it.
    """

    weight: NDArray[np.float64]
    bias: float
    passes: float | None = None
    iterations: int | None = None
    solver: str = ""


@dataclass(frozen=True, eq=False)
class Rung:
    """One setting of a contender. headline: the contender is judged by this one, not by its quickest."""

    setting: str
    run: Callable[[], Solution]
    headline: bool = False


@dataclass(frozen=True, eq=False)
class Ladder:
    """Settings of one variant (such as "float64") in order of tightness."""

    variant: str
    rungs: Sequence[Rung]


@dataclass(frozen=True, eq=False)
class Contender:
    """Somebody's solver on a device.

    note: what a reader must know about it, such as how it treats the intercept.
    compiles: whether it compiles when it is first called, which no time of ours includes.
    blas: whether it calls a BLAS whose threads can be limited, which is then tried too.
    """

    name: str
    family: str
    device: str
    ladders: Sequence[Ladder]
    ours: bool = False
    compiles: bool = False
    blas: bool = False
    note: str = ""


@dataclass(frozen=True)
class Absent:
    """Who cannot take part, and why."""

    name: str
    family: str
    device: str
    status: Literal["not installed", "skipped", "failed"]
    reason: str


Entrant = Contender | Absent


class FitData:
    """A problem as contenders want it: any dtype, memory order and device, made once each and never timed."""

    def __init__(self, problem: FitProblem, C: float) -> None:
        self.problem, self.C = problem, C
        self._made: dict[Hashable, Any] = {}

    @property
    def l2(self) -> float:
        """The penalty that scikit-learn's C stands for."""
        return 1.0 / (self.C * self.problem.n)

    def matrix(self, dtype: str = "float32", order: Literal["C", "F"] = "C") -> NDArray[Any]:
        """[N, D] in NumPy."""
        X = self.problem.X.numpy()
        found: NDArray[Any] = self.kept((dtype, order), lambda: np.asarray(X, dtype=dtype, order=order))
        return found

    def labels(self, dtype: str = "int64") -> NDArray[Any]:
        """[N] in NumPy."""
        y = self.problem.y.numpy()
        found: NDArray[Any] = self.kept(("y", dtype), lambda: y.astype(dtype))
        return found

    def tensors(
        self, device: str, X_dtype: torch.dtype, y_dtype: torch.dtype
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """X and y in torch."""
        X = self.kept(("X", device, X_dtype), lambda: self.problem.X.to(device, X_dtype))
        y = self.kept(("y", device, y_dtype), lambda: self.problem.y.to(device, y_dtype))
        return X, y

    def kept(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What `make` gave the first time."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


def tolerances(first: int, last: int) -> list[float]:
    """10^-first, ..., 10^-last."""
    return [10.0**-k for k in range(first, last + 1)]


def growing(first: int, last: int) -> list[int]:
    """1, 2, 5, 10, 20, ... from `first` to `last`: the next one costs at most two and a half times as much."""
    counts = (digit * 10**power for power in range(7) for digit in (1, 2, 5))
    return [count for count in counts if first <= count <= last]


def said(tolerance: float) -> str:
    """The tolerance as part of a setting: 1e-08."""
    return f"tol {tolerance:.0e}"


def ladder(variant: str, values: Sequence[float], run: Callable[[float, int], Solution]) -> Ladder:
    """A setting for each tolerance, which `run` gets with a limit of iterations that grows with it.

    A limit that is high at once would let the first setting of a contender that does not converge run for hours.
    """
    limits = [*growing(100, 10_000), *[10_000] * len(values)]
    return Ladder(
        variant,
        [Rung(said(value), partial(run, value, most)) for value, most in zip(values, limits, strict=False)],
    )


def solution(coefficients: Any, intercept: Any, iterations: Any = None, **known: Any) -> Solution:
    """From arrays of any shape, on the host, as scikit-learn and its like leave them."""
    weight = np.asarray(coefficients, dtype=np.float64).ravel()
    count = None if iterations is None else int(np.max(np.asarray(iterations)))
    return Solution(
        weight, float(np.asarray(intercept, dtype=np.float64).ravel()[0]), iterations=count, **known
    )
