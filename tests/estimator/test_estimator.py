import copy
import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse
import torch
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_iris, load_wine, make_classification
from sklearn.exceptions import ConvergenceWarning, EfficiencyWarning, NotFittedError
from sklearn.linear_model import LogisticRegression as SklearnLogisticRegression
from sklearn.metrics import get_scorer
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from flashlogit import LogisticRegression, UserError
from flashlogit.estimator.sparse import densify
from flashlogit.models.saved_model import _labels

CANCER = load_breast_cancer(return_X_y=True)
WINE = load_wine(return_X_y=True)
SCALED = StandardScaler().fit_transform(CANCER[0]), CANCER[1]


def assert_same_model(ours, theirs, atol=1e-5):
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=atol)
    intercept = ours.intercept_ - ours.intercept_.mean() + theirs.intercept_.mean()
    np.testing.assert_allclose(
        intercept if len(ours.classes_) > 2 else ours.intercept_, theirs.intercept_, atol=atol
    )
    np.testing.assert_array_equal(ours.classes_, theirs.classes_)


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"C": 0.01},
        {"C": 50.0, "fit_intercept": False},
        {"l1_ratio": 1.0, "C": 0.1},
        {"l1_ratio": 0.3, "C": 0.2},
        {"class_weight": "balanced"},
        {"class_weight": {0: 3.0, 1: 0.5}},
    ],
)
@pytest.mark.parametrize(
    "data", [SCALED, (StandardScaler().fit_transform(WINE[0]), WINE[1])], ids=["two", "three"]
)
def test_same_model_as_scikit_learn(parameters, data):
    X, y = data
    if len(set(y)) == 3 and "class_weight" in parameters and parameters["class_weight"] != "balanced":
        parameters = {"class_weight": {0: 3.0, 2: 0.5}}
    solver = {"solver": "saga", "tol": 1e-7} if "l1_ratio" in parameters else {"tol": 1e-9}
    theirs = SklearnLogisticRegression(max_iter=100_000, random_state=0, **solver, **parameters).fit(X, y)
    ours = LogisticRegression(**parameters).fit(X, y)
    assert_same_model(ours, theirs, atol=1e-3 if "l1_ratio" in parameters else 1e-4)
    assert 0 <= ours.gap_ <= 1e-10
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-4)
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
    assert ours.score(X, y) == theirs.score(X, y)


def test_raw_columns_are_penalised_and_weights_counted():
    X, y = CANCER
    weight = np.random.default_rng(0).integers(0, 3, len(y)).astype(float)
    weight[:5] = 2
    ours = LogisticRegression(C=0.5, class_weight="balanced").fit(X, y, sample_weight=weight)
    rows = np.repeat(np.arange(len(y)), weight.astype(int))
    twice = LogisticRegression(C=0.5, class_weight="balanced").fit(X[rows], y[rows])
    np.testing.assert_allclose(ours.coef_, twice.coef_, atol=1e-6)


def test_shapes_dtypes_and_names():
    X, y = WINE
    frame = pd.DataFrame(X, columns=[f"c{j}" for j in range(X.shape[1])])
    labels = np.array(["red", "rosé", "white"])[y]
    model = LogisticRegression().fit(frame, labels)
    assert model.coef_.shape == (3, 13)
    assert model.intercept_.shape == (3,)
    assert model.n_iter_.dtype == np.int32
    assert list(model.feature_names_in_) == list(frame.columns)
    assert set(model.predict(frame)) <= {"red", "rosé", "white"}
    assert model.decision_function(frame).shape == (178, 3)
    small = LogisticRegression().fit(X.astype(np.float32), y)
    assert small.coef_.dtype == small.predict_proba(X.astype(np.float32)).dtype == np.float32
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame.rename(columns={"c0": "other"}))
    with pytest.raises(NotFittedError):
        LogisticRegression().predict(X)


