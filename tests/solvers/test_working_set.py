"""Wide l1 fits: working sets of weights, and the coordinate descent within them."""

from __future__ import annotations

import builtins
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import problems
import pytest
import torch
from problems import fitted
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from flashlogit import Fit, fit, fit_softmax
from flashlogit.objectives.subset import of_parameters
from flashlogit.solvers import working_set
from flashlogit.solvers.method import Start
from flashlogit.solvers.working_set import TUNING, WorkingSet
from flashlogit_kernels.cpu import descent


def genes(N: int = 60, D: int = 700, seed: int = 3) -> tuple[Tensor, Tensor]:
    """Far more columns than rows, in several units and about means of their own, and labels by three of them."""
    g = np.random.default_rng(seed)
    X = g.standard_normal((N, D))
    y = (X[:, :3].sum(axis=1) + 0.5 * g.standard_normal(N) > 0).astype(np.float64)
    return torch.from_numpy(X * 10 ** g.uniform(-0.3, 0.3, D) + g.standard_normal(D)), torch.from_numpy(y)


def within(result: Fit, problem: problems.Problem) -> None:
    """It converged; its objective is what it says, and no further from a bound of another kind than twice the gap."""
    assert result.converged
    assert result.certificate.kind == "gap"
    w, b = result.weight.numpy(), float(result.bias)
    assert result.objective == pytest.approx(problem.objective(w, b), rel=1e-12)
    assert -1e-14 < result.objective - problem.dual(w, b) <= 2 * result.tolerance * problem.null_objective


@pytest.mark.parametrize(
    "kind", ["plain", "float32", "soft", "weights", "no intercept", "elastic net", "copies", "tiny"]
)
def test_wide_fits_reach_the_optimum(kind: str) -> None:
    """With some columns that are constant, and one that is a copy of another."""
    X, y = genes()
    X[:, 5], X[:, 6], X[:, 7] = 0.0, 3.0, X[:, 0]
    if kind == "copies":
        X[:, 300:] = X[:, :400] * 3
    if kind == "float32":
        X = X.float()
    y = 0.8 * y + 0.1 if kind == "soft" else y
    s = torch.rand(60, generator=torch.Generator().manual_seed(0)).double() if kind == "weights" else None
    options: dict[str, Any] = {"l1": 1e-5 if kind == "tiny" else 0.02, "l2": 0.05 * (kind == "elastic net")}
    options["intercept"] = kind != "no intercept"
    result = fit(X, y, sample_weight=s, tolerance=1e-9, **options)
    within(result, problems.Problem(X.double().numpy(), y.numpy(), None if s is None else s.numpy(), **options))
    assert result.solver == "newton"
    assert result.iterations <= 12
    assert bool((result.weight[5:7] == 0).all())
    assert 0 < int((result.weight != 0).sum()) <= (60 if options["l2"] == 0 else 400)


def test_it_is_liblinears_optimum() -> None:
    X, y = genes(N=100)
    theirs = LogisticRegression(l1_ratio=1.0, C=1.0, solver="liblinear", fit_intercept=False, tol=1e-12, max_iter=10**6)
    theirs.fit(X.numpy(), y.numpy())
    ours = fit(X, y, l1=1 / 100, intercept=False, tolerance=1e-12)
    np.testing.assert_allclose(ours.weight.numpy(), theirs.coef_[0], rtol=1e-4, atol=1e-6)
    assert np.array_equal(ours.weight.numpy() != 0, theirs.coef_[0] != 0)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_strong_penalty_leaves_nothing(classes: int) -> None:
    X, y = genes()
    result = fitted(X, y.long() + (X[:, 0] > 2).long() * (classes - 2), classes, l1=10.0)
    assert result.converged
    assert not bool(result.weight.any())
    assert result.passes < 4


