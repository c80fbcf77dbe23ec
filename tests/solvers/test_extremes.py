"""Problems at the edge of what floating point can tell: far starts, constant columns, far means, hardly any penalty."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from problems import fitted
from torch import Tensor

from flashlogit import Fit, fit
from flashlogit.objectives.design import rows_by_weight

NAMES = ["newton", "newton-cg", "lbfgs"]
SOLVERS = pytest.mark.parametrize("solver", NAMES)
CLASSES = pytest.mark.parametrize("classes", [2, 3])
WIDE = np.longdouble


def data(classes: int, *, N: int = 128, D: int = 4) -> tuple[Tensor, Tensor]:
    """Standard normal columns, float64, and labels that overlap."""
    g = np.random.default_rng(1)
    X = g.normal(size=(N, D))
    logits = X[:, :1] * np.array([1, 0, -1])[:classes]
    return torch.from_numpy(X), torch.from_numpy(np.argmax(logits + g.gumbel(size=(N, classes)), axis=1))


def objective(result: Fit, X: Tensor, y: Tensor, l1: float = 0.0, l2: float = 0.0) -> np.longdouble:
    """P in the widest numbers that there are, for equal weights of the rows."""
    weight, bias, values = (t.double().numpy().astype(WIDE) for t in (result.weight, result.bias, X))
    z = values @ np.atleast_2d(weight).T + bias
    z = np.concatenate([-z, 0 * z], axis=1) if z.shape[1] == 1 else z
    margins = z - z[np.arange(len(z)), y.numpy()][:, None]
    losses = np.logaddexp.reduce(margins, axis=1)
    return losses.mean() + WIDE(l1) * abs(weight).sum() + WIDE(l2) / 2 * (weight * weight).sum()


@CLASSES
@pytest.mark.parametrize(
    ("kind", "dtype", "l2"),
    [
        ("constant", torch.float16, 1e-12),
        ("constant", torch.bfloat16, 1e-8),
        ("constant", torch.float32, 1e-30),
        ("nearly constant", torch.float16, 1e-8),
        ("far means", torch.float32, 1e-8),
        ("far means", torch.float32, 1e-30),
        ("no intercept", torch.float32, 1e-6),
    ],
)
def test_narrow_columns_reach_the_optimum(kind: str, dtype: torch.dtype, l2: float, classes: int) -> None:
    """L-BFGS is too slow for far means without an intercept."""
    X, y = data(classes)
    if kind == "constant":
        X[:, 1], X[:, 2] = 0.1, 1e3
    elif kind == "nearly constant":
        X[:, 1] = 1.0 + 2.0**-7 * (X[:, 2] > 0)
    else:
        X[:, 1:] += 1e6 if kind == "far means" else 1e4
    X, intercept = X.to(dtype), kind != "no intercept"
    options = {"l2": l2, "intercept": intercept, "tolerance": 1e-8}
    results = [fitted(X, y, classes, solver=solver, **options) for solver in NAMES[: 2 + intercept]]
    best = min(objective(result, X, y, l2=l2) for result in results)
    for result in results:
        assert result.converged
        assert result.iterations < 60
        assert objective(result, X, y, l2=l2) - best <= 2 * result.gap + 1e-14


@SOLVERS
@pytest.mark.parametrize(("size", "classes"), [(1e3, 2), (1e300, 2), (1e9, 3), (1e300, 3)])
def test_a_start_worse_than_the_null_model_is_left_out(size: float, classes: int, solver: Any) -> None:
    X, y = data(classes)
    models = 1 if classes == 2 else classes
    start = size * torch.ones(models, 4).double().tril(), torch.zeros(models).double()
    options = {"l1": 0.0 if solver == "newton-cg" else 0.01, "l2": 1e-6, "solver": solver, "tolerance": 1e-9}
    cold, far = (fitted(X, y, classes, start=given, **options) for given in (None, start))
    assert cold.converged
    assert torch.equal(far.weight, cold.weight)
    assert torch.equal(far.bias, cold.bias)
    assert far.iterations == cold.iterations
    assert "left out" in "".join(far.notes)


@pytest.mark.parametrize(("classes", "options"), [(2, {"l2": 0.01}), (3, {"l2": 0.01}), (2, {"l1": 10.0})])
def test_a_good_start_is_taken(classes: int, options: dict[str, float]) -> None:
    """One at the null model is as good as it."""
    X, y = data(classes)
    first = fitted(X, y, classes, tolerance=1e-12, **options)
    again = fitted(X, y, classes, tolerance=1e-9, start=(first.weight, first.bias), **options)
    assert again.iterations == 0
    assert again.notes == ()


@pytest.mark.parametrize(
    ("solver", "classes", "options"),
    [
        ("newton", 2, {"l2": 1e-310}),
        ("newton", 3, {"l2": 1e-310}),
        ("newton-cg", 2, {"l2": 1e-45}),
        ("newton-cg", 3, {"l2": 1e-45}),
        ("lbfgs", 2, {"l2": 1e-30}),
        ("newton", 2, {"l1": 1e-30}),
        ("lbfgs", 2, {"l1": 1e-30, "l2": 1e-30}),
    ],
)
def test_a_penalty_below_rounding_is_as_none(solver: Any, classes: int, options: dict[str, float]) -> None:
    X, y = data(classes)
    if "l1" not in options:
        X[:, 3] = X[:, 1] - 2 * X[:, 2]
    none = fitted(X, y, classes, solver="newton", tolerance=1e-12)
    result = fitted(X, y, classes, solver=solver, tolerance=1e-12, **options)
    assert none.converged
    assert result.converged
    assert result.certificate.kind == "decrement"
    assert torch.allclose(result.weight, none.weight, rtol=0, atol=1e-5)
    assert result.objective == pytest.approx(none.objective, rel=1e-11)


@CLASSES
@SOLVERS
@pytest.mark.parametrize("l2", [1e-12, 1e-30])
def test_separated_classes_have_an_optimum_with_any_penalty(l2: float, solver: Any, classes: int) -> None:
    X, _ = data(classes)
    y = (X[:, 0] > 0).long() + (X[:, 0] > 1).long() * (classes - 2)
    X[:, 0] += X[:, 0].sign()
    result = fitted(X, y, classes, l2=l2, solver=solver, tolerance=1e-8)
    assert result.weight.isfinite().all()
    assert result.separation is None
    assert result.converged
    assert result.objective <= 1e-7 * result.certificate.null_objective


@pytest.mark.parametrize(
    ("size", "classes", "tolerance", "options"),
    [
        (1e9, 2, 1e-10, {"l1": 3e-4, "l2": 1e-4}),
        (1e8, 3, 1e-10, {"l1": 5e-4}),
        (2e6, 3, 1e-10, {"l2": 5e-4}),
        (1.0, 2, 1e-30, {"l1": 0.05}),
        (1.0, 2, 1e-30, {"l2": 0.05}),
        (1.0, 2, 1e-9, {"l1": 0.01, "l2": 1e-30, "solver": "lbfgs"}),
        (1.0, 3, 1e-9, {"l1": 0.01, "l2": 1e-30}),
    ],
)
def test_neither_units_nor_a_tiny_tolerance_or_l2_take_a_proof_away(size, classes, tolerance, options) -> None:
    X, y = data(classes, N=1000)
    X[:, 3] = size * (3 + X[:, 3])
    result = fitted(X, y, classes, tolerance=tolerance, **options)
    assert result.certificate.kind == "gap"
    assert result.relative_gap <= max(tolerance, 1e-15)
    other = fitted(X, y, classes, tolerance=1e-12, **options | {"l2": options.get("l2", 0) * (tolerance != 1e-9)})
    assert objective(result, X, y, options.get("l1", 0), options.get("l2", 0)) <= other.objective + result.gap + 1e-14


@pytest.mark.parametrize(
    ("solver", "l1", "l2"), [("newton", 0.0, 1e-4), ("lbfgs", 0.0, 1e-4), ("newton", 5e-5, 5e-5), ("lbfgs", 1e-4, 0.0)]
)
def test_columns_next_to_copies_are_not_left_out_of_a_penalised_fit(solver: Any, l1: float, l2: float) -> None:
    """What stands for the optimum here is a point that everybody can write down: the difference of the two columns."""
    X, y = data(2, N=500, D=1)
    X = torch.cat([torch.full_like(X, 1e6), 1e6 + X], dim=1)
    result = fit(X, y, intercept=False, solver=solver, max_iterations=20, l1=l1, l2=l2)
    by_hand = dataclasses.replace(result, weight=torch.tensor([-2.0, 2.0]))
    assert objective(result, X, y, l1, l2) - objective(by_hand, X, y, l1, l2) <= result.gap + 1e-12


@CLASSES
@pytest.mark.parametrize(
    ("penalty", "size", "units"),
    [
        ("l2", 1e-9, (1e-8, 1e8, 1.0)),
        ("l2", 1e-15, (1e-3, 1e5, 1.0)),
        ("l2", 1e-23, (1e-8, 1e8, 1.0)),
        ("l2", 1e-20, (1e-3, 1.0, 1e5)),
        ("l1", 1e-19, (1e-3, 1.0, 1e5)),
    ],
)
def test_a_weak_penalty_beside_columns_of_all_units(penalty: str, size: float, units: Any, classes: int) -> None:
    X, y = data(classes, N=1000)
    X[:, :3] *= torch.tensor(units)
    options = {penalty: size}
    result = fitted(X, y, classes, tolerance=1e-10, **options)
    polished = fitted(X, y, classes, tolerance=1e-15, start=(result.weight, result.bias), **options)
    assert result.converged
    for other in (polished, fitted(X, y, classes, tolerance=1e-12)):
        assert objective(result, X, y, **options) - objective(other, X, y, **options) <= result.gap + 1e-15


@CLASSES
@pytest.mark.parametrize("size", [1e-307, 1e-200, 1e-157, 1e-155, 1e-153])
@pytest.mark.parametrize("intercept", [False, True])
def test_columns_whose_squares_vanish_prove_what_they_can(size: float, classes: int, intercept: bool) -> None:
    """A penalty too strong for any weight is proven so; about the others nothing is claimed."""
    X, y = data(classes)
    options: dict[str, Any] = {"intercept": intercept, "tolerance": 1e-9}
    result = fitted(size * X, y, classes, l1=0.02, **options)
    assert (result.converged, result.certificate.kind) == (True, "gap")
    assert not bool(result.weight.any())
    assert float(objective(result, size * X, y, 0.02)) == pytest.approx(result.objective, rel=1e-13)
    best = fitted(X, y, classes, l1=0.02, **options)
    other = fitted(size * X, y, classes, l1=0.02 * size, **options)
    if other.converged:
        assert other.certificate.kind == "gap"
        assert float(objective(other, size * X, y, 0.02 * size)) == pytest.approx(best.objective, rel=1e-8)
    else:
        assert other.relative_gap > 0.01
        assert len(other.remarks) == 1
    if size < 1e-154:
        with pytest.raises(ValueError, match="column 0"):
            fitted(size * X, y, classes, **options)


@CLASSES
@pytest.mark.parametrize("far", [1e17, 1e30, 1e100])
@pytest.mark.parametrize("penalty", [{}, {"l1": 1e-5}, {"l2": 1e-12}])
def test_values_lost_beside_a_far_off_row_prove_nothing(far: float, penalty: dict[str, float], classes: int) -> None:
    """Once the point of the far row alone was taken for the optimum."""
    X, y = data(classes)
    X[7] *= far
    try:
        assert not fitted(X, y, classes, tolerance=1e-6, **penalty).converged
    except ValueError as error:
        assert "column" in str(error)  # noqa: PT017


@pytest.mark.parametrize("far", [1e4, 1e6, 1e9])
@pytest.mark.parametrize(("N", "D"), [(128, 4), (60, 300)])
def test_a_row_far_off_takes_no_proof_away(N: int, D: int, far: float) -> None:
    """With the mean of the columns for their centre, the last took a minute and ended at a gap of 1e-3."""
    X, y = data(2, N=N, D=D)
    X[7] *= far
    result, rough = (fit(X, y.double(), l1=0.02, tolerance=t) for t in (1e-9, 1e-4))
    assert result.converged
    assert result.iterations <= 40
    assert float(objective(result, X, y, 0.02)) == pytest.approx(result.objective, rel=1e-9)
    assert result.objective <= rough.objective <= result.objective + rough.gap + 1e-9


@CLASSES
@pytest.mark.parametrize("solver", ["auto", *NAMES])
@pytest.mark.parametrize("N", [128, 3000])
def test_what_rows_of_weight_zero_hold_is_nothing(N: int, solver: Any, classes: int) -> None:
    """With values of 1e12 there, fits once ended where they began, and called it an optimum."""
    X, y = data(classes, N=N)
    s = torch.ones(N)
    s[::7] = 0.0
    counted = s > 0
    options: dict[str, Any] = {"l2": 1e-3, "solver": solver, "tolerance": 1e-11}
    expected = fitted(X[counted], y[counted], classes, **options)
    X[~counted] *= 1e12
    result = fitted(X, y, classes, sample_weight=s, **options)
    assert result.converged
    assert result.iterations <= 2 * expected.iterations + 5
    assert torch.allclose(result.weight, expected.weight, rtol=0, atol=1e-5)


def test_columns_are_measured_where_the_weights_are() -> None:
    """Equal weights choose every row once, and others as often as they ask for."""
    assert rows_by_weight(torch.full((5,), 0.3), 9).tolist() == [0, 1, 2, 3, 4]
    assert rows_by_weight(torch.tensor([0, 2.0, 0, 1, 1, 0, 4, 0]), 8).tolist() == [1, 1, 3, 4, 6, 6, 6, 6]
    some = rows_by_weight(torch.tensor([0.0, 1e-3, 0.0]).repeat_interleave(100_000), 64)
    assert int(some.min()) >= 100_000
    assert int(some.max()) < 200_000
    assert bool((some.diff() > 0).all())


def test_differences_that_are_rounding_errors_but_for_some_rows_are_a_column() -> None:
    X, y = data(2, N=2000)
    X[:, 3] = torch.where(torch.arange(2000) % 30 == 0, X[:, 3], 1e-17 * X[:, 3])
    assert torch.allclose(fit(X, y).weight, fit(X.where(X.abs() > 1e-12, 0.0), y).weight, rtol=0, atol=1e-6)