def test_log_probabilities_in_the_tails():
    model = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    model.coef_, model.intercept_ = np.array([[1.0]]), np.array([0.0])
    far = model.predict_log_proba([[-1000.0], [40.0], [1e5]])
    np.testing.assert_allclose(far[:, 1], [-1000.0, -np.exp(-40.0), 0.0])
    np.testing.assert_allclose(far[:, 0], [0.0, -40.0, -1e5])
    assert np.isfinite(far).all()


def test_warm_start_goes_on():
    X, y = SCALED
    model = LogisticRegression(warm_start=True).fit(X, y)
    coef = model.coef_.copy()
    model.fit(X, y)
    assert model.n_iter_[0] == 1
    np.testing.assert_allclose(model.coef_, coef, atol=1e-7)
    model.set_params(C=2.0).fit(X[:, :5], y)  # another shape: from the start
    assert model.coef_.shape == (1, 5)


def test_in_scikit_learns_machinery():
    X, y = SCALED
    search = GridSearchCV(LogisticRegression(), {"C": [0.01, 1.0], "l1_ratio": [0.0, 0.5]}, cv=3).fit(X, y)
    assert search.best_score_ > 0.95
    pipeline = make_pipeline(StandardScaler().set_output(transform="pandas"), LogisticRegression()).fit(
        *CANCER
    )
    assert len(pipeline[-1].feature_names_in_) == 30
    assert clone(pipeline[-1]).get_params() == pipeline[-1].get_params()
    ovr = OneVsRestClassifier(LogisticRegression()).fit(*WINE)
    assert ovr.score(*WINE) > 0.95
    with config_context(enable_metadata_routing=True):
        routed = (
            LogisticRegression().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        )
        weight = np.ones(len(y))
        result = cross_validate(routed, X, y, params={"sample_weight": weight}, cv=3)
        assert result["test_score"].mean() > 0.95


def test_after_a_column_transformer_with_pandas_output():
    frame = pd.DataFrame({"a": [1.0, 2, 3, 4, 5, 6], "b": list("xyxyxx")})
    encode = ColumnTransformer(
        [("b", OneHotEncoder(sparse_output=False), ["b"])], remainder="passthrough"
    ).set_output(transform="pandas")
    model = make_pipeline(encode, LogisticRegression()).fit(frame, [0, 1, 0, 1, 1, 1])
    assert list(model[-1].feature_names_in_) == ["b__b_x", "b__b_y", "remainder__a"]


def test_pickle():
    X, y = SCALED
    model = LogisticRegression().fit(torch.from_numpy(X), y)
    again = pickle.loads(pickle.dumps(model))
    assert torch.equal(again.predict(torch.from_numpy(X)), model.predict(torch.from_numpy(X)))


@pytest.mark.parametrize("l1_ratio", [0.0, 0.5])
@pytest.mark.parametrize("data", [SCALED, WINE], ids=["two", "three"])
def test_partial_fit_comes_near_the_optimum(data, l1_ratio):
    X, y = data
    best = LogisticRegression(l1_ratio=l1_ratio).fit(X, y)
    model = LogisticRegression(l1_ratio=l1_ratio, random_state=0, batch_size=32, learning_rate=0.02)
    for _ in range(60):
        model.partial_fit(X, y)
    assert not hasattr(model, "gap_")
    assert model.score(X, y) >= best.score(X, y) - 0.02
    for _ in range(60):
        model.set_params(learning_rate=model.learning_rate * 0.93).partial_fit(X, y)

    def objective(model):
        p = model.predict_log_proba(X)[np.arange(len(y)), y]
        w = np.abs(model.coef_)
        return -p.sum() + l1_ratio * w.sum() + 0.5 * (1 - l1_ratio) * np.square(w).sum()

    assert objective(model) <= 1.05 * objective(best)


