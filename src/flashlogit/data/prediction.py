"""Rows of a file for a model that exists already."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from ..system.errors import UserError, listing
from .columns.encoded import EncodedTable, reading_of
from .columns.encoding import Codes, Encoding
from .files.open import open_files
from .files.tables import PLAIN, REMEDY_FOR_ROWS, Table, repeated

_REMEDY = "give the kind of values that the model has learnt from"


@dataclass(frozen=True)
class PredictionRows:
    """Features of N rows, in the model's column order and the file's units, and the rows' id columns."""

    table: Table
    feature_names: tuple[str, ...]
    ids: pa.Table
    """The id columns, of text files as they are written there and else in their own types; a table with no columns if
    none were named."""
    notes: tuple[str, ...] = ()
    """Sentences worth showing to the user, such as on values that the model does not know."""

    def __len__(self) -> int:
        return self.table.rows

    def blocks(self) -> Iterator[Codes]:
        """Yield blocks of rows as the model takes them, together all rows in order.

        Raises UserError, naming row and column, at a missing, NaN or infinite value.
        """
        table, names = self.table, self.feature_names
        if isinstance(table, EncodedTable):
            names = tuple(names[place] for place in table.layout.numbers)
        for start, stop in table.spans(len(names)):
            if isinstance(table, EncodedTable):
                codes = table.codes(start, stop)
            else:
                codes = Codes.of(table.block(names, start, stop))
            table.require_finite(codes.numbers, names, np.arange(start, stop), REMEDY_FOR_ROWS)
            yield codes


def read_for_prediction(
    path: str | Path | Sequence[str],
    feature_names: Sequence[str],
    id_columns: Sequence[str | int] = (),
    *,
    called: str | Sequence[str] = "the id column",
    array_widths: Sequence[int] = (),
    encoding: Encoding | None = None,
    setting: str = "the data",
    labels: str | Path | Sequence[str] | None = None,
    verbatim: bool = True,
    ignore_unknown: bool = False,
) -> PredictionRows:
    """Read the columns that a model needs, by name, and the id columns; any others are ignored.

    `setting` is what errors call the path by, and `called` the id columns, one for all or one for each;
    `array_widths` and `encoding` are those of the `Dataset` the model learnt from.
    `labels`: a file that has the id columns row by row, if the data do not.
    `verbatim`: whether the id columns of .csv files are text as it stands there, so that 00123 stays 00123 and NA stays
    NA; otherwise they have the types that their values suggest, as labels and weights need it.
    `ignore_unknown`: whether a libsvm file may have indices beyond the model's, which are ignored.
    Raises UserError for a file that cannot be used, and for a column that is missing or holds no numbers.
    """
    # The separator is the file's, and not the model's.
    reading = replace(PLAIN if encoding is None else reading_of(encoding), any_separator=True)
    file = open_files(path, setting, reading, labels=labels, labels_setting="--labels")
    columns = tuple(feature_names) if encoding is None else encoding.names
    file.require(columns, (), "the model", array_widths, ignore_unknown=ignore_unknown)
    what = [called] * len(id_columns) if isinstance(called, str) else called
    ids = [file.find_key(column, each) for column, each in zip(id_columns, what, strict=True)]
    if twice := repeated(ids):
        problem = f"{listing(twice)} is named more than once"
        raise UserError(problem, setting=" and ".join(dict.fromkeys(what)), remedy="name each column once")
    as_written = replace(reading, verbatim=reading.verbatim.union(ids)) if verbatim else reading
    if verbatim and not set(ids).isdisjoint(columns):
        # A column cannot be read as an id and as a feature at once.
        table = file.read(columns, (), reading)
        of_ids = file.read((), ids, as_written)
    else:
        table = of_ids = file.read(columns, ids, as_written)
    id_table = pa.table({name: of_ids.column(name) for name in ids})
    if encoding is None:
        table.require_numbers(columns, _REMEDY)
        return PredictionRows(table, columns, id_table)
    encoded = EncodedTable(table, encoding, remedy=_REMEDY)
    return PredictionRows(encoded, tuple(feature_names), id_table, encoded.unknown)
