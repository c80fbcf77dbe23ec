"""LogisticRegressionCV: against scikit-learn's, and folds that its own tests do not have."""

import copy
import pickle

import numpy as np
import pytest
import torch
from estimator_data import IRIS, SCALED, SMALL
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegressionCV as SklearnLogisticRegressionCV
from sklearn.model_selection import GroupKFold, KFold, ShuffleSplit, StratifiedKFold

from flashlogit import LogisticRegression, LogisticRegressionCV

SAME = {"Cs": [1e-3, 0.1, 10.0], "use_legacy_attributes": False}
WEIGHT = 0.5 + np.arange(len(SMALL[0])) % 3


def pair(X, y, sample_weight=None, **parameters):
    """Return our estimator and scikit-learn's, of the same folds and fitted tightly."""
    parameters = {**SAME, "cv": StratifiedKFold(4), **parameters}
    theirs = SklearnLogisticRegressionCV(
        **{"l1_ratios": (0,), "scoring": None, **parameters}, solver="newton-cholesky", tol=1e-10, max_iter=1000
    )
    ours = LogisticRegressionCV(**parameters, tol=1e-15)
    return ours.fit(X, y, sample_weight), theirs.fit(X, y, sample_weight)


def assert_same(ours, theirs):
    np.testing.assert_allclose(ours.scores_, theirs.scores_, rtol=0, atol=1e-6)
    np.testing.assert_allclose(ours.coefs_paths_, theirs.coefs_paths_, rtol=0, atol=1e-5)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=0, atol=1e-5)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, rtol=0, atol=1e-5)
    assert (ours.C_, ours.l1_ratio_) == (theirs.C_, theirs.l1_ratio_)
    assert ours.n_iter_.shape == theirs.n_iter_.shape
    np.testing.assert_array_equal(ours.Cs_, theirs.Cs_)


@pytest.mark.parametrize("data", [SCALED, IRIS], ids=["cancer", "iris"])
@pytest.mark.parametrize(
    "parameters",
    [
        {"scoring": None},
        {"scoring": "neg_log_loss", "class_weight": "balanced", "refit": False},
        {"scoring": "roc_auc_ovr", "fit_intercept": False},
    ],
    ids=["accuracy", "log_loss", "roc_auc"],
)
def test_as_scikit_learns(data, parameters):
    ours, theirs = pair(*data, **parameters)
    assert_same(ours, theirs)
    assert 0 <= ours.gap_ <= 1e-14
    assert ours.score(*data) == pytest.approx(theirs.score(*data), abs=1e-6)


@pytest.mark.parametrize("scoring", ["accuracy", "roc_auc", "neg_brier_score", "f1"])
def test_weighted_scores(scoring):
    X, y = SMALL
    names = np.array(["no", "yes"])[y] if scoring != "f1" else y
    ours, theirs = pair(
        X, names, WEIGHT, scoring=scoring, class_weight={k: 1 + i for i, k in enumerate(np.unique(names))}
    )
    assert_same(ours, theirs)
    assert_same(*pair(X, y, WEIGHT, scoring=scoring))


def test_a_callable_scorer_sees_rows_and_a_model():
    seen = []

    def scorer(model, X, y):
        seen.append((model.C, type(model.predict(X)), type(X)))
        near = model.predict_proba(X[:, ::-1][:, ::-1])  # other rows than those that it was given
        np.testing.assert_allclose(near, model.predict_proba(X), atol=1e-12)
        return -np.abs(model.decision_function(X) - X[:, 0]).mean()

    ours, theirs = pair(*SMALL, scoring=scorer)
    assert_same(ours, theirs)
    assert seen[:3] == [(C, np.ndarray, np.ndarray) for C in SAME["Cs"]]


