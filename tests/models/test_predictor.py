"""A run's model for single records: what they may hold, what they give beside `predict`, and what it costs to load."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flashlogit import Predictor, UserError
from flashlogit.commands.main import run_command

EARLIER = Path(__file__).parents[1] / "runs/written_by_0_1_0"
CONFIG = """
name: run
data:
  source: file
  path: people.csv
  label: {column: left, positive: "yes"}
  missing: impute
  missing_values: ["?"]
  categorical: [auto, floor]
  dates: {joined: {parts: [year, month, weekday, hour, days], format: "%d.%m.%Y %H:%M"}}
  numbers: [rate]
loss: {l2: 1.0e-3, eps: 0}
solver: {name: auto}
report: {html: false, threshold: 0.3}
"""


def people(rows: int) -> pd.DataFrame:
    """A table with all kinds of columns, each with values that are missing or rare."""
    rng = np.random.default_rng(3)
    moments = pd.Timestamp("1968-05-01") + pd.to_timedelta(rng.integers(0, 5 * 10**7, rows), unit="min")
    table = pd.DataFrame(
        {
            "plan": rng.choice(["Basic", "Plus", "Pro", "Old"], rows, p=[0.5, 0.3, 0.195, 0.005]),
            "age": rng.normal(45, 12, rows).round(2),
            "floor": rng.integers(0, 4, rows),
            "joined": moments.strftime("%d.%m.%Y %H:%M"),
            "rate": [f"{each:.1f} %" for each in rng.uniform(0, 9, rows)],
            "score": rng.normal(1e6, 1, rows).round(3),
        }
    )
    z = np.where(table.plan == "Basic", 1, -1) + (table.age - 45) / 20 + (table.score - 1e6)
    table["left"] = np.where(rng.random(rows) < 1 / (1 + np.exp(-z)), "yes", "no")
    for name, value in (("plan", ""), ("age", "?"), ("joined", "unknown"), ("rate", "NA")):
        table[name] = table[name].astype(object).where(rng.random(rows) > 0.05, value)
    return table


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the table, and what `predict` says of its file."""
    folder = tmp_path_factory.mktemp("predictor")
    people(1500).to_csv(folder / "people.csv", index=False)
    (folder / "c.yaml").write_text(CONFIG)
    options = [f"data.path={folder / 'people.csv'}", f"output={folder / 'runs'}"]
    assert run_command("train", ["--config", str(folder / "c.yaml"), "--quiet", *options]) == 0
    given = ["--model", str(folder / "runs/run"), "--data", str(folder / "people.csv")]
    assert run_command("predict", [*given, "--out", str(folder / "p.csv"), "--quiet"]) == 0
    return folder


@pytest.fixture(scope="module")
def records(folder: Path) -> list[dict[str, Any]]:
    """The file's rows as text."""
    return pd.read_csv(folder / "people.csv", dtype=str, keep_default_na=False).to_dict("records")


@pytest.fixture
def predictor(folder: Path) -> Predictor:
    return Predictor.load(folder / "runs/run")


def test_a_row_alone_is_the_row_of_predict(folder, records, predictor):
    written = pd.read_csv(folder / "p.csv")
    alone = np.array([predictor.probability(record) for record in records])
    np.testing.assert_allclose(alone, written.probability, rtol=1e-12)
    np.testing.assert_allclose(predictor.probability(records), alone, rtol=1e-12)
    assert (
        [predictor.predict(record) for record in records] == written.prediction.tolist() == predictor.predict(records)
    )
    assert predictor.columns == ("plan", "age", "floor", "joined", "rate", "score")
    assert (predictor.classes, predictor.threshold) == (("no", "yes"), 0.3)
    np.testing.assert_allclose(1 / (1 + np.exp(-predictor.logit(records))), alone, rtol=1e-12)


def test_values_of_any_kind_mean_the_same(predictor):
    written = {
        "plan": "Pro",
        "age": "31.5",
        "floor": "2",
        "joined": "29.02.1968 13:05",
        "rate": "4.5 %",
        "score": "1000001",
    }
    moment = dt.datetime(1968, 2, 29, 13, 5)
    typed = {"plan": "Pro", "age": 31.5, "floor": 2, "joined": moment, "rate": 4.5, "score": np.int32(1_000_001)}
    others = {
        **typed,
        "floor": 2.0,
        "joined": np.datetime64(moment),
        "rate": np.float64(4.5),
        "age": np.float64(31.5),
        "more": 1,
    }
    expected = predictor.probability(written)
    assert predictor.probability(typed) == predictor.probability(others) == expected
    absent = [None, "", "?", "NA", float("nan"), np.nan, pd.NA, pd.NaT]
    assert len({predictor.probability({**typed, "age": each}) for each in absent}) == 1
    assert (
        len({predictor.probability({**typed, "plan": each}) for each in (None, "", " ", "?", "NA", pd.NA, pd.NaT)}) == 1
    )
    assert predictor.probability({**typed, "plan": "New"}) == predictor.probability({**typed, "plan": "Old"})  # (other)
    assert predictor.probability({**typed, "joined": "soon"}) == predictor.probability({**typed, "joined": None})


def test_tables_are_read_as_files_are(folder, records, predictor):
    expected = predictor.probability(records)
    frame = pd.read_csv(folder / "people.csv", na_values=["?"])
    for table in (frame, pl.from_pandas(frame), pa.Table.from_pandas(frame)):
        np.testing.assert_allclose(predictor.probability(table), expected, rtol=1e-12)
    assert predictor.predict(frame.head(3)) == predictor.predict(records[:3])
    assert predictor.probability([]).shape == (0,)


