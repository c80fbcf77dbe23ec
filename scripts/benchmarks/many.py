"""The command `many`: many models for one read of X, beside scikit-learn's and beside single fits, one after the other.

Tables of standard normal columns in float32; the gap asked for is 1e-6 of the intercept-only model's objective. The
others make a share of the models, whose time is multiplied; scikit-learn's are made at its default tolerance, and
`gap` is the largest relative gap among them, by the objective of the model beside it. peak_mb is how much more memory
than before a process of its own holds at its most.
"""

import functools
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flashlogit import bootstrap, fit, fit_groups, fit_many

from .bench import Bench
from .clock import wall
from .report import Record, Report, parser_of, say

TOLERANCE = 1e-6
Sizes = tuple[int, int, int, int, int]
"""Rows, columns, targets, penalties and folds."""
CV, PROBES = (100_000, 64, 1, 20, 5), (50_000, 384, 20, 10, 5)


def table(sizes: Sizes, device: str = "cpu", dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
    """Return X [N, D] and labels Y [N, T] of logistic models of it, float32."""
    N, D, T, _, _ = sizes
    generator = torch.Generator(device).manual_seed(0)
    w = torch.randn(D, T, generator=generator, device=device) * 1.5 / D**0.5
    X, Y = torch.empty(N, D, device=device, dtype=dtype), torch.empty(N, T, device=device)
    for start in range(0, N, 1 << 20):  # in one piece X would be there twice
        x = torch.randn(min(1 << 20, N - start), D, generator=generator, device=device)
        X[start : start + len(x)] = x
        chance = torch.rand(len(x), T, generator=generator, device=device)
        Y[start : start + len(x)] = (chance < torch.sigmoid(x @ w)).float()
    return X, Y


def grid(sizes: Sizes, X: Any, Y: Any, scores: Any = "all") -> Any:
    """Return the models of all targets, penalties and folds, without the refit."""
    _, _, _, penalties, folds = sizes
    options: dict[str, Any] = {"tolerance": TOLERANCE, "refit": False, "scores": scores}
    return fit_many(X, Y, C=np.logspace(-4, 4, penalties), folds=folds_of(len(X), folds), **options)


@functools.cache
def folds_of(N: int, folds: int) -> Any:
    """Return the fold of each row, [N] uint8."""
    return (np.arange(N) % folds).astype(np.uint8)


def median(run: Callable[[], Any], rounds: int) -> tuple[Record, Any]:
    """Return the times of a call after a first one, and its result."""
    result, found = run(), []
    for _ in range(rounds):
        began = time.perf_counter()
        result = run()
        found.append(1e3 * (time.perf_counter() - began))
    q25, ms, q75 = np.quantile(found, [0.25, 0.5, 0.75])
    return {"ms": float(ms), "q25_ms": float(q25), "q75_ms": float(q75)}, result


def cross_validation(sizes: Sizes, rounds: int) -> Iterator[Record]:
    """Yield a grid of one target beside LogisticRegressionCV of one fold."""
    from sklearn.linear_model import LogisticRegressionCV

    X, Y = table(sizes)
    times, found = median(partial(grid, sizes, X, Y, "loss"), rounds)  # as the other has no other scores
    of, F = found["y"], sizes[4]
    yield {"name": "fit_many", **times, "gap": float(of.relative_gap.max()), "passes": found.passes}
    data, y = X.numpy(), Y[:, 0].numpy()
    split = [(np.flatnonzero(np.arange(len(y)) % F != 0), np.flatnonzero(np.arange(len(y)) % F == 0))]
    options: dict[str, Any] = {"Cs": np.logspace(-4, 4, sizes[3]), "scoring": "neg_log_loss", "refit": False}
    model = LogisticRegressionCV(cv=split, max_iter=1000, **options)
    began = time.perf_counter()
    model.fit(data, y)
    ms = F * 1e3 * (time.perf_counter() - began)
    paths = next(iter(model.coefs_paths_.values())) if isinstance(model.coefs_paths_, dict) else model.coefs_paths_
    gaps = []
    for place, coefficients in enumerate(np.asarray(paths).reshape(-1, sizes[3], sizes[1] + 1)[0]):
        w, b = coefficients[:-1], coefficients[-1]
        z = data[split[0][0]] @ w + b
        loss = np.logaddexp(0, z) - y[split[0][0]] * z
        value = loss.mean(dtype=np.float64) + 0.5 * of.l2[place, 0] * (w @ w)
        gaps.append((value - of.objective[place, 0]) / np.log(2))
    yield {"name": "scikit-learn LogisticRegressionCV", "ms": ms, "gap": max(gaps), "ratio": ms / times["ms"]}


def probes(sizes: Sizes, rounds: int) -> Iterator[Record]:
    """Yield a grid of many targets beside single fits of every hundredth of its models."""
    X, Y = table(sizes)
    times, found = median(partial(grid, sizes, X, Y), rounds)
    gap = max(float(of.relative_gap.max()) for of in found.values())
    yield {"name": "fit_many", **times, "gap": gap, "passes": found.passes}
    _, _, T, L, F = sizes
    models = [(t, place, f) for t in range(T) for place in range(L) for f in range(F)]
    some, taken = models[:: max(1, len(models) // 20)], 0.0
    for t, place, f in some:
        rows = torch.from_numpy(found.folds.train(f))
        X_k, y_k = X[rows], Y[rows, t].contiguous()
        began = time.perf_counter()
        fit(X_k, y_k, l2=float(found[f"y{t}" if T > 1 else "y"].l2[place, f]), tolerance=TOLERANCE)
        taken += time.perf_counter() - began
    ms = 1e3 * taken * len(models) / len(some)
    yield {"name": "fit, one after the other", "ms": ms, "gap": TOLERANCE, "ratio": ms / times["ms"]}


def softmax(sizes: Sizes, rounds: int) -> Iterator[Record]:
    """Yield 20 penalties of a softmax of ten classes beside scikit-learn's."""
    from sklearn.linear_model import LogisticRegression

    N, D, _, L, _ = sizes
    generator = torch.Generator().manual_seed(0)
    X, W = torch.rand(N, D, generator=generator), torch.randn(D, 10, generator=generator)
    X = X * (torch.rand(N, D, generator=generator) < 0.2)  # most pixels are 0
    y = (X @ W + torch.randn(N, 10, generator=generator)).argmax(dim=1)
    penalties = np.logspace(-2, 2, L)
    times, found = median(lambda: fit_many(X, y, C=penalties, tolerance=TOLERANCE), rounds)
    yield {"name": "fit_many", **times, "gap": float(found["y"].relative_gap.max()), "passes": found.passes}
    began, data, labels = time.perf_counter(), X.numpy(), y.numpy()
    for C in penalties:
        LogisticRegression(C=C, max_iter=1000).fit(data, labels)
    ms = 1e3 * (time.perf_counter() - began)
    yield {"name": "scikit-learn LogisticRegression", "ms": ms, "ratio": ms / times["ms"]}


def small(replicates: int, rounds: int, device: str = "cpu") -> Iterator[Record]:
    """Yield bootstraps of 569 x 30, and as many groups of it."""
    from sklearn.datasets import load_breast_cancer

    X, y = load_breast_cancer(return_X_y=True)
    X = torch.tensor((X - X.mean(axis=0)) / X.std(axis=0), dtype=torch.float32, device=device)
    y = torch.tensor(y, device=device)
    boot = partial(bootstrap, X, y, replicates=replicates, l2=1 / len(X))
    groups = max(1, replicates // 10)
    tables, labels = X.repeat(groups, 1), y.repeat(groups)
    number = torch.arange(groups, device=device).repeat_interleave(len(X))
    of_groups = partial(fit_groups, tables, labels, number, l2=1 / len(X))
    for name, run, count in (("bootstrap", boot, replicates), ("fit_groups", of_groups, groups)):
        times, _ = median(run, rounds)
        yield {"name": f"{name} of {count:,} x 569 x 30", **times, "per_second": 1e3 * count / times["ms"]}


def memory(sizes: Sizes) -> Record:
    """Return what a grid takes of memory beside X, in a process of its own."""
    code = f"from benchmarks import many; many.print_peak({sizes!r})"
    folder = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder)
    return {"name": "memory beside X", "peak_mb": float(done.stdout.split()[-1])}


def print_peak(sizes: Sizes) -> None:
    """Print how many MB more a process holds at most in a grid, after one that compiles."""
    few: Sizes = (400, sizes[1], 1, 2, 2)
    grid(few, *table(few))
    X, Y = table(sizes)
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    grid(sizes, X, Y)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before) / 1e6)


def on_gpu(bench: Bench, record: Record) -> None:
    """Fill in the grids of `device`: 100 models of 11 M x 28, 64 targets of bfloat16 embeddings, and small fits."""
    record["grids"] = []
    tiny, device = bench.tiny, bench.device.type
    shapes: dict[str, tuple[Sizes, torch.dtype]] = {
        "20 C x 5 folds": ((300, 6, 1, 2, 2) if tiny else (11_000_000, 28, 1, 20, 5), torch.float32),
        "64 targets": ((300, 20, 3, 1, 2) if tiny else (200_000, 1024, 64, 1, 2), torch.bfloat16),
    }
    for name, (sizes, dtype) in shapes.items():
        X, Y = table(sizes, device, dtype)

        def timed(sizes: Sizes = sizes, X: Any = X, Y: Any = Y) -> Record:
            y = Y[:, 0].to(torch.uint8)
            one = partial(fit, X, y, l2=1 / len(X), tolerance=TOLERANCE)
            many, scored = partial(grid, sizes, X, Y, "loss"), partial(grid, sizes, X, Y)
            one(), many(), scored()
            single = sorted(wall(one, bench.device)[0] for _ in range(1 if tiny else 5))
            found = [wall(many, bench.device) for _ in range(1 if tiny else 3)]
            ms, result = sorted(found, key=lambda each: each[0])[len(found) // 2]
            gap = max(float(np.nanmax(of.relative_gap)) for of in result.values())
            one_ms = single[len(single) // 2]
            known = {"wall_ms": ms, "one_ms": one_ms, "ratio": ms / one_ms, "passes": result.passes, "gap": gap}
            return known | {"scored_ms": wall(scored, bench.device)[0]}

        bench.add(record["grids"], f"{name}, {sizes[0]:,} x {sizes[1]}", timed, needed=15)
        del X, Y
    record["small"] = []
    for found in small(30 if tiny else 10_000, 1 if tiny else 3, device):
        bench.add(record["small"], found.pop("name"), lambda found=found: found)


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    options = parser_of("many", __doc__).parse_args(arguments)
    options.devices = ["cpu"]
    report, quick = Report("many", __doc__, options), options.quick
    rounds = 1 if quick else 3
    cv, many = ((2_000, 8, 1, 3, 2), (1_000, 20, 3, 2, 2)) if quick else (CV, PROBES)
    parts = {
        f"{cv[3]} C x {cv[4]} folds, {cv[0]:,} x {cv[1]}": cross_validation(cv, rounds),
        f"{many[2]} targets x {many[3]} C x {many[4]} folds, {many[0]:,} x {many[1]}": probes(many, rounds),
        "20 C of ten classes, 5,000 x 784": softmax((300, 30, 1, 2, 1) if quick else (5_000, 784, 1, 20, 1), rounds),
        "small tables": small(50 if quick else 1_000, rounds),
    }
    with warnings.catch_warnings(action="ignore"):
        for title, records in parts.items():
            report.add(title, ({**each, "line": each["name"], "name": f"{title}: {each['name']}"} for each in records))
    report.add("memory", [memory(cv)])
    if not quick:
        report.add("memory", [memory(many)])
    report.finish()
    say("the ratio is that of the others' time to fit_many's")
    return 0
