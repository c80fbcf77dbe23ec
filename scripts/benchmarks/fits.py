"""The stage "fits": whole fits to a relative gap of 1e-8 on data made on the device, and what they do there.

The optimum is found here once more, in float64 by Newton's method on plain torch, so that the gap that is written down
is the true one and not the fit's own bound.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

import flashlogit

from .bench import Bench, OutOfTimeError, Record, reason
from .host import synchronize

GAP = 1e-8
_C = 1.0
_WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")
_SOLVERS = ("auto", "newton", "lbfgs", "newton-cg")


@dataclass(frozen=True)
class Problem:
    """N rows of D columns, whose correlation matrix has singular values over so many decades; -1 for real data."""

    N: int
    D: int
    decades: float = 0.0
    solvers: tuple[str, ...] = _SOLVERS
    l1: float = 0.0

    @property
    def name(self) -> str:
        """For tables and files."""
        kind = f", {self.decades:g} decades" if self.decades > 0 else ""
        return f"{self.N:,} x {self.D:,}{kind}{f', l1 {self.l1:g}' if self.l1 else ''}"


def problems(tiny: bool) -> list[Problem]:
    """What is fitted."""
    if tiny:
        return [Problem(400, 6, 1.0, ("auto", "lbfgs")), Problem(300, 4, l1=1e-2, solvers=("auto",))]
    return [
        Problem(569, 30, -1.0),
        Problem(11_000_000, 28),
        Problem(200_000, 1024, solvers=("auto", "lbfgs")),
        Problem(2_000_000, 64, 3.0, ("auto", "newton", "newton-cg")),
        Problem(1_000_000, 28, l1=1e-3, solvers=("auto", "lbfgs")),
    ]


def make_problem(problem: Problem, device: torch.device) -> tuple[Tensor, Tensor]:
    """X [N, D] float32 and y [N] uint8, always the same."""
    if problem.decades < 0:
        return _breast_cancer(device)
    generator = torch.Generator(device).manual_seed(problem.D)
    N, D = problem.N, problem.D

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device)

    mix = torch.linalg.qr(normal(D, D).double())[0]
    if problem.decades > 0:
        mix = (
            mix * torch.logspace(0, -problem.decades, D, dtype=torch.float64, device=device)[:, None] * D**0.5
        )
    X = torch.empty(N, D, device=device)
    for part in torch.split(X, max(1, (1 << 26) // D)):
        torch.mm(normal(len(part), D), mix.float(), out=part)
    w = mix.float().t() @ normal(D) / D**0.5 if problem.decades > 0 else normal(D) / D**0.5
    z = X @ w
    y = torch.rand(N, generator=generator, device=device) < torch.sigmoid(2 * z / z.std() - 0.5)
    return X, y.to(torch.uint8)


def _breast_cancer(device: torch.device) -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_breast_cancer

    X, y = load_breast_cancer(return_X_y=True)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    return torch.from_numpy(X).float().to(device), torch.from_numpy(y).to(torch.uint8).to(device)


@dataclass(frozen=True)
class WarmFit:
    """A fit on few rows, which compiles what one on many needs."""

    problem: Problem
    solver: str

    @property
    def name(self) -> str:
        """For tables and files."""
        return f"fit {self.problem.name} {self.solver}"

    def run(self, device: torch.device) -> None:
        """Fit a table of as many columns."""
        few = Problem(min(self.problem.N, 40_000), self.problem.D, self.problem.decades)
        X, y = make_problem(few, device)
        _fit(X, y, self.problem, self.solver)


def warm_fits(tiny: bool) -> list[WarmFit]:
    """A fit for every problem and solver."""
    return (
        [] if tiny else [WarmFit(problem, solver) for problem in problems(tiny) for solver in problem.solvers]
    )


def fits(bench: Bench, record: Record) -> None:
    """Fill in time, work and true gap of every problem and solver, and of other libraries' fits."""
    bench.clock.warm()
    record["problems"] = []
    for problem in problems(bench.tiny):
        bench.check_time(5.0)
        entry: Record = {"name": problem.name, "fits": []}
        record["problems"].append(entry)
        try:
            X, y = make_problem(problem, bench.device)
            task = Task(bench, problem, X, y, *optimum(X, y, _l2(X), problem.l1))
            entry |= {"optimum": task.best, "null": task.null}
        except Exception as error:
            entry["error"] = reason(error)
            continue
        for name, measure in contenders(task):
            bench.check_time(3.0)
            found: Record = {"name": name}
            try:
                found |= measure()
            except OutOfTimeError:
                raise
            except Exception as error:
                found["error"] = reason(error)
            entry["fits"].append(found)
            bench.save()