@pytest.mark.parametrize(("data", "legacy"), [(SMALL, False), (SMALL, True), (IRIS, True)])
def test_elastic_net(data, legacy):
    X, y = data
    cv = [*StratifiedKFold(2).split(X, y)]
    options = {"Cs": [0.3, 0.05], "cv": cv, "tol": 1e-13, "scoring": "neg_log_loss"}
    model = LogisticRegressionCV(l1_ratios=[1.0, 0.0, 0.4], use_legacy_attributes=legacy, **options).fit(X, y)
    K, D = model.coef_.shape
    last = model.classes_[-1]
    if legacy:
        assert [*model.scores_] == [*model.coefs_paths_] == model.classes_[-K:].tolist()
        assert model.coefs_paths_[last].shape == (2, 2, 3, D + 1)
        assert (model.scores_[last].shape, model.n_iter_.shape) == ((2, 2, 3), (1, 2, 2, 3))
        assert (model.C_.shape, model.l1_ratio_.shape) == ((K,), (K,))
        path = model.coefs_paths_[last][1, 1, 2]
    else:
        assert model.coefs_paths_.shape == (2, 3, 2, K, D + 1)
        assert model.scores_.shape == model.n_iter_.shape == (2, 3, 2)
        path = model.coefs_paths_[1, 2, 1, -1]
    train = cv[1][0]
    alone = LogisticRegression(C=0.05, l1_ratio=0.4, tol=1e-13).fit(X[train], y[train])
    np.testing.assert_allclose(path, np.r_[alone.coef_[-1], alone.intercept_[-1]], rtol=0, atol=1e-5)
    best = LogisticRegression(C=np.max(model.C_), l1_ratio=np.max(model.l1_ratio_), tol=1e-13).fit(X, y)
    np.testing.assert_array_equal(model.coef_, best.coef_)
    lasso = LogisticRegressionCV(penalty="l1", use_legacy_attributes=False, **options).fit(X, y)
    np.testing.assert_array_equal(
        lasso.scores_[:, 0], np.moveaxis(model.scores_[last], 2, 1)[:, 0] if legacy else model.scores_[:, 0]
    )
    assert lasso.l1_ratio_ == 1


def test_without_refit_the_model_is_the_mean_of_the_folds_best():
    ours = LogisticRegressionCV(Cs=np.logspace(-2, 1, 4), refit=False, use_legacy_attributes=False, tol=1e-13).fit(
        *SMALL
    )
    place = ours.scores_[:, 0].argmax(axis=1)
    assert len(set(place)) > 1
    mean = ours.coefs_paths_[np.arange(5), 0, place].mean(axis=0)
    np.testing.assert_allclose(np.c_[ours.coef_, ours.intercept_], mean, rtol=1e-13)
    np.testing.assert_allclose(ours.C_, ours.Cs_[place].mean())


@pytest.mark.parametrize("classes", [2, 3])
def test_folds_that_lack_a_class(classes):
    X, y = IRIS[0][: 50 * classes], np.array(["a", "b", "c"])[IRIS[1]][: 50 * classes]
    model = LogisticRegressionCV(Cs=[1.0, 0.1], cv=KFold(classes), use_legacy_attributes=False).fit(X, y)
    np.testing.assert_array_equal(model.scores_, 0)  # what is held out is what was never seen
    train = np.arange(len(X)) >= 50
    if classes == 3:
        alone = LogisticRegression(C=0.1).fit(X, y, train)
        np.testing.assert_allclose(model.coefs_paths_[0, 0, 1, :, :-1], alone.coef_, atol=1e-4)
    losses = LogisticRegressionCV(cv=KFold(classes), scoring="neg_log_loss", Cs=[1.0]).fit(X, y).scores_["b"]
    np.testing.assert_allclose(losses, np.log(np.finfo(float).eps), rtol=1e-6)  # where log_loss cuts off


def test_folds_with_repeated_and_shared_rows_count_them_as_they_are():
    X, y = SMALL
    rows = np.arange(len(X))
    pairs = [(np.r_[rows[:90], rows[:40]], rows[80:]), (rows[20:], rows), (rows[:100], rows[100:])]
    assert_same(*pair(X, y, WEIGHT, cv=pairs))
    masks = [(rows < 100, rows >= 100)]
    np.testing.assert_array_equal(pair(X, y, cv=masks)[0].scores_[0], pair(X, y, cv=pairs[2:])[0].scores_[0])
    assert_same(*pair(X, y, cv=ShuffleSplit(3, train_size=0.5, random_state=0)))


