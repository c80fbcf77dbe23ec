"""The command `l1`: how long fits with an l1 term take beside liblinear, saga, skglm and celer, to a gap of 1e-7.

Tables of standard normal columns, float64, C = 1. A contender's time is its least of several calls, taken in turn with
the others', at the loosest of its tolerances with which the objective is within 1e-7 of the null model's of the
smallest one known. Celer has no intercept, and is compared without one. Column-major data are given to those that take
them, and making them so is not timed.
"""

import argparse
import importlib.util
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

GAP = 1e-7
SHAPES = ((60, 1500), (60, 2200), (200, 20_000), (10_000, 10), (20_000, 300))
TOLERANCES = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)


def table(N: int, D: int) -> tuple[Any, Any]:
    """Return X [N, D] and labels [N], of three columns where there are more columns than rows, else of a tenth."""
    rng = np.random.default_rng(3)
    X = rng.standard_normal((N, D))
    if N < D:
        return X, (X[:, :3].sum(axis=1) > 0).astype(int)
    w = np.zeros(D)
    w[: max(3, D // 10)] = rng.standard_normal(max(3, D // 10))
    return X, (X @ w + rng.logistic(size=N) > 0).astype(int)


def models(N: int) -> Iterator[tuple[str, bool, Callable[[float], Any]]]:
    """Yield name, whether there is an intercept, and what makes a model of a tolerance."""
    from sklearn.linear_model import LogisticRegression as ScikitLearn

    from flashlogit.estimator import LogisticRegression

    for intercept in (True, False):
        yield "flashlogit", intercept, lambda tol, i=intercept: LogisticRegression(l1_ratio=1, tol=GAP, fit_intercept=i)
    for solver in ("liblinear", "saga") if N >= 10_000 else ("liblinear",):
        options = {"l1_ratio": 1.0, "solver": solver, "max_iter": 10_000}
        scaling = {"intercept_scaling": 100} if solver == "liblinear" else {}
        yield f"scikit-learn {solver}", True, lambda tol, o={**options, **scaling}: ScikitLearn(tol=tol, **o)
    if importlib.util.find_spec("skglm"):
        from skglm import SparseLogisticRegression

        yield "skglm", True, lambda tol: SparseLogisticRegression(alpha=1 / N, tol=tol, max_iter=1000)
    if importlib.util.find_spec("celer"):
        from celer import LogisticRegression as Celer

        yield "celer", False, lambda tol: Celer(C=1.0, tol=tol, fit_intercept=False)


def objective(model: Any, X: Any, y: Any) -> float:
    """Return the mean loss plus the penalty."""
    w, b = model.coef_.ravel(), float(np.ravel(model.intercept_)[0]) if np.size(model.intercept_) else 0.0
    z = X @ w + b
    return float((np.logaddexp(0, z) - y * z).mean() + np.abs(w).sum() / len(y))


def measure(N: int, D: int, calls: int) -> list[tuple[str, bool, float]]:
    """Return name, intercept and milliseconds of each contender."""
    X, y = table(N, D)
    columns, found = np.asfortranarray(X), []
    for name, intercept, make in models(N):
        data = columns if name in ("skglm", "celer") else X
        ladder = [make(tol) for tol in (TOLERANCES if name != "flashlogit" else (GAP,))]
        found.append((name, intercept, data, ladder, [objective(model.fit(data, y), X, y) for model in ladder]))
    runs = []
    for name, intercept, data, ladder, values in found:
        best = min(min(each[4]) for each in found if each[1] == intercept)
        good = [model for model, value in zip(ladder, values, strict=True) if value - best <= GAP * np.log(2)]
        runs += [(name, intercept, partial(good[0].fit, data, y))] if good else []
    times: dict[int, float] = {}
    for _ in range(calls):
        for k, (_, _, run) in enumerate(runs):
            began = time.perf_counter()
            run()
            times[k] = min(times.get(k, np.inf), time.perf_counter() - began)
    return [(name, intercept, 1e3 * times[k]) for k, (name, intercept, _) in enumerate(runs)]


def main(arguments: list[str]) -> int:
    """Print a table, and flashlogit's times as shares of the best of the others'."""
    parser = argparse.ArgumentParser(prog="benchmark.py l1", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only the first table, twice")
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    for N, D in SHAPES[:1] if options.quick else SHAPES:
        found = measure(N, D, 2 if options.quick else 9 if N * D < 10**6 else 3)
        for intercept in (True, False):
            ours, *others = sorted((n != "flashlogit", ms, n) for n, i, ms in found if i == intercept)
            if others:
                said = ", ".join(f"{name} {ms:.1f}" for _, ms, name in others)
                ratio = ours[1] / others[0][1]
                free = "" if intercept else ", no intercept"
                print(f"{N:,} x {D:,}{free}: flashlogit {ours[1]:.1f} ms, {ratio:.2f} x the best of {said}", flush=True)
    return 0