@dataclass(frozen=True)
class Task:
    """A problem with its data on the device, its least objective and that of the intercept alone."""

    bench: Bench
    problem: Problem
    X: Tensor
    y: Tensor
    best: float
    null: float

    @property
    def l2(self) -> float:
        """The penalty's factor."""
        return 0.0 if self.problem.l1 else _l2(self.X)

    def gap(self, w: Tensor, b: Tensor) -> float:
        """How far the objective is above the least one, as a share of the null model's."""
        return (_objective(self.X, self.y, w, b, self.l2, self.problem.l1) - self.best) / self.null

    def wall(self, run: Callable[[], object], times: int) -> list[float]:
        """Milliseconds of so many runs, each waited for."""
        found = []
        for _ in range(times):
            synchronize(self.bench.device)
            began = time.perf_counter()
            run()
            synchronize(self.bench.device)
            found.append((time.perf_counter() - began) * 1e3)
        return found


def contenders(task: Task) -> list[tuple[str, Callable[[], Record]]]:
    """What is fitted with, by name."""
    found: list[tuple[str, Callable[[], Record]]] = [
        (f"flashlogit {solver}", partial(_flashlogit, task, solver)) for solver in task.problem.solvers
    ]
    if not task.bench.tiny:
        found.append(("flashlogit auto, from a sample", partial(_from_a_sample, task)))
    if task.problem.l1 == 0:
        found.append(("torch.optim.LBFGS", partial(_torch_lbfgs, task)))
        found.append(("scikit-learn lbfgs, array API", partial(_scikit_learn, task)))
    return found


def _l2(X: Tensor) -> float:
    return 1 / (_C * len(X))


def _fit(X: Tensor, y: Tensor, problem: Problem, solver: str) -> Any:
    choice: Any = solver
    return flashlogit.fit(
        X,
        y,
        l1=problem.l1,
        l2=0.0 if problem.l1 else _l2(X),
        tolerance=GAP,
        solver=choice,
        max_iterations=400,
    )


def _flashlogit(task: Task, solver: str) -> Record:
    """A first call, repeated ones, and one under the profiler."""

    def run() -> Any:
        return _fit(task.X, task.y, task.problem, solver)

    began = time.perf_counter()
    first = run()
    first_seconds = time.perf_counter() - began
    walls = task.wall(run, 2 if task.bench.tiny or first_seconds > 3 else 7)
    result = run()
    return {
        "solver": result.solver,
        "wall_ms": statistics.median(walls),
        "fastest_ms": min(walls),
        "seconds": result.seconds,
        "first_seconds": first_seconds,
        "compile_seconds": first.compile_seconds,
        "iterations": result.iterations,
        "passes": result.passes,
        "ending": result.ending,
        "bound": result.relative_gap,
        "true_gap": task.gap(result.weight, result.bias),
        "notes": list(result.notes),
    } | profiled(run, task.bench)


def _from_a_sample(task: Task) -> Record:
    """The same from the optimum of a sample of the rows, which a GPU takes for larger X only."""
    with mock.patch("flashlogit.solvers.start.LEAST_CUDA_BYTES", 0):
        return _flashlogit(task, "auto")


def profiled(run: Callable[[], object], bench: Bench) -> Record:
    """Launches, milliseconds of device work and waits for it, of one run."""
    if bench.tiny:
        run()
        return {}
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA], acc_events=True) as profiler:
        run()
        synchronize(bench.device)
    kernels: dict[str, float] = defaultdict(float)
    busy, launched, waits = 0.0, 0, 0
    for event in profiler.events():
        if event.device_type == torch.autograd.DeviceType.CUDA:
            launched += 1
            us = event.time_range.elapsed_us()
            busy += us
            kernels[event.name[:48]] += us
        elif event.name in _WAITS:
            waits += 1
    longest = {name: kernels[name] / 1e3 for name in sorted(kernels, key=kernels.__getitem__)[:-7:-1]}
    return {"launches": launched, "device_ms": busy / 1e3, "waits": waits, "longest_ms": longest}


