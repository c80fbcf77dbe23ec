"""From the columns of a file to numbers: categories one-hot, missing numbers filled in and marked.

    carrier          ->  carrier=AA, carrier=UA, ..., carrier=(other), carrier=(missing)
    dep_delay        ->  dep_delay, dep_delay (missing)

An encoding is found once, on the training rows, and is part of the model: every other file is read by the same one,
by name. It is all vectorised: a category's number is looked up by Arrow, and written into a block by NumPy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from flashlogit.data.tables import Table
from flashlogit.data.wording import rows_text
from flashlogit.errors import UserError

OTHER, MISSING = "(other)", "(missing)"


@dataclass(frozen=True)
class NumberColumn:
    """A column of numbers. fill: what takes the place of a missing value (None: none may be missing); marked: whether a
    second feature is 1 where a value was missing."""

    name: str
    fill: float | None = None
    marked: bool = False

    @property
    def features(self) -> tuple[str, ...]:
        """The features' names."""
        return (self.name, f"{self.name} {MISSING}") if self.marked else (self.name,)


@dataclass(frozen=True)
class CategoryColumn:
    """A column of categories. values: those with a feature of their own; other, missing: whether there is a feature for
    any other value, and for a missing one; baseline: the value that has none, 0 in all features of the column.

    A value for which there is no feature, such as one that no training row has, is 0 in all of them too.
    """

    name: str
    values: tuple[str, ...]
    other: bool = False
    missing: bool = False
    baseline: str | None = None

    @property
    def buckets(self) -> tuple[str, ...]:
        """The values and what stands for the rest."""
        more = ((OTHER,) if self.other else ()) + ((MISSING,) if self.missing else ())
        return self.values + more

    @property
    def features(self) -> tuple[str, ...]:
        """The features' names."""
        return tuple(f"{self.name}={bucket}" for bucket in self.buckets)

    def numbers(self, column: pa.ChunkedArray) -> NDArray[np.int64]:
        """The bucket of each row [N], -1 for none."""
        text = as_text(column)
        places = pc.index_in(text, value_set=pa.array(self.values, pa.large_string()))
        other = len(self.values) if self.other else -1
        places = pc.fill_null(places, other)
        if self.baseline is not None:
            places = pc.if_else(pc.fill_null(pc.equal(text, self.baseline), False), -1, places)
        missing = len(self.buckets) - 1 if self.missing else -1
        places = pc.if_else(pc.is_null(text), missing, places)
        numbers: NDArray[np.int64] = places.cast(pa.int64()).to_numpy()
        return numbers


@dataclass(frozen=True)
class Encoding:
    """All feature columns of a file in order, and what becomes of them."""

    columns: tuple[NumberColumn | CategoryColumn, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The file's columns."""
        return tuple(column.name for column in self.columns)

    @property
    def features(self) -> tuple[str, ...]:
        """The features, in order: those of the first column, of the second, ..."""
        return tuple(feature for column in self.columns for feature in column.features)

    @property
    def trivial(self) -> bool:
        """Whether the features are the columns as they are."""
        return all(
            isinstance(column, NumberColumn) and column.fill is None and not column.marked
            for column in self.columns
        )

    def to_json(self) -> list[dict[str, Any]]:
        """As JSON values."""
        kinds = {NumberColumn: "number", CategoryColumn: "category"}
        return [{"kind": kinds[type(column)], **asdict(column)} for column in self.columns]

    @classmethod
    def from_json(cls, content: Sequence[dict[str, Any]]) -> Encoding:
        """What `to_json` gave; KeyError, TypeError or ValueError for something else."""
        columns: list[NumberColumn | CategoryColumn] = []
        for each in content:
            fields = {key: value for key, value in each.items() if key != "kind"}
            if each["kind"] == "number":
                columns.append(NumberColumn(**fields))
            else:
                columns.append(CategoryColumn(**{**fields, "values": tuple(fields["values"])}))
        return cls(tuple(columns))


class EncodedTable(Table):
    """A table's features, made block by block from its columns."""

    def __init__(self, table: Table, encoding: Encoding) -> None:
        """UserError where a column of numbers holds something else."""
        super().__init__(table.name, table.rows)
        self._table = table
        self._encoding = encoding
        self._numbers = [c.name for c in encoding.columns if isinstance(c, NumberColumn)]
        table.require_numbers(self._numbers)
        self._buckets = {
            column.name: column.numbers(table.column(column.name))
            for column in encoding.columns
            if isinstance(column, CategoryColumn)
        }

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
        for column in self._encoding.columns:
            width = len(column.features)
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


def as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column's values as text, the same whatever type a file gives them: 1, 1.0 and "1" are "1", true is "true"."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_decimal(kind) or pa.types.is_float16(kind):
        column, kind = column.cast(pa.float64()), pa.float64()
    if pa.types.is_floating(kind):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, kind), column)
        whole = pc.all(pc.equal(column, pc.round(column))).as_py()
        if whole in (True, None):
            column = column.cast(pa.int64(), safe=False)
    try:
        return column.cast(pa.large_string())
    except pa.ArrowException as error:
        raise UserError(
            f"a column of {kind} cannot be used as categories; leave it out with data.drop"
        ) from error


def missing_values(table: Table, names: Sequence[str], kept: NDArray[np.bool_]) -> dict[str, tuple[int, int]]:
    """How many kept rows have no value (empty or NaN), and the first of them, of the columns that lack some."""
    counts = {}
    for name in names:
        column = table.column(name)
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
