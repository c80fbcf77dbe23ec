"""What scikit-learn's own estimator does in its tests and its documentation: classes without weight, sparse
coefficients, no iterations, ensembles; and its tests of LogisticRegressionCV with the class swapped."""

import inspect
import pickle

import numpy as np
import pytest
import scipy.sparse
import torch
from estimator_data import CANCER, IRIS
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import BaggingClassifier, StackingClassifier
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.feature_selection import RFE, SelectFromModel
from sklearn.linear_model import LogisticRegression as SklearnLogisticRegression
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.svm import l1_min_c

from flashlogit import LogisticRegression, LogisticRegressionCV
from flashlogit.fitting.fit import fit_softmax

FIVE = IRIS[1] + 2 * (np.arange(150) % 7 == 0)  # the last two classes are rare


@pytest.mark.parametrize(
    ("lacking", "fit_intercept", "parameters"),
    [
        ([0], True, {"C": 0.5}),
        ([1, 3], False, {"C": 0.5}),
        ([1, 3], True, {"l1_ratio": 1.0, "C": 2.0}),
        ([0], False, {"l1_ratio": 0.5}),
        ([1, 3], True, {"C": np.inf}),
    ],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # some of these are separated
def test_classes_without_weight_are_as_if_their_rows_were_not_there(lacking, fit_intercept, parameters):
    X, y = IRIS[0], FIVE
    weight = np.where(np.isin(y, lacking), 0.0, 1 + np.arange(150) % 3)
    model = LogisticRegression(fit_intercept=fit_intercept, **parameters).fit(X, y, weight)
    kept = weight > 0
    present, numbers = np.unique(y[kept], return_inverse=True)
    assert model.classes_.tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(model.coef_[lacking], 0)
    probability = model.predict_proba(X)
    assert probability[:, lacking].max() < 1e-15
    assert np.isfinite(model.predict_log_proba(X)).all()
    if np.isinf(model.C):
        return  # of classes that are separated there is no optimum to compare
    l1, l2 = np.array([model.l1_ratio, 1 - model.l1_ratio]) / (model.C * weight.sum())
    rows, labels, s = map(torch.from_numpy, (X[kept], numbers, weight[kept]))
    alone = fit_softmax(rows, labels, sample_weight=s, l1=l1, l2=l2, intercept=fit_intercept, tolerance=1e-10)
    assert model.gap_ <= 1e-10
    expected = torch.softmax(torch.from_numpy(X) @ alone.weight.t() + alone.bias, dim=1)
    np.testing.assert_allclose(probability[:, present], expected, atol=2e-4)


def test_two_classes_left_of_three_keep_the_penalty_of_softmax():
    X, y = IRIS
    model = LogisticRegression(C=0.1).fit(X, y, sample_weight=y > 0)
    # In softmax form l2 / 2 (|w|^2 + |-w|^2) penalises the difference 2 w half as much as two classes would.
    two = LogisticRegression(C=0.2).fit(X[y > 0], y[y > 0])
    np.testing.assert_allclose(model.coef_[2] - model.coef_[1], two.coef_[0], atol=1e-5)
    np.testing.assert_allclose(model.coef_[1], -model.coef_[2], atol=1e-12)
    theirs = SklearnLogisticRegression(C=0.1, tol=1e-8, max_iter=1000).fit(X, y, sample_weight=y > 0)
    np.testing.assert_allclose(model.predict_proba(X), theirs.predict_proba(X), atol=2e-3)


@pytest.mark.parametrize("l1_ratio", [0.0, 1.0])
def test_a_class_without_weight_has_no_probability_where_columns_are_far_from_0(l1_ratio):
    """With an l1 term the logits of all other classes may be thousands below 0: weights do not add up to 0 then."""
    X, y = IRIS
    X = X / X.std(axis=0) * [-1, 1, 1, -1] + [3e4, 2000, -3000, 0]
    weight = (np.arange(150) % 10 > 0).astype(float)
    y = np.where(weight == 0, 3, y)
    model = LogisticRegression(l1_ratio=l1_ratio).fit(X, y, sample_weight=weight)
    logits = X @ model.coef_.T + model.intercept_
    assert (logits[:, 3] < logits[:, :3].max(axis=1) - 900).all()  # as an export computes them
    if l1_ratio:
        assert logits[:, :3].max() < -1000
    assert (model.predict_proba(X)[:, 3] == 0).all()
    three = LogisticRegression(l1_ratio=l1_ratio).fit(X[weight > 0], y[weight > 0])
    np.testing.assert_allclose(model.predict_proba(X)[:, :3], three.predict_proba(X), atol=1e-3)
    again = LogisticRegression(l1_ratio=l1_ratio, warm_start=True).fit(X, y)
    assert again.fit(X, y).n_iter_[0] == 1  # intercepts of thousands are no sign of a class without rows


def test_rows_far_from_the_training_rows_are_of_no_class_without_weight():
    generator = np.random.default_rng(0)
    X, y = generator.normal(size=(600, 3)), generator.integers(4, size=600)
    X[np.arange(600), y % 3] -= 2.0
    model = LogisticRegression(l1_ratio=1.0).fit(X, y, sample_weight=y < 3)
    assert (-1e4 * X @ model.coef_[:3].T).max(axis=1).min() < -2000
    for rows in (1e4 * X, -1e4 * X):
        assert (model.predict_proba(rows)[:, 3] == 0).all()
        assert np.isfinite(model.predict_log_proba(rows)[:, 3]).all()
        assert set(model.predict(rows)) <= {0, 1, 2}


def test_class_weights_of_0():
    X, y = IRIS
    names, weight = np.array(["bar", "baz", "foo"])[y], np.array([1.0, 2.0, 0.0])[y]
    model = LogisticRegression(class_weight={"bar": 1, "baz": 2, "foo": 0}).fit(X, names)
    assert sorted(set(model.predict(X))) == ["bar", "baz"]
    same = LogisticRegression().fit(X, names, sample_weight=weight)
    np.testing.assert_allclose(model.coef_, same.coef_, atol=1e-9)
    balanced = LogisticRegression(class_weight="balanced").fit(X, names, sample_weight=weight)
    same = LogisticRegression().fit(X, names, sample_weight=np.array([1.5, 0.75, 0])[y] * weight)
    np.testing.assert_allclose(balanced.coef_, same.coef_, atol=1e-9)


def test_a_class_that_had_no_weight_can_come_back():
    X, y = IRIS
    model = LogisticRegression(warm_start=True).fit(X, y, sample_weight=y != 1)
    assert model.fit(X, y, sample_weight=y != 1).n_iter_[0] == 1
    np.testing.assert_allclose(model.fit(X, y).coef_, LogisticRegression().fit(X, y).coef_, atol=1e-5)
    model = LogisticRegression(random_state=0, learning_rate=0.3, batch_size=16).fit(X, y, y != 1)
    for _ in range(4):
        model.partial_fit(X, y)
    assert model.score(X, y) > 0.9


@pytest.mark.parametrize("data", [CANCER, IRIS], ids=["two", "three"])
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_sparsify_and_densify(kind, data):
    X, y = kind(data[0]), data[1]
    model = LogisticRegression(l1_ratio=1.0, C=0.1, warm_start=True).fit(X, y)
    dense, expected = model.coef_, model.predict_proba(X)
    assert scipy.sparse.issparse(model.sparsify().coef_)
    assert model.coef_.nnz == int((dense != 0).sum())
    sparse = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(sparse.predict_proba(X), expected)
    np.testing.assert_allclose(model.predict_proba(scipy.sparse.csr_array(data[0])), np.asarray(expected), atol=1e-9)
    np.testing.assert_array_equal(model.to_sklearn().coef_, dense)
    assert type(model.densify().coef_) is type(dense)
    np.testing.assert_array_equal(model.coef_, dense)
    assert model.densify().sparsify().fit(X, y).n_iter_[0] == 1  # a warm start takes them too
    assert type(model.coef_) is type(dense)
    assert model.sparsify().partial_fit(X, y).coef_.shape == dense.shape


@pytest.mark.parametrize("method", ["sparsify", "densify", "to_sklearn"])
def test_what_needs_a_fit_says_so(method):
    with pytest.raises(NotFittedError):
        getattr(LogisticRegression(), method)()


@pytest.mark.parametrize("data", [CANCER, IRIS], ids=["two", "three"])
@pytest.mark.filterwarnings("ignore:max_iter is 0")
def test_no_iterations_leave_the_start(data):
    X, y = data
    model = LogisticRegression(max_iter=0).fit(X, y)
    K = len(set(y))
    assert (model.n_iter_.tolist(), model.gap_) == ([0], np.inf)
    assert model.coef_.shape == (1 if K == 2 else K, X.shape[1])
    np.testing.assert_array_equal(model.predict_proba(X), np.full((len(X), K), 1 / K))
    model = LogisticRegression(warm_start=True).fit(X, y)
    before = np.c_[model.coef_, model.intercept_]
    with pytest.warns(ConvergenceWarning, match="max_iter is 0"):
        model.set_params(max_iter=0).fit(X, y)
    np.testing.assert_array_equal(np.c_[model.coef_, model.intercept_], before)
    assert model.set_params(max_iter=100).fit(X[:, :3], y).coef_.shape[1] == 3  # another shape: from the start
    if K > 2:
        model = LogisticRegression(max_iter=0, class_weight={2: 0.0}).fit(X, y)
        np.testing.assert_array_equal(model.predict_proba(X), np.tile([0.5, 0.5, 0.0], (len(X), 1)))


def test_uses_in_scikit_learns_documentation():
    X, y = IRIS[0][IRIS[1] != 2], IRIS[1][IRIS[1] != 2]
    X = X / X.max()
    path = LogisticRegression(l1_ratio=1, solver="liblinear", tol=1e-6, warm_start=True)
    strengths = l1_min_c(X, y, loss="log") * np.logspace(0, 1, 8)
    sizes = [np.abs(path.set_params(C=C).fit(X, y).coef_).sum() for C in strengths]
    assert sizes[0] < 1e-6  # the least C at which a coefficient is not 0
    assert (np.diff(sizes) > 0).all()
    one = LogisticRegression(random_state=1)
    stack = StackingClassifier([("lr", one)], final_estimator=LogisticRegression(), cv=2)
    calibrated = CalibratedClassifierCV(one, cv=2)
    for meta in (OneVsOneClassifier(one), OneVsRestClassifier(one), BaggingClassifier(one), stack, calibrated):
        assert meta.fit(*IRIS).score(*IRIS) > 0.94
    selected = SelectFromModel(LogisticRegression(C=0.1, l1_ratio=1, solver="saga")).fit(*IRIS)
    assert 0 < selected.transform(IRIS[0]).shape[1] < 4
    assert RFE(one, n_features_to_select=2).fit(*IRIS).support_.sum() == 2


SWAPPED = [
    ("test_logistic_cv", {"global_random_seed": 42, "use_legacy_attributes": True}),
    ("test_logistic_cv_mock_scorer", {}),
    ("test_logistic_cv_folds_with_classes_missing", {"enable_metadata_routing": False, "n_classes": 2}),
    ("test_logistic_cv_folds_with_classes_missing", {"enable_metadata_routing": True, "n_classes": 3}),
    (
        "test_logistic_regressioncv_class_weights",
        {"weight": {0: 0.1, 1: 0.2, 2: 0.5}, "class_weight": "balanced", "global_random_seed": 42},
    ),
    ("test_logistic_regression_sample_weights", {"problem": "cv", "solver": "lbfgs", "global_random_seed": 42}),
    ("test_logistic_regression_cv_refit", {"global_random_seed": 42, "l1_ratio": 0}),
    ("test_logistic_regression_cv_refit", {"global_random_seed": 42, "l1_ratio": 1}),
    ("test_LogisticRegressionCV_no_refit", {"l1_ratios": [0.0, 0.9], "n_classes": 2}),
    ("test_LogisticRegressionCV_elasticnet_attribute_shapes", {"n_classes": 2}),
    ("test_LogisticRegressionCV_on_folds", {}),
    ("test_lr_cv_scores_differ_when_sample_weight_is_requested", {"global_random_seed": 42}),
    ("test_lr_cv_scores_without_enabling_metadata_routing", {}),
    ("test_passing_params_without_enabling_metadata_routing", {}),
    ("test_get_default_scorer", {}),
]
"""scikit-learn's tests of LogisticRegressionCV. The others of its file pass too, and take longer, but for these.

- check_solver_option, liblinear_multiclass_raises, liblinear_dual_random_state: every solver takes every problem, and
  none the dual one.
- elasticnet_l1_ratio_err_helpful: no l1_ratios are ratios of 0, for penalty="elasticnet" is the default here.
- penalty_deprecated, warns_with_use_legacy_attributes, lr_scoring_warns: what is deprecated there is not here.
- multinomial_score: hands all parameters on to a private function of scikit-learn.

In all of them tol is made tighter, and max_iter larger: scikit-learn's tol bounds a gradient, and coefficients that are
the same to 1e-6 take a gap of 1e-12; those of weak signals under strong penalties 1e-14.
"""


@pytest.mark.parametrize(("name", "arguments"), SWAPPED)
def test_scikit_learns_own(name, arguments, monkeypatch, pytestconfig):
    pytestconfig.addinivalue_line("markers", "thread_unsafe: scikit-learn's mark")
    theirs = pytest.importorskip("sklearn.linear_model.tests.test_logistic")
    test = getattr(theirs, name, None)
    if test is None or inspect.signature(test).parameters.keys() != arguments.keys():
        pytest.skip("this version of scikit-learn has another test")
    tol = 1e-14 if name == "test_LogisticRegressionCV_on_folds" else 1e-12
    for swapped in (LogisticRegression, LogisticRegressionCV):

        def tight(*args, swapped=swapped, **parameters):
            return swapped(*args, **{**parameters, "tol": tol, "max_iter": 1000})

        monkeypatch.setattr(theirs, swapped.__name__, tight)
    test(**arguments)