def test_partial_fit_is_repeatable_and_goes_on_after_pickle():
    X, y = WINE
    models = []
    for interrupted in (False, True):
        model = LogisticRegression(random_state=3)
        for _ in range(3):
            model.partial_fit(X, y, classes=[0, 1, 2])
            model = pickle.loads(pickle.dumps(model)) if interrupted else model
        models.append(model)
    np.testing.assert_array_equal(models[0].coef_, models[1].coef_)
    other = LogisticRegression(random_state=4).partial_fit(X, y)
    assert not np.array_equal(other.coef_, LogisticRegression(random_state=3).partial_fit(X, y).coef_)


def test_partial_fit_goes_on_from_fit():
    X, y = SCALED
    model = LogisticRegression(random_state=0).fit(X, y)
    before = model.coef_.copy()
    model.set_params(learning_rate=1e-6).partial_fit(X, y)
    np.testing.assert_allclose(model.coef_, before, atol=1e-3)
    assert not hasattr(model, "gap_")


def test_partial_fit_knows_its_classes():
    X, y = WINE
    model = LogisticRegression().partial_fit(X[:50], y[:50], classes=[0, 1, 2])
    assert model.coef_.shape == (3, 13)
    with pytest.raises(ValueError, match="label 7"):
        model.partial_fit(X[:2], [0, 7])
    with pytest.raises(ValueError, match="earlier calls had"):
        model.partial_fit(X[:2], [0, 1], classes=[0, 1])
    with pytest.raises(ValueError, match="one class"):
        LogisticRegression().partial_fit(X[:50], y[:50])


def test_sparse_is_densified_and_says_so():
    X, y = make_classification(300, 30, random_state=0)
    X[np.abs(X) < 1] = 0
    sparse = scipy.sparse.csr_array(X)
    dense = LogisticRegression().fit(X, y)
    with pytest.warns(EfficiencyWarning, match="no kernels"):
        model = LogisticRegression().fit(sparse, y)
    np.testing.assert_allclose(model.coef_, dense.coef_, atol=1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(model.predict_proba(sparse), dense.predict_proba(X), atol=1e-9)
    with pytest.raises(MemoryError, match="sparse, 300 x 30"):
        densify(sparse, torch.device("cpu"), limit=1000)


def test_unpenalised_fit_has_inference():
    X, y = SCALED
    model = LogisticRegression(C=np.inf).fit(X[:, [0, 1, 4]], y)
    assert model.inference_.standard_error.shape == (4,)
    assert (model.inference_.p_value[:2] < 1e-6).all()
    np.testing.assert_array_equal(model.inference_.coefficient[:3], model.coef_[0])
    older = LogisticRegression(penalty=None).fit(X[:, [0, 1, 4]], y)
    np.testing.assert_array_equal(older.coef_, model.coef_)
    assert not hasattr(LogisticRegression().fit(X, y), "inference_")
    doubled = np.column_stack([X[:, :2], X[:, 0]])
    with pytest.warns(UserWarning, match="collinear"):
        assert LogisticRegression(C=np.inf).fit(doubled, y).inference_ is None


def test_not_converged_is_told():
    X, y = SCALED
    with pytest.warns(ConvergenceWarning, match="stopped at the limit"):
        LogisticRegression(max_iter=1, solver="lbfgs").fit(X, y)
    with pytest.warns(ConvergenceWarning, match="separated"):
        model = LogisticRegression(C=np.inf).fit(X, y)
    assert model.inference_ is None


def test_verbose_prints_the_gap(capsys):
    LogisticRegression(verbose=1).fit(*SCALED)
    assert "iteration 0: objective" in capsys.readouterr().out


@pytest.mark.parametrize("solver", ["lbfgs", "newton-cg", "newton-cholesky", "liblinear", "sag", "saga"])
def test_names_of_scikit_learns_solvers(solver):
    model = LogisticRegression(solver=solver, random_state=0, n_jobs=1, intercept_scaling=2).fit(*SCALED)
    assert model.gap_ <= 1e-10


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"C": 0}, "C is 0; must be a number above 0"),
        ({"C": "1"}, "C is '1'"),
        ({"C": float("nan")}, "C is nan"),
        ({"l1_ratio": 1.5}, "l1_ratio is 1.5; must be between 0"),
        ({"l1_ratio": None}, "l1_ratio is None"),
        ({"penalty": "l3"}, "penalty is 'l3'"),
        ({"dual": True}, "dual is True"),
        ({"tol": 0}, "tol is 0"),
        ({"max_iter": 1.5}, "max_iter is 1.5"),
        ({"solver": "newton-cq"}, "solver is 'newton-cq'"),
        ({"solver": "newton-cg", "l1_ratio": 1}, "takes no l1 term"),
        ({"class_weight": "even"}, "class_weight is 'even'"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"learning_rate": -1}, "learning_rate is -1"),
    ],
)
def test_bad_parameters_are_named(parameters, message):
    with pytest.raises(ValueError, match=message):
        LogisticRegression(**parameters).fit(*SCALED)


