"""From the columns of a file to numbers: categories one-hot, missing numbers filled in and marked.

    carrier          ->  carrier=AA, carrier=UA, ..., carrier=(other), carrier=(missing)
    dep_delay        ->  dep_delay, dep_delay (missing)

An encoding is found once, on the training rows, and is part of the model: every other file is read by the same one,
by name. It is all vectorised: a category's number is looked up by Arrow, and written into a block by NumPy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from ...config.settings import DecimalPoint, Separator
from ...system.errors import UserError
from ...system.wording import rows_text
from ..files.category_text import as_text
from ..files.reading import Reading
from ..files.tables import TRAINING_REMEDY, Table
from ..files.text_kinds import is_text
from .checks import unusable_value

OTHER, MISSING = "(other)", "(missing)"


@dataclass(frozen=True)
class NumberColumn:
    """A column of numbers. fill: what takes the place of a missing value (None: none may be missing); marked: whether a
    second feature is 1 where a value was missing."""

    name: str
    fill: float | None = None
    marked: bool = False
    kind: Literal["number"] = "number"

    @property
    def features(self) -> tuple[str, ...]:
        """The features' names."""
        return (self.name, f"{self.name} {MISSING}") if self.marked else (self.name,)


@dataclass(frozen=True)
class CategoryColumn:
    """A column of categories. values: those with a feature of their own; other, missing: whether there is a feature for
    any other value, and for a missing one; baseline: the value that has none, 0 in all features of the column;
    required: whether no value may be missing.

    A value for which there is no feature, such as one that no training row has, is 0 in all of them too.
    """

    name: str
    values: tuple[str, ...]
    other: bool = False
    missing: bool = False
    baseline: str | None = None
    required: bool = False
    kind: Literal["category"] = "category"

    @property
    def buckets(self) -> tuple[str, ...]:
        """The values and what stands for the rest."""
        more = ((OTHER,) if self.other else ()) + ((MISSING,) if self.missing else ())
        return self.values + more

    @property
    def features(self) -> tuple[str, ...]:
        """The features' names."""
        return tuple(f"{self.name}={bucket}" for bucket in self.buckets)

    def look_up(self, text: pa.ChunkedArray) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The bucket of each row [N] of a column that `as_text` made, -1 for none; and which rows have a value that the
        column does not know."""
        # Models of earlier versions have values as they were written, such as True.
        known = as_text(pa.chunked_array([pa.array([*self.values, self.baseline], pa.large_string())]))
        *values, baseline = known.to_pylist()
        places = pc.index_in(text, value_set=pa.array(values, pa.large_string()))
        strange = pc.is_null(places)
        places = pc.fill_null(places, len(self.values) if self.other else -1)
        if baseline is not None:
            is_baseline = pc.fill_null(pc.equal(text, baseline), False)
            places = pc.if_else(is_baseline, -1, places)
            strange = pc.and_not(strange, is_baseline)
        absent = pc.is_null(text)
        places = pc.if_else(absent, len(self.buckets) - 1 if self.missing else -1, places)
        numbers: NDArray[np.int64] = places.cast(pa.int64()).to_numpy()
        if self.other:
            return numbers, np.zeros(len(numbers), np.bool_)
        return numbers, pc.and_not(strange, absent).to_numpy().astype(np.bool_)


_Columns: TypeAlias = tuple[Annotated[NumberColumn | CategoryColumn, Field(discriminator="kind")], ...]


@dataclass(frozen=True)
class Encoding:
    """All feature columns of a file in order, and what becomes of them."""

    columns: _Columns
    missing_values: tuple[str, ...] = ()
    """Further spellings of a missing value in files and columns of text."""
    separator: Separator = ","
    """What is between the columns of a .csv file, unless its header line shows something else."""
    decimal: DecimalPoint = "."
    """The decimal point in files of text."""

    @property
    def names(self) -> tuple[str, ...]:
        """The file's columns."""
        return tuple(column.name for column in self.columns)

    @cached_property
    def features(self) -> tuple[str, ...]:
        """The features, in order: those of the first column, of the second, ..."""
        return tuple(feature for column in self.columns for feature in column.features)

    @property
    def reading(self) -> Reading:
        """How other files are to be read: categories as they are written."""
        text = frozenset(column.name for column in self.columns if isinstance(column, CategoryColumn))
        return Reading(text, self.missing_values, self.separator, self.decimal)

    @property
    def trivial(self) -> bool:
        """Whether the features are the columns as they are, in any file."""
        about_text = (self.missing_values, self.separator, self.decimal)
        return about_text == ((), ",", ".") and all(
            isinstance(column, NumberColumn) and column.fill is None and not column.marked
            for column in self.columns
        )

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def _checked(encoding: Encoding | _Columns) -> Encoding:
    """ValueError for an encoding that no training file gives."""
    encoding = encoding if isinstance(encoding, Encoding) else Encoding(encoding)
    if len({*encoding.names}) < len(encoding.names):
        raise ValueError("two columns have the same name")
    for column in encoding.columns:
        if isinstance(column, CategoryColumn) and column.baseline in column.values:
            raise ValueError(f"the baseline of column {column.name[:40]!r} is one of its values")
    return encoding