@pytest.mark.parametrize(("l1", "l2", "weights"), [(0.02, 0.0, False), (0.005, 0.02, True)])
def test_a_wide_softmax(l1: float, l2: float, weights: bool) -> None:
    """By the gap, which another point cannot beat; most classes of a column have no part in a set."""
    g = np.random.default_rng(1)
    X, W = g.standard_normal((150, 400)), np.zeros((400, 4))
    W[:8] = g.standard_normal((8, 4))
    y = torch.from_numpy((X @ W + g.gumbel(size=(150, 4))).argmax(axis=1))
    s = torch.from_numpy(g.uniform(0, 2, 150)) if weights else None
    X = torch.from_numpy(X + 2.0)
    result, rough = (fit_softmax(X, y, sample_weight=s, l1=l1, l2=l2, tolerance=t) for t in (1e-9, 1e-3))
    assert result.converged
    assert rough.converged
    assert result.objective <= rough.objective <= result.objective + rough.gap + 1e-14
    other = fit_softmax(X, y, sample_weight=s, l1=l1, l2=l2, tolerance=1e-6, solver="lbfgs")
    assert abs(other.objective - result.objective) <= other.gap + result.gap + 1e-14
    assert 0 < int((result.weight != 0).sum()) < 800


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("intercept", [False, True])
def test_the_derivatives_over_some_weights(weights: bool, intercept: bool) -> None:
    """Those of the whole objective, at places of their own."""
    X, y, s = problems.several(4)
    whole = problems.objective_of(X, y, s if weights else None, 4, intercept=intercept, l1=0.1, l2=0.01)
    intercepts = list(range(20, 24)) * intercept
    chosen = torch.tensor([0, 1, 6, 7, 9, 13, 14, *intercepts])
    few = of_parameters(whole, chosen)
    theta = torch.zeros_like(whole.null)
    theta[chosen] = 0.3 * torch.randn(len(chosen), 1, generator=torch.Generator().manual_seed(1)).double()
    there, here = whole.evaluate(theta), few.evaluate(theta[chosen])
    torch.testing.assert_close(here.value, there.value, rtol=1e-13, atol=0)
    torch.testing.assert_close(here.gradient, there.gradient[chosen], rtol=1e-10, atol=1e-13)
    H = whole.hessian(theta)[0][chosen][:, chosen]
    torch.testing.assert_close(few.hessian(theta[chosen])[0], H, rtol=1e-10, atol=1e-12)
    assert float(here.gap) <= float(there.gap) + 1e-14


def test_a_neighbouring_penaltys_optimum_is_a_good_start() -> None:
    X, y = genes(N=200, D=3000)
    l1, start, started, cold = 0.05, None, [], []
    for _ in range(6):
        result, alone = fit(X, y, l1=l1, start=start, tolerance=1e-7), fit(X, y, l1=l1, tolerance=1e-7)
        assert result.converged
        assert abs(result.objective - alone.objective) <= result.gap + alone.gap + 1e-15
        start, l1 = (result.weight, result.bias), 0.9 * l1
        started.append(result.passes)
        cold.append(alone.passes)
    assert sum(started[1:]) < 0.8 * sum(cold[1:])


def test_a_set_is_small_until_it_is_all() -> None:
    X, y = genes(N=200, D=3000)
    objective = problems.objective_of(X, y, l1=0.02)
    at = objective.evaluate(objective.null)
    method = WorkingSet(objective, Start(objective.null, 1e-6))
    chosen = method._chosen(at)
    assert len(chosen) == TUNING.least + 1
    assert int(chosen[-1]) == 3000
    assert bool((chosen.diff() > 0).all())
    narrow = problems.objective_of(X[:, :100], y, l1=0.02)
    assert WorkingSet(narrow, Start(narrow.null, 1e-6))._chosen(narrow.evaluate(narrow.null)).tolist() == list(
        range(101)
    )


