"""Uses of LogisticRegression in scikit-learn's documentation, with the import swapped."""

import numpy as np
from sklearn import datasets
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import BaggingClassifier, StackingClassifier
from sklearn.feature_selection import RFE, SelectFromModel
from sklearn.metrics import log_loss
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.multioutput import ClassifierChain
from sklearn.preprocessing import scale
from sklearn.svm import l1_min_c

from flashlogit import LogisticRegression

IRIS = datasets.load_iris(return_X_y=True)


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
    X, rows, one = scale(X), np.arange(len(y)) % 4 > 0, LogisticRegression()
    stack = StackingClassifier([("lr", LogisticRegression(random_state=1))], final_estimator=one, cv=2)
    assert stack.fit(X[rows], y[rows]).score(X[~rows], y[~rows]) > 0.9
    calibrated = CalibratedClassifierCV(one, cv=2).fit(X[rows], y[rows])
    assert log_loss(y[~rows], calibrated.predict_proba(X[~rows])) < 0.2
    selected = SelectFromModel(LogisticRegression(C=0.1, l1_ratio=1, solver="saga")).fit(*IRIS)
    assert 0 < selected.transform(IRIS[0]).shape[1] < 4
    assert RFE(one, n_features_to_select=2).fit(*IRIS).support_.sum() == 2


def test_many_classifiers_of_one():
    for meta in (OneVsOneClassifier, OneVsRestClassifier, BaggingClassifier):
        assert meta(LogisticRegression()).fit(*IRIS).score(*IRIS) > 0.94
    X, Y = datasets.make_multilabel_classification(n_samples=120, n_classes=3, random_state=0)
    chain = ClassifierChain(LogisticRegression(), order="random", random_state=0).fit(X, Y)
    assert chain.predict(X).shape == (120, 3)
