"""Columns of dates and of numbers with units: what the training file makes of them, and what other files then mean."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest
from refused import features_of, refused

from flashlogit.data.prediction import read_for_prediction

DAYS = ["2024-01-31", "2024-02-29", "2024-02-01", "2023-01-15"]
PARTS = ["year", "month", "weekday", "day", "hour", "days"]


def table(joined, **more):
    return {"joined": joined, "y": [i % 2 for i in range(len(joined))], **more}


@pytest.fixture
def later(write):
    """The features of another file's columns."""

    def features(columns, data):
        path = write("later.csv", columns)
        return features_of(read_for_prediction(path, data.feature_names, encoding=data.encoding)).tolist()

    return features


def test_parts_of_dates(learn):
    data = learn(table(DAYS * 2), dates={"joined": PARTS})
    names = ["joined year", "joined month=1", "joined month=2", "joined weekday=Wednesday", "joined weekday=Thursday"]
    assert data.feature_names == (*names, "joined weekday=Sunday", "joined day", "joined hour=0", "joined days")
    wanted = [[2024, 1, 0, 1, 0, 0, 31, 1, 19753], [2024, 0, 1, 0, 1, 0, 29, 1, 19782]]
    wanted += [[2024, 0, 1, 0, 1, 0, 1, 1, 19754], [2023, 1, 0, 0, 0, 1, 15, 1, 19372]]
    assert data.train.X.tolist() == wanted * 2


FORMS = ["%d.%m.%Y", "%m/%d/%Y", "%d %B %Y", "%b %d, %Y", "%d/%m/%y", "%Y.%m.%d", "%d-%b-%Y"]


@pytest.mark.parametrize("form", FORMS)
def test_the_form_is_found_and_remembered(form, learn, later):
    days = [dt.date.fromisoformat(day) for day in DAYS]
    data = learn(table([day.strftime(form) for day in days]), dates={"joined": ["month", "days"]})
    (column,) = data.encoding.columns
    assert column.form == form
    assert data.train.X[:, -1].tolist() == [(day - dt.date(1970, 1, 1)).days for day in days]
    assert later({"joined": [dt.date(2024, 2, 3).strftime(form)]}, data) == [[0, 1, 19756]]


def test_typed_dates_are_those_of_text(learn, later):
    moments = [dt.datetime.fromisoformat(day) + dt.timedelta(hours=6 * i) for i, day in enumerate(DAYS * 3)]
    asked = {"dates": {"joined": PARTS}, "dtype": "float64"}
    written = table([each.isoformat() for each in moments])
    text = learn(written, **asked)
    typed = learn(table(pa.array(moments, pa.timestamp("ms"))), "d.parquet", **asked)
    assert typed.feature_names == text.feature_names
    assert typed.train.X.equal(text.train.X)
    assert later(written, typed) == text.train.X.tolist()


def test_a_date_that_cannot_be_read_is_missing(learn):
    days = ["03.01.2020", "never", None, "31.12.2020", "05.01.2020", "29.02.2021"]
    with refused("no date that can be read in 2 rows, the first of them row 2", setting="d.csv"):
        asked = {"parts": ["days"], "format": "%d.%m.%Y"}
        learn(table([*days[:2], *days[3:]]), dates={"joined": asked})
    with refused("2 rows of 5 that cannot be read as %d.%m.%Y", setting="d.csv"):
        learn(table(days), dates={"joined": ["days"]}, missing="impute")
    asked = {"joined": {"parts": ["year", "month"], "format": "%d.%m.%Y"}}
    data = learn(table(days), dates=asked, missing="impute", dtype="float64")
    assert data.feature_names == ("joined year", "joined month=1", "joined month=12", "joined (missing)")
    absent, first = [2020, 0, 0, 1], [2020, 1, 0, 0]
    assert data.train.X.tolist() == [first, absent, absent, [2020, 0, 1, 0], first, absent]


