"""`flashlogit.fit` and `fit_softmax` as their users call them: what they take, refuse, and leave alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from problems import alike, easy, fitted, several
from sklearn.datasets import load_digits, load_iris, load_wine
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from flashlogit import UserError, fit, fit_softmax

N, D, K = 400, 5, 4
SOLVERS = pytest.mark.parametrize("solver", ["newton", "newton-cg", "lbfgs"])
PENALTIES = [(0.0, 0.01), (0.005, 0.0), (0.003, 0.003), (0.0, 0.0)]


def data(N: int = N, D: int = D, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    X, y, _ = easy(N=N, D=D).tensors(dtype)
    return X, y


@pytest.mark.parametrize(
    ("dtype", "solver"), [(torch.float64, "newton"), (torch.bfloat16, "newton-cg"), (torch.float16, "lbfgs")]
)
def test_the_users_tensors_stay_as_they_are(dtype: torch.dtype, solver: Any) -> None:
    X, y = data(dtype=dtype)
    s = torch.rand(len(y))
    kept = X.clone(), y.clone(), s.clone()
    assert fit(X, y, sample_weight=s, l2=0.01, solver=solver, tolerance=1e-9).converged
    assert all(torch.equal(now, before) for now, before in zip((X, y, s), kept, strict=True))


@SOLVERS
@pytest.mark.parametrize("classes", [2, K])
@pytest.mark.parametrize(
    ("l1", "l2", "intercept"),
    [(0.0, 0.01, True), (0.01, 0.0, False), (0.004, 0.02, True), (0.0, 0.0, True), (10.0, 0.0, True)],
)
def test_what_a_fit_says_of_itself(solver: Any, classes: int, l1: float, l2: float, intercept: bool) -> None:
    """All solvers agree."""
    X, y, s = several(classes)
    options = {"sample_weight": s, "l1": l1, "l2": l2, "intercept": intercept}
    if solver == "newton-cg" and l1:
        with pytest.raises(UserError, match="takes no l1"):
            fitted(X, y, classes, solver=solver, **options)
        return
    heard = []
    options["on_point"] = lambda row, parameters: heard.append((row, parameters()))
    best = fitted(X, y, classes, tolerance=1e-12, **options)
    heard.clear()
    result = fitted(X, y, classes, solver=solver, tolerance=1e-9, **options)
    assert result.converged
    assert 0 <= result.relative_gap <= result.tolerance == 1e-9
    assert result.certificate.kind == ("gap" if l1 + l2 else "decrement")
    assert -1e-11 <= result.objective - best.objective <= result.gap + (1e-14 if l1 + l2 else 1e-9)
    assert result.weight.dtype == result.bias.dtype == torch.float64
    assert (result.weight.shape, result.bias.shape) == (((D,), (1,)) if classes == 2 else ((K, D), (K,)))
    z = X @ result.weight.reshape(-1, D).t() + result.bias
    z = torch.cat([0 * z, z], dim=1) if classes == 2 else z
    loss = (s * torch.nn.functional.cross_entropy(z, y, reduction="none")).sum() / s.sum()
    value = loss + l1 * result.weight.abs().sum() + 0.5 * l2 * result.weight.square().sum()
    assert float(value) == pytest.approx(result.objective, rel=1e-12)
    assert (result.weight == 0).all() == (l1 == 10)
    assert result.bytes_read == result.passes * N * D * 8
    assert result.notes == ()
    assert [row for row, _ in heard] == result.history
    # Without a penalty a last step goes further than what was heard of.
    assert torch.allclose(heard[-1][1][0], result.weight, rtol=0 if l1 + l2 else 0.01, atol=0 if l1 + l2 else 1e-4)


@pytest.mark.parametrize("shape", [(2, 1), (40, 120)])
@pytest.mark.parametrize(("l1", "l2"), PENALTIES[:3])
def test_small_and_wide(shape: tuple[int, int], l1: float, l2: float) -> None:
    X, y = data(*shape)
    y[0], y[1] = 0, 1
    assert fit(X, y, l1=l1, l2=l2, tolerance=1e-8).converged


@pytest.mark.parametrize(("l1", "l2"), PENALTIES)
def test_rare_classes(l1: float, l2: float) -> None:
    X, y = torch.randn(20_000, 5), torch.rand(20_000) < 1e-3
    X[y] += 0.5
    assert fit(X, y, l1=l1 * 1e-3, l2=l2 * 1e-3, tolerance=1e-9).converged


def test_the_kernels_fit_too(device: torch.device) -> None:
    """In Triton's interpreter, where there is no GPU."""
    X, y = (tensor.to(device) for tensor in data(20, 2))
    expected = fit(X, y, l2=0.01, tolerance=1e-12, backend="torch")
    for solver in ("newton", "lbfgs", "newton-cg"):
        options = {"l2": 0.01, "tolerance": 1e-12, "backend": "triton", "solver": solver}
        result = fit(X, y, **options, on_point=lambda *_: None)  # not in one launch
        assert result.converged
        torch.testing.assert_close(result.weight, expected.weight, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(
    ("classes", "changed", "error", "message"),
    [
        (2, {"X": np.zeros((4, 2))}, TypeError, "X"),
        (2, {"X": torch.zeros(0, D), "y": torch.zeros(0)}, ValueError, "no rows"),
        (2, {"y": torch.zeros(3)}, ValueError, "y has 3"),
        (2, {"y": torch.full((N,), 2.0)}, ValueError, r"y holds a label outside \[0, 1\]"),
        (2, {"y": torch.full((N,), torch.nan)}, ValueError, r"y holds a label outside \[0, 1\]"),
        (2, {"y": torch.zeros(N)}, ValueError, "both classes"),
        (2, {"sample_weight": torch.full((N,), -1.0)}, ValueError, "sample_weight holds a negative"),
        (2, {"sample_weight": torch.zeros(N)}, ValueError, "only zeros"),
        (2, {"l2": -1.0}, ValueError, "l2 is -1.0; must be at least 0"),
        (2, {"l1": float("inf")}, ValueError, "l1 is inf"),
        (2, {"tolerance": 0.0}, ValueError, "tolerance is 0.0; must lie between 0 and 1"),
        (2, {"max_iterations": 0}, ValueError, "max_iterations is 0; must be a whole number of at least 1"),
        (2, {"max_iterations": 1.5}, ValueError, "max_iterations is 1.5"),
        (2, {"names": ["a"]}, ValueError, "names has 1 entries; must have 5"),
        (2, {"y": torch.zeros(N, dtype=torch.complex64)}, TypeError, "y is torch.complex64; must be a real dtype"),
        (2, {"sample_weight": torch.ones(N, dtype=torch.complex64)}, TypeError, "sample_weight is torch.complex64"),
        (2, {"start": torch.zeros(2, 2)}, TypeError, "start is no pair of tensors"),
        (2, {"start": (torch.zeros(4), torch.zeros(1))}, ValueError, "start has 4 weights"),
        (2, {"start": (torch.full((D,), torch.nan), torch.zeros(1))}, ValueError, "must be finite"),
        (2, {"backend": "cuda"}, ValueError, "backend is 'cuda'"),
        (K, {"y": torch.full((N,), -1)}, ValueError, "class number -1"),
        (K, {"y": torch.zeros(N)}, TypeError, "integer dtype"),
        (K, {"classes": 3}, ValueError, "class number 3"),
        (K, {"classes": 5}, ValueError, "class 4 of y has no row"),
        (K, {"classes": 1}, ValueError, "classes is 1"),
        (K, {"start": (torch.zeros(K * D), torch.zeros(2))}, ValueError, "and 2 intercepts; must be 20 and 4"),
        (K, {"X": torch.zeros(N, 2000), "solver": "newton"}, UserError, "2,048"),
    ],
)
def test_what_is_refused(classes: int, changed: dict[str, Any], error: type[Exception], message: str) -> None:
    X, y, _ = several(classes)
    with pytest.raises(error, match=message):
        (fit if classes == 2 else fit_softmax)(**{"X": X, "y": y, "l2": 0.01} | changed)


@pytest.mark.parametrize(("value", "N"), [(float("nan"), 400), (float("inf"), 200_000)])
@pytest.mark.parametrize("l2", [0.01, 0.0])
def test_values_that_are_not_finite(value: float, N: int, l2: float) -> None:
    """The first one is named, by its column too."""
    X, y = data(N, 6)
    X[N // 2 + 1, 3] = X[N - 1, 0] = value
    with pytest.raises(ValueError, match=f"X holds {value} in row {N // 2 + 1}, column 3"):
        fit(X, y, l2=l2)
    X[0, 2] = value
    with pytest.raises(ValueError, match=r"in row 0, column 2 \(c\);"):
        fit(X, y, l2=l2, names=list("abcdef"))
    with pytest.raises(ValueError, match="in row 0, column 2;"):
        fit(X, y, l2=l2, start=(torch.zeros(6), torch.zeros(1)))


@pytest.mark.parametrize(("load", "intercept"), [(load_iris, True), (load_wine, False), (load_digits, True)])
def test_a_softmaxs_optimum_is_scikit_learns(load: Any, intercept: bool) -> None:
    X, y = load(return_X_y=True)
    X = X / X.std(axis=0).clip(0.1)
    # Its lbfgs takes a thousand iterations and a minute where many threads share two cores.
    expected = LogisticRegression(C=0.5, tol=1e-10, solver="newton-cg", fit_intercept=intercept).fit(X, y)
    result = fit_softmax(torch.from_numpy(X), torch.from_numpy(y), l2=2 / len(y), intercept=intercept, tolerance=1e-13)
    assert result.converged
    assert np.allclose(result.weight.numpy(), expected.coef_, atol=1e-5)
    assert np.allclose(result.bias.numpy(), expected.intercept_ - expected.intercept_.mean(), atol=1e-5)


@pytest.mark.parametrize(("load", "C", "l1_ratio"), [(load_iris, 1e4, 1.0), (load_wine, 1e4, 0.5), (load_wine, 1, 1.0)])
def test_weak_l1_penalties_converge(load: Any, C: float, l1_ratio: float) -> None:
    X, y = (torch.from_numpy(array) for array in load(return_X_y=True))
    penalties = {"l1": l1_ratio / (C * len(y)), "l2": (1 - l1_ratio) / (C * len(y))}
    assert fit_softmax(X, y, tolerance=1e-10, max_iterations=60, **penalties).converged


@pytest.mark.parametrize("l2", [1e-2, 1e-15])
def test_weights_add_up_to_zero_however_weak_l2_is(l2: float) -> None:
    X, y, s = several(K)
    start = torch.ones(K, D), torch.zeros(K)
    weight = fit_softmax(X, y, sample_weight=s, l2=l2, start=start, tolerance=1e-10).weight
    assert weight.sum(dim=0).abs().max() <= 1e-14 * weight.abs().max()


def test_a_larger_table_starts_from_a_sample() -> None:
    X = torch.randn(60_000, 6)
    y = (X @ torch.randn(6, 3) + torch.randn(60_000, 3)).argmax(dim=1)
    result = fit_softmax(X, y, l2=1e-4, tolerance=1e-12)
    assert result.converged
    assert result.passes < 15


@pytest.mark.parametrize(("load", "kind"), [(load_wine, "complete"), (load_iris, "suspected")])
def test_separated_classes_are_told(load: Any, kind: str) -> None:
    """Only one class of the irises is."""
    result = fit_softmax(*map(torch.from_numpy, load(return_X_y=True)), tolerance=1e-10)
    assert not result.converged
    assert result.separation.kind == kind
    assert "no finite optimum" in result.notes[0]


@pytest.mark.parametrize("solver", ["newton", "newton-cg"])
def test_collinear_columns_have_the_smallest_coefficients(solver: Any) -> None:
    X, y, _ = several(K, far=False)
    ones = torch.ones(N, dtype=torch.int64)
    result = fit_softmax(
        torch.cat([X, X[:, :1]], dim=1), y, sample_weight=ones, tolerance=1e-10, solver=solver, names=list("abcdef")
    )
    assert result.converged
    assert 'column "f" is determined by "a"' in result.notes[0]
    assert torch.allclose(result.weight[:, 0], result.weight[:, 5], atol=1e-6)
    assert torch.allclose(result.weight.sum(dim=0), torch.zeros(6, dtype=torch.float64), atol=1e-9)


@pytest.mark.parametrize("l2", [1e-3, 1e-9])
def test_conjugate_gradients_leave_out_what_all_classes_share(l2: float) -> None:
    assert fit_softmax(*alike(3), l2=l2, solver="newton-cg", tolerance=1e-10, max_iterations=12).converged


def test_a_far_row_of_weight_0_takes_no_proof_away() -> None:
    """Its logit is so large that a divergence is no number."""
    generator = torch.Generator().manual_seed(1)
    X = torch.randn(200, 4, generator=generator, dtype=torch.float64)
    y, s = torch.rand(200, generator=generator) < torch.sigmoid(X[:, 0]), torch.ones(200)
    X[:5], s[:5] = 1e3, 0.0
    result = fit(X, y, sample_weight=s, l1=1e-3)
    without = fit(X[5:], y[5:], l1=1e-3, tolerance=1e-10)
    assert result.converged
    assert 0 <= result.gap <= 1e-6
    assert result.objective - without.objective <= result.gap + 1e-9
