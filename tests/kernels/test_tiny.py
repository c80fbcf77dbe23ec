"""Whole fits at once, by kernel, compiled loop and plain steps, against Newton's method written out anew in float64."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

L2 = 1e-2


def optimum(X: Tensor, y: Tensor, s: Tensor, *, intercept: bool = True) -> tuple[Tensor, Tensor, float]:
    """The weights [D], the bias [] and P of one problem."""
    X, y, s = X.double(), y.double(), s.double()
    rows = torch.cat([X, torch.ones_like(X[:, :1])], dim=1) if intercept else X
    penalty = torch.full_like(rows[0], L2)
    if intercept:
        penalty[-1] = 0
    theta = torch.zeros_like(penalty)
    for _ in range(30):
        p = torch.sigmoid(rows @ theta)
        gradient = rows.t() @ (s * (p - y)) / s.sum() + penalty * theta
        hessian = (rows.t() * (s * p * (1 - p))) @ rows / s.sum() + penalty.diag()
        theta = theta - torch.linalg.solve(hessian, gradient)
    z = rows @ theta
    loss = (s * (torch.logaddexp(torch.zeros_like(z), z) - y * z)).sum() / s.sum()
    bias = theta[-1] if intercept else torch.zeros_like(theta[0])
    return theta[: X.shape[1]], bias, float(loss + 0.5 * (penalty * theta * theta).sum())


def table(N: int, D: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Columns in several units, one far from 0, and labels that depend on the first."""
    X = torch.randn(N, D, dtype=torch.float64)
    y = torch.rand(N, dtype=torch.float64) < torch.sigmoid(X[:, 0])
    X = X * torch.linspace(0.5, 3, D, dtype=torch.float64) + torch.linspace(0, 20, D, dtype=torch.float64)
    return X.to(device), y.to(device)


@pytest.fixture(params=[f"flashlogit{name}.tiny" for name in ("_kernels.gpu.fits", "_kernels.cpu.fits", ".reference")])
def module(request: pytest.FixtureRequest) -> str:
    """Each implementation in turn."""
    if ".gpu." in request.param:
        request.getfixturevalue("kernels")
    if ".cpu." in request.param:
        pytest.importorskip("numba")
    return str(request.param)


@pytest.fixture
def fit_tiny(module: str) -> Any:
    return importlib.import_module(module).fit_tiny


@pytest.fixture
def device(module: str, device: torch.device) -> torch.device:
    return device if ".gpu." in module else torch.device("cpu")


