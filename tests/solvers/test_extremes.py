"""Problems at the edge of what floating point can tell: far starts, constant columns, far means, hardly any penalty."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from flashlogit import Fit, fit, fit_softmax

SOLVERS = ["newton", "newton-cg", "lbfgs"]
WIDE = np.longdouble


def data(classes: int, *, N: int = 128, D: int = 4) -> tuple[Tensor, Tensor]:
    """Standard normal columns, float64, and labels that overlap."""
    g = np.random.default_rng(1)
    X = g.normal(size=(N, D))
    logits = np.stack([X[:, 0], 0 * X[:, 0], -X[:, 0]], axis=1)[:, :classes]
    y = np.argmax(logits + g.gumbel(size=(N, classes)), axis=1)
    return torch.from_numpy(X), torch.from_numpy(y)


def run(X: Tensor, y: Tensor, classes: int, **options: Any) -> Fit:
    return fit(X, y, **options) if classes == 2 else fit_softmax(X, y, **options)


def objective(result: Fit, X: Tensor, y: Tensor, l1: float, l2: float) -> np.longdouble:
    """P in the widest numbers that there are, for equal weights of the rows."""
    weight, bias, values = (t.double().numpy().astype(WIDE) for t in (result.weight, result.bias, X))
    z = values @ np.atleast_2d(weight).T + bias
    z = np.concatenate([-z, 0 * z], axis=1) if z.shape[1] == 1 else z
    margins = z - z[np.arange(len(z)), y.numpy()][:, None]
    largest = margins.max(axis=1)
    losses = largest + np.log(np.exp(margins - largest[:, None]).sum(axis=1))
    return losses.mean() + WIDE(l1) * abs(weight).sum() + WIDE(l2) / 2 * (weight * weight).sum()


def columns(kind: str, X: Tensor) -> Tensor:
    X = X.clone()
    if kind == "a constant one":
        X[:, 1] = 1.0
    elif kind == "several constant ones":
        X[:, 1], X[:, 2] = 0.1, 1e3
    elif kind == "a nearly constant one":
        X[:, 1] = 1.0 + 2.0**-7 * (X[:, 2] > 0)
    elif kind == "far means":
        X[:, 1:] += 1e6
    return X


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize(
    ("kind", "dtype", "l2"),
    [
        ("a constant one", torch.float32, 1e-8),
        ("a constant one", torch.float16, 1e-12),
        ("several constant ones", torch.float32, 1e-12),
        ("several constant ones", torch.bfloat16, 1e-8),
        ("several constant ones", torch.float32, 1e-30),
        ("a nearly constant one", torch.float16, 1e-8),
        ("far means", torch.float32, 1e-8),
        ("far means", torch.float32, 1e-30),
    ],
)
def test_narrow_columns_reach_the_optimum(kind: str, dtype: torch.dtype, l2: float, classes: int) -> None:
    X, y = data(classes)
    X = columns(kind, X).to(dtype)
    results = [run(X, y, classes, l2=l2, solver=solver, tolerance=1e-8) for solver in SOLVERS]
    values = [objective(result, X, y, 0.0, l2) for result in results]
    for result, value in zip(results, values, strict=True):
        assert result.converged
        assert result.iterations < 60
        assert value - min(values) <= 2 * result.gap + 1e-14


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("solver", ["newton", "newton-cg"])
def test_far_means_without_an_intercept(solver: Any, classes: int) -> None:
    X, y = data(classes)
    X[:, 1:] += 1e4
    exact = run(X.float().double(), y, classes, l2=1e-6, intercept=False, solver="newton", tolerance=1e-8)
    result = run(X.float(), y, classes, l2=1e-6, intercept=False, solver=solver, tolerance=1e-8)
    assert exact.converged
    assert result.converged
    assert result.objective == pytest.approx(exact.objective, rel=2e-8)


@pytest.mark.parametrize(("size", "classes", "l1"), [(1e3, 2, 0.0), (1e300, 2, 0.01), (1e9, 3, 0.0), (1e300, 3, 0.0)])
def test_a_start_worse_than_the_null_model_is_left_out(size: float, classes: int, l1: float) -> None:
    X, y = data(classes)
    models = 1 if classes == 2 else classes
    start = size * torch.ones(models, 4).double().tril(), torch.zeros(models).double()
    for solver in SOLVERS if l1 == 0 else ["newton", "lbfgs"]:
        cold = run(X, y, classes, l1=l1, l2=1e-6, solver=solver, tolerance=1e-9)
        far = run(X, y, classes, l1=l1, l2=1e-6, solver=solver, tolerance=1e-9, start=start)
        assert cold.converged
        assert torch.equal(far.weight, cold.weight)
        assert torch.equal(far.bias, cold.bias)
        assert far.iterations == cold.iterations
        assert any("left out" in note for note in far.notes)


def test_a_good_start_is_taken() -> None:
    X, y = data(2)
    first = fit(X, y, l2=0.01, tolerance=1e-12)
    again = fit(X, y, l2=0.01, tolerance=1e-9, start=(first.weight, first.bias))
    assert again.iterations == 0
    assert again.notes == ()


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize(
    ("solver", "l2"), [("newton", 1e-310), ("newton-cg", 1e-45), ("lbfgs", 1e-30), ("auto", 1e-22)]
)
def test_a_penalty_below_rounding_is_as_none(solver: Any, l2: float, classes: int) -> None:
    X, y = data(classes)
    X[:, 3] = X[:, 1] - 2 * X[:, 2]
    none = run(X, y, classes, solver="newton", tolerance=1e-12)
    result = run(X, y, classes, l2=l2, solver=solver, tolerance=1e-12)
    assert none.converged
    assert result.converged
    assert result.certificate.kind == "decrement"
    assert torch.allclose(result.weight, none.weight, rtol=0, atol=1e-5)
    assert result.objective == pytest.approx(none.objective, rel=1e-11)


@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
@pytest.mark.parametrize("l2", [0.0, 1e-30])
def test_an_l1_below_rounding_is_as_none(l2: float, solver: Any) -> None:
    X, y = data(2)
    none = fit(X, y, tolerance=1e-12)
    result = fit(X, y, l1=1e-30, l2=l2, solver=solver, tolerance=1e-12)
    assert result.converged
    assert torch.allclose(result.weight, none.weight, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("solver", "classes"), [("newton", 2), ("lbfgs", 2), ("newton", 3)])
def test_l1_proves_the_optimum_where_l2_is_below_rounding(solver: Any, classes: int) -> None:
    X, y = data(classes)
    lasso = run(X, y, classes, l1=0.01, solver="newton", tolerance=1e-11)
    result = run(X, y, classes, l1=0.01, l2=1e-30, solver=solver, tolerance=1e-9)
    assert result.converged
    assert result.certificate.kind == "gap"
    assert objective(result, X, y, 0.01, 1e-30) - objective(lasso, X, y, 0.01, 0.0) <= result.gap + 1e-15


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("l2", [1e-12, 1e-30])
def test_separated_classes_have_an_optimum_with_any_penalty(l2: float, solver: Any, classes: int) -> None:
    X, _ = data(classes)
    y = (X[:, 0] > 0).long() + (X[:, 0] > 1).long() * (classes - 2)
    X[:, 0] += X[:, 0].sign()
    result = run(X, y, classes, l2=l2, solver=solver, tolerance=1e-8)
    assert result.weight.isfinite().all()
    assert result.separation is None
    assert result.converged
    assert result.objective <= 1e-7 * result.certificate.null_objective


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("options", [{"l1": 5e-4}, {"l1": 3e-4, "l2": 1e-4}, {"l2": 5e-4}], ids=str)
@pytest.mark.parametrize("size", [2e6, 1e9])
def test_one_column_of_large_units_takes_no_proof_away(size: float, options: dict[str, float], classes: int) -> None:
    X, y = data(classes, N=1000)
    X[:, 3] = size * (3 + X[:, 3])
    result = run(X, y, classes, tolerance=1e-10, **options)
    assert result.converged
    assert result.certificate.kind == "gap"


@pytest.mark.parametrize("tolerance", [1e-20, 1e-30])
@pytest.mark.parametrize("options", [{"l1": 0.05}, {"l2": 0.05}], ids=str)
def test_a_tolerance_below_rounding_makes_no_penalty_less(options: dict[str, float], tolerance: float) -> None:
    X, y = data(2)
    result = fit(X, y, tolerance=tolerance, **options)
    assert result.certificate.kind == "gap"
    assert result.relative_gap <= 1e-15


@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
@pytest.mark.parametrize("options", [{"l2": 1e-4}, {"l1": 5e-5, "l2": 5e-5}, {"l1": 1e-4}], ids=str)
def test_columns_next_to_copies_are_not_left_out_of_a_penalised_fit(options: dict[str, float], solver: Any) -> None:
    """What stands for the optimum here is a point that everybody can write down: the difference of the two columns."""
    X, y = data(2, N=2000, D=1)
    X = torch.cat([torch.full_like(X, 1e6), 1e6 + X], dim=1)
    result = fit(X, y, intercept=False, solver=solver, max_iterations=40, **options)
    by_hand = dataclasses.replace(result, weight=torch.tensor([-2.0, 2.0]), bias=torch.zeros(1))
    l1, l2 = options.get("l1", 0.0), options.get("l2", 0.0)
    lead = float(objective(result, X, y, l1, l2) - objective(by_hand, X, y, l1, l2))
    assert lead <= result.gap + 1e-12


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("options", [{"l2": 1e-17}, {"l2": 1e-20}, {"l1": 1e-19}], ids=str)
def test_a_penalty_that_rounding_hides_beside_columns_of_all_units(options: dict[str, float], classes: int) -> None:
    X, y = data(classes, N=1000)
    units = torch.tensor([1e-3, 1.0, 1e5, 1.0])
    result = run(X * units, y, classes, tolerance=1e-10, **options)
    none = run(X, y, classes, tolerance=1e-12)
    assert result.converged
    assert result.objective - none.objective <= 1e-10 * none.certificate.null_objective


@pytest.mark.parametrize("units", [(1e-3, 1e5), (1e-8, 1e8)])
@pytest.mark.parametrize("l2", [1e-9, 1e-15, 1e-23])
def test_a_weak_penalty_beside_columns_of_all_units_is_certified(l2: float, units: tuple[float, float]) -> None:
    X, y = data(2, N=1000)
    X[:, :2] *= torch.tensor(units)
    result = fit(X, y, l2=l2, tolerance=1e-10)
    assert result.converged
    polished = fit(X, y, l2=l2, tolerance=1e-15, start=(result.weight, result.bias))
    assert objective(result, X, y, 0.0, l2) - objective(polished, X, y, 0.0, l2) <= result.gap + 1e-15


def test_a_start_at_the_null_model_is_as_good_as_it() -> None:
    X, y = data(2)
    null = fit(X, y, l1=10.0)
    again = fit(X, y, l1=10.0, start=(null.weight, null.bias))
    assert not again.notes


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_state_goes_on_to_a_larger_tolerance(solver: Any) -> None:
    X, y = data(2)
    states = []
    fit(X, y, l2=1e-3, solver=solver, tolerance=1e-25, on_point=lambda row, point: states.append(point.state))
    result = fit(X, y, l2=1e-3, solver=solver, tolerance=1e-6, start=states[-1])
    assert result.ending == "tolerance"
    assert len(result.history) == 1
