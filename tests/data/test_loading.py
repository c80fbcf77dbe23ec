"""From settings to a data set: columns, weights, dropped rows, files of their own, and data that no file holds."""

import math

import numpy as np
import pytest
import torch
from refused import CPU, NONE, refused
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression

from flashlogit.config.data import BreastCancerData, FileData, SyntheticData
from flashlogit.data.loading import load

CSV = "age,dose,weight,y\n1,2,1,0\n3,4,2,1\n5,7,1,0\n6,1,1,1\n"
FILES = {
    "d.csv": CSV,
    "d.npy": {"a": np.arange(4.0), "b": np.arange(4.0), "y": [0, 1, 0, 1]},
    "d.npz": {"X": np.ones((4, 2)), "y": [0, 1, 0, 1], "s": np.ones(4)},
}


def test_choice_of_columns(write, load_file):
    for settings, expected in (
        ({"weight": "weight"}, ("age", "dose")),
        ({"drop": ["age", "age", "y"]}, ("dose", "weight")),
        ({"columns": ["dose", "age"]}, ("dose", "age")),
        ({"label": {"column": "weight"}}, ("age", "dose", "y")),
    ):
        data = load_file(write("d.csv", CSV), split=NONE, **settings)
        assert (data.feature_names, data.train.X.shape) == (expected, (4, len(expected)))
        assert list(data.splits) == ["train"]


LABEL, COLUMNS = "data.label.column", "data.columns"
REFUSED_COLUMNS = [
    ("d.csv", {"label": {"column": "Y"}}, LABEL, ['did you mean "y"?', '"age", "dose", "weight" and "y"']),
    ("d.csv", {"label": {"column": 3}}, LABEL, ["columns by name"]),
    ("d.csv", {"drop": ["agee"]}, "data.drop", ['did you mean "age"?']),
    ("d.csv", {"columns": ["age", "y"]}, COLUMNS, ['"y", the label column']),
    ("d.csv", {"columns": ["age", "dose", "age"]}, COLUMNS, ['"age" more than once']),
    ("d.csv", {"columns": ["age"], "drop": ["age"]}, COLUMNS, ['"age", and so does data.drop']),
    ("d.csv", {"weight": "y"}, "data.weight", ["data.label.column names it too"]),
    ("d.csv", {"drop": ["age", "dose", "weight"]}, "d.csv", ["no feature columns left"]),
    ("d.npy", {"label": {"column": 3}}, LABEL, ["3 columns", "from -3 to 2"]),
    ("d.npy", {"label": {"column": 2}, "columns": ["x1", 1]}, COLUMNS, ['"x1" more than once']),
    ("d.npy", {"label": {"column": 2}, "columns": [-1]}, COLUMNS, ['"x2", the label column']),
    ("d.npz", {"label": {"column": "x0"}}, LABEL, ['name one of "y" and "s"']),
    ("d.npz", {"columns": [2]}, COLUMNS, ["from -2 to 1"]),
]


@pytest.mark.parametrize(("file", "settings", "setting", "words"), REFUSED_COLUMNS)
def test_columns_that_are_refused(file, settings, setting, words, write, load_file):
    with refused(*words, setting=setting):
        load_file(write(file, FILES[file]), split=NONE, **settings)


KINDS = [("d.csv", "float64", torch.float64), ("d.npy", "bfloat16", torch.float32), ("d.npz", "float16", torch.float32)]


@pytest.mark.parametrize(("name", "dtype", "expected"), KINDS)
def test_labels_and_weights_stay_with_their_rows(dtype, expected, name, write, load_file):
    a, y = np.arange(100.0), np.arange(100) % 2
    columns = {"X": a[:, None], "y": y, "s": a / 4} if name == "d.npz" else {"a": a, "y": y, "s": a / 4}
    settings = {"label": {"column": 1}, "weight": -1} if name == "d.npy" else {"weight": "s"}
    data = load_file(write(name, columns), dtype=dtype, standardize=False, **settings)
    assert len(data.feature_names) == 1
    for rows in data.splits.values():
        values = rows.X[:, 0].double()
        assert rows.sample_weight.dtype == expected
        assert torch.equal(rows.sample_weight.double() * 4, values)
        assert torch.equal(rows.y, values % 2)
        assert (values.diff() > 0).all()  # in the file's order
    for rows in (data.validation, data.test):
        assert rows.number.tolist() == (rows.X[:, 0].double() + 1).tolist()
    assert data.train.number is None


WEIGHTS = [
    ([1, 1, -0.5, 1], ["row 3 (the first is 1) is negative", "must be 0 or more"]),
    ([1, None, 1, 1], ["row 2", "is missing (empty or NaN)"]),
    ([1, float("inf"), 1, 1], ["row 2", "is infinite"]),
    ([1, 1, 1, 1e39], ["row 4", "is larger than float32 holds"]),
    (["a", "b", "c", "d"], ["has the type string", "a column of numbers"]),
    ([0, 1, 0, 1], ['train rows have no rows of positive weight of the class "0"']),
]


