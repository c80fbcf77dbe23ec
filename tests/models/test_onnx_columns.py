"""ONNX graphs whose inputs are a file's own columns, in onnxruntime."""

import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest

from flashlogit import LogisticRegression, Predictor, UserError
from flashlogit.commands.main import main
from flashlogit.data.columns.encoding import (
    NO_MOMENT,
    CategoryColumn,
    DateColumn,
    Encoding,
    NumberColumn,
    PartOfDate,
    Standardization,
)
from flashlogit.models.model import Model
from flashlogit.models.onnx_columns import write_onnx_of_columns

EARLIER = Path(__file__).parents[1] / "runs/written_by_0_1_0"
MONTH, WEEKDAY = PartOfDate("month", levels=tuple(range(2, 13)), baseline=1), PartOfDate("weekday", levels=(0, 2, 6))
PARTS = (
    *(PartOfDate("year", fill=1990.0), MONTH, PartOfDate("day", fill=15.0), WEEKDAY),
    *(PartOfDate("hour", levels=(0, 5, 23)), PartOfDate("days", fill=3.0)),
)
EVERYTHING = Encoding(
    (
        NumberColumn("age", fill=40.0, marked=True),
        CategoryColumn("plan", ("1", "basic", "true"), other=True, missing=True, baseline="0"),
        NumberColumn("height"),
        DateColumn("joined", PARTS, marked=True),
        NumberColumn("rate", fill=1.5, unit="%"),
        NumberColumn("fee", fill=2.0, marked=True, unit="$"),
        CategoryColumn("must", ("a", "b"), required=True),
        DateColumn("need", (MONTH,), required=True),
    ),
    missing_values=("-999",),
)


def model_of(encoding, labels=("no", "yes"), weight=None, **more):
    """A model of random weights, unless they are given, on columns that are standardised."""
    rng, D, K = np.random.default_rng(0), len(encoding.features), 1 if len(labels) == 2 else len(labels)
    of_columns = Standardization(rng.normal(size=D), rng.uniform(0.5, 2, D))
    for j, name in enumerate(encoding.features):
        for part, mean, scale in ((" year", 1980, 3e3), (" days", 4e3, 1e6), (" day", 15, 10)):
            if name.endswith(part):
                of_columns.mean[j], of_columns.scale[j] = mean, scale
    fields = {"weight": rng.normal(0, 0.2, (K, D)) if weight is None else weight, "bias": rng.normal(size=K)}
    fields |= {"standardization": of_columns, "eps": 0.0, "threshold": 0.5, "encoding": encoding, **more}
    if K == 1:
        fields["weight"] = fields["weight"][0]
    return Model(feature_names=encoding.features, label_names=labels, **fields)


