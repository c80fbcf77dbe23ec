"""How the values of a text file are to be taken; files whose columns have types of their own need none of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reading:
    """text: columns to take as text, whatever their values look like; missing: spellings of a missing value beside the
    usual ones (empty, NA, NULL, nan, ...); separator: between the columns of a .csv file; decimal: the decimal point;
    verbatim: all columns as text and no value missing, as ids are.

    Types that are inferred depend on the other rows of a file: 01234 is a number among numbers and text beside a word.
    A model must see the same row the same way in every file.
    """

    text: frozenset[str] = frozenset()
    missing: tuple[str, ...] = ()
    separator: str = ","
    decimal: str = "."
    verbatim: bool = False


PLAIN = Reading()
