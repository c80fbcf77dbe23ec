"""Many fits in one call: each group's model is the one that `fit` finds, and bootstraps agree with what is known."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from launches import counted_launches
from sklearn.datasets import load_breast_cancer, load_iris, load_wine
from sklearn.linear_model import LogisticRegression
from torch import Tensor

import flashlogit
from flashlogit import UserError, bootstrap, fit, fit_groups
from flashlogit.fitting import bootstrap as bootstraps
from flashlogit.fitting import groups
from flashlogit.fitting.inference import infer

CPU = ["numba", "torch"]


def standardized(load: Any, columns: int) -> tuple[np.ndarray, np.ndarray]:
    X, y = load(return_X_y=True)
    X = X[:, :columns]
    return (X - X.mean(axis=0)) / X.std(axis=0), (y == 1).astype(np.int64)


DATA = {"iris": (load_iris, 4), "wine": (load_wine, 13), "cancer": (load_breast_cancer, 30)}


@pytest.fixture(params=["numba", "torch", "missing"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """What makes the fits on a CPU; missing: auto, where Numba is not installed."""
    if request.param == "numba":
        pytest.importorskip("numba")
    if request.param == "missing":
        flashlogit.passes.choose_backend.cache_clear()
        monkeypatch.setattr("flashlogit.passes._installed", lambda package: package != "numba")
        yield "auto"
        flashlogit.passes.choose_backend.cache_clear()
    else:
        yield str(request.param)


def unequal(N: int, seed: int = 0) -> np.ndarray:
    """Groups of about a half, a quarter, ... of N rows, named so that their order is none of their first rows."""
    return np.array(["d", "b", "c", "a"])[np.random.default_rng(seed).choice(4, N, p=[0.5, 0.25, 0.15, 0.1])]


def assert_each_is_a_fit(found: Any, X: Any, y: Any, group: Any, s: Any = None, l2: Any = 0.0, **options: Any) -> None:
    """Against `fit` of each group by itself, within both gaps."""
    X, y = torch.as_tensor(X), torch.as_tensor(y)
    penalties = np.broadcast_to(l2, found.groups.shape)
    assert found.groups.tolist() == np.unique(group).tolist()
    for k, name in enumerate(found.groups):
        mine = torch.from_numpy(np.asarray(group) == name)
        weights = None if s is None else torch.as_tensor(s)[mine]
        one = fit(X[mine], y[mine], sample_weight=weights, l2=float(penalties[k]), **options)
        assert found.ending[k] == one.ending
        assert found.rows[k] == int(mine.sum())
        assert abs(found.objective[k] - one.objective) <= found.gap[k] + one.gap + 1e-14
        assert found.gap[k] <= options.get("tolerance", 1e-6) * one.certificate.null_objective * (1 + 1e-12)
        assert found.relative_gap[k] == pytest.approx(found.gap[k] / one.certificate.null_objective, rel=1e-9)
        torch.testing.assert_close(found.weight[k], one.weight, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found.bias[k], one.bias[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("data", DATA)
def test_groups_of_real_data(data: str, backend: str) -> None:
    """Unequal groups, in arbitrary order, against `fit` and scikit-learn."""
    X, y = standardized(*DATA[data])
    group = unequal(len(X))
    found = fit_groups(X, y, group, l2=1e-2, tolerance=1e-12, backend=backend)
    assert_each_is_a_fit(found, X, y, group, l2=1e-2, tolerance=1e-12)
    for k, name in enumerate(found.groups):
        mine = group == name
        model = LogisticRegression(C=1 / (1e-2 * mine.sum()), solver="newton-cholesky", tol=1e-9).fit(X[mine], y[mine])
        np.testing.assert_allclose(found.weight[k], model.coef_[0], rtol=1e-4, atol=1e-5)
        assert float(found.bias[k]) == pytest.approx(model.intercept_[0], rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_weights_and_a_penalty_for_each(backend: str, intercept: bool, dtype: torch.dtype) -> None:
    """Some weights are 0, some rows of which hold what is no number; X lies column by column."""
    X, y = (torch.as_tensor(each) for each in standardized(load_breast_cancer, 8))
    X = X.to(dtype).t().contiguous().t()
    group = torch.arange(len(X)) * 7 % 5 - 2
    s = torch.rand(len(X)) + 0.5
    s[::4] = 0
    X[8], l2 = torch.nan, np.array([1e-3, 1e-2, 0.1, 1.0, 1e-4])
    options: Any = {"intercept": intercept, "tolerance": 1e-11}
    found = fit_groups(X, y, group, sample_weight=s, l2=l2, backend=backend, **options)
    assert_each_is_a_fit(found, X, y, group, s, l2, **options)


def test_without_a_penalty(backend: str) -> None:
    """Overlapping classes are fitted at once, and groups whose classes are separated by `fit`, which says so."""
    X = torch.randn(300, 3, dtype=torch.float64)
    y = torch.rand(300) < torch.sigmoid(X[:, 0])
    group = np.arange(300) % 3
    y[group == 1] = X[group == 1, 1] > 0
    found = fit_groups(X, y, group, backend=backend, tolerance=1e-10)
    assert found.ending.tolist() == ["tolerance", "separated", "tolerance"]
    for k in (0, 2):
        one = fit(X[group == k], y[group == k], tolerance=1e-10)
        torch.testing.assert_close(found.weight[k], one.weight, rtol=1e-9, atol=1e-9)


def test_what_has_no_optimum_fails_alone(backend: str) -> None:
    """One class, soft labels of 0 only, or no row that counts; without an intercept one class has an optimum."""
    X, y = standardized(load_iris, 3)
    group, s = np.arange(150) % 5, np.ones(150)
    y[group == 0], y[group == 1], s[group == 3] = 1, 0, 0.0
    found = fit_groups(X, y.astype(float), group, l2=0.1, sample_weight=s, backend=backend)
    assert found.ending.tolist() == ["one class", "one class", "tolerance", "one class", "tolerance"]
    for values in (found.weight, found.bias, found.gap, found.objective, found.relative_gap):
        assert np.isfinite(np.asarray(values).reshape(5, -1).sum(axis=1)).tolist() == [False, False, True, False, True]
    assert found.rows.tolist() == [30] * 5
    free = fit_groups(X, y, group, l2=0.1, intercept=False, backend=backend)
    assert_each_is_a_fit(free, X, y, group, l2=0.1, intercept=False)


def test_what_is_not_small_is_fitted_by_itself(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest group is beyond the bound, another ends at the limit of iterations."""
    X, y = standardized(load_breast_cancer, 5)
    group = unequal(len(X))
    small = fit_groups(X, y, group, l2=1e-3, backend=backend)
    monkeypatch.setattr("flashlogit.fitting.tiny.SMALL_VALUES", 5 * 200)
    single: list[int] = []

    def counted(X: Tensor, *arguments: Any, **options: Any) -> Any:
        single.append(len(X))
        return fit(X, *arguments, **options)

    monkeypatch.setattr(groups, "fit", counted)
    found = fit_groups(X, y, group, l2=1e-3, backend=backend)
    assert single == [found.rows[3]]
    assert_each_is_a_fit(found, X, y, group, l2=1e-3)
    assert torch.equal(found.weight[:3], small.weight[:3])
    few = fit_groups(X, y, group, l2=1e-6, max_iterations=1, backend=backend)
    assert set(few.ending) == {"limit"}