def session_of(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def fed(frame, encoding):
    """The inputs, as the docstring of `write_onnx_of_columns` makes them of a data frame."""
    made = {}
    for column in encoding.columns:
        values = frame[[column.name]]
        if column.kind == "number":
            made[column.name] = values.to_numpy(np.float64)
        elif column.kind == "category":
            made[column.name] = values.fillna("").to_numpy(str)
        else:
            made[column.name] = values.to_numpy("datetime64[s]").astype(np.int64)
    return made


@pytest.fixture
def written(tmp_path):
    """Writes a model, and gives its session."""

    def write(model):
        write_onnx_of_columns(tmp_path / "m.onnx", model)
        return session_of(tmp_path / "m.onnx")

    return write


@pytest.fixture(scope="module")
def rows():
    """Rows with everything that the model of EVERYTHING takes; dates from the year 1 to 9999."""
    rng, n = np.random.default_rng(1), 400
    moments = rng.integers(-62_135_596_800, 253_402_300_799, (2, n)).astype("datetime64[s]")
    plans = ["1", "1.0", "true", "True", "TRUE", "0", "0.0", "basic", "unheard of", "", "NA", "-999", "-999.0"]
    frame = pd.DataFrame({"plan": rng.choice(plans, n), "must": rng.choice(["a", "b", "unheard of"], n)})
    for name in ("age", "height", "rate", "fee"):
        frame[name] = rng.normal(size=n)
        frame.loc[rng.random(n) < 0.2 * (name != "height"), name] = np.nan
    frame["joined"], frame["need"] = moments
    frame.loc[rng.random(n) < 0.2, "joined"] = pd.NaT
    return frame


@pytest.mark.parametrize("labels", [("no", "yes"), ("yes", "no"), ("2", "10", "1")])
def test_the_same_as_of_records(labels, rows, written):
    model = model_of(EVERYTHING, labels)
    session, predictor, inputs = written(model), Predictor(model), fed(rows, EVERYTHING)
    records = [{name: inputs[name][i, 0] for name in rows.columns} for i in range(len(rows))]
    for name in ("joined", "need"):
        for record in records:
            record[name] = np.datetime64(int(record[name]), "s")
    expected = predictor.probability(records)
    if len(labels) == 2:
        expected = np.column_stack([1 - expected, expected])
    classes = sorted(labels, key=lambda name: int(name) if name.isdigit() else name)
    expected = expected[:, [labels.index(name) for name in classes]]
    label, probabilities = session.run(None, inputs)
    assert probabilities.dtype == np.float64
    assert np.median(probabilities.max(axis=1)) < 0.99  # else nearly all would be 0 and 1
    np.testing.assert_allclose(probabilities, expected, rtol=0, atol=1e-12)
    assert [str(each) for each in label] == predictor.predict(records)
    one = session.run(None, {name: values[7:8] for name, values in inputs.items()})
    assert one[0] == label[7]
    np.testing.assert_allclose(one[1], expected[7:8], rtol=0, atol=1e-12)
    label, probabilities = session.run(None, {name: values[:0] for name, values in inputs.items()})
    assert (label.shape, probabilities.shape) == ((0,), (0, len(labels)))


@pytest.mark.parametrize(
    ("moment", "year", "month", "day", "weekday", "hour"),
    [
        ("1970-01-01T00:00:00", 1970, 1, 1, 3, 0),
        ("1969-12-31T23:59:59", 1969, 12, 31, 2, 23),
        ("1900-03-01T12:00:00", 1900, 3, 1, 3, 12),
        ("1600-02-29T05:59:59", 1600, 2, 29, 1, 5),
        ("0001-01-01T00:00:00", 1, 1, 1, 0, 0),
        ("2024-02-29T00:00:01", 2024, 2, 29, 3, 0),
        ("9999-12-31T23:59:59", 9999, 12, 31, 4, 23),
    ],
)
def test_parts_of_dates(moment, year, month, day, weekday, hour, written):
    """A class for each part, whose logit is the part itself, or its level, a 50th of it where it may be large."""
    levels = {"month": tuple(range(1, 13)), "weekday": tuple(range(7)), "hour": tuple(range(24))}
    names = ("year", "month", "day", "weekday", "hour", "days")
    encoding = Encoding((DateColumn("d", tuple(PartOfDate(name, levels=levels.get(name)) for name in names)),))
    weight, start, size = np.zeros((7, len(encoding.features))), 0, np.array([1e-3, 1, 1, 1, 1, 1e-5])
    for k, name in enumerate(names, 1):
        values = levels.get(name, (1,))
        weight[k, start : start + len(values)] = np.array(values) * size[k - 1]
        start += len(values)
    plain = Standardization.identity(weight.shape[1])
    session = written(model_of(encoding, tuple("abcdefg"), weight, bias=np.zeros(7), standardization=plain))
    seconds = np.array([[moment]], "datetime64[s]").astype(np.int64)
    logits = np.log(session.run(None, {"d": seconds})[1][0])
    days = (datetime.fromisoformat(moment) - datetime(1970, 1, 1)).total_seconds() / 86_400
    wanted = [year, month, day, weekday, hour, days]
    np.testing.assert_allclose((logits[1:] - logits[0]) / size, wanted, rtol=1e-9, atol=1e-8)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("height", value) for value in (np.nan, np.inf, -np.inf)),
        *(("age", value) for value in (np.inf, -np.inf)),
        *(("must", value) for value in ("", "NA", "-999")),
        *(("need", value) for value in (NO_MOMENT, 1_709_251_200_000, NO_MOMENT + 1)),
        *(("joined", value) for value in (1_709_251_200_000, -(10**18))),
    ],
)
@pytest.mark.parametrize("labels", [("no", "yes"), ("a", "b", "c")])
def test_what_cannot_be_used_gives_nan_in_its_row_alone(name, value, labels, rows, written):
    session, inputs = written(model_of(EVERYTHING, labels)), fed(rows[:3], EVERYTHING)
    expected = session.run(None, inputs)[1]
    inputs[name] = inputs[name].astype(object if isinstance(value, str) else inputs[name].dtype)
    inputs[name][1, 0] = value
    found = session.run(None, inputs)[1]
    assert np.isnan(found[1]).all()
    assert np.isfinite(expected).all()
    np.testing.assert_array_equal(found[[0, 2]], expected[[0, 2]])


