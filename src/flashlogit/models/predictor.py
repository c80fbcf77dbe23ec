"""A run's model in a process that stays alive: records as the file had them in, probabilities out.

NumPy only. Arrow is imported where a table or data frame comes in, and reads it as `flashlogit predict` reads a file;
either way the model's own encoding makes numbers and buckets of the values, and the same sum makes logits of these.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np

from ..data.columns.encoding import Codes, Encoding, NumberColumn
from ..metrics.scores import expit, softmax
from ..system.errors import UserError, listing
from .model import Model

Record: TypeAlias = Mapping[str, Any]
_FAR = 700.0
"""Size of a negative logit up to which its power of e is a float."""
_FINITE = 1e300
_REMEDY = "give the kind of values that the model has learnt from"


class Predictor:
    """Probabilities of records.

    All columns of the model must be there; others are ignored. Values may be numbers, text as a file has it, booleans,
    dates, and None, NaN or "" where one is missing. A category that the model does not know counts as `(other)`, or
    where the model has no such feature as none of the known ones.

    Attributes:
        columns: the file's columns that the model needs, in order.
        classes: the classes' names; of two the second is the positive one.
        threshold: the probability from which `predict` says the positive class.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._encoding = model.encoding or Encoding(tuple(NumberColumn(name) for name in model.feature_names))
        self.columns = self._encoding.names
        self.classes = model.label_names
        self.threshold = model.threshold

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Return the predictor of a run directory, or of its model.safetensors.

        Raises:
            UserError: no such model, or a damaged one.
        """
        return cls(Model.load(Path(path), rule=False))

    def logit(self, rows: Record | Sequence[Record] | Any) -> Any:
        """Return z of one record, a float, or [K] for K > 2 classes; of several rows [n], or [n, K].

        Args:
            rows: a record by the names of the columns; a list of them; a data frame or Arrow table; or, for a model of
                numbers alone, an array [n, D] of all columns in order.

        Raises:
            UserError: a column that is missing, or a value that cannot be used.
        """
        if isinstance(rows, Mapping):
            return self._logit_of(rows)
        return self._model.logits(self._codes(rows))

    def probability(self, rows: Record | Sequence[Record] | Any) -> Any:
        """Return the probability of the positive class, shaped as `logit` is, or those of all K > 2 classes."""
        z = self.logit(rows)
        if isinstance(z, float):
            return 1 / (1 + math.exp(-z)) if z > -_FAR else 0.0
        return expit(z) if len(self.classes) == 2 else softmax(np.atleast_2d(z)).reshape(z.shape)

    def predict(self, rows: Record | Sequence[Record] | Any) -> Any:
        """Return the name of a record's class, or a list of those of several rows."""
        return self.named(self.probability(rows))

    def named(self, probability: Any) -> Any:
        """Return the class's name for what `probability` gives: from the threshold up, or the likeliest of K > 2."""
        if len(self.classes) > 2:
            number = np.asarray(probability).argmax(axis=-1)
        else:
            number = np.asarray(probability >= self.threshold, np.int64)
        return self.classes[int(number)] if number.ndim == 0 else [self.classes[k] for k in number.tolist()]

    def _logit_of(self, record: Record) -> Any:
        """Return the logit of a record: for two classes without NumPy, whose calls take longer than so few numbers."""
        numbers, buckets = self._code(record, "the record")
        if len(self.classes) == 2:
            weight, mean, of_buckets, z = self._terms
            for x, w, m in zip(numbers, weight, mean, strict=True):
                z += (x - m) * w
            for place, terms in zip(buckets, of_buckets, strict=True):
                z += terms[place]
            if -_FINITE < z < _FINITE:
                return z
        # What is wrong with the numbers, and with logits beyond all bounds, is said where many rows are taken.
        found = self._model.logits(self._finite([numbers], [buckets]))[0]
        return float(found) if found.ndim == 0 else found

    @cached_property
    def _terms(self) -> tuple[list[float], list[float], list[list[float]], float]:
        """The terms of a logit of two classes; the last of each bucket's, 0, is that of no bucket, -1."""
        terms, widths = self._model.terms, self._encoding.layout.widths
        of_buckets = [
            [*terms.of_buckets[place : place + width, 0].tolist(), 0.0]
            for place, width in zip(terms.places.tolist(), widths.tolist(), strict=True)
        ]
        return terms.weight[0].tolist(), terms.mean.tolist(), of_buckets, float(terms.constant[0])

    def _codes(self, rows: Any) -> Codes:
        if isinstance(rows, list | tuple):
            coded = [self._code(row, f"record {i}") for i, row in enumerate(rows, 1)]
            return self._finite([numbers for numbers, _ in coded], [buckets for _, buckets in coded])
        if isinstance(rows, np.ndarray):
            if self._model.encoding is not None or rows.ndim != 2 or rows.shape[1] != len(self.columns):
                needed = listing(self.columns)
                problem = f"is an array of shape {list(rows.shape)}, and the model needs the columns {needed}"
                raise UserError(problem, setting="rows", remedy="give records by name, or a data frame")
            return self._finite(rows, [])
        return self._of_table(rows)

    def _code(self, record: Any, called: str) -> tuple[list[float], list[int]]:
        """Return the numbers and buckets of a record."""
        if not isinstance(record, Mapping):
            problem = f"is a {type(record).__name__}, and must be a record by the names of the columns"
            raise UserError(problem, setting=called)
        numbers: list[float] = []
        buckets: list[int] = []
        decimal, words = self._encoding.decimal, self._encoding.words
        try:
            for column in self._encoding.columns:
                of_numbers, of_buckets = column.code(record[column.name], decimal, words)
                numbers += of_numbers
                buckets += of_buckets
        except LookupError as error:
            missing = listing(name for name in self.columns if name not in record)
            problem = f"lacks {missing}, which the model needs"
            raise UserError(problem, setting=called, remedy="give null where a value is missing") from error
        except (ValueError, TypeError, OverflowError) as error:
            value = record[column.name]
            raise UserError(str(error), setting=f'"{column.name}" of {called}', value=value, remedy=_REMEDY) from error
        return numbers, buckets

    def _finite(self, numbers: Any, buckets: Any) -> Codes:
        """Return n rows of numbers and buckets; UserError for a number that is missing or infinite."""
        layout = self._encoding.layout
        codes = Codes(
            np.array(numbers, np.float64).reshape(len(numbers), len(layout.numbers)),
            np.array(buckets, np.int64).reshape(len(numbers), len(layout.widths)),
        )
        finite = np.isfinite(codes.numbers)
        if not finite.all():
            i, j = np.unravel_index(np.argmin(finite), finite.shape)
            name = self._encoding.features[layout.numbers[j]]
            what = "is missing, and the model has learnt from rows that all had one"
            problem = what if np.isnan(codes.numbers[i, j]) else "is infinite"
            raise UserError(problem, setting=f'the value of "{name}" in record {i + 1}', remedy="fill it in")
        return codes

    def _of_table(self, rows: Any) -> Codes:
        """Return the codes of a data frame or an Arrow table."""
        import pyarrow as pa

        from ..data.columns.encoded import EncodedTable, reading_of
        from ..data.files.arrow import ArrowTable
        from ..data.files.tables import repeated
        from ..data.files.text import read_as_text_file, with_numbers

        named = getattr(rows, "column_names", getattr(rows, "columns", ()))
        if twice := repeated(name for name in named if name in self.columns):
            raise UserError(f"has two columns of the name {listing(twice)}", setting="the table")
        try:
            table = rows if isinstance(rows, pa.Table) else pa.table(rows)
        except (TypeError, ValueError, pa.ArrowException) as error:
            if hasattr(rows, "to_dict"):  # pandas', with a column of values of several kinds
                return self._codes(rows.to_dict("records"))
            problem = f"{type(rows).__name__} is neither a record, a list of them, a data frame nor an Arrow table"
            raise UserError(problem, setting="rows", remedy="give records by the names of the columns") from error
        if lacking := [name for name in self.columns if name not in table.column_names]:
            raise UserError(f"lacks {listing(lacking)}, which the model needs", setting="the table")
        if not table.num_rows:
            return self._finite([], [])
        table = read_as_text_file(table.select(self.columns), reading_of(self._encoding))
        numbers = [column.name for column in self._encoding.columns if not column.in_text]
        table = with_numbers(table, numbers)  # text is a number where it is one alone
        encoded = EncodedTable(ArrowTable("the table", table), self._encoding, remedy=_REMEDY)
        codes = encoded.codes(0, encoded.rows)
        return self._finite(codes.numbers, codes.buckets)