@pytest.mark.parametrize(("classes", "N", "D"), [(2, 60, 700), (3, 60, 700), (2, 300, 200)])
def test_a_fit_goes_on_from_each_point_to_the_last_bit(
    monkeypatch: pytest.MonkeyPatch, classes: int, N: int, D: int
) -> None:
    """The last one goes over to all weights, as where they are too many for the loop."""
    if D < N:
        monkeypatch.setattr(working_set, "TUNING", replace(TUNING, products=0))
    X, y = genes(N, D)
    if D < N:
        X = X + X[:, :1]
    labels = y if classes == 2 else (X[:, :3].argmax(dim=1)).long()
    states: list[Any] = []
    options: dict[str, Any] = {"l1": 0.01 if D > N else 1e-4, "tolerance": 1e-9}
    whole = fitted(X, labels, classes, on_point=lambda row, point: states.append(point.state), **options)
    assert len(states) > 3
    assert ("hessian" in states[-1].tensors) == (D < N)
    assert "hessian" not in states[0].tensors
    for state in states:
        resumed = fitted(X, labels, classes, start=state, **options)
        assert torch.equal(resumed.weight, whole.weight)
        assert torch.equal(resumed.bias, whole.bias)
        assert resumed.passes == whole.passes


def test_the_same_bits_in_a_new_process_and_at_any_number_of_threads() -> None:
    code = (
        "import sys, torch; sys.path[:0] = sys.argv[1:]; from test_working_set import genes;"
        "from flashlogit import fit; found = lambda: fit(*genes(), l1=0.01, tolerance=1e-9).weight.numpy();"
        "print(*(torch.set_num_threads(threads) or found().tobytes().hex() for threads in (1, 2)))"
    )
    here = Path(__file__).parent
    command = [sys.executable, "-c", code, str(here), str(here.parent)]
    theirs = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    ours = [fit(*genes(), l1=0.01, tolerance=1e-9).weight.numpy().tobytes().hex() for _ in range(2)]
    assert len(theirs) == 2
    assert {*ours, *theirs} == {ours[0]}