def test_bad_device_and_backend_are_named():
    with pytest.raises(UserError, match="device is 'cuda:99'"):
        LogisticRegression(device="cuda:99").fit(*SCALED)
    with pytest.raises(ValueError, match="backend is 'tryton'"):
        LogisticRegression(backend="tryton").fit(*SCALED)


@pytest.mark.parametrize(
    ("y", "weight", "message"),
    [
        (None, None, "requires y"),
        (np.zeros(150), None, "only one class"),
        (np.linspace(0, 1, 150), None, "continuous"),
        (np.arange(150) % 3, -np.ones(150), "Negative values"),
        (
            np.arange(150) % 3,
            (np.arange(150) % 3 > 1).astype(float),
            "class .*0.* has no row .* by sample_weight",
        ),
        (np.arange(150) % 3, np.ones(3), "expected"),
        (np.arange(150) % 3, np.full(150, np.nan), "NaN"),
    ],
)
def test_bad_labels_and_weights_are_named(y, weight, message):
    for X in (load_iris().data, torch.from_numpy(load_iris().data)):
        with pytest.raises(ValueError, match=message):
            LogisticRegression().fit(X, y, sample_weight=weight)


def test_a_runs_model_with_its_positive_class_first(tmp_path):
    """scikit-learn takes classes_ for sorted, whatever the run calls positive."""
    from flashlogit.commands.main import main

    X, y = SCALED[0][:, :4], np.array(["benign", "alive"])[SCALED[1]]
    frame = pd.DataFrame(X, columns=list("abcd")).assign(state=y)
    frame.to_csv(tmp_path / "data.csv", index=False)
    (tmp_path / "config.yaml").write_text(
        f"name: run\noutput: {tmp_path}\ndata:\n  source: file\n  path: {tmp_path}/data.csv\n"
        "  label: {column: state, positive: alive}\nsolver: {name: auto}\nloss: {l2: 1e-3}\nreport: {html: false}\n"
    )
    assert main(["train", "--config", str(tmp_path / "config.yaml"), "--quiet"]) == 0
    model = LogisticRegression.load(tmp_path / "run")
    assert model.classes_.tolist() == ["alive", "benign"]
    fresh = LogisticRegression(C=1.0).fit(frame[list("abcd")], y)
    for name in ("roc_auc", "neg_log_loss", "accuracy"):
        score = get_scorer(name)
        assert score(model, frame[list("abcd")], y) == pytest.approx(
            score(fresh, frame[list("abcd")], y), abs=0.02
        )
    before = model.score(frame[list("abcd")], y)
    model.set_params(learning_rate=1e-9).partial_fit(frame[list("abcd")], y)
    assert model.score(frame[list("abcd")], y) == before
    again = model.to_sklearn().predict_proba(frame[list("abcd")])
    np.testing.assert_allclose(again, model.predict_proba(frame[list("abcd")]))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("0", "1"), [0, 1]),
        (("-1", "1"), [-1, 1]),
        (("01", "1"), ["01", "1"]),
        (("1_0", "10"), ["1_0", "10"]),
        (("1" * 30, "2"), ["1" * 30, "2"]),
    ],
)
def test_label_names_of_a_run_as_numbers(names, expected):
    assert _labels(names).tolist() == expected