def _objective(X: Tensor, y: Tensor, w: Tensor, b: Tensor, l2: float, l1: float = 0.0) -> float:
    """The mean loss and the penalty, in float64."""
    w, total = w.double().to(X.device), 0.0
    for rows, labels in _blocks(X, y):
        z = rows @ w + b.double().to(X.device)
        total += float((torch.nn.functional.softplus(z, threshold=50.0) - labels * z).sum())
    return total / len(X) + 0.5 * l2 * float(w @ w) + l1 * float(w.abs().sum())


def _blocks(X: Tensor, y: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    height = max(1, (1 << 28) // X.shape[1])
    for rows, labels in zip(torch.split(X, height), torch.split(y, height), strict=True):
        yield rows.double(), labels.double()


def optimum(X: Tensor, y: Tensor, l2: float, l1: float) -> tuple[float, float]:
    """(least objective, that of the intercept alone), by Newton's method in float64.

    With l1, where Newton's method does not apply, by the project's own solver to its tightest tolerance.
    """
    D, N = X.shape[1], len(X)
    mean = float(y.double().mean())
    null = float(torch.special.entr(torch.tensor([mean, 1 - mean], dtype=torch.float64)).sum())
    if l1:
        result = flashlogit.fit(X, y, l1=l1, tolerance=1e-12)
        return _objective(X, y, result.weight, result.bias, 0.0, l1), null
    theta = X.new_zeros(D + 1, dtype=torch.float64)
    penalty = torch.full_like(theta, l2)
    penalty[-1] = 0.0
    best = _objective(X, y, theta[:D], theta[D:], l2)
    for _ in range(50):
        gradient, H = theta * penalty, torch.diag(penalty)
        for rows, labels in _blocks(X, y):
            rows = torch.cat([rows, rows.new_ones(len(rows), 1)], dim=1)
            p = torch.sigmoid(rows @ theta)
            gradient = gradient + rows.t() @ (p - labels) / N
            H = H + rows.t() @ (rows * (p * (1 - p))[:, None]) / N
        step = torch.linalg.solve(H, gradient)
        length, decrement = 1.0, float(gradient @ step)
        while length > 1e-6:
            trial = theta - length * step
            value = _objective(X, y, trial[:D], trial[D:], l2)
            if value <= best + 1e-15 * best:
                break
            length /= 2
        theta, best = trial, min(best, value)
        if decrement < 1e-15 * null:
            break
    return best, null


def _torch_lbfgs(task: Task) -> Record:
    """torch.optim.LBFGS, of whose numbers of iterations the first is taken that reaches the gap."""
    X, labels, l2 = task.X, task.y.to(task.X.dtype), task.l2
    loss: Any = torch.nn.functional.binary_cross_entropy_with_logits

    def run(iterations: int) -> tuple[Tensor, Tensor]:
        w = X.new_zeros(X.shape[1], requires_grad=True)
        b = X.new_zeros(1, requires_grad=True)
        optimizer = torch.optim.LBFGS(
            [w, b],
            max_iter=iterations,
            history_size=20,
            line_search_fn="strong_wolfe",
            tolerance_grad=0.0,
            tolerance_change=0.0,
        )

        def closure() -> Tensor:
            optimizer.zero_grad()
            value: Tensor = loss(X @ w + b, labels) + 0.5 * l2 * (w @ w)
            value.backward()
            return value

        optimizer.step(closure)
        return w.detach(), b.detach()

    for iterations in (5, 10, 15, 20, 30, 40, 60, 100, 200, 400):
        task.bench.check_time(2.0)
        gap = task.gap(*run(iterations))
        if gap <= GAP:
            break
    walls = task.wall(lambda: run(iterations), 3)
    return {"wall_ms": statistics.median(walls), "iterations": iterations, "true_gap": gap}


def _scikit_learn(task: Task) -> Record:
    """scikit-learn's lbfgs on the device's own arrays, at its default tolerance and at a tight one."""
    import sklearn
    from sklearn.linear_model import LogisticRegression

    labels = task.y.to(torch.int64)
    found: Record = {}
    with sklearn.config_context(array_api_dispatch=True):
        for tol in (1e-4, 1e-7):
            task.bench.check_time(2.0)
            model = LogisticRegression(C=_C, tol=tol, max_iter=400)
            model.fit(task.X, labels)
            (wall,) = task.wall(partial(model.fit, task.X, labels), 1)
            w, b = (torch.as_tensor(value).reshape(-1) for value in (model.coef_, model.intercept_))
            gap = task.gap(w, b)
            found = {"wall_ms": wall, "tol": tol, "true_gap": gap, "iterations": int(model.n_iter_[0])}
            if gap <= GAP:
                break
    return found
