"""Many models in one call against each one alone, and against scikit-learn on the same rows."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

from flashlogit import fit, fit_many, fit_softmax
from flashlogit.fitting import held_out, many_task
from flashlogit.solvers.many import hessians, side_by_side

PENALTIES = [1e-3, 1e-2, 1e-1, 1.0]


def digits(rows: int = 700) -> tuple[np.ndarray, np.ndarray]:
    X, y = load_digits(return_X_y=True)
    return X[:rows, 10:40] / 16, y[:rows]


def sklearn_fit(X: np.ndarray, y: np.ndarray, l2: float, **options: Any) -> LogisticRegression:
    model = LogisticRegression(C=1 / (l2 * len(X)), tol=1e-11, max_iter=10_000, **options)
    return model.fit(X, y)


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> None:
    """No table is so small that its models are fitted at once each."""
    monkeypatch.setattr(many_task, "most_rows", lambda X, backend: 0)


@pytest.mark.parametrize("backend", ["numba", "torch"])
@pytest.mark.parametrize("at_once", [True, False])
def test_a_grid_with_missing_labels_agrees_with_scikit_learn(
    backend: str, at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not at_once:
        monkeypatch.setattr(many_task, "most_rows", lambda X, backend: 0)
    X, y = digits()
    Y = np.stack([y == 3, y == 8, y % 2], axis=1).astype(float)
    Y[::7, 1] = np.nan
    Y[100:160, 2] = np.nan
    found = fit_many(X, Y, l2=PENALTIES, folds=3, tolerance=1e-13, targets=["three", "eight", "odd"], backend=backend)
    assert list(found) == ["three", "eight", "odd"]
    assert found.folds is not None
    for t, of in enumerate(found.values()):
        known = ~np.isnan(Y[:, t])
        assert set(of.ending.reshape(-1)) == {"tolerance"}
        for place, l2 in enumerate(PENALTIES):
            for fold in range(3):
                train, test = found.folds.train(fold) & known, found.folds.test(fold) & known
                model = sklearn_fit(X[train], Y[train, t], l2, solver="newton-cholesky")
                np.testing.assert_allclose(of.weight[place, fold], model.coef_[0], atol=1e-5)
                np.testing.assert_allclose(of.bias[place, fold], model.intercept_[0], atol=1e-5)
                p = model.predict_proba(X[test])[:, 1]
                assert of.held_loss[place, fold] == pytest.approx(log_loss(Y[test, t], p), abs=1e-6)
                assert of.accuracy[place, fold] == pytest.approx(((p > 0.5) == Y[test, t]).mean())
                assert of.roc_auc[place, fold] == pytest.approx(roc_auc_score(Y[test, t], p))
        assert of.best == of.mean_loss.argmin()
        assert of.refit is not None
        model = sklearn_fit(X[known], Y[known, t], PENALTIES[of.best], solver="newton-cholesky")
        np.testing.assert_allclose(of.refit.weight[0, 0], model.coef_[0], atol=1e-5)


def test_a_softmax_grid_agrees_with_scikit_learn() -> None:
    X, y = digits()
    y = y % 4
    found = fit_many(X, y, l2=PENALTIES, folds=3, tolerance=1e-13)
    of = found["y"]
    assert found.folds is not None
    for place, l2 in enumerate(PENALTIES):
        for fold in range(3):
            train, test = found.folds.train(fold), found.folds.test(fold)
            model = sklearn_fit(X[train], y[train], l2, solver="newton-cholesky")
            np.testing.assert_allclose(of.weight[place, fold], model.coef_, atol=1e-5)
            expected = log_loss(y[test], model.predict_proba(X[test]))
            assert of.held_loss[place, fold] == pytest.approx(expected, abs=1e-6)
            assert of.accuracy[place, fold] == pytest.approx(model.score(X[test], y[test]))
    assert np.isnan(of.roc_auc).all()


@pytest.mark.usefixtures("together")
def test_one_model_is_the_single_fit() -> None:
    X, y = load_breast_cancer(return_X_y=True)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    one = fit_many(X, y, l2=1e-3, tolerance=1e-10)["y"]
    single = fit(torch.from_numpy(X), torch.from_numpy(y), l2=1e-3, tolerance=1e-10)
    assert abs(float(one.objective[0, 0]) - single.certificate.objective) <= one.gap[0, 0] + single.gap
    assert one.relative_gap[0, 0] <= 1e-10
    torch.testing.assert_close(one.weight[0, 0], single.weight, atol=1e-3, rtol=0)
    assert one.best is None


@pytest.mark.usefixtures("together")
@pytest.mark.parametrize("kind", ["float32", "bfloat16", "by columns"])
def test_wide_hard_columns_reach_the_gap(kind: str) -> None:
    generator = np.random.default_rng(2)
    X = generator.normal(size=(900, 90)) @ (generator.normal(size=(90, 90)) * np.logspace(0, -2, 90))
    X[:, 5] += 40
    X[:, 7] = 3.0
    Y = (generator.random((900, 2)) < 1 / (1 + np.exp(-X[:, :2]))).astype(float)
    data = torch.from_numpy(np.asfortranarray(X) if kind == "by columns" else X)
    data = data if kind == "by columns" else data.to(getattr(torch, kind))
    found = fit_many(data, Y, C=np.logspace(-3, 3, 7), folds=2, tolerance=1e-9)
    for t, of in enumerate(found.values()):
        assert set(of.ending.reshape(-1)) == {"tolerance"}
        for place, fold in ((0, 0), (6, 1)):
            assert found.folds is not None
            rows = torch.from_numpy(found.folds.train(fold))
            alone = fit(data[rows], torch.from_numpy(Y[:, t])[rows], l2=float(of.l2[place, fold]), tolerance=1e-9)
            apart = abs(alone.certificate.objective - of.objective[place, fold])
            assert apart <= alone.gap + of.gap[place, fold] + 1e-12


def test_a_sample_starts_the_models_of_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(3)
    X = generator.normal(size=(40_000, 12)).astype(np.float32)
    y = generator.random(40_000) < 1 / (1 + np.exp(-X.sum(axis=1)))
    started = []
    of_sample = side_by_side._of_sample
    monkeypatch.setattr(side_by_side, "_of_sample", lambda *a: started.append(of_sample(*a)) or started[-1])
    found = fit_many(X, y, l2=np.logspace(-5, 0, 6), folds=3, tolerance=1e-9)
    assert started[-1] is not None or started[0] is not None
    assert found["y"].relative_gap.max() <= 1e-9
    # A path of single fits reads X more often for each of 18 models than this does for all of them.
    assert found.passes < 60


def test_penalties_on_columns_scaled_within_each_fold() -> None:
    X, y = load_breast_cancer(return_X_y=True)
    found = fit_many(X, y, l2=[1e-2], folds=3, standardize=True, tolerance=1e-13)
    assert found.folds is not None
    train = found.folds.train(1)
    mean, scale = X[train].mean(axis=0), X[train].std(axis=0)
    model = sklearn_fit((X[train] - mean) / scale, y[train], 1e-2, solver="newton-cholesky")
    np.testing.assert_allclose(found["y"].weight[0, 1] * torch.from_numpy(scale), model.coef_[0], atol=1e-5)


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "float16"])
@pytest.mark.parametrize("l1_ratio", [0.0, 0.5])
@pytest.mark.parametrize("weighted", [True, False])
def test_columns_scaled_with_weights_missing_labels_and_few_digits(dtype: str, l1_ratio: float, weighted: bool) -> None:
    X, y = load_breast_cancer(return_X_y=True)
    stored = torch.from_numpy(X[:, :6]).to(getattr(torch, dtype))
    s = np.random.default_rng(0).random(len(y)) * 3 if weighted else None
    Y = np.stack([y, X[:, 7] > 0.05], axis=1).astype(float)
    Y[::5, 0], Y[1::4, 1] = np.nan, np.nan
    how: dict[str, Any] = {"l2": [1e-3, 1e-1], "l1_ratio": l1_ratio, "sample_weight": s, "tolerance": 1e-13}
    found = fit_many(stored, Y, folds=2, standardize=True, scores="loss", **how)
    assert found.folds is not None
    wide = stored.double().numpy()
    for t, of in enumerate(found.values()):
        known = ~np.isnan(Y[:, t])
        train, test = found.folds.train(0) & known, found.folds.test(0) & known
        of_train, of_test = (None, None) if s is None else (s[train], s[test])
        mean = np.average(wide[train], axis=0, weights=of_train)
        scale = np.sqrt(np.average((wide[train] - mean) ** 2, axis=0, weights=of_train))
        for place in range(2):
            alone = fit(
                torch.from_numpy(wide[train] / scale),
                torch.from_numpy(Y[train, t]),
                sample_weight=None if of_train is None else torch.from_numpy(of_train),
                l1=float(of.l1[place, 0]),
                l2=float(of.l2[place, 0]),
                tolerance=1e-13,
            )
            assert of.ending[place, 0] == "tolerance"
            assert of.objective[place, 0] == pytest.approx(alone.objective, rel=1e-11)
            # P is strongly convex: both are within sqrt(2 gap / l2) of the optimum.
            apart = np.linalg.norm(of.weight[place, 0].numpy() * scale - alone.weight.numpy())
            assert apart <= sum(np.sqrt(2 * gap / of.l2[place, 0]) for gap in (of.gap[place, 0], alone.gap)) + 1e-9
            z = wide[test] @ (alone.weight.numpy() / scale) + float(alone.bias)
            expected = log_loss(Y[test, t], 1 / (1 + np.exp(-z)), sample_weight=of_test)
            assert of.held_loss[place, 0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.usefixtures("together")
@pytest.mark.parametrize("backend", ["numba", "torch"])
@pytest.mark.parametrize(("l1_ratio", "options"), [(0.5, {}), (1.0, {}), (0.7, {"standardize": True}), (1.0, {"C": 1})])
def test_an_l1_term_side_by_side(backend: str, l1_ratio: float, options: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[int] = []
    monkeypatch.setattr(many_task.ManyTask, "_fit_one_by_one", lambda self, singles, *args: left.extend(singles))
    X, y = load_breast_cancer(return_X_y=True)
    X, s = X[:, ::2] + 3, 1.0 + np.arange(len(X)) % 3
    penalty = {"C": [0.01, 0.1]} if "C" in options else {"l2": [1e-3, 1e-2, 0.1]}
    how = {"l1_ratio": l1_ratio, "sample_weight": s, "tolerance": 1e-9, "standardize": "standardize" in options}
    of = fit_many(X, y, folds=3, backend=backend, **penalty, **how)["y"]
    assert left == []
    assert set(of.ending.reshape(-1)) == {"tolerance"}
    folds = np.asarray(fit_many(X, y, folds=3, l2=1.0).folds.codes[0])
    for place in range(len(of.l2)):
        train = folds != 1
        d = np.sqrt(np.cov(X[train].T, aweights=s[train], ddof=0).diagonal()) if how["standardize"] else np.ones(15)
        rows, labels, weight = (torch.from_numpy(each[train]) for each in (X / d, y.astype(float), s))
        l1, l2 = float(of.l1[place, 1]), float(of.l2[place, 1])
        alone = fit(rows, labels, sample_weight=weight, l1=l1, l2=l2, tolerance=1e-12)
        assert of.objective[place, 1] == pytest.approx(alone.certificate.objective, rel=1e-9)
        assert of.objective[place, 1] - alone.certificate.objective <= of.gap[place, 1] + 1e-13
        found, expected = of.weight[place, 1].numpy() * d, alone.weight.numpy()
        np.testing.assert_array_equal(found != 0, expected != 0)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_weights_and_no_intercept() -> None:
    X, y = load_breast_cancer(return_X_y=True)
    X = X / X.std(axis=0)
    s = np.random.default_rng(0).random(len(y)) * 3
    s[::10] = 0.0
    found = fit_many(X, y, l2=[1e-2], folds=2, sample_weight=s, intercept=False, tolerance=1e-12)
    assert found.folds is not None
    train = found.folds.train(0)
    model = LogisticRegression(C=1 / (1e-2 * s[train].sum()), fit_intercept=False, tol=1e-11, solver="newton-cholesky")
    model.fit(X[train], y[train], sample_weight=s[train])
    np.testing.assert_allclose(found["y"].weight[0, 0], model.coef_[0], atol=1e-4)
    test = found.folds.test(0)
    p = model.predict_proba(X[test])[:, 1]
    assert found["y"].held_loss[0, 0] == pytest.approx(log_loss(y[test], p, sample_weight=s[test]), abs=1e-6)
    assert found["y"].roc_auc[0, 0] == pytest.approx(roc_auc_score(y[test], p, sample_weight=s[test]))


def test_rows_without_a_weight_do_not_count() -> None:
    X, y = load_breast_cancer(return_X_y=True)
    s, wild = np.ones(len(y)), X.copy()
    s[:9], wild[:9] = 0.0, 1e12
    options: dict = {"l2": [1e-2], "folds": np.arange(len(y)) % 2, "standardize": True, "tolerance": 1e-10}
    found = [fit_many(each, y, sample_weight=s, **options)["y"] for each in (X, wild)]
    for of in found:
        assert set(of.ending.reshape(-1)) == {"tolerance"}
    np.testing.assert_allclose(found[0].weight, found[1].weight, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("how", ["together", "at once", "one by one", "scaled"])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("wild", [np.nan, np.inf, 1e200, 1e12])
def test_what_rows_hold_that_count_for_no_model(
    how: str, weighted: bool, wild: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how == "together":
        monkeypatch.setattr(many_task, "most_rows", lambda X, backend: 0)
    X, y = digits(300)
    Y, s = np.stack([y == 1, y % 2], axis=1).astype(float), np.linspace(0.5, 2, 300)
    counts = np.arange(300) % 9 > 1
    Y[5::9, 0] = np.nan
    if weighted:
        s[~counts] = 0.0
    else:
        Y[~counts] = np.nan
    other = X.copy()
    other[~counts, 3] = wild
    of: dict = {"l2": [1e-2, 1e-1], "l1_ratio": 0.5 if how == "one by one" else 0.0, "standardize": how == "scaled"}
    numbers = np.arange(300) % 2
    found = fit_many(other, Y, sample_weight=s if weighted else None, folds=numbers, **of)
    s_of = s[counts] if weighted else None
    expected = fit_many(X[counts], Y[counts], sample_weight=s_of, folds=numbers[counts], **of)
    assert found.folds is not None
    np.testing.assert_array_equal(found.folds.test(1), numbers == 1)
    for name, one in expected.items():
        assert set(found[name].ending.reshape(-1)) == {"tolerance"}
        torch.testing.assert_close(found[name].weight, one.weight, rtol=1e-12, atol=1e-14)
        for key in ("held_loss", "accuracy", "roc_auc"):
            np.testing.assert_allclose(getattr(found[name], key), getattr(one, key), rtol=1e-12)


@pytest.mark.usefixtures("together")
def test_values_that_count_are_named_by_their_row_beside_others_that_do_not() -> None:
    X, y = digits(100)
    Y = (y == 1).astype(float)
    Y[2], X[2, 0], X[7, 4] = np.nan, np.inf, np.nan
    with pytest.raises(ValueError, match="row 7, column 4"):
        fit_many(X, Y, l2=[1e-2], folds=2)


def test_a_row_far_off_among_many_does_not_count() -> None:
    X = np.random.default_rng(0).normal(size=(60_000, 2))
    y = (X[:, 0] > X[:, 1] ** 2 - 1).astype(float)
    expected = fit_many(X[1:], y[1:], l2=[1e-2])["y"].weight
    X[0, 0], y[0] = 1e200, np.nan
    torch.testing.assert_close(fit_many(X, y, l2=[1e-2])["y"].weight, expected, rtol=1e-12, atol=0)


def test_a_row_far_off_does_not_count_where_it_is_held_out() -> None:
    X, y = load_breast_cancer(return_X_y=True)
    X[0, 2] = 1e9
    how: dict = {"l2": [1e-2], "standardize": True, "tolerance": 1e-12}
    numbers = np.arange(len(y)) % 3
    found = fit_many(X, y, folds=numbers, **how)["y"]
    train = numbers != 0
    alone = fit_many(X[train], y[train], **how)["y"]
    np.testing.assert_allclose(found.weight[0, 0], alone.weight[0, 0], rtol=1e-4, atol=1e-7)


def test_rows_of_bfloat16_scaled_for_a_single_fit_keep_their_digits() -> None:
    X, y = load_breast_cancer(return_X_y=True)
    narrow = torch.from_numpy(X[:, :6]).bfloat16()
    how: dict = {"l2": [1e-2], "l1_ratio": 0.5, "standardize": True, "tolerance": 1e-10}
    found, wide = (fit_many(each, y, **how)["y"] for each in (narrow, narrow.double()))
    assert abs(float(found.objective[0, 0] - wide.objective[0, 0])) <= found.gap[0, 0] + wide.gap[0, 0] + 1e-12


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, bool, np.float32, object])
def test_labels_and_tables_of_any_numbers(dtype: type) -> None:
    pd = pytest.importorskip("pandas")
    X, y = digits(200)
    X = (16 * X).astype(int)
    expected = fit_many(X.astype(float), (y == 1).astype(float), l2=[1e-2], folds=2)["y"]
    found = fit_many(pd.DataFrame(X), pd.Series((y == 1).astype(dtype)), l2=[1e-2], folds=2)["y"]
    assert torch.equal(found.weight, expected.weight)


def test_what_is_fitted_one_by_one() -> None:
    X, y = load_breast_cancer(return_X_y=True)
    X = X[:, :8] / X[:, :8].std(axis=0)
    found = fit_many(X, y, folds=2, tolerance=1e-13, l2=[0.0, 1e-2])
    of = found["y"]
    assert found.folds is not None
    for place in range(2):
        train, test = found.folds.train(1), found.folds.test(1)
        how = {"l1": float(of.l1[place, 1]), "l2": float(of.l2[place, 1]), "tolerance": 1e-13}
        alone = fit(torch.from_numpy(X[train]), torch.from_numpy(y[train]), **how)
        torch.testing.assert_close(of.weight[place, 1], alone.weight, atol=1e-8, rtol=0)
        z = X[test] @ alone.weight.numpy() + float(alone.bias)
        assert of.held_loss[place, 1] == pytest.approx(log_loss(y[test], 1 / (1 + np.exp(-z))), rel=1e-10)


@pytest.mark.usefixtures("together")
def test_what_gives_up_side_by_side_is_fitted_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = digits(300)
    tuning = side_by_side.Tuning(stalled=1)
    monkeypatch.setattr(side_by_side, "TUNING", tuning)
    told: list[tuple[int, int]] = []
    found = fit_many(X, y == 1, l2=[1e-3, 1e-2], folds=2, tolerance=1e-9, on_done=lambda *of: told.append(of))
    assert told[-1] == (5, 5)
    assert set(found["y"].ending.reshape(-1)) == {"tolerance"}
    assert found["y"].relative_gap.max() <= 1e-9
    assert np.isfinite(found["y"].held_loss).all()


def test_a_fold_without_a_class_is_named_and_left_out() -> None:
    X, _ = digits(60)
    found = fit_many(X, np.arange(60) < 6, l2=[1e-2], folds=np.arange(60) // 6)["y"]
    assert found.ending[0, 0] == "class missing"
    assert found.lacks[0].tolist() == [1] + [-1] * 9
    assert found.weight[0, 0].isnan().all()
    assert found.weight[0, 1:].isfinite().all()
    assert found.best is None


@pytest.mark.usefixtures("together")
@pytest.mark.parametrize("backend", ["numba", "torch"])
@pytest.mark.parametrize("C", [2, 3])
def test_targets_share_a_preconditioner(backend: str, C: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hessians, "TUNING", hessians.Tuning(own_parameters=1, joint_parameters=1, shared_cost=0.0))
    made: list[tuple[int, int]] = []
    arguments = hessians.Preconditioner._arguments

    def counted(self: hessians.Preconditioner, *given: Any) -> Any:
        found = arguments(self, *given)
        made.append((len(self._cells), len(found[0])))
        return found

    monkeypatch.setattr(hessians.Preconditioner, "_arguments", counted)
    generator = np.random.default_rng(0)
    X = generator.normal(size=(900, 30)) @ generator.normal(size=(30, 30))
    Z = X[:, :6].reshape(900, 3, 2) + 3 * generator.normal(size=(900, 3, 2)) - [[[3, 0], [0, 0], [-4, 1]]]
    Y = (Z > 0).sum(axis=2) if C == 3 else Z[:, :, 0] > 0
    found = fit_many(X, Y, l2=[1e-2, 1.0], folds=2, tolerance=1e-9, backend=backend)
    assert made[0] == (6, 2)
    for t, of in enumerate(found.values()):
        assert set(of.ending.reshape(-1)) == {"tolerance"}
        assert of.iterations.max() <= 40
        train = torch.from_numpy(found.folds.train(1))
        rows = torch.from_numpy(X)[train], torch.from_numpy(Y[:, t])[train]
        fit_alone = fit if C == 2 else partial(fit_softmax, classes=3)
        alone = fit_alone(rows[0], rows[1].long(), l2=1e-2, tolerance=1e-11)
        assert of.objective[0, 1] == pytest.approx(alone.certificate.objective, rel=1e-8)


def test_more_classes_than_a_byte_holds() -> None:
    generator = np.random.default_rng(0)
    X, y = generator.normal(size=(1_500, 4)), np.arange(1_500) % 300
    X[:, 0] += y % 3
    found = fit_many(X, np.where(np.arange(1_500) < 20, np.nan, y), l2=1e-2, tolerance=1e-9)["y"]
    rows = torch.from_numpy(X[20:]), torch.from_numpy(y[20:])
    alone = fit_softmax(*rows, classes=300, l2=1e-2, tolerance=1e-9)
    assert found.objective[0, 0] == pytest.approx(alone.certificate.objective, rel=1e-8)
    torch.testing.assert_close(found.weight[0, 0], alone.weight, atol=1e-3, rtol=0)


def test_selection() -> None:
    X, y = load_breast_cancer(return_X_y=True)
    X = X / X.std(axis=0)
    best = fit_many(X, y, C=np.logspace(-4, 4, 25), folds=5)["y"]
    wide = fit_many(X, y, C=np.logspace(-4, 4, 25), folds=5, select="one_standard_error")["y"]
    assert best.best is not None
    assert wide.best is not None
    bound = best.mean_loss[best.best] + best.standard_error[best.best]
    assert wide.best == np.flatnonzero(best.mean_loss <= bound)[0] < best.best


def test_table_and_progress() -> None:
    X, y = digits(200)
    told: list[tuple[int, int]] = []
    Y = np.stack([y == 1, y == 2], axis=1)
    found = fit_many(X, Y, l2=[1e-2, 1e-1], folds=3, on_done=lambda done, total: told.append((done, total)))
    assert told[-1] == (14, 14)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    rows = found.rows()
    assert len(rows) == len(found.columns) == 12
    weights = found.weights()
    assert weights.shape == (30, 12)
    k = found.columns.index(("y1", 1e-1, 2))
    assert torch.equal(weights[:, k], found["y1"].weight[1, 2])
    assert rows[k]["target"] == "y1"
    assert rows[k]["held_loss"] == found["y1"].held_loss[1, 2]


@pytest.mark.parametrize(
    "options",
    [
        {"l2": [-1.0]},
        {"l2": []},
        {"l2": 1.0, "C": 1.0},
        {"C": [0.0, 1.0]},
        {"l1_ratio": 1.5},
        {"tolerance": 0.0},
        {"max_iterations": 0},
        {"select": "least"},
        {"scores": "none"},
        {"targets": ["a", "b"]},
        {"classes": 40_000},
        {"sample_weight": np.ones(3)},
        {"sample_weight": -np.ones(100)},
    ],
)
def test_arguments_that_are_refused(options: dict) -> None:
    X, y = digits(100)
    with pytest.raises(ValueError, match=next(iter(options))):
        fit_many(X, y == 1, **options)


@pytest.mark.parametrize("Y", [np.full(100, 0.5), np.full(100, np.nan), np.zeros(99), np.full(100, -1)])
def test_labels_that_are_refused(Y: np.ndarray) -> None:
    X, _ = digits(100)
    with pytest.raises(ValueError, match=r"label|Y is"):
        fit_many(X, Y)


@pytest.mark.parametrize("at_once", [True, False])
def test_a_missing_value_is_named(at_once: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not at_once:
        monkeypatch.setattr(many_task, "most_rows", lambda X, backend: 0)
    X, y = digits(100)
    X[5, 3] = np.nan
    with pytest.raises(ValueError, match="row 5, column 3"):
        fit_many(X, y == 1, l2=[1e-2], folds=2)


def test_scores_may_be_losses_only(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = digits(300)
    whole = fit_many(X, y == 1, l2=PENALTIES, folds=2, tolerance=1e-13)["y"]
    monkeypatch.setattr(many_task, "most_rows", lambda X, backend: 0)
    losses = fit_many(X, y == 1, l2=PENALTIES, folds=2, scores="loss", tolerance=1e-13)["y"]
    # Those of the passes are at the last point before the tolerance, where weights are 1e-7 from the optimum.
    np.testing.assert_allclose(losses.held_loss, whole.held_loss, rtol=1e-6)
    assert np.isnan(losses.roc_auc).all()
    assert losses.best == whole.best


def test_areas_are_scored_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = digits(300)
    whole = fit_many(X, y == 1, l2=PENALTIES, folds=2)["y"]
    monkeypatch.setitem(held_out._SCORED_LOGITS, "cpu", 150)
    parts = fit_many(X, y == 1, l2=PENALTIES, folds=2)["y"]
    np.testing.assert_array_equal(whole.roc_auc, parts.roc_auc)


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("C", [1, 3])
def test_a_gpus_scores_are_those_of_the_host(C: int, weighted: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(90, C, 4, generator=generator, dtype=torch.float64).round(decimals=1)
    codes = torch.randint(0, max(2, C), (2, 90), generator=generator).to(torch.uint8)
    codes[0, :9] = 255
    s = torch.rand(90, generator=generator, dtype=torch.float64) if weighted else None
    if s is not None:
        s[::8] = 0.0
    targets = np.array([0, 1, 1, 0])
    host, device = (f(z, codes, targets, s) for f in (held_out._score_on_host, held_out._score_on_device))
    np.testing.assert_allclose(host, device, rtol=1e-12)
    assert np.isnan(host[2]).all() == (C > 1)