@pytest.mark.parametrize("constant", [0.0, 1.0, 7.0])
def test_a_constant_column_has_no_standard_errors(constant):
    X, y = SCALED
    with pytest.warns(UserWarning, match="collinear"):
        model = LogisticRegression(C=np.inf).fit(np.c_[np.full(len(y), constant), X[:, [0, 1]]], y)
    assert model.inference_ is None


def test_sparse_indices_of_64_bits():
    X, y = SCALED
    rows, columns = np.indices(X.shape)
    wide = scipy.sparse.csr_array((X.ravel(), (rows.ravel(), columns.ravel())), shape=X.shape)
    wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
    with pytest.warns(EfficiencyWarning):
        model = LogisticRegression().fit(wide, y)
    np.testing.assert_allclose(model.coef_, LogisticRegression().fit(X, y).coef_, atol=1e-9)


@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode])
def test_partial_fit_without_gradients_around_it(guard):
    X, y = (torch.from_numpy(array) for array in SCALED)
    expected = LogisticRegression(random_state=0).partial_fit(X, y)
    with guard():
        model = LogisticRegression(random_state=0).partial_fit(X.clone(), y.clone())
    assert torch.equal(model.coef_, expected.coef_)


def test_partial_fit_of_a_stream_of_few_rows():
    """The first rows say little of a column's spread; what later ones say is taken up."""
    generator = np.random.default_rng(0)
    X = 1e5 + 1e4 * generator.normal(size=(600, 2))
    y = (X[:, 0] - 1e5 + 3e3 * generator.logistic(size=600) > 0).astype(int)
    best = LogisticRegression().fit(X, y).score(X, y)
    for size in (1, 10):
        model = LogisticRegression(random_state=0, learning_rate=0.02 * size)
        for start in range(0, 600, size):
            model.partial_fit(X[start : start + size], y[start : start + size], classes=[0, 1])
        assert model.score(X, y) > best - 0.03


def test_partial_fit_that_diverges_says_so():
    with pytest.raises(ValueError, match="learning_rate is 1e\\+308"):
        LogisticRegression(learning_rate=1e308).partial_fit(*SCALED)


def test_device_may_be_torchs():
    X, y = SCALED
    for device in (torch.device("cpu"), "cpu", "cpu:0"):
        LogisticRegression(device=device).fit(X, y)
    for device in ("mps", "gpu", "cuda:x", None, 3):
        with pytest.raises(UserError, match=r"device is .*; must be 'auto', 'cpu', 'cuda' or 'cuda:N'"):
            LogisticRegression(device=device).fit(X, y)


def test_newton_cholesky_takes_any_problem():
    generator = np.random.default_rng(0)
    model = LogisticRegression(solver="newton-cholesky", tol=1e-4)
    assert model.fit(generator.normal(size=(200, 700)), generator.integers(0, 4, 200)).gap_ <= 1e-4


def test_parameters_of_scikit_learns_estimator_are_taken():
    ours = LogisticRegression(**SklearnLogisticRegression(C=0.5, tol=1.0).get_params()).fit(*SCALED)
    assert ours.score(*SCALED) > 0.9


def test_to_scikit_learn_keeps_what_a_clone_would_be_fitted_with():
    X, y = SCALED
    options = {"l1_ratio": 0.5, "C": 0.1, "class_weight": "balanced", "random_state": 3}
    ours = LogisticRegression(**options).fit(X, y)
    again = clone(ours.to_sklearn()).set_params(tol=1e-8, max_iter=10_000).fit(X, y)
    assert_same_model(ours, again, atol=1e-3)
    assert np.isinf(LogisticRegression(penalty=None).fit(X[:, :2], y).to_sklearn().C)