REFUSED = [
    (["01/02/2020", "03/04/2020"], ["days"], "may be written as %d/%m/%Y or as %m/%d/%Y"),
    (["a", "b"], ["days"], "no date that can be read in any training row"),
    (DAYS, {"parts": ["days"], "format": "%d.%m.%Y"}, "no date that can be read"),
]


@pytest.mark.parametrize(("joined", "asked", "words"), REFUSED)
def test_dates_that_are_refused(joined, asked, words, learn):
    with refused(words, setting="d.csv"):
        learn(table(joined), dates={"joined": asked})


def test_columns_that_are_asked_for_must_be_features(learn):
    for setting in ({"dates": {"jioned": ["days"]}}, {"numbers": ["rate"]}):
        with refused("not among the features", setting=f"data.{next(iter(setting))}"):
            learn(table(DAYS), **setting)
    with refused("and so does data.categorical", setting="data.dates"):
        learn(table(DAYS), dates={"joined": ["days"]}, categorical=["joined"])


def test_numbers_with_units(learn, later):
    columns = {"rate": ["3%", " 4.5 %", "5", "0.5%"], "fee": ["$1,200.50", "$3", "", "$ 1_000"], "y": [0, 1, 0, 1]}
    data = learn(columns, numbers=["rate", "fee"], missing="impute", dtype="float64")
    assert data.feature_names == ("rate", "fee", "fee (missing)")
    mean = (1200.5 + 3 + 1000) / 3
    assert data.train.X.tolist() == [[3, 1200.5, 0], [4.5, 3, 0], [5, mean, 1], [0.5, 1000, 0]]
    assert later({"rate": ["7%", "8"], "fee": [5, 6]}, data) == [[7, 5, 0], [8, 6, 0]]
    with refused("'kg'", "'%'", "row 2", setting="later.csv"):
        later({"rate": ["7%", "8 kg"], "fee": [5, 6]}, data)


NO_MEASURES = [
    (["3 kg", "4 lb"], '"kg (1 row)" and "lb (1 row)"'),
    (["3%", "?"], '"?" (1 row)'),
    (["3,5", "4,5"], "are no numbers"),
]


@pytest.mark.parametrize(("rate", "words"), NO_MEASURES)
def test_units_that_are_refused(rate, words, learn):
    with refused(words, setting="d.csv"):
        learn({"rate": rate, "y": [0, 1]}, numbers=["rate"])


def test_free_text_is_no_category(learn):
    random = np.random.default_rng(0)
    comment = [f"{a} and {b}" for a, b in random.integers(0, 60, (2000, 2))]
    columns = {"comment": comment, "y": [i % 2 for i in range(2000)]}
    ten = {"categories": {"min_rows": 3}}
    with refused("fewer than 3 of them share", "data.drop", setting="d.csv"):
        learn(columns, **ten)
    assert "comment=(other)" in learn(columns, categorical=["comment"], **ten).feature_names


def test_a_random_split_of_rows_in_the_order_of_time_is_said(learn):
    days = [str(day) for day in np.datetime64("2020-01-01") + np.arange(40)]
    half = {"dates": {"joined": ["days"]}, "split": {"validation": 0, "test": 0.5}}
    for order in (days, days[::-1]):
        assert any("data.time to joined" in warning for warning in learn(table(order), **half).warnings)
    mixed = learn(table(np.random.default_rng(0).permutation(days).tolist()), **half)  # as dates of birth are
    assert not any("data.time" in warning for warning in mixed.warnings)
    assert any("data.time to joined" in note for note in mixed.notes)
    for quiet in ({**half, "split": {"validation": 0, "test": 0}}, {**half, "time": "when"}):
        data = learn(table(days, when=[*range(40)]), **quiet)
        assert not any("data.time to joined" in said for said in (*data.warnings, *data.notes))


def test_one_date_tells_the_form_of_all(learn):
    days = [f"{day:02d}/{month:02d}/{year}" for year in (2020, 2021) for month in range(1, 13) for day in range(1, 13)]
    data = learn(table([days[0], "25/06/2020", *days[1:]]), dates={"joined": ["month"]})
    assert data.encoding.columns[0].form == "%d/%m/%Y"
