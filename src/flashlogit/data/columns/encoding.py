"""From the columns of a file to numbers: categories one-hot, missing numbers filled in and marked, then standardised.

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

from ...config.data import DecimalPoint, Separator
from ..files.tables import MISSING_VALUE, NUMBERS_REMEDY, Mask, Reading, Table, from_text, to_numpy
from ..files.text import as_text

OTHER, MISSING = "(other)", "(missing)"


@dataclass(frozen=True)
class NumberColumn:
    """A column of numbers.

    fill: what takes the place of a missing value (None: none may be missing); marked: whether a second feature is 1
    where a value was missing.
    """

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
    """A column of categories.

    values: those with a feature of their own; other, missing: whether there is a feature for any other value, and for a
    missing one; baseline: the value that has none, 0 in all features of the column; required: whether no value may be
    missing.

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

    def look_up(self, text: pa.ChunkedArray) -> tuple[NDArray[np.int64], Mask]:
        """Return the bucket of each row [N] of a column that `as_text` made, -1 for none; and which rows have a value
        that the column does not know."""
        # Models of earlier versions have values as they were written, such as True. The baseline's place is -1.
        known = as_text(pa.chunked_array([from_text([self.baseline or "", *self.values])]))
        found = pc.index_in(text, value_set=known.combine_chunks(), skip_nulls=True)
        places: NDArray[np.int64] = np.nan_to_num(to_numpy(found)).astype(np.int64) - 1
        absent = to_numpy(pc.is_null(text))
        strange: Mask = to_numpy(pc.is_null(found)) & ~absent
        places[strange] = len(self.values) if self.other else -1
        places[absent] = len(self.buckets) - 1 if self.missing else -1
        return places, strange & (not self.other)


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
    text_encoding: str = "utf-8"
    """The encoding of files of text that are not UTF-8."""

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
        return Reading(text, self.missing_values, self.separator, self.decimal, encoding=self.text_encoding)

    @property
    def trivial(self) -> bool:
        """Whether the features are the columns as they are, in any file."""
        return self == Encoding(tuple(NumberColumn(name) for name in self.names))

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


def _checked(encoding: Encoding | _Columns) -> Encoding:
    """Return the encoding; ValueError for one that no training file gives."""
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


@dataclass(frozen=True)
class Standardization:
    """Column means and standard deviations [D] float64 of the training rows (scale 1 if constant)."""

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]

    @classmethod
    def identity(cls, columns: int) -> Standardization:
        """Return the one that leaves `columns` columns as they are."""
        return cls(mean=np.zeros(columns), scale=np.ones(columns))


class EncodedTable(Table):
    """A table's features, made block by block from its columns."""

    def __init__(
        self, table: Table, encoding: Encoding, kept: Mask | None = None, remedy: str = NUMBERS_REMEDY
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
        kept = np.ones(table.rows, np.bool_) if kept is None else kept
        unknown = []
        for column in encoding.columns:
            if isinstance(column, CategoryColumn):
                name = column.name
                text = as_text(table.column(name), f'column "{name}" of {table.name}', remedy)
                missing = to_numpy(pc.is_null(text)) & kept
                if column.required and missing.any():
                    raise table.unusable_value(name, int(np.argmax(missing)), MISSING_VALUE)
                self._buckets[name], strange = column.look_up(text)
                strange &= kept
                if count := int(strange.sum()):
                    have, value = "has" if count == 1 else "have", text[int(np.argmax(strange))].as_py()[:40]
                    unknown.append(
                        f'{count} of {kept.sum()} rows {have} a value of "{name}" that the model does not know,'
                        f' such as "{value}"'
                    )
        self.unknown = tuple(unknown)
        """Sentences on the rows whose value the encoding does not know, one for each column with some."""

    def column(self, name: str) -> pa.ChunkedArray:
        """Return a column of the file, such as the label."""
        return self._table.column(name)

    def block(self, names: Sequence[str], start: int, stop: int) -> NDArray[np.float64]:
        """Return rows of all features; `names` must be those of the encoding."""
        assert len(names) == len(self._encoding.features)
        block = np.zeros((stop - start, len(names)), dtype=np.float64)
        numbers = iter((self._table.block(self._numbers, start, stop) if self._numbers else block[:, :0]).T)
        here = np.arange(stop - start)
        place = 0
        for column, width in zip(self._encoding.columns, self._widths, strict=True):
            if isinstance(column, CategoryColumn):
                bucket = self._buckets[column.name][start:stop]
                known = bucket >= 0
                block[here[known], place + bucket[known]] = 1.0
            else:
                values = next(numbers)
                missing = np.isnan(values)
                block[:, place] = values if column.fill is None else np.where(missing, column.fill, values)
                if column.marked:
                    block[:, place + 1] = missing
            place += width
        return block
