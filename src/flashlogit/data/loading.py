"""From the settings to rows on the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from ..config.settings import (
    BreastCancerData,
    Data,
    FileData,
    Label,
    SplitFractions,
    SyntheticData,
)
from ..system.errors import UserError
from ..system.wording import column_word
from .columns.choice import Columns, choose_columns
from .columns.encoding import EncodedTable, Encoding
from .columns.labels import Labels, Rule, apply_rule, find_rule
from .columns.weights import read_weights
from .dataset import Dataset, Rows, Standardization
from .encoding_fit import categorical_columns, fit_encoding
from .files.numpy import MatrixTable
from .files.open import open_files
from .files.reading import PLAIN, Reading
from .files.tables import Table, TableFile
from .placement import place, require_room
from .splits import DROPPED, NAMES, TEST, TRAIN, VALIDATION, stratified
from .standardize import measure
from .synthetic import synthetic


def load(settings: Data, *, seed: int, device: torch.device) -> Dataset:
    """Load, split, standardise and store the data that the settings name.

    X of every split is [N, D] on `device` in the dtype `settings.dtype`, y [N] uint8, and sample_weight,
    where there is a weight column, [N] float32 (float64 if X is). Every split has rows of positive weight of
    both classes. The same settings, files and seed give the same rows in the same order.

    Raises UserError for whatever the user can mend: a file, a column, a value or a setting.
    """
    match settings:
        case SyntheticData():
            return synthetic(settings, seed=seed, device=device)
        case BreastCancerData():
            from .breast_cancer import breast_cancer

            file: TableFile = breast_cancer()
            columns = choose_columns(file, settings.label)
            others: dict[int, TableFile] = {}
        case FileData():
            file = open_files(settings.path, "data.path", _reading(settings))
            columns = choose_columns(file, settings.label, settings.weight, settings.columns, settings.drop)
            others = _other_files(settings, columns, _array_widths(file, columns))
    loader = _Loader(columns, settings, device)
    return loader.load(file, others, settings.split, settings.standardize, seed)


def _reading(settings: BreastCancerData | FileData) -> Reading:
    """How the training file is read: categories that are named as they are written, since 01 and 1 are numbers alike
    and categories apart; columns that are found to be text are so anyhow."""
    if not isinstance(settings, FileData):
        return PLAIN
    named = () if isinstance(settings.categorical, str) else settings.categorical
    return Reading(frozenset(named), tuple(settings.missing_values), settings.separator, settings.decimal)


def _array_widths(file: TableFile, columns: Columns) -> tuple[int, ...]:
    """How wide an array may be for its columns to be the training file's; without its label only where that is last."""
    if not file.numbered:
        return ()
    width = file.width
    return (width - 1, width) if columns.label == file.features[-1] else (width,)


def _other_files(settings: FileData, columns: Columns, widths: tuple[int, ...]) -> dict[int, TableFile]:
    """The validation and test files there are, checked to have the training file's columns."""
    paths = {VALIDATION: settings.validation_path, TEST: settings.test_path}
    files = {}
    for split, path in paths.items():
        if path is not None:
            files[split] = open_files(path, f"data.{NAMES[split]}_path", _reading(settings))
            files[split].require(columns.features, columns.keys, "training on data.path", widths)
    return files


@dataclass(frozen=True)
class _Labelled:
    """A table that has been read, its labels, and its weights [N] if there are any."""

    table: Table
    labels: Labels
    weights: NDArray[np.floating] | None