@pytest.mark.parametrize(
    ("texts", "means"),
    [
        (["1", "1.0"], 0),
        (["True", "true", "TRUE"], 1),
        (["", "NA", "nan", "-999", "-999.0", None, np.nan, pd.NA, "None"], 3),
        (["0", "2", "yes", "tRue"], 2),
        (["None of these"], 2),
    ],
)
def test_spellings_of_categories(texts, means, written):
    # The value is as versions before 0.3 kept it.
    column = CategoryColumn("c", ("1", "True"), other=True, missing=True)
    plain = Standardization.identity(4)
    weight = np.array([[1.0, 2.0, 3.0, 4.0]])
    model = model_of(
        Encoding((column,), ("-999",)), weight=weight, bias=np.zeros(1), standardization=plain, threshold=0.5
    )
    found = written(model).run(None, {"c": np.array(texts, object)[:, None]})[1]
    np.testing.assert_allclose(np.log(found[:, 1] / found[:, 0]), 1.0 + means, rtol=1e-12)


def test_a_value_that_is_spelt_as_a_missing_one_stays_a_value(written):
    encoding = Encoding((CategoryColumn("c", ("NA", "None"), missing=True),))
    plain = Standardization.identity(3)
    model = model_of(encoding, weight=np.array([[1.0, 2.0, 3.0]]), bias=np.zeros(1), standardization=plain)
    found = written(model).run(None, {"c": np.array([["NA"], ["None"], ["null"]])})[1]
    np.testing.assert_allclose(np.log(found[:, 1] / found[:, 0]), [1, 2, 3], rtol=1e-12)


def test_names_are_the_columns_whatever_they_are(tmp_path, written):
    names = [
        "0",
        "n",
        "numbers",
        "logits",
        "classes",
        "weight",
        "a b/ü\n{}'\"",
        "fill",
        "date",
        "date row",
        "date year",
    ]
    columns = [NumberColumn(name, fill=1.0, marked=True) for name in names[:8]]
    columns += [DateColumn("date", (PartOfDate("year", fill=1.0), MONTH)), *map(NumberColumn, names[9:])]
    model = model_of(Encoding(tuple(columns)))
    session = written(model)
    assert [each.name for each in session.get_inputs()] == names
    record = dict.fromkeys(names, 2.0) | {"date": np.datetime64(2, "s"), "0": np.nan}
    inputs = {name: np.array([[2 if name == "date" else value]]) for name, value in record.items()}
    found = session.run(None, inputs)[1]
    assert found[0, 1] == pytest.approx(Predictor(model).probability(record), abs=1e-12)
    for wrong in ("", "label", "probabilities"):
        encoding = Encoding((NumberColumn("x", 1.0), NumberColumn(wrong)))
        with pytest.raises(UserError, match="name"):
            write_onnx_of_columns(tmp_path / "wrong.onnx", model_of(encoding))
    assert not (tmp_path / "wrong.onnx").exists()


def test_the_graph_is_small(tmp_path):
    def size(columns):
        write_onnx_of_columns(tmp_path / "m.onnx", model_of(Encoding(columns)))
        graph = onnx.load(tmp_path / "m.onnx").graph
        assert len({node.name for node in graph.node}) == len(graph.node)
        return len(graph.node)

    numbers = tuple(NumberColumn(f"x{j}", fill=0.0, marked=True) for j in range(100))
    assert size(numbers) == size(numbers[:2]) < 20
    category = CategoryColumn("c", tuple(map(str, range(2000))))
    assert size((category,)) < 12
    # Parts that the model does not have are not computed.
    assert size((DateColumn("d", (PartOfDate("days"),)),)) < 25
    assert size((DateColumn("d", PARTS),)) < 110


# --- Of runs --------------------------------------------------------------------------------------------------


def predicted(folder, data, tmp_path, capsys):
    """What `flashlogit predict` says of a file [n, K], classes in order."""
    arguments = ["predict", "--model", str(folder), "--data", str(data), "--out", str(tmp_path / "p.csv"), "--quiet"]
    assert main(arguments) == 0
    capsys.readouterr()
    table = pd.read_csv(tmp_path / "p.csv").select_dtypes("float64")
    return np.column_stack([1 - table, table]) if table.shape[1] == 1 else table.to_numpy()