EncodingInJson: TypeAlias = Annotated[Encoding | _Columns, AfterValidator(_checked)]
"""What `Encoding.to_json` gives, or the columns alone as in earlier versions. It is the type of a field of a pydantic
model, and the field's value is an Encoding."""


class EncodedTable(Table):
    """A table's features, made block by block from its columns."""

    def __init__(
        self,
        table: Table,
        encoding: Encoding,
        kept: NDArray[np.bool_] | None = None,
        remedy: str = TRAINING_REMEDY,
    ) -> None:
        """The rows where `kept` [N] is true (all if None) must be usable; `remedy` is for columns that are not.

        UserError where a column of numbers holds something else, or a category is missing that may not be.
        """
        super().__init__(table.name, table.rows)
        self._table = table
        self._encoding = encoding
        self._numbers = [c.name for c in encoding.columns if isinstance(c, NumberColumn)]
        table.require_numbers(self._numbers, remedy)
        self._widths = [len(column.features) for column in encoding.columns]
        self._buckets: dict[str, NDArray[np.int64]] = {}
        unknown = []
        for column in encoding.columns:
            if isinstance(column, CategoryColumn):
                place = f'column "{column.name}" of {table.name}'
                text = as_text(table.column(column.name), place, remedy)
                if column.required:
                    _refuse_missing_category(table.name, column.name, text, kept)
                self._buckets[column.name], strange = column.look_up(text)
                unknown += _unknown(column.name, text, strange, kept)
        self.unknown = tuple(unknown)
        """Sentences on the rows whose value the encoding does not know, one for each column with some."""

    def column(self, name: str) -> pa.ChunkedArray:
        """A column of the file, such as the label."""
        return self._table.column(name)

    def not_numbers(self, names: Sequence[str]) -> dict[str, str]:
        """None: features are numbers."""
        return {}

    def block(self, names: Sequence[str], start: int, stop: int) -> NDArray[np.float64]:
        """Rows of all features; `names` must be those of the encoding."""
        assert len(names) == len(self._encoding.features)
        block = np.zeros((stop - start, len(names)), dtype=np.float64)
        numbers = self._table.block(self._numbers, start, stop) if self._numbers else block[:, :0]
        here = np.arange(stop - start)
        place, number = 0, 0
        for column, width in zip(self._encoding.columns, self._widths, strict=True):
            if isinstance(column, CategoryColumn):
                bucket = self._buckets[column.name][start:stop]
                known = bucket >= 0
                block[here[known], place + bucket[known]] = 1.0
            else:
                values = numbers[:, number]
                missing = np.isnan(values)
                block[:, place] = values if column.fill is None else np.where(missing, column.fill, values)
                if column.marked:
                    block[:, place + 1] = missing
                number += 1
            place += width
        return block


def _refuse_missing_category(
    file: str, name: str, text: pa.ChunkedArray, kept: NDArray[np.bool_] | None
) -> None:
    if text.null_count == 0:
        return
    missing = pc.is_null(text).to_numpy().astype(np.bool_)
    if kept is not None:
        missing &= kept
    if missing.any():
        raise unusable_value(file, int(np.argmax(missing)), name)


def _unknown(
    name: str, text: pa.ChunkedArray, strange: NDArray[np.bool_], kept: NDArray[np.bool_] | None
) -> list[str]:
    """A sentence on the rows with a value that the model does not know, if there are any."""
    if kept is not None:
        strange = strange & kept
    count = int(strange.sum())
    if not count:
        return []
    rows, have = len(strange) if kept is None else int(kept.sum()), "has" if count == 1 else "have"
    value = str(text[int(np.argmax(strange))].as_py())[:40]
    return [
        f'{count} of {rows} rows {have} a value of "{name}" that the model does not know, such as "{value}"'
    ]


def missing_values(table: Table, names: Sequence[str], kept: NDArray[np.bool_]) -> dict[str, tuple[int, int]]:
    """How many kept rows have no value (empty or NaN), and the first of them, of the columns that lack some."""
    counts = {}
    for name in names:
        column = table.column(name)
        if is_text(column.type):
            column = as_text(column)
        if column.null_count == 0 and not pa.types.is_floating(column.type):
            continue
        missing = pc.is_null(column, nan_is_null=True).to_numpy().astype(bool) & kept
        if missing.any():
            counts[name] = int(missing.sum()), int(np.argmax(missing))
    return counts


def refuse_missing(place: str, counts: dict[str, tuple[int, int]], remedy: str) -> None:
    """UserError naming the columns that lack values, if any do."""
    if counts:
        listed = [
            f'"{name}" ({rows_text(count)}, first row {first + 1})'
            for name, (count, first) in list(counts.items())[:8]
        ]
        more = f" and {len(counts) - 8} more" if len(counts) > 8 else ""
        word = "column" if len(counts) == 1 else "columns"
        raise UserError(
            f"{place} lacks values (they are empty or NaN) in {word} {', '.join(listed)}{more}; {remedy}"
        )