def test_fifty_problems_at_once(fit_tiny: Any, device: torch.device) -> None:
    """Strata of one table, of different sizes, each with weights of its own."""
    sizes = torch.arange(50) % 7 + 12
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), sizes.cumsum(0)]).to(device)
    X, y = table(int(sizes.sum()), 2, device)
    y[starts[:-1]], y[starts[:-1] + 1] = True, False
    s = torch.rand(len(X), device=device) + 0.1
    found = fit_tiny(X, y, l2=L2, tolerance=1e-8, sample_weight=s, starts=starts)
    assert (found.weight.shape, found.bias.shape) == ((50, 2), (50,))
    for m in range(50):
        part = slice(int(starts[m]), int(starts[m + 1]))
        weight, bias, value = optimum(X[part], y[part], s[part])
        torch.testing.assert_close(found.weight[m], weight, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(found.bias[m], bias, rtol=1e-3, atol=1e-3)
        ending, at, gap, null, *_ = found.record[m].tolist()
        assert ending == 0
        assert 0 <= gap <= 1e-8 * null
        assert value - 1e-12 <= at <= value + gap + 1e-12


def test_bootstraps(fit_tiny: Any, device: torch.device) -> None:
    """Rows by number, some of them several times; a problem of its own, or of a matrix of rows, has the same bits."""
    X, y = table(40, 3, device)
    rows = torch.randint(40, (3 * 40,)).to(device)
    starts = torch.arange(4, device=device) * 40
    found = fit_tiny(X.float(), y, l2=L2, tolerance=1e-12, rows=rows, starts=starts)
    again = fit_tiny(X.float(), y, l2=L2, tolerance=1e-12, rows=rows.view(3, 40))
    assert torch.equal(again.weight, found.weight)
    assert torch.equal(again.record[:, :8], found.record[:, :8])
    for m in range(3):
        mine = rows[m * 40 : (m + 1) * 40]
        alone = fit_tiny(X.float(), y, l2=L2, tolerance=1e-12, rows=mine)
        assert torch.equal(alone.weight[0], found.weight[m])
        assert torch.equal(alone.record[0, :8], found.record[m, :8])
        weight, bias, _ = optimum(X.float()[mine], y[mine], torch.ones(40, device=device))
        torch.testing.assert_close(found.weight[m], weight, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(found.bias[m], bias, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("D", "intercept"), [(1, True), (15, True), (16, True), (16, False), (63, True)])
def test_widths(fit_tiny: Any, device: torch.device, D: int, intercept: bool) -> None:
    """The intercept as one column more fills the tile, or begins a wider one; X is column-major."""
    X, y = table(90, D, device)
    found = fit_tiny(X.t().contiguous().t(), y, l2=L2, tolerance=1e-12, intercept=intercept)
    weight, bias, value = optimum(X, y, torch.ones(90, device=device), intercept=intercept)
    torch.testing.assert_close(found.weight[0], weight, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.bias[0], bias, rtol=1e-4, atol=1e-4)
    assert float(found.record[0, 1]) == pytest.approx(value, abs=1e-12)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_what_cannot_be_fitted_ends_alone(fit_tiny: Any, device: torch.device) -> None:
    """Labels outside [0, 1], weights below 0, one class, no rows, values that are not finite; the last problem is
    sound."""
    X, y = table(8 * 20, 2, device)
    y, s = y.double(), torch.ones(len(X), dtype=torch.float64, device=device)
    problems = y.view(8, 20)
    problems[:, 0], problems[:, 1] = 0, 1
    problems[0, 5], problems[1, 5], problems[2] = 2.0, torch.nan, 1.0
    s[3 * 20], s[4 * 20 : 5 * 20] = -1.0, 0.0
    X[5 * 20 + 3, 1], X[6 * 20 + 3, 0] = torch.nan, torch.inf
    starts = torch.tensor([0, 1, 2, 3, 4, 5, 6, 7, 7, 8], device=device) * 20
    found = fit_tiny(X, y, l2=L2, tolerance=1e-9, sample_weight=s, starts=starts)
    assert (found.record[:-1, 0] == 4).all()
    assert found.record[-1, 0] == 0
    weight, *_ = optimum(X[140:], y[140:], s[140:])
    torch.testing.assert_close(found.weight[-1], weight, rtol=1e-3, atol=1e-4)


def test_a_limit_ends_it(fit_tiny: Any, device: torch.device) -> None:
    X, y = table(40, 2, device)
    found = fit_tiny(X, y, l2=L2, tolerance=1e-12, iterations=1)
    ending, *_, iterations, points = found.record[0, :6].tolist()
    assert (ending, iterations, points) == (1, 1, 2)


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize(("M", "D", "proven"), [(300, 3, 0.5), (7, 63, 1.0), (5, 1, 0.0)])
def test_the_mean_of_proven_optima(kernels: Any, device: torch.device, M: int, D: int, proven: float, folded: bool):
    """In a solver's coordinates and as a pass takes it; where no fit has ended well it is the null model."""
    from flashlogit_kernels.fits import TinyFits
    from flashlogit_kernels.gpu.fits.tiny import mean_optimum

    found = TinyFits.empty(torch.empty(1, D, device=device), M)
    ended = torch.rand(M, device=device) < proven
    found.weight.normal_().masked_fill_(~ended[:, None], torch.nan)
    found.bias.normal_().masked_fill_(~ended, torch.nan)
    found.record[:, 0] = torch.where(ended, 0.0, 1.0)
    center, scale = torch.randn(D, device=device).double(), torch.rand(D + 1, device=device).double() + 0.5
    null = torch.randn(D + 1, 1, device=device).double()
    theta, coefficients = mean_optimum(found, null=null, center=center, scale=scale, folded=folded)
    w, b = found.weight[ended].mean(dim=0), found.bias[ended].mean()
    expected = torch.cat([w, (b + center @ w)[None]]) / scale if proven else null[:, 0]
    torch.testing.assert_close(theta, expected[:, None], rtol=1e-13, atol=1e-13)
    scaled, place = expected * scale, -(-D // 4) * 4
    torch.testing.assert_close(coefficients[:D], scaled[:D], rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(coefficients[place], scaled[D] - folded * center @ scaled[:D], rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("l2", [1e-7, L2, 10.0])
@pytest.mark.parametrize("intercept", [True, False])
def test_the_gap_is_never_below_the_true_one(fit_tiny: Any, device: torch.device, l2: float, intercept: bool) -> None:
    """Against an optimum in extended precision, from the first points to the last."""
    X, y = table(50, 3, device)
    s = torch.rand(50, device=device) + 0.1
    rows, labels, mass = (each.cpu().double().numpy().astype(np.longdouble) for each in (X, y, s))

    def objective(w: Any, b: Any) -> Any:
        z = rows @ w + b
        return mass @ (np.logaddexp(0, z) - labels * z) / mass.sum() + l2 / 2 * (w @ w)

    best = fit_tiny(X, y, l2=l2, tolerance=1e-14, sample_weight=s, intercept=intercept)
    Z = np.c_[rows, np.full((50, int(intercept)), 1, np.longdouble)]
    penalty = np.r_[np.full(3, l2), np.zeros(int(intercept))]
    theta = np.r_[best.weight[0].cpu().numpy(), best.bias.cpu().numpy()[: int(intercept)]].astype(np.longdouble)
    for _ in range(4):
        p = 1 / (1 + np.exp(-(Z @ theta)))
        hessian = ((Z.T * (mass * p * (1 - p))) @ Z / mass.sum() + np.diag(penalty)).astype(float)
        gradient = Z.T @ (mass * (p - labels)) / mass.sum() + penalty * theta
        theta = theta - np.linalg.inv(hessian) @ gradient
    least = objective(theta[:3], theta[3:].sum())
    for tolerance in (0.5, 1e-1, 1e-2, 1e-4, 1e-7, 1e-10):
        found = fit_tiny(X, y, l2=l2, tolerance=tolerance, sample_weight=s, intercept=intercept)
        ending, value, gap, null = found.record[0, :4].tolist()
        truth = objective(found.weight[0].cpu().numpy().astype(np.longdouble), found.bias.cpu().numpy()[0])
        assert ending == 0
        assert value == pytest.approx(float(truth), rel=1e-13)
        assert -1e-15 <= float(truth - least) <= gap + 1e-15 <= tolerance * null + 2e-15


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("D", [3, 16])
def test_without_a_penalty(fit_tiny: Any, device: torch.device, D: int, intercept: bool) -> None:
    """Overlapping classes, and some that are separated, all but separated, collinear, or of soft labels."""
    X, y = table(5 * 120, D, torch.device("cpu"))
    y, s = y.double(), torch.rand(5 * 120) + 0.5
    middle = X[:, 0].reshape(5, 120).median(dim=1).values.repeat_interleave(120) if intercept else 0.0
    y[120:360] = (X[:, 0] > middle)[120:360].double()
    y[240] = 1 - y[240]
    X[360:480, 1] = 2 * X[360:480, 0]
    y[480:] = torch.rand(120)
    given = (each.to(device) for each in (X, y))
    starts = torch.arange(6, device=device) * 120
    options = {"l2": 0.0, "tolerance": 1e-9, "intercept": intercept}
    found = fit_tiny(*given, sample_weight=s.to(device), starts=starts, **options)
    ended = (found.record[:, 0] == 0).tolist()
    assert ended == [True, False, False, False, True]
    for m in (0, 4):
        part = slice(120 * m, 120 * m + 120)
        theta = torch.cat([found.weight[m], found.bias[m : m + 1][: int(intercept)]]).cpu()
        rows = torch.cat([X[part], torch.ones(120, int(intercept))], dim=1)
        p = torch.sigmoid(rows @ theta)
        mass = s[part].double() / s[part].sum()
        newton = torch.linalg.solve((rows.t() * (mass * p * (1 - p))) @ rows, rows.t() @ (mass * (p - y[part])))
        torch.testing.assert_close(theta - newton, theta, rtol=1e-6, atol=1e-6)
        assert 0 <= float(found.record[m, 2]) <= 1e-9 * float(found.record[m, 3])


LOOPS = pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="numba is not installed")
ONE = """
import torch
from flashlogit_kernels.cpu.fits.tiny import fit_tiny
generator = torch.Generator().manual_seed(1)
X = torch.randn(300, 7, generator=generator)
y = torch.rand(300, generator=generator) < torch.sigmoid(X[:, 0])
rows = torch.randint(300, (30 * 300,), generator=generator)
found = fit_tiny(X, y, l2=1e-3, tolerance=1e-10, rows=rows, starts=torch.arange(31) * 300)
print([each.tolist() for each in (found.weight, found.bias, found.record[:, :8])])
"""


@LOOPS
def test_the_loop_and_its_twin_agree_to_rounding() -> None:
    loop, twin = (
        importlib.import_module(f"flashlogit{name}.tiny").fit_tiny for name in ("_kernels.cpu.fits", ".reference")
    )
    for N, D in ((31, 1), (32, 3), (33, 4), (257, 30), (600, 128)):
        X, y = table(N, D, torch.device("cpu"))
        for l2, intercept in ((L2, True), (L2, False), (0.0, True)):
            if l2 > 0 or N > 20 * D:
                options = {"l2": l2, "tolerance": 1e-9, "intercept": intercept, "sample_weight": torch.rand(N) + 0.1}
                ours, theirs = loop(X, y, **options), twin(X, y, **options)
                torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-9, atol=1e-11)
                torch.testing.assert_close(ours.bias, theirs.bias, rtol=1e-9, atol=1e-10)
                torch.testing.assert_close(ours.record[:, 3:8], theirs.record[:, 3:8], rtol=1e-10, atol=0)


@LOOPS
def test_bits_do_not_depend_on_threads_or_on_the_cache(tmp_path: Path) -> None:
    """One thread and two; a loop that was just compiled, one from a cache, and a warm one."""
    before, printed = torch.get_num_threads(), []
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", ONE], env=environment, capture_output=True, text=True, check=True)
        printed.append(done.stdout)
    assert list(tmp_path.rglob("*.nbi"))
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(ONE, {})
            printed.append(out.getvalue())
    finally:
        torch.set_num_threads(before)
    assert printed == printed[:1] * 4
