"""The estimator beside scikit-learn's: the same models, its machinery, and what is refused."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse
import torch
from estimator_data import CANCER, IRIS, SCALED, WINE_SCALED
from sklearn import config_context
from sklearn.datasets import make_classification
from sklearn.exceptions import ConvergenceWarning, EfficiencyWarning
from sklearn.linear_model import LogisticRegression as SklearnLogisticRegression
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from flashlogit import LogisticRegression, UserError
from flashlogit.data.columns.encoding import Codes, Standardization
from flashlogit.estimator import arrays
from flashlogit.models.model import Model

WITHOUT, NET = {"C": 50.0, "fit_intercept": False}, {"l1_ratio": 0.3, "C": 0.2}


@pytest.mark.parametrize("data", [SCALED, WINE_SCALED], ids=["two", "three"])
@pytest.mark.parametrize(
    "parameters", [{}, WITHOUT, NET, {"class_weight": "balanced"}, {"class_weight": {0: 3.0, 1: 0.5}}]
)
def test_same_model_as_scikit_learn(data, parameters):
    X, y = data
    solver, atol = ({"solver": "saga", "tol": 1e-7}, 1e-3) if parameters is NET else ({"tol": 1e-9}, 1e-4)
    theirs = SklearnLogisticRegression(max_iter=100_000, random_state=0, **solver, **parameters).fit(X, y)
    ours = LogisticRegression(**parameters).fit(X, y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=atol)
    shift = 0.0 if data is SCALED else theirs.intercept_.mean() - ours.intercept_.mean()
    np.testing.assert_allclose(ours.intercept_ + shift, theirs.intercept_, atol=atol)
    assert 0 <= ours.gap_ <= 1e-10
    assert (ours.n_iter_.dtype, ours.coef_.shape) == (np.int32, theirs.coef_.shape)
    assert ours.decision_function(X).shape == theirs.decision_function(X).shape
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-4)
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
    assert ours.score(X, y) == theirs.score(X, y)


def test_weights_count_rows():
    X, y = CANCER
    weight = np.random.default_rng(0).integers(0, 3, len(y)).astype(float)
    ours = LogisticRegression(C=0.5, class_weight="balanced").fit(X, y, sample_weight=weight)
    rows = np.repeat(np.arange(len(y)), weight.astype(int))
    twice = LogisticRegression(C=0.5, class_weight="balanced").fit(X[rows], y[rows])
    np.testing.assert_allclose(ours.coef_, twice.coef_, atol=1e-6)
    scalar = LogisticRegression().fit(*SCALED, sample_weight=torch.tensor(2.0))
    np.testing.assert_allclose(scalar.coef_, LogisticRegression(C=2.0).fit(*SCALED).coef_, atol=1e-6)


def test_log_probabilities_in_the_tails():
    model = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    model.coef_, model.intercept_ = np.array([[1.0]]), np.array([0.0])
    far = model.predict_log_proba([[-1000.0], [40.0], [1e5]])
    np.testing.assert_allclose(far, [[0.0, -1000.0], [-40.0, -np.exp(-40.0)], [-1e5, 0.0]])
    model = LogisticRegression().fit(WINE_SCALED[0][:, :2], WINE_SCALED[1])
    model.coef_ = np.array([[1.5, 1.5], [-1.5, -1.5], [0.0, 0.0]])
    np.testing.assert_allclose(model.predict_proba([[1e308, 1e308]]), [[1, 0, 0]])  # though the logits overflow


def test_in_scikit_learns_machinery():
    search = GridSearchCV(LogisticRegression(), {"C": [0.01, 1.0], "l1_ratio": [0.0, 0.5]}, cv=2).fit(*SCALED)
    assert search.best_score_ > 0.95
    pipeline = make_pipeline(StandardScaler().set_output(transform="pandas"), LogisticRegression()).fit(*CANCER)
    assert len(pipeline[-1].feature_names_in_) == 30
    with config_context(enable_metadata_routing=True):
        routed = LogisticRegression().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        result = cross_validate(routed, *SCALED, params={"sample_weight": np.ones(len(SCALED[1]))}, cv=2)
        assert result["test_score"].mean() > 0.95


def test_sparse_is_densified_and_says_so(monkeypatch):
    monkeypatch.setattr(arrays, "_BLOCK_BYTES", 1000)
    X, y = make_classification(300, 30, random_state=0)
    X[np.abs(X) < 1] = 0
    sparse = scipy.sparse.csr_array(X)
    wide = sparse.copy()
    wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
    dense = LogisticRegression().fit(X, y)
    for given in (sparse, wide):
        with pytest.warns(EfficiencyWarning, match="no kernels"):
            model = LogisticRegression().fit(given, y)
        np.testing.assert_allclose(model.coef_, dense.coef_, atol=1e-9)
    np.testing.assert_allclose(model.predict_proba(sparse), dense.predict_proba(X), atol=1e-9)  # without a warning
    with pytest.raises(MemoryError, match="sparse, 300 x 30"):
        arrays.densify(sparse, torch.device("cpu"), limit=1000)


def test_unpenalised_fit_has_inference():
    X, y = SCALED[0][:, [0, 1, 4]], SCALED[1]
    model = LogisticRegression(C=np.inf).fit(X, y)
    assert model.inference_.standard_error.shape == (4,)
    assert (model.inference_.p_value[:2] < 1e-6).all()
    np.testing.assert_array_equal(model.inference_.coefficient[:3], model.coef_[0])
    np.testing.assert_array_equal(LogisticRegression(penalty=None).fit(X, y).coef_, model.coef_)
    heavy = LogisticRegression(C=np.inf).fit(X, y, np.full(len(y), 4.0))
    np.testing.assert_allclose(heavy.inference_.standard_error, model.inference_.standard_error / 2)
    alone = LogisticRegression(C=np.inf).fit(X[:, :2], y).inference_.standard_error
    for column, named, known in (
        (X[:, 0], '"x0" and "x1"', [2, 3]),
        (np.zeros(len(y)), '"x0"', [1, 2, 3]),
        (np.full(len(y), 7.0), '"x0" and "intercept"', [1, 2]),
    ):
        with pytest.warns(UserWarning, match=f"coefficients of {named}, which have no standard errors"):
            found = LogisticRegression(C=np.inf).fit(np.c_[column, X[:, :2]], y).inference_.standard_error
        np.testing.assert_allclose(found[known], alone[np.array(known) - 1], rtol=1e-6)
        assert np.isnan(np.delete(found, known)).all()
    assert not hasattr(model.set_params(C=1.0).fit(X, y), "inference_")


def test_not_converged_is_told_in_the_estimators_words():
    X, y = SCALED
    with pytest.warns(ConvergenceWarning, match="limit of 1 iteration: .*1e-10 was.*raise max_iter, or .* tol"):
        LogisticRegression(max_iter=1, solver="lbfgs").fit(X, y)
    with pytest.warns(ConvergenceWarning, match="rounding ends all progress: .* a larger tol or penalty"):
        LogisticRegression(tol=1e-300).fit(X, y)
    with pytest.warns(ConvergenceWarning, match="separated.*add a penalty"):
        model = LogisticRegression(C=np.inf).fit(X, y)
    assert model.inference_ is None


def test_parameters_of_scikit_learns_estimator_are_taken():
    options = SklearnLogisticRegression(C=0.5, n_jobs=1, intercept_scaling=2).get_params() | {"tol": 1e-10}
    best = LogisticRegression(C=0.5).fit(*SCALED)
    for solver in ("lbfgs", "newton-cg", "newton-cholesky", "liblinear", "sag", "saga"):
        model = LogisticRegression(**options | {"solver": solver}).fit(*SCALED)
        np.testing.assert_allclose(model.coef_, best.coef_, atol=1e-4)
    X, y = np.random.default_rng(0).normal(size=(100, 700)), np.arange(100) % 4  # too large for our own Newton steps
    assert LogisticRegression(solver="newton-cholesky", tol=1e-4).fit(X, y).gap_ <= 1e-4


OUT_OF_BOUNDS = {
    "C": (0, "1", np.nan),
    "l1_ratio": (1.5, None),
    "penalty": ("l3", np.array(["l1"])),
    "dual": (np.array([1, 2]),),
    "tol": (0, np.inf),
    "max_iter": (1.5, -1),
    "class_weight": ("even",),
    "verbose": (None, -1),
    "batch_size": (0, 2**70),
    "learning_rate": (-1,),
}


@pytest.mark.parametrize("name", OUT_OF_BOUNDS)
def test_a_parameter_out_of_bounds_is_named(name):
    for value in OUT_OF_BOUNDS[name]:
        for method in ("fit", "partial_fit"):
            with pytest.raises(ValueError, match=f"The '{name}' parameter .* must be"):
                getattr(LogisticRegression(**{name: value}), method)(*SCALED)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"dual": True}, "dual is True; must be False"),
        ({"solver": "newton-cg", "l1_ratio": 1}, "solver is 'newton-cg' with l1_ratio=1; it takes no l1 term"),
        ({"solver": "newton-cg", "penalty": "l1"}, "solver is 'newton-cg' with penalty='l1'"),
        ({"class_weight": {0: -1, 1: 1}}, "class_weight has -1 for the class 0"),
        ({"class_weight": {0: 0, 1: 1}}, "class 0 has no row with a weight above 0, by class_weight"),
        ({"C": 1e-320}, "C is .*; their product must be above"),
    ],
)
def test_parameters_that_do_not_go_together_are_named(parameters, message):
    with pytest.raises(ValueError, match=message):
        LogisticRegression(**parameters).fit(*SCALED)


def test_penalty_that_overrides_others_warns_and_verbose_prints_the_gap(capsys):
    for options in ({"penalty": None, "C": 2.0}, {"penalty": "l1", "l1_ratio": 0.5}):
        with pytest.warns(UserWarning, match="ignore"):
            LogisticRegression(verbose=1, **options).fit(SCALED[0][:, :2], SCALED[1])
    assert "iteration 0: objective" in capsys.readouterr().out


def test_device_may_be_torchs():
    LogisticRegression(device=torch.device("cpu")).fit(*SCALED)
    with pytest.raises(UserError, match="device"):
        LogisticRegression(device=None).fit(*SCALED)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (torch.eye(150).to_sparse(), r"X is a tensor that is sparse .*; give X.to_dense\(\)"),
        (torch.zeros(150, 2, device="meta"), r"X is a tensor that has no values"),
        (pl.DataFrame({"a": [0.0] * 150}).lazy(), r"give X.collect\(\)"),
        (pd.DataFrame({"a": 0.0, "b": pd.Categorical(list("xyz") * 50)}), r'hold no numbers: "b" \(category\)'),
        (pd.DataFrame({"a": 0.0, "b": pd.date_range("2024", periods=150)}), r'hold no numbers: "b" \(datetime64'),
        (pd.DataFrame({"b": pd.date_range("2024", periods=150)}), r'hold no numbers: "b" \(datetime64'),
        (np.zeros((150, 2), dtype="M8[s]"), "X holds dates or times"),
        ([[np.timedelta64(1, "D")]] * 150, "X holds dates or times"),
        (np.array([[0.0], [np.datetime64("2024")]] * 75, dtype=object), "X holds dates or times"),
        (pa.table({"a": [0.0] * 150, "b": pa.array([0] * 150, pa.duration("s"))}), r'numbers: "b" \(duration'),
        (pl.DataFrame({"a": [0.0] * 150, "b": ["x"] * 150}), r'hold no numbers: "b" \(String\)'),
        (torch.zeros(150), "Expected 2D array, got 1D"),
        (torch.zeros(150, 2, dtype=torch.complex64), "Complex data not supported"),
        (torch.full((150, 2), torch.nan), "Input X contains NaN"),
        (torch.full((150, 2), -torch.inf), "Input X contains infinity"),
        (torch.zeros(4, 2), "inconsistent numbers of samples"),
        (np.c_[np.full(150, 1e200), -np.arange(150) * 1e200], "beyond 1e150"),
    ],
)
def test_data_that_cannot_be_used_are_named(X, message):
    with pytest.raises(ValueError, match=message):
        LogisticRegression().fit(X, np.arange(150) % 2)


THIRDS = np.arange(150) % 3


@pytest.mark.parametrize(
    ("y", "weight", "message"),
    [
        (None, None, "requires y"),
        (torch.zeros(150, dtype=torch.complex64), None, "Complex data not supported"),
        (torch.zeros(150, 2), None, "label 0 of y is 0"),
        (torch.tensor([torch.nan, 1.0] * 75), None, "75 rows have no label"),
        ([None, 0, 1] * 50, None, "50 rows have no label"),
        (pd.Series([1, 0, None] * 50, dtype="Int64"), None, "50 rows have no label"),
        (pd.Series(["a", pd.NA, "b"] * 50, dtype=object), None, "50 rows have no label"),
        (np.array(["a", 1, "b"] * 50, dtype=object), None, "y mixes labels of the kinds int and str"),
        (THIRDS, -np.ones(150), "Negative values"),
        (THIRDS, (THIRDS > 1).astype(float), "class .*0.* has no row .* by sample_weight"),
        (THIRDS, np.zeros(150), "sample_weight is zero for every row"),
        (THIRDS, np.ones(3), "expected"),
        (THIRDS, np.full(150, np.nan), "NaN"),
        (THIRDS, np.full(150, 1e308), "the weights add up to more than"),
    ],
)
def test_odd_labels_and_weights_are_named(y, weight, message):
    for X in (IRIS[0], torch.from_numpy(IRIS[0])):
        with pytest.raises(ValueError, match=message):
            LogisticRegression().fit(X, y, sample_weight=weight)


def test_pandas_own_kinds_of_labels():
    for dtype, kind in (("Int64", "i"), ("boolean", "b"), ("int64[pyarrow]", "i"), ("bool[pyarrow]", "b")):
        y = pd.Series((np.arange(150) % 2).astype(bool if kind == "b" else int)).astype(dtype)
        assert LogisticRegression().fit(IRIS[0], y).classes_.dtype.kind == kind


@pytest.mark.parametrize("labels", [("alive", "benign"), ("benign", "alive"), ("2", "0", "1")])
def test_a_runs_model(tmp_path, labels):
    """scikit-learn takes classes_ for sorted, whatever the run calls positive."""
    several = [[2.0, -1.0], [0.0, 1.0], [1.0, 0.5]], [0.5, 0.0, -1.0]
    weight, bias = several if len(labels) > 2 else ([2.0, -1.0], [0.5])
    units = Standardization(np.array([1.0, 2.0]), np.array([2.0, 4.0]))
    saved = Model(np.array(weight), np.array(bias), ("a", "b"), labels, units, eps=0.0, threshold=0.3)
    saved.save(tmp_path / "model.safetensors")
    (tmp_path / "metrics.json").write_text('{"run": {"iterations": 7, "relative_gap": 1e-7}}')
    model = LogisticRegression.load(tmp_path)
    assert model.classes_.tolist() == (sorted(labels) if len(labels) == 2 else [0, 1, 2])
    assert (model.n_iter_.tolist(), model.gap_) == ([7], 1e-7)
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(20, 2)), columns=["a", "b"])
    z = torch.from_numpy(saved.logits(Codes.of(X.to_numpy()))).reshape(20, -1)
    p = torch.softmax(z if len(labels) > 2 else torch.nn.functional.pad(z, (1, 0)), dim=1).numpy()
    np.testing.assert_allclose(model.predict_proba(X)[:, np.argsort(np.argsort(labels))], p, rtol=1e-12)
    np.testing.assert_allclose(model.to_sklearn().predict_proba(X), model.predict_proba(X), rtol=1e-12)
    before, coef = model.predict(X), model.coef_.copy()
    model.set_params(learning_rate=1e-9).partial_fit(X, before, classes=model.classes_)
    np.testing.assert_array_equal(model.predict(X), before)
    np.testing.assert_allclose(model.coef_, coef, atol=1e-6)
    assert (model.n_iter_.tolist(), hasattr(model, "gap_")) == ([7], False)
    LogisticRegression.load(tmp_path / "model.safetensors")