@pytest.mark.parametrize(("weights", "words"), WEIGHTS)
def test_weights_that_are_refused(weights, words, write, load_file):
    with refused(*words, setting="d.csv"):
        load_file(write("d.csv", {"a": [1.0, 2, 3, 4], "s": weights, "y": [0, 1, 0, 1]}), weight="s", split=NONE)


def test_rows_without_label_may_hold_anything(write, load_file):
    a = [1.0, float("nan"), 3.0, float("inf"), 5.0]
    path = write("d.parquet", {"a": a, "s": [1.0, -1.0, 1.0, None, 2.0], "y": [0, None, 1, None, 1]})
    settings = {"weight": "s", "label": {"missing": "drop"}, "split": NONE, "dtype": "float64"}
    for standardize in (True, False):
        data = load_file(path, standardize=standardize, **settings)
        raw = data.train.X.numpy() * data.standardization.scale + data.standardization.mean
        np.testing.assert_allclose(raw[:, 0], [1, 3, 5])
        assert data.train.y.tolist() == [0, 1, 1]
        assert data.train.sample_weight.tolist() == [1, 1, 2]
        assert data.notes == (f"Left out 2 of 5 rows of {path}, which have no label",)


def test_files_of_their_own(write, load_file):
    rng = np.random.default_rng(0)
    train = {"a": rng.normal(3, 2, 100), "b": rng.normal(size=100), "y": np.tile(["b", "m"], 50)}
    path = write("train.csv", train)
    # Other order, another column, another kind of file: names are what counts.
    other = {"extra": ["t"] * 4, "y": ["m", "b", "b", "m"], "b": [1.0, 2, 3, 4], "a": [3.0, 3, 3, 3]}
    label = {"column": "y", "positive": "m"}
    data = load_file(path, validation_path=write("v.parquet", other), label=label, dtype="float64")
    assert (len(data.train), len(data.validation), len(data.test)) == (85, 4, 15)
    assert data.validation.y.tolist() == [1, 0, 0, 1]
    assert data.validation.number.tolist() == [1, 2, 3, 4]
    expected = (np.column_stack([other["a"], other["b"]]) - data.standardization.mean) / data.standardization.scale
    assert np.array_equal(data.validation.X.numpy(), expected)

    data = load_file(path, validation_path=path, test_path=write("t.csv.gz", other), label=label)
    assert (len(data.train), len(data.validation), len(data.test)) == (100, 100, 4)
    assert torch.equal(data.train.X, data.validation.X)
    for setting in ("validation_path", "test_path"):
        with refused("there is no such file", setting=f"data.{setting}"):
            load_file(path, label=label, **{setting: "gone.csv"})


OTHER_FILES = [
    ("a,s,y\n1,1,no\n", ['lacks "b", which training on data.path needs'], "error"),
    ("a,b,s\n1,1,1\n", ['lacks "y"', 'has "a", "b" and "s"'], "error"),
    ("a,b,s,y\n1,2,1,no\n1,2,1,no\n", ['the test rows have no rows of the class "yes"'], "error"),
    ("a,b,s,y\n1,2,1,no\n1,x,1,yes\n", ['no numbers: "b"'], "error"),
    ("a,b,s,y\n1,2,1,no\n1,,1,yes\n", ['row 2 (the first is 1) of column "b" is missing'], "error"),
    ("a,b,s,y\n1,2,1,\n1,2,1,\n", ["no label in any row", "give rows"], "drop"),
]


@pytest.mark.parametrize(("text", "words", "missing"), OTHER_FILES)
def test_files_of_their_own_that_are_refused(text, words, missing, write, load_file):
    paths = {"path": write("train.csv", "a,b,s,y\n1,2,1,no\n3,4,1,yes\n"), "test_path": write("other.csv", text)}
    with refused(*words, setting="other.csv"):
        load_file(**paths, weight="s", label={"positive": "yes", "missing": missing}, split=NONE)


def test_the_seed_decides_the_split(numbers, write, load_file):
    path = write("d.npz", dict(zip("Xy", numbers, strict=True)))
    first, again, other = (load_file(path, seed=seed, standardize=False) for seed in (1, 1, 2))
    assert torch.equal(first.test.X, again.test.X)
    assert not torch.equal(first.test.X, other.test.X)