class _Loader:
    """One load: what stays the same over its files, and the notes that gather on the way."""

    def __init__(self, columns: Columns, settings: BreastCancerData | FileData, device: torch.device) -> None:
        self._columns = columns
        self._settings = settings
        self._reading = _reading(settings)
        self._label: Label = settings.label
        self._dtype: torch.dtype = getattr(torch, settings.dtype)
        self._device = device
        self._notes: list[str] = []

    def load(
        self,
        file: TableFile,
        others: dict[int, TableFile],
        fractions: SplitFractions,
        standardize: bool,
        seed: int,
    ) -> Dataset:
        names = self._columns.features
        table = file.read(names, self._columns.keys, self._reading)
        categorical = self._categorical(table)
        rule = find_rule(table.column(self._columns.label), self._label, self._label_place(table))
        data = self._labelled(table, rule)
        asked = {VALIDATION: fractions.validation, TEST: fractions.test}
        asked = {split: fraction for split, fraction in asked.items() if split not in others}
        splits = stratified(data.labels.y, data.labels.kept, asked, rule.names, seed)
        _require_all_classes(data, splits, rule.names)
        encoding = self._encoding(table, categorical, splits)
        table = self._encoded(table, encoding, data.labels.kept)
        data = replace(data, table=table)
        names = names if encoding is None else encoding.features
        if standardize:
            standardization, constant = measure(table, names, splits)
            if constant:
                self._notes.append(
                    f"In {table.name}, {column_word(constant)} {'is' if len(constant) == 1 else 'are'}"
                    " constant over the training rows and can teach the model nothing"
                )
        else:
            standardization = Standardization.identity(len(names))
        rows = self._place(data, names, splits, standardization)
        # One file's table at a time: a test file is read only when the training file's table can go.
        del table, data
        for split, other in others.items():
            reading = self._reading if encoding is None else encoding.reading
            data = self._labelled(other.read(self._columns.features, self._columns.keys, reading), rule)
            table = self._encoded(data.table, encoding, data.labels.kept)
            if isinstance(table, EncodedTable):
                self._notes += [f"In {table.name}, {sentence}" for sentence in table.unknown]
            data = replace(data, table=table)
            only = np.where(data.labels.kept, split, DROPPED).astype(np.uint8)
            _require_all_classes(data, only, rule.names)
            rows |= self._place(data, names, only, standardization)
            del table, data
        return Dataset(
            train=rows[TRAIN],
            validation=rows.get(VALIDATION),
            test=rows.get(TEST),
            feature_names=names,
            label_names=rule.names,
            rule=rule,
            standardization=standardization,
            array_widths=_array_widths(file, self._columns),
            encoding=encoding,
            notes=tuple(self._notes),
        )

    def _categorical(self, table: Table) -> set[str]:
        """The features that are categories; an error before any other work where some are no numbers either."""
        names = self._columns.features
        if isinstance(self._settings, FileData):
            return categorical_columns(table, names, self._settings)
        table.require_numbers(names)
        return set()

    def _encoding(self, table: Table, categorical: set[str], splits: NDArray[np.uint8]) -> Encoding | None:
        """The encoding of the features, or None where they are numbers as they are."""
        settings = self._settings
        if isinstance(settings, BreastCancerData):
            return None
        if isinstance(table, MatrixTable) and not categorical and settings.missing == "error":
            return None  # a matrix of numbers has nothing to encode, and may be larger than the memory
        encoding, notes = fit_encoding(table, self._columns.features, categorical, settings, splits)
        self._notes += notes
        return None if encoding.trivial else encoding

    def _encoded(self, table: Table, encoding: Encoding | None, kept: NDArray[np.bool_]) -> Table:
        """A table's features: another file's are made like the training file's. An error before any work on them where
        X would not fit into the memory."""
        names = self._columns.features if encoding is None else encoding.features
        require_room(int(kept.sum()), len(names), self._dtype, self._device, table.name)
        if encoding is not None:
            return EncodedTable(table, encoding, kept)
        table.require_numbers(names)
        return table

    def _label_place(self, table: Table) -> str:
        return f'label column "{self._columns.label}" of {table.name}'

    def _labelled(self, table: Table, rule: Rule) -> _Labelled:
        labels = apply_rule(rule, table.column(self._columns.label), self._label, self._label_place(table))
        dropped = int((~labels.kept).sum())
        if dropped:
            self._notes.append(
                f"Left out {dropped} of {table.rows} rows of {table.name}, which have no label"
            )
        weights = None
        if self._columns.weight is not None:
            dtype = np.float64 if self._dtype == torch.float64 else np.float32
            weights = read_weights(table, self._columns.weight, labels.kept, dtype)
        return _Labelled(table, labels, weights)

    def _place(
        self,
        data: _Labelled,
        names: Sequence[str],
        splits: NDArray[np.uint8],
        standardization: Standardization,
    ) -> dict[int, Rows]:
        tensors = place(data.table, names, splits, standardization, self._dtype, self._device)
        rows = {}
        for split, X in tensors.items():
            here = splits == split
            weights = None if data.weights is None else self._to_device(data.weights[here])
            rows[split] = Rows(X=X, y=self._to_device(data.labels.y[here]), sample_weight=weights)
        return rows

    def _to_device(self, values: NDArray[np.integer] | NDArray[np.floating]) -> torch.Tensor:
        return torch.from_numpy(values).to(self._device)


def _require_all_classes(data: _Labelled, splits: NDArray[np.uint8], class_names: tuple[str, ...]) -> None:
    """Neither the balanced class weight nor a ROC curve means anything for one class; of more than two classes a split
    that is not for training may lack some."""
    K = len(class_names)
    for split in np.unique(splits[splits != DROPPED]):
        if K > 2 and split != TRAIN:
            continue
        here = splits == split
        y = data.labels.y[here]
        counts = np.bincount(y, minlength=K)
        totals = counts if data.weights is None else np.bincount(y, data.weights[here], minlength=K)
        if not totals.all():
            lacking = class_names[int(np.argmin(totals))]
            what = "rows of positive weight" if counts.all() else "rows"
            raise UserError(
                f'the {NAMES[split]} rows of {data.table.name} have no {what} of the class "{lacking}"; give'
                f" {what} of {'both' if K == 2 else 'all'} classes"
            )