def test_a_small_table_is_fitted_without_numba_where_torch_makes_its_passes() -> None:
    """As a command does, whose single fit is done before Numba is loaded; many columns may take too long."""
    code = (
        "import sys, torch; sys.path[:0] = sys.argv[1:]; from test_working_set import genes;"
        "from flashlogit import fit; sizes = (200, 64), (60, 65);"
        "fits = (fit(*genes(*size), l1=0.01, backend='torch') for size in sizes);"
        "print([(result.converged, 'numba' in sys.modules) for result in fits])"
    )
    here = Path(__file__).parent
    command = [sys.executable, "-c", code, str(here), str(here.parent)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[(True, False), (True, True)]"
    X, y = genes(200, 64)
    plain, compiled = (fit(X, y, l1=0.01, backend=b, tolerance=1e-12) for b in ("torch", "numba"))
    torch.testing.assert_close(plain.weight, compiled.weight, rtol=1e-6, atol=1e-8)
    assert torch.equal(plain.weight != 0, compiled.weight != 0)


def test_heavy_tails_are_done_in_seconds_and_each_set_in_less() -> None:
    """Sets whose columns are hard to tell apart once took seconds each, and the fit half a minute."""
    g = np.random.default_rng(0)
    T = g.standard_t(2.5, (300, 1500))
    X = T * np.abs(T)
    y = (X[:, :3].sum(axis=1) + g.standard_normal(300) > 0).astype(np.float64)
    problem = problems.Problem(X, y, None, l1=1 / 300, l2=0.0, intercept=True)
    seconds: list[float] = []
    options: dict[str, Any] = {"l1": 1 / 300, "tolerance": 1e-7}
    fit(torch.from_numpy(X[:, :200]), torch.from_numpy(y), **options)  # compiles
    began = time.thread_time()
    listened = {"on_point": lambda row, point: seconds.append(time.thread_time() - began)}
    within(fit(torch.from_numpy(X), torch.from_numpy(y), **options, **listened), problem)
    assert max(np.diff(seconds)) < 2.0


def quadratic(P: int = 40) -> tuple[Any, ...]:
    g = np.random.default_rng(0)
    A = g.standard_normal((P, 3 * P))
    return A @ A.T / (3 * P), g.standard_normal(P), np.where(np.arange(P) % 2, g.standard_normal(P), 0), np.full(P, 0.4)


def test_descent_finds_the_minimum_and_leaves_its_gradient() -> None:
    H, slope, x, l1 = quadratic()
    H[3, :] = H[:, 3] = 0.0  # of a column without curvature, which stays where it is
    first = slope.copy()
    l1[-1] = 0.0
    before = x.copy()
    assert descent.descend(H, slope, x, l1, sweeps=1000, goal=1e-12) <= 1e-12
    np.testing.assert_allclose(slope, first + H @ (x - before), rtol=1e-10, atol=1e-12)
    others = np.arange(40) != 3
    assert x[3] == before[3]
    assert np.abs(np.where(x != 0, slope + l1 * np.sign(x), np.maximum(np.abs(slope) - l1, 0)))[others].max() < 1e-11
    assert 0 < (x == 0).sum() < 40
    assert x[-1] != 0


@pytest.mark.parametrize(("N", "P"), [(1, 1), (33, 5), (257, 4), (300, 9)])
def test_newton_over_a_few_columns_ends_where_no_subgradient_is_left(N: int, P: int) -> None:
    """With soft labels, rows of weight 0 and a column without a penalty, at sizes of which none fills whole blocks."""
    g = np.random.default_rng(N)
    columns, y, s = g.standard_normal((P, N)), g.integers(0, 5, N) / 4, g.integers(0, 3, N) + (np.arange(N) == 0.0)
    s, l1, l2, x = s / s.sum(), np.where(np.arange(P) == P - 1, 0.0, 0.03), np.full(P, 1e-3), g.standard_normal(P)
    found = descent.newton(columns, y, s, x, l1, l2, share=1e-9, steps=60)
    assert found is not None
    value, done = found
    z = x @ columns
    smooth = columns @ (s * (1 / (1 + np.exp(-z)) - y)) + l2 * x
    left = np.where(x != 0, smooth + l1 * np.sign(x), np.maximum(np.abs(smooth) - l1, 0.0))
    assert done
    assert np.abs(left).max() < 1e-8
    expected = s @ (np.logaddexp(0, z) - y * z) + l1 @ np.abs(x) + 0.5 * l2 @ np.square(x)
    assert value == pytest.approx(expected, rel=1e-14)
    stopped = g.standard_normal(P)
    value, done = descent.newton(columns, y, s, stopped, l1, l2, share=1e-9, steps=1) or (0.0, True)
    assert not done
    assert value >= expected


def test_without_numba_the_answer_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = genes()
    compiled, model = fit(X, y, l1=0.02, tolerance=1e-10), quadratic()
    descent.descend(*(each for each in model), sweeps=5, goal=0.0)
    importing = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("numba"):
            raise ImportError(name)
        return importing(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    descent._compiled.cache_clear()
    try:
        plain, other = fit(X, y, l1=0.02, tolerance=1e-10), quadratic()
        descent.descend(*(each for each in other), sweeps=5, goal=0.0)
    finally:
        descent._compiled.cache_clear()
    np.testing.assert_allclose(model[2], other[2], rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(plain.weight, compiled.weight, rtol=1e-6, atol=1e-8)
    assert torch.equal(plain.weight != 0, compiled.weight != 0)


def test_the_loop_takes_few_parameters_of_few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """They may have thousands of weights that are not 0; a matrix of 14,000 took 24 s and 2 GB."""
    taken: list[int] = []
    by_loop = working_set._by_loop

    def looped(objective: Any, chosen: Tensor, theta: Tensor) -> Any:
        taken.append(len(chosen))
        return by_loop(objective, chosen, theta)

    monkeypatch.setattr(working_set, "_by_loop", looped)
    result = fit(torch.randn(8, 3000), torch.arange(8) % 2, l1=1e-7, l2=1e-3, tolerance=1e-6)
    assert result.converged
    assert int((result.weight != 0).sum()) > 1000
    assert 200 < max(taken) <= 512