def test_deepcopy_keeps_tensors_and_state():
    X, y = (torch.from_numpy(array) for array in SCALED)
    model = LogisticRegression(random_state=0).partial_fit(X, y)
    again = copy.deepcopy(model)
    assert torch.equal(again.partial_fit(X, y).coef_, model.partial_fit(X, y).coef_)
    assert again.coef_ is not model.coef_


def test_penalty_that_overrides_others_warns():
    X, y = SCALED
    for options in ({"penalty": None, "C": 2.0}, {"penalty": "l1", "l1_ratio": 0.5}):
        with pytest.warns(UserWarning, match="ignore"):
            LogisticRegression(**options).fit(X[:, :2], y)


def test_overflowing_logits_have_probabilities():
    for data in (SCALED, (StandardScaler().fit_transform(WINE[0]), WINE[1])):
        model = LogisticRegression().fit(data[0][:, :2], data[1])
        p = model.predict_proba([[1e308, 1e308]])
        assert np.isfinite(p).all()
        assert p.sum() == pytest.approx(1)


def test_sentences_name_the_estimators_parameters():
    with pytest.warns(ConvergenceWarning, match="raise max_iter, or take a larger tol or penalty"):
        LogisticRegression(max_iter=1, solver="lbfgs").fit(*SCALED)
    with pytest.raises(ValueError, match="solver is 'newton-cg' with penalty='l1'"):
        LogisticRegression(solver="newton-cg", penalty="l1").fit(*SCALED)
    with pytest.raises(UserError, match=r"solver is newton with 2,100 columns"):
        LogisticRegression(solver="newton").fit(np.eye(10, 2100), np.arange(10) % 2)


MASKED = pd.Series([1, 0, None] * 50, dtype="Int64")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"solver": ["lbfgs"]}, r"solver is \['lbfgs'\]"),
        ({"backend": ["torch"]}, r"backend is \['torch'\]"),
        ({"penalty": np.array(["l1"])}, "penalty is array"),
        ({"class_weight": np.array([1, 2])}, "class_weight is array"),
        ({"class_weight": {0: -1, 1: 1}}, "class_weight has -1 for the class 0"),
        ({"class_weight": {0: None}}, "class_weight has None for the class 0"),
        ({"class_weight": {0: float("nan")}}, "class_weight has nan for the class 0"),
        ({"class_weight": {0: 0, 1: 1}}, "class 0 has no row with a weight above 0, by class_weight"),
        ({"class_weight": {0: 0, 1: 0}}, "class_weight is zero for every row"),
        ({"dual": np.array([1, 2])}, "dual is array"),
        ({"fit_intercept": "no"}, "fit_intercept is 'no'; must be True or False"),
        ({"warm_start": 3}, "warm_start is 3"),
        ({"verbose": "a"}, "verbose is 'a'"),
        ({"verbose": None}, "verbose is None"),
        ({"batch_size": 2**70}, "batch_size is"),
        ({"random_state": "x"}, "cannot be used to seed"),
        ({"C": 1e-320}, "C is .*; their product must be above"),
    ],
)
def test_odd_parameters_are_named(parameters, message):
    with pytest.raises(ValueError, match=message):
        LogisticRegression(**parameters).fit(*SCALED)


