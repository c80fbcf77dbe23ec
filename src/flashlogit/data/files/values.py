"""What one value of a column means: a category's text, a number, a moment. NumPy and Python only.

Files of text and typed files, data frames and single records say the same in many ways: 1, 1.0, "1.0" and " 1 " are one
category, "39,42 %" is a number where a column has such. A value's meaning depends on nothing beside it, so that a row
alone and among a million others is the same row.
"""

from __future__ import annotations

import math
import re
from datetime import date, datetime
from decimal import Decimal
from functools import cache, lru_cache
from typing import Any, Literal

import numpy as np

from ...system.files import PLAIN_NUMBER

MISSING_WORDS = frozenset(
    (
        *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"),
        *("N/A", "NA", "NULL", "NaN", "n/a", "nan", "null"),
    )
)
"""How a missing value is written in a file of text: Arrow's list."""
DatePart = Literal["year", "month", "day", "weekday", "hour", "days"]
_PLAIN = re.compile(PLAIN_NUMBER, re.ASCII)
_WHOLE = re.compile(r"([-+]?\d+)\.0*", re.ASCII)
_HEXADECIMAL = re.compile(r"[-+]?0[xX][0-9a-fA-F]{1,15}", re.ASCII)
_TRUTH = {"true": 1.0, "false": 0.0}
_EXACT = 2.0**53
"""Beyond it a float64 is whole but stands for several whole numbers."""
_SEPARATORS = "., '’_\u00a0\u202f\u2009"
"""What may stand between the thousands of a number, but for the decimal point."""
_UNIT = r"[^\d\s.,+\-−]*(?:\s+[^\d\s.,+\-−]+)*"
_MEASURE = re.compile(
    rf"(?P<sign>[-+−]?)\s*(?P<before>{_UNIT})\s*(?P<inner>[-+−]?)"
    rf"(?P<number>[\d.,].*?)\s*(?P<after>{_UNIT})"
)
_UNDERSCORE = re.compile(r"(?<=\d)_(?=\d)")
_EPOCH = date(1970, 1, 1).toordinal()


def text_of(value: Any) -> str | None:
    """Return a value as the text of a category, None for a missing one: 1, 1.0, "1.0" and " 1 " are "1", True and
    "TRUE" are "true", 01 stays "01", and blanks alone are no value.

    `as_text` in text.py does the same to a column of Arrow's.
    """
    if isinstance(value, str):
        text = value.strip()
        if (whole := _WHOLE.fullmatch(text)) is not None:
            return whole[1]
        if len(text) <= 5 and text.lower() in _TRUTH:
            return text.lower()
        return text or None
    if value is None:
        return None
    if isinstance(value, np.generic) and not isinstance(value, np.datetime64 | np.timedelta64):
        # The shortest decimals of a float32 or float16 are the number that was meant.
        value = float(str(value)) if isinstance(value, np.floating) else value.item()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        value = float(value)
    if is_missing(value):
        return None
    if isinstance(value, bytes | list | tuple | dict | np.ndarray):
        raise ValueError("is no category")
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < _EXACT else repr(value)
    return str(value)


def is_missing(value: Any) -> bool:
    """Return whether a value is none: None, NaN, or NA and NaT of NumPy and pandas."""
    if value is None:
        return True
    try:
        return bool(value != value)
    except (TypeError, ValueError):  # pandas' NA, and arrays
        return type(value).__name__ == "NAType"


def number_of(value: Any, decimal: str = ".") -> float:
    """Return a value as a number, NaN for a missing one: numbers, true and false, and text that is a plain number with
    this decimal point, or with a point, as files of either kind have it.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, str):
        text = value.strip()
        if not text:
            return math.nan
        if decimal != "." and "." not in text:
            text = text.replace(decimal, ".")
        if _PLAIN.match(text) is not None:
            return float(text)
        if _HEXADECIMAL.fullmatch(text) is not None:
            return float(int(text, 16))
        if text.lower() in _TRUTH:
            return _TRUTH[text.lower()]
    elif isinstance(value, int | float | np.number | np.bool_ | Decimal):
        return float(value)
    elif is_missing(value):
        return math.nan
    raise ValueError("holds no number")


def measure_of(text: str, decimal: str = ".") -> tuple[float, str]:
    """Return the number in a text, and the unit around it in small letters: "3%" is 3 with "%", "$ 1,200" is 1200 with
    "$", "1 200,5 kg" with a decimal comma is 1200.5 with "kg", 1_000 is 1000 and 0x1F is 31.

    Thousands may be separated by what is not the decimal point, in groups of three.

    Raises:
        ValueError: there is no number, or more than one.
    """
    text = text.strip()
    if _HEXADECIMAL.fullmatch(text) is not None:
        return float(int(text, 16)), ""
    found = _MEASURE.fullmatch(text)
    if found is None or (found["sign"] and found["inner"]) or (found["before"] and found["after"]):
        raise ValueError("holds no number")
    number = found["number"]
    if not number.isdecimal():
        if (grouped := _grouped(decimal).match(number)) is not None:
            number = grouped[0].replace(grouped[1], "") + number[grouped.end() :]
        number = _UNDERSCORE.sub("", number)
    plain = number.replace(decimal, ".") if decimal != "." and "." not in number else number
    if _PLAIN.match(plain) is None:
        raise ValueError("holds no number")
    negative = (found["sign"] or found["inner"]) in ("-", "−")
    unit = " ".join((found["before"] or found["after"]).casefold().split())
    return -float(plain) if negative else float(plain), unit


@cache
def _grouped(decimal: str) -> re.Pattern[str]:
    """Return the pattern of a beginning in groups of three, with what separates them."""
    others = "".join(mark for mark in _SEPARATORS if mark != decimal)
    return re.compile(rf"\d{{1,3}}([{re.escape(others)}])\d{{3}}(?:\1\d{{3}})*(?!\d)", re.ASCII)


def seconds_of(value: Any, form: str | None = None) -> int | None:
    """Return the seconds from 1970-01-01 to a moment as it is written, whatever its time zone; None for a missing or
    unreadable one. Fractions of a second are left out.

    Args:
        value: text, a date, a datetime, or NumPy's datetime64.
        form: how text is written, in the codes of `datetime.strptime`; None for ISO 8601, such as 2024-03-01,
            2024-03-01 14:30 and 20240301T143000+0200.
    """
    if isinstance(value, np.datetime64):
        return None if np.isnat(value) else int(value.astype("datetime64[s]").astype(np.int64))
    if isinstance(value, str):
        return _seconds_of_text(value.strip(), form)
    return _seconds_of_date(value)


@lru_cache(8192)
def _seconds_of_text(text: str, form: str | None) -> int | None:
    """As `seconds_of`; the latest are kept, for days recur and `strptime` takes 10 µs."""
    try:
        if form is None:
            return _seconds_of_date(datetime.fromisoformat(text.removesuffix(" UTC")))
        return _seconds_of_date(datetime.strptime(text, form))
    except ValueError:
        return None


def _seconds_of_date(value: Any) -> int | None:
    if not isinstance(value, date) or is_missing(value):
        return None
    days = value.toordinal() - _EPOCH
    if isinstance(value, datetime):
        return days * 86_400 + value.hour * 3600 + value.minute * 60 + value.second
    return days * 86_400
