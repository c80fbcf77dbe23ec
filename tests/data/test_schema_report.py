"""What is said of a file before anything is trained on it."""

import json

import numpy as np
import pyarrow as pa
import pytest
from refused import refused

from flashlogit.data.files.open import open_files
from flashlogit.data.files.tables import Reading
from flashlogit.data.schema_report import report_text, schema_report


def report_of(path, label=None):
    report = schema_report(open_files(path, "FILE"), label)
    json.dumps(report.to_json(), allow_nan=False)
    return report, {column.name: column for column in report.columns}


def test_numbers_as_text_are_warned_of_in_the_words_of_training(write, load_file):
    text = "age,price,kind,y\n" + "".join(f'{i},"$1,{i}00",u,{i % 2}\n' for i in range(40)) + "?,$2,v,0\n"
    path = write("d.csv", text)
    report, columns = report_of(path, "y")
    assert columns["age"].use == "category"
    assert len(report.warnings) == 2
    for warning, drop in zip(report.warnings, ("price", "age"), strict=True):
        assert warning in report_text(report)
        with refused(f"{path}: {warning}"):
            load_file(path, drop=[drop])


def test_dates_in_any_order(write):
    report, columns = report_of(write("d.csv", "a,b,c\n31.12.2024,01/02/2024,1.2.3.4\n1.1.2024,3/4/24,1.2.3.5\n"))
    assert [columns[name].use for name in "abc"] == ["date", "date", "category"]
    assert "name a, b in data.dates" in report_text(report)


def test_means_of_great_numbers_infinities_and_row_numbers(write):
    columns = {"big": [1e308, 1.5e308, 1.7e308] * 10, "inf": [np.inf, -np.inf, 1.0] * 10, "half": [0, 1, 2] * 10}
    report, columns = report_of(write("d.parquet", {**columns, "id": range(30), "y": [0, 1] * 15}), "y")
    assert columns["big"].mean == pytest.approx(1.4e308)
    assert [columns[name].mean for name in ("inf", "half", "id")] == [None, 1.0, 14.5]
    assert "there are infinite values in inf (20 rows): correct them" in report_text(report)
    assert "every row has a whole number of its own in id:" in report_text(report)


def test_kinds_of_text(write):
    values = pa.array(["u", "v", " "])
    kinds = {"a": values, "b": values.cast(pa.string_view()), "c": values.dictionary_encode()}
    _, columns = report_of(write("d.parquet", kinds))
    assert {(column.use, column.missing) for column in columns.values()} == {("category", 1)}


def test_a_file_as_spreadsheets_leave_it(write):
    path = write("a.csv", "size;kind;y\n1,5;a;0\n?;b;1\n2,5;a;1\n")
    reading = Reading(separator=";", decimal=",", missing=("?", "-"))
    size = schema_report(open_files(path, "FILE", reading), None, reading=reading).columns[0]
    assert (size.use, size.missing, size.mean) == ("number", 1, 2.0)
    with refused("--separator"):
        open_files(path, "FILE")


def test_classes_of_a_label_by_its_values_and_by_a_bound(write):
    path = write("d.csv", {"n": [1.0, 2.0, 3.0, None], "t": ["u", "v", "v", None]})
    report = schema_report(open_files(path, "FILE"), "n", above=2.0)
    assert (report.classes, report.unlabelled) == ((("> 2", 1), ("<= 2", 2)), 1)
    report = report_of(path, "t")[0]
    assert (report.classes, report.unlabelled) == ((("v", 2), ("u", 1)), 1)