def test_frames_of_any_kind_say_what_records_say(predictor, records):
    expected = predictor.probability(records[:4])
    frame = pd.DataFrame(records[:4])  # text as it is written, NA and ? among it
    frame.loc[0, ["plan", "age", "rate"]] = ["NA", "?", "NA"]
    expected[0] = predictor.probability({**records[0], "plan": "NA", "age": "?", "rate": "NA"})
    frame["score"], frame["age"] = frame.score.astype(float), frame.age.astype(object)
    mixed = frame.assign(score=[float(frame.score[0]), *frame.score.astype(str)[1:]])
    np.testing.assert_allclose(predictor.probability(mixed), expected, rtol=1e-12)
    named = pl.DataFrame(records[:4]).with_columns(pl.col("plan").cast(pl.Categorical), pl.col("score").cast(float))
    numbers = named.with_columns(pl.col("age").replace("?", None).cast(float))
    np.testing.assert_allclose(predictor.probability(numbers)[1:], expected[1:], rtol=1e-12)


def test_three_classes_and_arrays_of_numbers():
    three = Predictor.load(EARLIER / "solver")
    table = pd.read_csv(EARLIER / "table.csv")
    expected = pd.read_csv(EARLIER / "solver/predictions.csv")
    found = three.probability(table)
    np.testing.assert_allclose(found, expected.filter(like="probability"), rtol=1e-12)
    record = table.iloc[0].to_dict()
    np.testing.assert_allclose(three.probability(record), found[0], rtol=1e-12)
    assert three.predict(record) == expected.prediction[0]
    if three._model.encoding is None:
        np.testing.assert_array_equal(three.probability(table[list(three.columns)].to_numpy()), found)


REFUSED: list[tuple[Any, str]] = [
    ({"age": 1}, 'lacks "plan", "floor", "joined", "rate" and "score"'),
    ({"age": "old"}, '"age" of the record is "old"; it holds no number'),
    ({"rate": "3 kg"}, "unit"),
    ({"score": float("inf")}, '"score" in record 1 is infinite'),
    ({"score": [1, 2]}, '"score" of the record'),
    (3, "int is neither a record"),
    (np.ones((2, 6)), "an array of shape [2, 6]"),
    (pa.table({"plan": ["a"]}), "the table lacks"),
    ([[1, 2]], "record 1 is a list"),
    (
        pd.DataFrame([[1] * 7], columns=[*"abcde", "age", "age"]),
        "two columns of the name",
    ),
]


@pytest.mark.parametrize(("given", "words"), REFUSED)
def test_what_is_refused(given, words, predictor, records):
    rows = given if not isinstance(given, dict) or len(given) != 1 or "lacks" in words else {**records[0], **given}
    with pytest.raises(UserError) as caught:
        predictor.probability(rows)
    assert words in str(caught.value)
    if isinstance(rows, dict) and "age" in given and "lacks" not in words:
        with pytest.raises(UserError, match='"age" of record 2'):
            predictor.probability([records[0], rows])


def test_loading_takes_numpy_alone_and_a_row_few_steps(folder, records):
    program = (
        "import sys, numpy; from flashlogit import Predictor; p = Predictor.load(sys.argv[1]);"
        " p.probability({'plan': 'Pro', 'age': 3, 'floor': 1, 'joined': None, 'rate': '3%', 'score': 1e6});"
        " print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder / "runs/run")], capture_output=True, text=True, check=True
    )
    assert {"numpy", "safetensors", "flashlogit"} <= {*done.stdout.split()}
    assert {"torch", "pyarrow", "sklearn", "pydantic", "scipy", "pandas"}.isdisjoint(done.stdout.split())
    predictor = Predictor.load(folder / "runs/run")
    times = []
    for record in records[:200]:
        start = time.perf_counter()
        predictor.probability(record)
        times.append(time.perf_counter() - start)
    assert min(times) < 1e-3  # twenty times what it takes


def test_a_word_for_a_missing_value_that_is_a_category(tmp_path):
    """NA is Namibia where the training file has types, and stays it in files of text."""
    rng = np.random.default_rng(0)
    country = rng.choice(["NA", "DE", "FR"], 300)
    table = pa.table({"country": country, "y": (rng.random(300) < np.where(country == "NA", 0.8, 0.3)).astype(int)})
    pq.write_table(table, tmp_path / "t.parquet")
    (tmp_path / "c.yaml").write_text("name: r\ndata: {source: file, path: t.parquet}\nsolver: {name: auto}\n")
    given = [f"data.path={tmp_path}/t.parquet", f"output={tmp_path}", "report.html=false", "--quiet"]
    assert run_command("train", ["--config", str(tmp_path / "c.yaml"), *given]) == 0
    (tmp_path / "n.csv").write_text("country\nNA\nDE\nn/a\n")
    command = ["--model", str(tmp_path / "r"), "--data", str(tmp_path / "n.csv"), "--quiet"]
    command += ["--out", str(tmp_path / "p.csv")]
    assert run_command("predict", command) == 2  # n/a is missing, which no value may be
    (tmp_path / "n.csv").write_text("country\nNA\nDE\n")
    assert run_command("predict", command) == 0
    alone = [Predictor.load(tmp_path / "r").probability({"country": each}) for each in ("NA", "DE")]
    assert pd.read_csv(tmp_path / "p.csv").probability.tolist() == alone
    assert alone[0] > 0.6 > alone[1]