def test_breast_cancer():
    def loaded(**settings):
        return load(BreastCancerData(source="breast_cancer", dtype="float64", **settings), seed=0, device=CPU)

    data, bunch = loaded(), load_breast_cancer()
    assert data.feature_names == tuple(bunch.feature_names)
    assert (data.label_names, data.encoding) == (("benign", "malignant"), None)
    assert [len(rows) for rows in data.splits.values()] == [399, 85, 85]
    assert sum(int(rows.y.sum()) for rows in data.splits.values()) == 212
    raw = loaded(standardize=False, split=NONE, label={"positive": "benign"})
    assert raw.label_names == ("malignant", "benign")
    assert np.array_equal(raw.train.X.numpy(), bunch.data)
    assert np.array_equal(raw.train.y.numpy(), bunch.target)  # there, 1 is benign


def test_device_without_room(monkeypatch, numbers, write, load_file):
    def full(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    path = write("d.npz", dict(zip("Xy", numbers, strict=True)))
    monkeypatch.setattr(torch, "empty", full)
    with refused("X of 140 rows and 3 columns", "a narrower one", setting="data.dtype"):
        load_file(path)


@pytest.mark.gpu
def test_rows_go_to_the_gpu(numbers, write):
    path = write("d.npz", dict(zip("Xys", (*numbers, np.arange(200.0)), strict=True)))
    settings = FileData(source="file", path=path, weight="s", dtype="bfloat16")
    on_gpu, on_cpu = (load(settings, seed=0, device=torch.device(device)) for device in ("cuda", "cpu"))
    for name, rows in on_gpu.splits.items():
        assert all(each.is_cuda for each in (rows.X, rows.y, rows.sample_weight))
        assert torch.equal(rows.X.cpu(), on_cpu.splits[name].X)
        assert torch.equal(rows.sample_weight.cpu(), on_cpu.splits[name].sample_weight)


def made(device="cpu", seed=0, **settings):
    return load(SyntheticData(source="synthetic", **settings), seed=seed, device=torch.device(device))


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_shapes_names_and_moments(dtype, device):
    data, again, other = (made(device, rows=20_000, columns=5, dtype=dtype, seed=seed) for seed in (5, 5, 6))
    assert [len(rows) for rows in data.splits.values()] == [14_000, 3000, 3000]
    assert data.feature_names == ("x0", "x1", "x2", "x3", "x4")
    assert data.label_names == ("0", "1")
    X = data.train.X
    assert (X.dtype, X.device.type, data.train.y.dtype) == (getattr(torch, dtype), device, torch.uint8)
    assert X.double().mean(dim=0).abs().max() < 5 / math.sqrt(len(X))
    assert (X.double().std(dim=0) - 1).abs().max() < 5 / math.sqrt(len(X))
    assert abs(data.train.y.double().mean() - 0.5) < 0.02
    assert all(map(torch.equal, (X, data.train.y), (again.train.X, again.train.y)))
    assert not torch.equal(X, other.train.X)
    assert X.is_contiguous()
    assert len({rows.X.untyped_storage().data_ptr() for rows in data.splits.values()}) == 1
    assert [data.test.number[0], data.test.number[-1]] == [17_001, 20_000]
    if dtype in ("bfloat16", "float16"):  # the same data, rounded
        assert torch.equal(X, made(device, rows=20_000, columns=5, seed=5).train.X.to(X.dtype))


def test_rows_beyond_one_block_without_splits(monkeypatch):
    monkeypatch.setattr("flashlogit.data.builtin._BLOCK_VALUES", 1 << 10)
    data = made(rows=1003, columns=4, split=NONE)
    assert list(data.splits) == ["train"]
    assert (data.train.X.double().std(dim=0) - 1).abs().max() < 0.2
    assert data.train.X.unique(dim=0).shape == (1003, 4)


@pytest.mark.parametrize(("signal", "intercept"), [(2.0, -1.5), (0.0, 1.0)])
def test_labels_come_from_the_model(signal, intercept):
    """A fit finds the intercept, and coefficients whose squares add up to about signal^2."""
    data = made(rows=50_000, columns=50, signal=signal, intercept=intercept, dtype="float64", split=NONE)
    fit = LogisticRegression(C=1e6).fit(data.train.X.numpy(), data.train.y.numpy())
    assert abs(fit.intercept_[0] - intercept) < 0.1
    found = float((fit.coef_**2).sum()) ** 0.5
    # A chi-distributed length of 50 draws has a relative spread of 0.1; noise alone gives 0.07 to 0.1.
    assert abs(found - signal) < 0.12 + 0.35 * signal


SYNTHETIC = [
    ({"split": {"validation": 0.001}}, "this is 0 of 100 rows"),
    ({"intercept": 50.0}, "synthetic: the train split of 70 rows has labels of one class"),
    ({"rows": 10**15, "columns": 28}, " GB of memory"),
    ({"rows": 10, "columns": 10**15}, " GB of memory"),
]


@pytest.mark.parametrize(("settings", "word"), SYNTHETIC)
def test_synthetic_data_that_are_refused(settings, word):
    with refused(word):
        made(**{"rows": 100, "columns": 2} | settings)