def frame_of(column):
    return pd.DataFrame({"a": np.arange(150.0), "b": column})


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (torch.eye(150).to_sparse(), r"X is a tensor that is sparse .*; give X.to_dense\(\)"),
        (torch.zeros(150, 2, device="meta"), r"X is a tensor that has no values"),
        (pl.DataFrame({"a": [0.0] * 150}).lazy(), r"give X.collect\(\)"),
        (frame_of(list("xyz") * 50), r'X has columns that hold no numbers: "b"'),
        (frame_of(pd.Categorical(list("xyz") * 50)), r'hold no numbers: "b" \(category\)'),
        (frame_of(pd.date_range("2024", periods=150)), r'hold no numbers: "b" \(datetime64'),
        (pl.DataFrame({"a": ["x"] * 150}), r'hold no numbers: "a" \(String\)'),
        (np.c_[np.full(150, 1e200), -np.arange(150) * 1e200], "beyond 1e150"),
    ],
)
def test_data_without_numbers_are_named(X, message):
    with pytest.raises(ValueError, match=message):
        LogisticRegression().fit(X, np.arange(150) % 2)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([None, 0, 1] * 50, "50 rows have no label"),
        (MASKED, "50 rows have no label"),
        (pl.Series(["a", "b", None] * 50), "50 rows have no label"),
        (np.array(["a", 1, "b"] * 50, dtype=object), "y mixes labels of the kinds int and str"),
        (torch.zeros(150, dtype=torch.complex64), "Complex data not supported"),
        (np.r_[np.nan, np.arange(149) % 2], "1 rows have no label"),
    ],
)
def test_odd_labels_are_named(y, message):
    for X in (load_iris().data, torch.from_numpy(load_iris().data)):
        with pytest.raises(ValueError, match=message):
            LogisticRegression().fit(X, y)


def test_pandas_own_kinds_of_labels():
    X = load_iris().data
    for dtype, kind in (("Int64", "i"), ("boolean", "b"), ("int64[pyarrow]", "i"), ("bool[pyarrow]", "b")):
        y = pd.Series((np.arange(150) % 2).astype(bool if kind == "b" else int)).astype(dtype)
        assert LogisticRegression().fit(X, y).classes_.dtype.kind == kind


def test_odd_weights_are_named():
    X, y = SCALED
    with pytest.raises(ValueError, match="the weights add up to more than"):
        LogisticRegression().fit(X, y, sample_weight=np.full(len(y), 1e308))
    scalar = LogisticRegression().fit(X, y, sample_weight=torch.tensor(2.0))
    np.testing.assert_allclose(scalar.coef_, LogisticRegression(C=2.0).fit(X, y).coef_, atol=1e-6)
    with pytest.raises(ValueError, match="classes has the shape"):
        LogisticRegression().partial_fit(X, y, classes=[[0, 1]])
    with pytest.raises(ValueError, match="have no label"):
        LogisticRegression().partial_fit(X, y, classes=[0, 1, np.nan])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("constant", [2013.0, 1.7e9])
def test_partial_fit_on_a_column_that_is_constant_so_far(dtype, constant):
    X, y = SCALED
    columns = np.c_[X[:, :2], np.full(len(y), constant)].astype(dtype)
    model = LogisticRegression(random_state=0, batch_size=32)
    for _ in range(5):
        model.partial_fit(columns, y)
    assert model.coef_[0, 2] == 0
    assert model.score(columns, y) > 0.85
    columns[:, 2] *= 1.01
    assert model.score(columns, y) > 0.85


def test_partial_fit_knows_no_rows_without_weight():
    X, y = SCALED
    rows, labels = np.r_[X[:, :2], [[1e6, 1e6]]], np.r_[y, 1]
    weight = np.r_[np.ones(len(y)), 0]
    model = LogisticRegression(random_state=0, batch_size=32)
    for _ in range(10):
        model.partial_fit(rows, labels, sample_weight=weight)
    assert model.score(X[:, :2], y) > 0.85


def test_a_copy_is_trained_apart():
    X, y = SCALED
    model = LogisticRegression(random_state=0).partial_fit(X, y)
    twin = copy.copy(model)
    twin.partial_fit(X, y)
    with pytest.raises(ValueError, match="learning_rate"):
        copy.copy(model).set_params(learning_rate=1e308).partial_fit(X, y)
    expected = LogisticRegression(random_state=0).partial_fit(X, y).partial_fit(X, y)
    np.testing.assert_array_equal(twin.coef_, expected.coef_)
    np.testing.assert_array_equal(model.partial_fit(X, y).coef_, expected.coef_)