@pytest.mark.parametrize("target", ["y", "z"])
def test_a_run_of_a_file(target, tmp_path, capsys):
    rng, n = np.random.default_rng(3), 300
    moments = rng.integers(-2_000_000_000, 2_000_000_000, n).astype("datetime64[s]")
    table = pd.DataFrame({"joined": pd.Series(moments).dt.strftime("%d.%m.%Y %H:%M")})
    frame = pd.DataFrame({"joined": pd.to_datetime(table.joined, format="%d.%m.%Y %H:%M")})
    frame["fee"], frame["zip"] = rng.uniform(900, 3000, n).round(2), rng.integers(1, 5, n)
    table["fee"], table["zip"] = frame.fee.map("$ {:,.2f}".format), frame.zip
    frame["plan"] = table["plan"] = rng.choice(["free", "plus", "basic", None], n)
    frame["age"] = table["age"] = np.where(rng.random(n) < 0.1, np.nan, rng.normal(45, 12, n).round(1))
    frame.loc[::9, "joined"], table.loc[::9, "joined"] = pd.NaT, None
    table["y"], table["z"] = rng.integers(0, 2, n), rng.choice(["u", "v", "w"], n)
    table.drop(columns="z" if target == "y" else "y").to_csv(tmp_path / "t.csv", index=False)
    dates = "joined: {parts: [year, month, weekday, day, hour, days], format: '%d.%m.%Y %H:%M'}"
    more = f"data={{source: file, path: {tmp_path}/t.csv, label: {{column: {target}, multiclass: {target == 'z'}}},"
    more += f" missing: impute, dates: {{{dates}}}, numbers: [fee], categorical: [auto, zip], split: {{test: 0.2}}}}"
    (tmp_path / "c.yaml").write_text("name: run\nreport: {html: false, threshold: 0.25}\n")
    assert (
        main(
            ["train", "--config", f"{tmp_path}/c.yaml", f"output={tmp_path}", more, "solver.name=lbfgs", "loss.l2=0.1"]
        )
        == 0
    )
    capsys.readouterr()
    assert main(["export", "--model", f"{tmp_path}/run", "--out", f"{tmp_path}/m.onnx", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    inputs = {"joined": "int64", "fee": "double", "zip": "string", "plan": "string", "age": "double"}
    assert told["inputs"] == inputs
    assert ("0.25" in "".join(told["notes"])) == (target == "y")
    session = session_of(tmp_path / "m.onnx")
    assert {each.name: each.type for each in session.get_inputs()} == {k: f"tensor({v})" for k, v in inputs.items()}
    encoding = Model.load(tmp_path / "run").encoding
    found = session.run(["probabilities"], fed(frame, encoding))[0]
    expected = predicted(tmp_path / "run", tmp_path / "t.csv", tmp_path, capsys)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match=r"Predictor"):
        LogisticRegression.load(tmp_path / "run").predict(frame)


@pytest.mark.parametrize("way", ["batches", "solver"])
def test_runs_of_0_1_0(way, tmp_path, capsys):
    assert main(["export", "--model", str(EARLIER / way), "--out", f"{tmp_path}/m.onnx"]) == 0
    encoding = Model.load(EARLIER / way).encoding
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[1:] for line in said[1:]] == [["colour", "string"], ["height", "double"], ["width", "double"]]
    found = session_of(tmp_path / "m.onnx").run(None, fed(pd.read_csv(EARLIER / "table.csv"), encoding))[1]
    expected = predicted(EARLIER / way, EARLIER / "table.csv", tmp_path, capsys)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_many_inputs_are_counted_and_a_run_of_numbers_has_one(tmp_path, capsys):
    encoding = Encoding(tuple(NumberColumn(f"x{j}", fill=0.0) for j in range(25)))
    export = ["export", "--model", str(tmp_path), "--out", f"{tmp_path}/m.onnx", "--overwrite"]
    for each, lines in ((model_of(encoding), 22), (replace(model_of(encoding), encoding=None), 2)):
        each.save(tmp_path / "model.safetensors")
        assert main(export) == 0
        assert len(capsys.readouterr().out.splitlines()) == lines
    assert [each.name for each in session_of(tmp_path / "m.onnx").get_inputs()] == ["X"]


def test_an_estimator_of_ones_own_is_not_told_of_a_run(tmp_path):
    model_of(Encoding((CategoryColumn("c", ("a", "b")),))).save(tmp_path / "model.safetensors")
    model, frame = LogisticRegression.load(tmp_path), pd.DataFrame({"c": ["a", "b"]})
    with pytest.raises(ValueError, match="Predictor"):
        model.predict_proba(frame)
    with pytest.raises(ValueError, match="OneHotEncoder"):
        model.fit(frame, [0, 1])
    model.fit(pd.DataFrame({"c": [0.0, 1.0]}), [0, 1])
    with pytest.raises(ValueError, match="OneHotEncoder"):
        model.predict_proba(frame)
