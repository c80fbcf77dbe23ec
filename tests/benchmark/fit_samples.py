"""Contenders and reports made by hand for tests of `fit`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from flashlogit.benchmark.fit_contender import Contender, Ladder, Rung, Solution
from flashlogit.benchmark.fit_ladder import Race, Rules
from flashlogit.benchmark.fit_problems import FitProblem
from flashlogit.benchmark.fit_report import ContenderRecord, FitReport, ProblemRecord, RungRecord
from flashlogit.benchmark.fit_truth import Truth, reference_optimum


def small_problem(n: int = 400, d: int = 5, seed: int = 0) -> FitProblem:
    generator = torch.Generator().manual_seed(seed)
    X = torch.randn((n, d), generator=generator)
    p = torch.sigmoid(X @ torch.linspace(-1, 1, d) + 0.3)
    return FitProblem("small", X, (torch.rand(n, generator=generator) < p).to(torch.uint8))


def truth_of(problem: FitProblem, C: float = 1.0) -> Truth:
    return Truth(problem.X.numpy(), problem.y.numpy(), 1 / (C * problem.n))


class FakeClock:
    """Time that passes only while a fake contender runs."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class FakeRace(Race):
    """A race over a small problem, with settings that say how long they take and which gap they reach."""

    def __init__(self, **rules: Any) -> None:
        self.clock = FakeClock()
        self.truth = truth_of(small_problem())
        self.optimum = reference_optimum(self.truth)
        self.calls: list[str] = []
        merged = {"gap": 1e-8, "repeats": 3, "limit": 60.0, **rules}
        super().__init__(self.truth, Rules(**merged), self.optimum.value, self.clock)

    def rung(self, setting: str, ms: float, gap: float, headline: bool = False) -> Rung:
        """A setting that takes as long, and ends with about this relative gap."""

        def run() -> Solution:
            self.calls.append(setting)
            self.clock.seconds += ms / 1e3
            return Solution(self.optimum.weight, self.optimum.bias + self._shift(gap), passes=3.0)

        return Rung(setting, run, headline)

    def contender(self, name: str, *rungs: Rung, **changes: Any) -> Contender:
        content = {"family": "fake", "device": "cpu", "ladders": [Ladder("float64", rungs)], **changes}
        return Contender(name, **content)

    def _shift(self, gap: float) -> float:
        """Of the intercept: P grows by half its curvature times the square."""
        theta = np.append(self.optimum.weight, self.optimum.bias)
        curvature = self.truth.derivatives(theta)[1][-1, -1]
        return float(np.sqrt(2 * gap * self.truth.null / curvature))


def failing(error: Exception) -> Callable[[], Solution]:
    def run() -> Solution:
        raise error

    return run


def make_rung(
    setting: str = "tol 1e-08", ms: float = 2.0, gap: float | None = 1e-9, **changes: Any
) -> RungRecord:
    content: dict[str, Any] = {
        "variant": "float64",
        "setting": setting,
        "headline": False,
        "ms": ms,
        "q25_ms": 0.99 * ms,
        "q75_ms": 1.01 * ms,
        "calls": 5,
        "in_turn": True,
        "objective": 0.5,
        "gap": gap,
        "passes": None,
        "iterations": 7,
        "solver": "",
    }
    return RungRecord(**content | changes)


def make_contender(name: str, *rungs: RungRecord, **changes: Any) -> ContenderRecord:
    content: dict[str, Any] = {
        "name": name,
        "family": name.split()[0],
        "device": "cpu",
        "ours": name.startswith("flashlogit"),
        "status": "ok",
        "chosen": len(rungs) - 1 if rungs else None,
        "rungs": rungs,
    }
    return ContenderRecord(**content | changes)


def make_fit_report(*contenders: ContenderRecord, **changes: Any) -> FitReport:
    problem = ProblemRecord("small", 400, 5, 1.0, 1 / 400, 0.69, 0.5, "reference", None, contenders)
    content: dict[str, Any] = {
        "date": "2026-01-02T03:04:05+00:00",
        "method": "by hand",
        "machine": {"cpu": "Some CPU", "cores": 2, "threads": 2, "ram_bytes": 1 << 34, "gpu": None},
        "software": {"python": "3.11.0", "flashlogit": "0.1.0", "torch": "2.11.0", "triton": None},
        "settings": {"devices": ["cpu"], "gap": 1e-8, "limit": 60.0},
        "complete": True,
        "problems": (problem,),
    }
    return FitReport(**content | changes)
