"""The uses of LogisticRegression in scikit-learn's documentation, with the import swapped."""

import numpy as np
import pytest
from sklearn import datasets
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.feature_selection import RFE, SelectFromModel
from sklearn.inspection import DecisionBoundaryDisplay
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier
from sklearn.neural_network import BernoulliRBM
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import l1_min_c
from sklearn.tree import DecisionTreeClassifier

from flashlogit import LogisticRegression


def test_the_docstrings_example():
    X, y = datasets.load_iris(return_X_y=True)
    clf = LogisticRegression(random_state=0).fit(X, y)
    assert clf.predict(X[:2, :]).tolist() == [0, 0]
    proba = clf.predict_proba(X[:2, :])
    np.testing.assert_allclose(
        proba, [[9.82e-01, 1.82e-02, 1.44e-08], [9.72e-01, 2.82e-02, 3.02e-08]], rtol=0.03
    )
    assert clf.score(X, y) == pytest.approx(0.97, abs=0.01)


def test_l1_penalty_and_sparsity():
    X, y = datasets.load_digits(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    y = (y > 4).astype(int)
    for C in (1, 0.1, 0.01):
        zeros = []
        for l1_ratio in (1, 0.5, 0):
            clf = LogisticRegression(C=C, l1_ratio=l1_ratio, tol=0.01, solver="saga").fit(X, y)
            zeros.append(np.mean(clf.coef_.ravel() == 0))
        assert zeros[0] >= zeros[1] >= zeros[2]
        assert zeros[0] > 0.04


def test_regularization_path():
    X, y = datasets.load_iris(return_X_y=True)
    X, y = X[y != 2], y[y != 2]
    X /= X.max()
    cs = l1_min_c(X, y, loss="log") * np.logspace(0, 1, 16)
    clf = LogisticRegression(
        l1_ratio=1,
        solver="liblinear",
        tol=1e-6,
        max_iter=int(1e6),
        warm_start=True,
        intercept_scaling=10000.0,
    )
    coefs = []
    for c in cs:
        clf.set_params(C=c)
        clf.fit(X, y)
        coefs.append(clf.coef_.ravel().copy())
    path = np.array(coefs)
    assert np.abs(path[0]).max() < 1e-6  # the least C at which a coefficient is not 0
    assert (np.abs(path).sum(axis=1)[1:] > np.abs(path).sum(axis=1)[:-1]).all()


def test_multinomial_and_one_vs_rest_boundaries():
    X, y = datasets.make_blobs(n_samples=1_000, centers=[[-5, 0], [0, 1.5], [5, -1]], random_state=40)
    X = np.dot(X, [[0.4, 0.2], [-0.4, 1.2]])
    for clf in (LogisticRegression(), OneVsRestClassifier(LogisticRegression())):
        clf.fit(X, y)
        assert clf.score(X, y) > 0.97
    import matplotlib

    matplotlib.use("Agg")
    display = DecisionBoundaryDisplay.from_estimator(
        LogisticRegression().fit(X, y), X, response_method="predict"
    )
    assert set(np.unique(display.response)) == {0, 1, 2}


def test_pipelining():
    pipe = Pipeline(
        [
            ("scaler", StandardScaler()),
            ("pca", PCA()),
            ("logistic", LogisticRegression(max_iter=10000, tol=0.1)),
        ]
    )
    X, y = datasets.load_digits(return_X_y=True)
    search = GridSearchCV(pipe, {"pca__n_components": [15, 45], "logistic__C": [1e-4, 1.0]}, cv=2)
    search.fit(X[:600], y[:600])
    assert search.best_score_ > 0.8
    rbm = Pipeline(
        [
            ("rbm", BernoulliRBM(n_iter=2, random_state=0)),
            ("logistic", LogisticRegression(solver="newton-cg", tol=1e-3, C=6000)),
        ]
    )
    assert rbm.fit(X[:300] / 16, y[:300]).score(X[:300] / 16, y[:300]) > 0.5


def test_ensembles_and_calibration():
    X, y = datasets.load_breast_cancer(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(StandardScaler().fit_transform(X), y, random_state=0)
    models = [("lr", LogisticRegression(random_state=1)), ("tree", DecisionTreeClassifier(random_state=1))]
    assert cross_val_score(VotingClassifier(models, voting="soft"), X, y, cv=3).mean() > 0.9
    stack = StackingClassifier(models, final_estimator=LogisticRegression()).fit(X_train, y_train)
    assert stack.score(X_test, y_test) > 0.9
    calibrated = CalibratedClassifierCV(LogisticRegression(), cv=3).fit(X_train, y_train)
    assert log_loss(y_test, calibrated.predict_proba(X_test)) < 0.2


def test_feature_selection():
    X, y = datasets.load_iris(return_X_y=True)
    selected = SelectFromModel(LogisticRegression(C=0.1, l1_ratio=1, solver="saga")).fit(X, y)
    assert 0 < selected.transform(X).shape[1] < 4
    assert RFE(LogisticRegression(), n_features_to_select=2).fit(X, y).support_.sum() == 2


def test_multi_output():
    X, Y = datasets.make_multilabel_classification(n_samples=120, n_classes=3, random_state=0)
    assert MultiOutputClassifier(LogisticRegression()).fit(X, Y).predict(X).shape == (120, 3)
    assert ClassifierChain(LogisticRegression(), order="random", random_state=0).fit(X, Y).predict(
        X
    ).shape == (120, 3)
    X, y = datasets.load_iris(return_X_y=True)
    assert OneVsOneClassifier(LogisticRegression()).fit(X, y).score(X, y) > 0.95


def test_make_pipeline_with_balanced_classes():
    X, y = datasets.make_classification(n_samples=1000, weights=[0.95], random_state=0)
    plain = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
    balanced = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced")).fit(X, y)
    assert balanced.predict(X).sum() > plain.predict(X).sum()