def test_any_order_of_penalties_and_none():
    X, y = SMALL[0][:, :3], SMALL[1]
    model = LogisticRegressionCV(Cs=[1.0, np.inf, 0.01, 1.0], use_legacy_attributes=False, tol=1e-12).fit(X, y)
    assert model.Cs_.tolist() == [1.0, np.inf, 0.01, 1.0]
    np.testing.assert_array_equal(model.coefs_paths_[:, :, 0], model.coefs_paths_[:, :, 3])
    train = next(iter(StratifiedKFold(5).split(X, y)))[0]
    for place, C in ((1, np.inf), (2, 0.01)):
        alone = LogisticRegression(C=C, tol=1e-12).fit(X[train], y[train])
        np.testing.assert_allclose(model.coefs_paths_[0, 0, place, 0, :3], alone.coef_[0], atol=1e-5)


@pytest.mark.parametrize("scoring", [None, "neg_log_loss", lambda model, X, y: (model.predict(X) == y).mean()])
@pytest.mark.parametrize("data", [SMALL, IRIS], ids=["two", "three"])
def test_tensors(data, scoring):
    X, y = data
    options = {"Cs": [0.1, 1.0], "scoring": scoring}
    host, tensor = (LogisticRegressionCV(**options).fit(kind(X), kind(y)) for kind in (np.asarray, torch.from_numpy))
    for name in ("coef_", "intercept_", "classes_", "n_iter_", "C_", "Cs_", "l1_ratios_", "l1_ratio_"):
        assert isinstance(getattr(tensor, name), torch.Tensor)
        np.testing.assert_array_equal(getattr(tensor, name), getattr(host, name))
    for name in ("scores_", "coefs_paths_"):
        for label, of in getattr(tensor, name).items():
            np.testing.assert_array_equal(of, getattr(host, name)[label])
    assert isinstance(tensor.predict(torch.from_numpy(X)), torch.Tensor)
    assert tensor.score(torch.from_numpy(X), torch.from_numpy(y)) == host.score(X, y)


def test_copies():
    X, y = SMALL
    names = np.array(["no", "yes"])[y]
    model = clone(LogisticRegressionCV(Cs=[0.1, 1.0], cv=3)).fit(torch.from_numpy(X), names)
    for again in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        np.testing.assert_array_equal(again.predict(X), model.predict(X))
        np.testing.assert_array_equal(again.coefs_paths_["yes"], model.coefs_paths_["yes"])
    theirs = model.to_sklearn()
    np.testing.assert_array_equal(theirs.predict(X), model.predict(X))
    assert model.C_[0] == theirs.C
    with pytest.raises(NotFittedError):
        LogisticRegressionCV().to_sklearn()


@config_context(enable_metadata_routing=True)
def test_what_is_routed():
    X, y = SMALL
    groups = np.arange(len(X)) // 5
    model = LogisticRegressionCV(Cs=[0.1, 1.0], cv=GroupKFold(3), use_legacy_attributes=False)
    by_group = model.fit(X, y, groups=groups).scores_
    with config_context(enable_metadata_routing=False):
        model.set_params(cv=[*GroupKFold(3).split(X, y, groups)])
        np.testing.assert_array_equal(model.fit(X, y).scores_, by_group)


@pytest.mark.parametrize(
    ("parameters", "word"),
    [
        ({"Cs": [1.0, 0.0]}, "Cs"),
        ({"Cs": 0}, "Cs"),
        ({"l1_ratios": [0.5, 1.5]}, "l1_ratios"),
        ({"dual": True}, "dual"),
        ({"scoring": "none"}, "scoring"),
        ({"max_iter": 0}, "max_iter"),
        ({"solver": "newton-cg", "l1_ratios": [0.0, 0.5]}, "newton-cg"),
    ],
)
def test_what_is_refused(parameters, word):
    with pytest.raises(ValueError, match=word):
        LogisticRegressionCV(**parameters).fit(*SMALL)


def test_models_above_the_tolerance_are_warned_of():
    with pytest.warns(ConvergenceWarning, match="of the 50 models") as found:
        LogisticRegressionCV(max_iter=1, refit=False).fit(*SMALL)
    assert {warning.filename for warning in found} == {__file__}