def test_more_groups_than_one_call_takes(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = standardized(load_breast_cancer, 3)
    group = np.arange(len(X)) // 60
    at_once = fit_groups(X, y, group, l2=1e-2, backend=backend)
    monkeypatch.setattr(groups, "_PROBLEMS", 4)
    parts = fit_groups(X, y, group, l2=1e-2, backend=backend)
    assert torch.equal(at_once.weight, parts.weight)
    assert at_once.gap.tolist() == parts.gap.tolist()


@pytest.mark.usefixtures("kernels")
def test_the_kernel(device: torch.device) -> None:
    """One launch for unequal groups, each with its l2; not for one without a penalty, which `fit` takes."""
    X, y = (torch.as_tensor(each).to(device) for each in standardized(load_iris, 2))
    group = torch.tensor([0, 1, 1, 2, 2, 2, 3, 4, 4], device=device).repeat(17)[:150]
    y[group == 3] = 1
    s, l2 = torch.rand(150, device=device) + 0.5, np.array([0.1, 1e-2, 1e-3, 0.1, 0.0])
    options: Any = {"sample_weight": s, "l2": l2, "tolerance": 1e-4}
    with counted_launches() as counted:
        found = fit_groups(X, y, group, backend="triton", **options)
    assert counted.kernels["tiny_kernel"] == 1
    assert found.ending.tolist() == ["tolerance"] * 3 + ["one class", "tolerance"]
    expected = fit_groups(X.cpu(), y.cpu(), group.cpu(), backend="torch", **options | {"sample_weight": s.cpu()})
    torch.testing.assert_close(found.weight.cpu(), expected.weight, rtol=2e-2, atol=2e-2, equal_nan=True)
    within = found.gap + expected.gap + 1e-12
    assert (abs(found.objective - expected.objective) <= within)[[0, 1, 2, 4]].all()


X, Y, GROUP = np.ones((6, 2)), np.array([0, 1] * 3), np.array([5, 5, 5, 7, 7, 7])
NOT_FINITE = np.where(np.arange(12).reshape(6, 2) == 9, np.inf, 1.0)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"y": Y[:5]}, "y has 5"),
        ({"group": GROUP[:5]}, r"group .*\[5\].*\[6\]"),
        ({"group": GROUP[:, None]}, r"group .*\[6, 1\].*\[6\]"),
        ({"group": np.where(GROUP == 5, np.nan, 1)}, "group holds NaN"),
        ({"sample_weight": np.ones(5)}, "sample_weight has 5"),
        ({"sample_weight": np.arange(6) - 4.0}, r"sample_weight\[0\].*group 5"),
        ({"X": NOT_FINITE}, r"X\[4\].*group 7"),
        ({"X": NOT_FINITE.astype(np.float32)}, r"X\[4\].*group 7"),
        ({"X": torch.as_tensor(NOT_FINITE).bfloat16()}, r"X\[4\].*group 7"),
        ({"y": np.array([0, 1, 0, 2, 0, 1])}, r"y\[3\].*group 7"),
        ({"y": np.array([0, np.nan, 0, 1, 0, 1])}, r"y\[1\].*group 5"),
        ({"l2": -1.0}, "l2 is -1.0"),
        ({"l2": [0.1, np.nan]}, "l2 is nan"),
        ({"l2": [0.1, 0.1, 0.1]}, r"l2 .*\[3\].*\[2\]"),
        ({"tolerance": 0.0}, "tolerance is 0.0"),
        ({"max_iterations": 0}, "max_iterations is 0"),
        ({"backend": "gpu"}, "backend is 'gpu'"),
        ({"X": np.ones((0, 2)), "y": Y[:0], "group": GROUP[:0]}, "no rows"),
    ],
)
def test_bad_inputs(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_groups(**{"X": X, "y": Y, "group": GROUP, "l2": 0.1} | changed)


def test_arrays_that_torch_cannot_share() -> None:
    X, y = standardized(load_iris, 3)
    group = np.arange(150) % 2
    expected = fit_groups(X, y, group, l2=0.1, backend="torch")
    X.flags.writeable = False
    reverse = fit_groups(X[::-1], y[::-1], group[::-1], l2=0.1, backend="torch")
    torch.testing.assert_close(reverse.weight, expected.weight, rtol=1e-9, atol=1e-12)


def overlapping(N: int = 400) -> tuple[Tensor, Tensor]:
    X = torch.randn(N, 3, dtype=torch.float64)
    return X, torch.rand(N) < torch.sigmoid(X @ torch.tensor([0.8, -0.5, 0.0], dtype=torch.float64) + 0.3)


@pytest.mark.parametrize("intercept", [True, False])
def test_bootstrap_standard_errors(backend: str, intercept: bool) -> None:
    """Near Wald's, of a well-behaved fit without a penalty; the intervals too."""
    X, y = overlapping(800)
    replicates = 2000 if backend == "numba" else 600
    found = bootstrap(X, y, replicates=replicates, intercept=intercept, backend=backend, level=0.9)
    one = fit(X, y, intercept=intercept)
    wald = infer(X, y, one.weight, one.bias, intercept=intercept, level=0.9)
    assert found.left_out == {}
    assert found.weight.shape == (replicates, 3)
    np.testing.assert_allclose(found.coefficient, wald.coefficient, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.standard_error, wald.standard_error, rtol=0.15)
    reach = wald.ci_high - wald.ci_low
    np.testing.assert_allclose((found.ci_low - wald.ci_low) / reach, 0, atol=0.15)
    np.testing.assert_allclose((found.ci_high - wald.ci_high) / reach, 0, atol=0.15)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_replicate_is_a_fit_of_rows_drawn(backend: str, weighted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows repeated as often as they were drawn; the same of draws in several parts."""
    X, y = overlapping(60)
    s = torch.rand(60).double() * (torch.arange(60) % 3 > 0) if weighted else None
    options: Any = {"l2": 0.05, "tolerance": 1e-12, "sample_weight": s, "backend": backend}
    found = bootstrap(X, y, replicates=7, seed=3, **options)
    drawn = np.random.default_rng(3).integers(60, size=(7, 60))
    for k in range(7):
        rows = torch.from_numpy(drawn[k])
        one = fit(X[rows], y[rows], **options | {"sample_weight": None if s is None else s[rows]})
        torch.testing.assert_close(found.weight[k], one.weight, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(found.bias[k], one.bias[0], rtol=1e-5, atol=1e-6)
    monkeypatch.setattr(bootstraps, "_DRAWS", 130)
    parts = bootstrap(X, y, replicates=7, seed=3, **options)
    assert torch.equal(parts.weight, found.weight)


def test_bootstraps_repeat() -> None:
    """The seed, and not the number of threads, makes the numbers."""
    X, y = overlapping(100)
    before = torch.get_num_threads()
    try:
        found = []
        for threads, seed in ((1, 5), (2, 5), (2, 6)):
            torch.set_num_threads(threads)
            found.append(bootstrap(X, y, replicates=50, l2=0.01, seed=seed))
    finally:
        torch.set_num_threads(before)
    for name in ("weight", "bias", "standard_error", "ci_low", "ci_high"):
        first, second, other = (np.asarray(getattr(each, name)) for each in found)
        assert np.array_equal(first, second)
        assert not np.array_equal(first, other)


def test_replicates_without_an_optimum_are_left_out(backend: str) -> None:
    """Three rows of 24 are positive: some replicates have none of them, and some are separated."""
    X, y = torch.randn(24, 1, dtype=torch.float64), torch.arange(24) < 3
    X[:3] = X[3:6] + 0.5
    found = bootstrap(X, y, replicates=120, backend=backend)
    one_class = found.ending == "one class"
    drawn = np.random.default_rng(0).integers(24, size=(120, 24))
    assert one_class.tolist() == (drawn >= 3).all(axis=1).tolist()
    assert found.left_out["one class"] == one_class.sum() > 0
    used = found.ending == "tolerance"
    assert sum(found.left_out.values()) == 120 - used.sum()
    assert torch.isfinite(found.bias).tolist() == used.tolist()
    both = np.c_[found.weight, found.bias][used]
    np.testing.assert_allclose(found.standard_error, both.std(axis=0, ddof=1))
    np.testing.assert_allclose(found.ci_high, np.quantile(both, 0.975, axis=0))


def test_bootstraps_of_a_larger_table(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One fit after the other, with the same optima."""
    X, y = overlapping(200)
    small = bootstrap(X, y, replicates=5, l2=0.01, tolerance=1e-11, backend=backend)
    monkeypatch.setattr("flashlogit.fitting.tiny.SMALL_VALUES", 0)
    large = bootstrap(X, y, replicates=5, l2=0.01, tolerance=1e-11, backend=backend)
    torch.testing.assert_close(large.weight, small.weight, rtol=1e-4, atol=1e-5)
    assert large.left_out == {}


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("l2", [0.1, 0.0])
def test_bootstraps_by_the_kernel(device: torch.device, l2: float) -> None:
    X, y = (each.to(device) for each in overlapping(60))
    with counted_launches() as counted:
        found = bootstrap(X, y, replicates=6, l2=l2, tolerance=1e-4, backend="triton")
    assert counted.kernels["tiny_kernel"] == (2 if l2 > 0 else 1)  # of all rows, and of the replicates
    expected = bootstrap(X.cpu(), y.cpu(), replicates=6, l2=l2, tolerance=1e-10, backend="torch")
    assert expected.left_out == found.left_out == {}
    torch.testing.assert_close(found.weight.cpu(), expected.weight, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"replicates": 1}, "replicates is 1"),
        ({"replicates": 2.5}, "replicates is 2.5"),
        ({"level": 1.0}, "level is 1.0"),
        ({"l2": -1.0}, "l2 is -1.0"),
        ({"X": NOT_FINITE}, "finite"),
        ({"y": np.ones(6)}, "both classes"),
    ],
)
def test_bad_bootstraps(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bootstrap(**{"X": X, "y": Y, "l2": 0.1} | changed)


def test_nothing_to_draw_from() -> None:
    """Separated classes have no optimum on all rows."""
    X = torch.randn(50, 2)
    with pytest.raises(UserError, match="separate"):
        bootstrap(X, X[:, 0] > 0)


@pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="numba is not installed")
def test_numba_is_what_auto_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = overlapping(100)
    auto, asked, plain = (bootstrap(X, y, replicates=3, l2=0.1, backend=name) for name in ("auto", *CPU))
    assert torch.equal(auto.weight, asked.weight)
    torch.testing.assert_close(auto.weight, plain.weight, rtol=1e-9, atol=1e-11)
