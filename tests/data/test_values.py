"""What single values mean, alone and as a column of Arrow's: categories' text, numbers with units, moments."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pytest

from flashlogit.data.columns.encoded import seconds_of_column
from flashlogit.data.columns.encoding import NO_MOMENT, calendar
from flashlogit.data.files.text import as_text
from flashlogit.data.files.values import MISSING_WORDS, measure_of, number_of, seconds_of, text_of

TEXTS = [
    " a ",
    "1",
    "1.0",
    "01",
    "-2.000",
    "+3.0",
    "1.5",
    "TRUE",
    "False",
    "tRue",
    "",
    "  ",
    "ä ö",
    "NA",
    "1e3",
    "1.0.0",
]
FLOATS = [0.0, -0.0, 1.0, 0.1, 1.5e-5, 2e-6, 9.99e-7, 1e-7, 123456.789, 1e15, 2.0**53, 1e16, 1e300, -3.25, 1 / 3]


def test_a_value_alone_has_the_text_that_it_has_in_a_column() -> None:
    random = np.random.default_rng(0)
    many = (random.normal(size=300) * 10.0 ** random.integers(-12, 18, 300)).tolist()
    for values, kind in (
        (TEXTS, pa.string()),
        ([*FLOATS, *many, float("nan")], pa.float64()),
        (np.float32([*FLOATS[:9], *many[:50]]), pa.float32()),
        ([1, -5, 2**60], pa.int64()),
        ([True, False], pa.bool_()),
        ([Decimal("0.50"), Decimal("2.00")], None),
        ([date(2020, 2, 29), None], None),
    ):
        column = pa.chunked_array([pa.array(values, kind)])
        assert [text_of(value) for value in values] == as_text(column).to_pylist()


def test_words_for_a_missing_value_are_those_of_a_file_of_text() -> None:
    assert {*csv.ConvertOptions().null_values} == MISSING_WORDS


NUMBERS = [(3, 3.0), (True, 1.0), (np.float32(0.5), 0.5), (Decimal("1.25"), 1.25), (" +2.5e1 ", 25.0), (".5", 0.5)]
NUMBERS += [("0x1F", 31.0), ("true", 1.0), (np.bool_(False), 0.0), (np.int8(-3), -3.0)]


@pytest.mark.parametrize(("value", "number"), NUMBERS)
def test_numbers(value: object, number: float) -> None:
    assert number_of(value) == number


def test_missing_and_odd_numbers() -> None:
    assert all(np.isnan(number_of(value)) for value in (None, "", "  ", float("nan"), np.datetime64("NaT")))
    assert number_of("39,42", ",") == number_of("39.42", ",") == 39.42
    odd = [
        ("39,42", "."),
        ("3.942,0", ","),
        ("1_000", "."),
        ("a", "."),
        ([1], "."),
        ("1 2", "."),
        (date(2020, 1, 1), "."),
    ]
    for value, decimal in odd:
        with pytest.raises(ValueError, match="no number"):
            number_of(value, decimal)


MEASURES = [
    ("3%", ".", 3.0, "%"),
    ("$ 1,200", ".", 1200.0, "$"),
    ("-$3.50", ".", -3.5, "$"),
    ("$-3", ".", -3.0, "$"),
    ("1 200,5 kg", ",", 1200.5, "kg"),
    ("1.200,50 €", ",", 1200.5, "€"),
    ("CHF 1'200.50", ".", 1200.5, "chf"),
    ("1,234,567.8", ".", 1234567.8, ""),
    ("1_000", ".", 1000.0, ""),
    ("0x1F", ".", 31.0, ""),
    ("1.5e-3 mm", ".", 0.0015, "mm"),
    ("10 000 km/h", ".", 10000.0, "km/h"),
    ("−4 °C", ".", -4.0, "°c"),
]


@pytest.mark.parametrize(("text", "decimal", "number", "unit"), MEASURES)
def test_numbers_with_units(text: str, decimal: str, number: float, unit: str) -> None:
    assert measure_of(text, decimal) == (number, unit)


@pytest.mark.parametrize("text", ["3,5", "1,20,0", "12 kg 3 g", "abc", "%", "--3", "1,2345", "", "$ 3 €"])
def test_what_is_no_number_with_a_unit(text: str) -> None:
    with pytest.raises(ValueError, match="no number"):
        measure_of(text)


MOMENTS = [
    ("2024-03-01", None, datetime(2024, 3, 1)),
    ("2024-03-01 14:30", None, datetime(2024, 3, 1, 14, 30)),
    ("20240301T143000+0200", None, datetime(2024, 3, 1, 14, 30)),
    ("2024-03-01 14:30:00.999 UTC", None, datetime(2024, 3, 1, 14, 30)),
    ("29.2.1900", "%d.%m.%Y", None),
    (" 29.2.1904 ", "%d.%m.%Y", datetime(1904, 2, 29)),
    ("soon", None, None),
    (None, None, None),
    (float("nan"), None, None),
    (5, None, None),
    (date(1969, 12, 31), None, datetime(1969, 12, 31)),
    (datetime(2020, 1, 1, 5, tzinfo=timezone(timedelta(hours=9))), None, datetime(2020, 1, 1, 5)),
    (np.datetime64("2020-01-01T05:00:00.5"), None, datetime(2020, 1, 1, 5)),
    (np.datetime64("NaT"), None, None),
]


@pytest.mark.parametrize(("value", "form", "moment"), MOMENTS)
def test_moments_as_they_are_written(value: object, form: str | None, moment: datetime | None) -> None:
    expected = None if moment is None else (moment - datetime(1970, 1, 1)) // timedelta(seconds=1)
    assert seconds_of(value, form) == expected


def test_moments_of_typed_columns() -> None:
    wanted = [seconds_of("1969-12-31 23:59:58"), NO_MOMENT]
    moments = pa.array([datetime(1969, 12, 31, 23, 59, 58, 700_000), None], pa.timestamp("us"))
    for kind in ("us", "ns", "ms"):
        column = pa.chunked_array([moments.cast(pa.timestamp(kind))])
        assert seconds_of_column(column, None).tolist() == wanted
    there = pa.chunked_array([pa.array([0], pa.timestamp("s", "Asia/Tokyo"))])  # 9 o'clock as its users see it
    assert seconds_of_column(there, None).tolist() == [9 * 3600]
    assert seconds_of_column(pa.chunked_array([pa.array([date(1969, 12, 31)])]), None).tolist() == [-86_400]


def test_the_calendar_is_pythons() -> None:
    random = np.random.default_rng(1)
    some = random.integers(seconds_of("0001-01-01"), seconds_of("9999-12-31"), 2000)
    edges = ["1900-02-28", "1900-03-01", "2000-02-29", "1969-12-31 23:59:59", "1970-01-01"]
    seconds = np.concatenate([some, [seconds_of(text) for text in edges]])
    parts = {"year", "month", "day", "weekday", "hour", "days"}
    many = calendar(seconds, parts)
    for i, each in enumerate(seconds.tolist()):
        moment = datetime(1970, 1, 1) + timedelta(seconds=each)
        named = {name: getattr(moment, name) for name in ("year", "month", "day", "hour")}
        expected = {**named, "weekday": moment.weekday(), "days": each / 86_400}
        assert calendar(each, parts) == expected == {name: of[i] for name, of in many.items()}
