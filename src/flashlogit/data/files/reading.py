"""How the values of a text file are to be taken; of files whose columns have types of their own, those of text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reading:
    """text: columns to take as text, whatever their values look like; missing: spellings of a missing value beside the
    usual ones (empty, NA, NULL, nan, ...); separator: between the columns of a .csv file; decimal: the decimal point;
    verbatim: columns of which no value is missing, and all are text as it stands in a file of text, as ids are;
    any_separator: whether another separator that a file's header line shows is taken instead.

    Types that are inferred depend on the other rows of a file: 01234 is a number among numbers and text beside a word.
    A model must see the same row the same way in every file.
    """

    text: frozenset[str] = frozenset()
    missing: tuple[str, ...] = ()
    separator: str = ","
    decimal: str = "."
    verbatim: frozenset[str] = frozenset()
    any_separator: bool = False


PLAIN = Reading()
