"""Uses of LogisticRegression in scikit-learn's documentation, with the import swapped."""

import numpy as np
import pytest
from sklearn import datasets
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.feature_selection import RFE, SelectFromModel
from sklearn.linear_model import LogisticRegression as SklearnLogisticRegression
from sklearn.metrics import log_loss
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.multioutput import ClassifierChain
from sklearn.preprocessing import scale
from sklearn.svm import l1_min_c
from sklearn.tree import DecisionTreeClassifier

from flashlogit import LogisticRegression

IRIS = datasets.load_iris(return_X_y=True)


def test_the_docstrings_example():
    X, y = IRIS
    clf = LogisticRegression(random_state=0).fit(X, y)
    assert clf.predict(X[:2, :]).tolist() == [0, 0]
    expected = [[9.82e-01, 1.82e-02, 1.44e-08], [9.72e-01, 2.82e-02, 3.02e-08]]
    np.testing.assert_allclose(clf.predict_proba(X[:2, :]), expected, rtol=0.03)
    assert clf.score(X, y) == pytest.approx(0.97, abs=0.01)


def test_regularization_path():
    X, y = IRIS[0][IRIS[1] != 2], IRIS[1][IRIS[1] != 2]
    X = X / X.max()
    clf = LogisticRegression(l1_ratio=1, solver="liblinear", tol=1e-6, warm_start=True)
    strengths = l1_min_c(X, y, loss="log") * np.logspace(0, 1, 8)
    sizes = [np.abs(clf.set_params(C=C).fit(X, y).coef_).sum() for C in strengths]
    assert sizes[0] < 1e-6  # the least C at which a coefficient is not 0
    assert (np.diff(sizes) > 0).all()


def test_ensembles_calibration_and_selection():
    X, y = datasets.load_breast_cancer(return_X_y=True)
    X, rows = scale(X), np.arange(len(y)) % 4 > 0
    models = [("lr", LogisticRegression(random_state=1)), ("tree", DecisionTreeClassifier(random_state=1))]
    for ensemble in (
        VotingClassifier(models, voting="soft"),
        StackingClassifier(models, final_estimator=LogisticRegression(), cv=2),
    ):
        assert ensemble.fit(X[rows], y[rows]).score(X[~rows], y[~rows]) > 0.9
    calibrated = CalibratedClassifierCV(LogisticRegression(), cv=2).fit(X[rows], y[rows])
    assert log_loss(y[~rows], calibrated.predict_proba(X[~rows])) < 0.2
    selected = SelectFromModel(LogisticRegression(C=0.1, l1_ratio=1, solver="saga")).fit(*IRIS)
    assert 0 < selected.transform(IRIS[0]).shape[1] < 4
    assert RFE(LogisticRegression(), n_features_to_select=2).fit(*IRIS).support_.sum() == 2


def test_many_classifiers_of_one():
    for meta in (OneVsOneClassifier, OneVsRestClassifier):
        assert meta(LogisticRegression()).fit(*IRIS).score(*IRIS) > 0.95
    X, Y = datasets.make_multilabel_classification(n_samples=120, n_classes=3, random_state=0)
    chain = ClassifierChain(LogisticRegression(), order="random", random_state=0).fit(X, Y)
    assert chain.predict(X).shape == (120, 3)


def test_bagging_with_a_rare_class():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(40, 3))
    y = np.r_[np.zeros(19), np.ones(19), 2, 2].astype(int)
    p, theirs = (
        BaggingClassifier(estimator, n_estimators=12, random_state=0).fit(X, y).predict_proba(X)
        for estimator in (LogisticRegression(), SklearnLogisticRegression(max_iter=1000))
    )
    np.testing.assert_allclose(p, theirs, atol=1e-3)
