"""From the settings to rows on the device."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ..config.data import BreastCancerData, Data, DigitsData, FileData, SyntheticData
from ..system.errors import UserError, column_word, listing
from .builtin import DIGITS, breast_cancer, digits, synthetic
from .columns.encoded import EncodedTable, reading_of
from .columns.encoding import NO_MOMENT, Encoding, Standardization
from .columns.labels import Labels, Rule, apply_rule, find_rule, read_weights, spellings
from .columns.targets import read_targets
from .dataset import DROPPED, NAMES, TEST, TRAIN, VALIDATION, Dataset, RowOrigins, Rows, stratified
from .encoding_fit import categorical_columns, fit_encoding
from .files.open import open_files
from .files.tables import Mask, Reading, Table, TableFile, repeated
from .placement import measure, place, require_room
from .problems import Problems, label_mends, merged_settings
from .sampled_columns import class_numbers, stored_columns
from .split_along import ALONG, Along, split_along
from .suspicions import find_suspicions


@dataclass(frozen=True)
class Columns:
    """Names in the training file; other files are matched to them."""

    features: tuple[str, ...]
    labels: tuple[str, ...]
    """The label, or all targets."""
    weight: str | None = None
    along: Along | None = None
    """The column that says how the training file is divided; other files need not have it."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns of every file that are read but are no features."""
        return self.labels if self.weight is None else (*self.labels, self.weight)


def choose_columns(file: TableFile, settings: FileData) -> Columns:
    """Resolve the settings against a file's names.

    Raises UserError for a name that is not in the file, one that is used twice, and if no feature is left.
    """
    if settings.targets is None:
        labels: tuple[str, ...] = (file.find_key(settings.label.column, "data.label.column"),)
        taken = {labels[0]: "label.column"}
    else:
        labels = _targets(file, settings)
        taken = dict.fromkeys(labels, "targets")
    for kind in ("weight", "group", "time"):
        if (column := getattr(settings, kind)) is not None:
            name = file.find_key(column, f"data.{kind}")
            if name in taken:
                problem = f"data.{taken[name]} names it too"
                raise UserError(problem, setting=f"data.{kind}", value=name, remedy="name two columns")
            taken[name] = kind
    named = {kind.partition(".")[0]: name for name, kind in taken.items()}
    dropped = {name for column in settings.drop for name in file.find_features(column, "data.drop")}
    if settings.columns is None:
        features = tuple(name for name in file.features if name not in taken and name not in dropped)
    else:
        chosen = ((str(c),) if c in taken else file.find_features(c, "data.columns") for c in settings.columns)
        features = tuple(name for names in chosen for name in names)
        if shown := [name for name in features if name in taken]:
            kind, remedy = taken[shown[0]].partition(".")[0], "take it out, for the model must not see it"
            _refuse(f'lists "{shown[0]}", the {kind} column', remedy)
        if twice := repeated(features):
            _refuse(f"lists {listing(twice)} more than once", "list each column once")
        if both := [name for name in features if name in dropped]:
            _refuse(f"lists {listing(both)}, and so does data.drop", "take it out of one of them")
    if not features:
        remedy = f"let data.columns and data.drop leave at least one beside {' and '.join(f'the {k}' for k in named)}"
        raise UserError("has no feature columns left", setting=file.name, remedy=remedy)
    along = next((Along(kind, named[kind]) for kind in ALONG if kind in named), None)
    return Columns(features, labels, named.get("weight"), along)


def _targets(file: TableFile, settings: FileData) -> tuple[str, ...]:
    """Return the names of the label columns; `all` are those of the file of labels that have no other use."""
    if settings.targets == "all":
        others = (settings.weight, settings.group, settings.time)
        used = {file.find_key(column, "data.labels") for column in others if column is not None}
        return tuple(name for name in file.keys if name not in used and name not in file.features)
    names = [name for column in settings.targets or () for name in file.find_keys(column, "data.targets")]
    if twice := repeated(names):
        raise UserError(f"lists {listing(twice)} more than once", setting="data.targets", remedy="list each once")
    return tuple(names)


def _refuse(problem: str, remedy: str) -> NoReturn:
    raise UserError(problem, setting="data.columns", remedy=remedy)


def load(settings: Data, *, seed: int, device: torch.device, origins: bool = False) -> Dataset:
    """Load, split, standardise and store the data that the settings name.

    X of every split is [N, D] on `device` in the dtype `settings.dtype`, y as `Rows` has it, and sample_weight, where
    there is a weight column, [N] float32 (float64 if X is). Every split has rows of positive weight of both classes; of
    more classes the training split has. The same settings, files and seed give the same rows in the same order.
    `origins` asks for the training rows' numbers and groups or times, which take 16 bytes a row. Only a run knows its
    penalty: of `categories.baseline` `auto` counts as false here, and `RunSettings.resolved` decides on it.

    Raises UserError for whatever the user can mend: a file, a column, a value or a setting.
    """
    if isinstance(settings, SyntheticData):
        data = synthetic(settings, seed=seed, device=device)
        return replace(data, origins=RowOrigins(np.arange(1, len(data.train) + 1))) if origins else data
    if isinstance(settings, BreastCancerData):
        alike = {name: getattr(settings, name) for name in ("label", "split", "dtype", "standardize")}
        return _Loader(FileData(source="file", path="", **alike), breast_cancer(), device, origins).load(seed)
    if isinstance(settings, DigitsData):
        alike = {name: getattr(settings, name) for name in ("split", "dtype", "standardize")}
        targets: list[str | int] = list(DIGITS) if settings.targets == "all" else settings.targets
        drop: list[str | int] = [name for name in DIGITS if name not in targets]
        file_settings = FileData(source="file", path="", targets=targets, drop=drop, **alike)
        return _Loader(file_settings, digits(), device, origins).load(seed)
    return _opened(settings, device, origins, lambda loader: loader.load(seed))


def check(settings: FileData, seed: int) -> Understood:
    """Return what `load` understands of the training file, without the rows, which take the time and the memory.

    Raises UserError as `load` does, but for values that are infinite.
    """
    return _opened(settings, torch.device("cpu"), False, lambda loader: loader.understand((), seed))


_T = TypeVar("_T")


def _opened(settings: FileData, device: torch.device, origins: bool, work: Callable[[_Loader], _T]) -> _T:
    """Return what `work` makes of a load of the training file, and raise all that is wrong with that together."""
    found: list[UserError] = []
    while True:
        # What a file is read by: the rest of what is wrong with it can be told only once it can be read.
        by = settings.model_copy(update=merged_settings(settings, [error.mends for error in found]))
        try:
            file = open_files(by.path, "data.path", reading_by(by), labels=by.labels)
            return work(_Loader(by, file, device, origins, Problems(by, found)))
        except UserError as error:
            if any(error is each for each in found):
                raise
            unreadable = error.mends.keys() & _READ_BY
            if not unreadable or any(unreadable & each.mends.keys() for each in found):
                if found:
                    Problems(by, [*found, error]).raise_all()
                raise
            found.append(error)


_SORTED = 0.95
"""Share of rows that follow one of an earlier date, or all of a later one, from which they are in its order."""
_READ_BY = frozenset(("separator", "encoding"))
"""Settings without which a file cannot be read at all."""


def reading_by(settings: FileData) -> Reading:
    """Return how the training file is read: categories that are named as they are written, since 01 and 1 are numbers
    alike and categories apart; columns that are found to be text are so anyhow."""
    named = () if isinstance(settings.categorical, str) else settings.categorical
    text = frozenset((*named, *settings.dates, *settings.numbers))
    marks = settings.separator, settings.decimal
    return Reading(text, tuple(settings.missing_values), *marks, encoding=settings.encoding)


@dataclass(frozen=True)
class Understood:
    """What a training file's columns mean: its table, the label's rule (None for targets), labels, each row's split [N]
    and rank along the column that divides the rows, and the encoding of the features, if they need one."""

    table: Table
    rule: Rule | None
    labels: Labels
    splits: NDArray[np.uint8]
    ranks: NDArray[np.int64] | None
    encoding: Encoding | None


class _Loader:
    """One load: what stays the same over its files, and the notes and counts that gather on the way."""

    def __init__(
        self, settings: FileData, file: TableFile, device: torch.device, origins: bool, problems: Problems | None = None
    ) -> None:
        self._settings = settings
        self._problems = Problems(settings) if problems is None else problems
        self._file = file
        self._columns = choose_columns(file, settings)
        self._dtype: torch.dtype = getattr(torch, settings.dtype)
        self._device = device
        self._wants_origins = origins
        self._notes = [f"In {file.name}, {note}" for note in file.notes]
        self._unlabelled = 0

    def load(self, seed: int) -> Dataset:
        others = self._other_files()
        # One file's table at a time: a test file is read only when the training file's table is gone.
        data = self._training(others, seed)
        rows = {split: self._other(split, file, data) for split, file in others.items()}
        validation, test = rows.get(VALIDATION, data.validation), rows.get(TEST, data.test)
        return replace(data, validation=validation, test=test, notes=tuple(self._notes), unlabelled=self._unlabelled)

    def _array_widths(self) -> tuple[int, ...]:
        """Return how wide an array may be for its columns to be the training file's; without its label only where that
        is last."""
        if not self._file.numbered:
            return ()
        width, labels = self._file.width, self._columns.labels
        return (width - len(labels), width) if self._file.features[-len(labels) :] == labels else (width,)

    def _other_files(self) -> dict[int, TableFile]:
        """Return the validation and test files there are, checked to have the training file's columns."""
        paths = {VALIDATION: self._settings.validation_path, TEST: self._settings.test_path}
        files = {}
        for split, path in paths.items():
            if path is not None:
                files[split] = open_files(path, f"data.{NAMES[split]}_path", reading_by(self._settings))
                needed = self._columns.features, self._columns.keys
                ignore = self._settings.ignore_unknown_features
                files[split].require(*needed, "training on data.path", self._array_widths(), ignore_unknown=ignore)
        return files

    def understand(self, others: Collection[int], seed: int) -> Understood:
        """Return what the training file's columns mean, and raise all that is wrong with them together."""
        settings, names = self._settings, self._columns.features
        along = self._columns.along
        keys = self._columns.keys if along is None else (*self._columns.keys, along.column)
        table = self._file.read(names, keys, reading_by(settings))
        problems = self._problems
        categorical, usable = categorical_columns(table, names, settings, problems)
        rule, labels = None, Labels(np.zeros(table.rows, np.uint8), np.ones(table.rows, np.bool_))
        # Where the labels or the split are wrong, the columns are looked at as if all rows were for training.
        splits, ranks = np.full(table.rows, TRAIN, np.uint8), None
        try:
            if settings.targets is None:
                rule = find_rule(table.column(self._columns.labels[0]), settings.label, self._label_place(table))
                self._notes += spellings(rule)
            labels = self._labels(table, rule)
        except UserError as error:
            problems.add(error, **self._label_mends(table))
        else:
            with problems.gathered():
                splits, ranks = self._split(table, labels, rule, others, seed)
        encoding = None
        # A matrix of numbers has nothing to encode, and may be larger than the memory.
        if categorical or settings.dates or settings.numbers or settings.missing == "impute" or not table.only_numbers:
            found, notes = fit_encoding(table, usable, categorical, settings, splits, problems)
            self._notes += notes
            encoding = None if found.trivial else found
        problems.raise_all()
        return Understood(table, rule, labels, splits, ranks, encoding)

    def _training(self, others: Collection[int], seed: int) -> Dataset:
        """Return the data set of the training file, without the splits that other files have."""
        known = self.understand(others, seed)
        rule, labels, splits, ranks, encoding = known.rule, known.labels, known.splits, known.ranks, known.encoding
        names = self._columns.features if encoding is None else encoding.features
        table = self._encoded(known.table, encoding, labels.kept)
        standardization = Standardization.identity(len(names))
        if self._settings.standardize:
            standardization, constant = measure(table, names, splits)
            if constant:
                are = "is" if len(constant) == 1 else "are"
                note = f"In {table.name}, {column_word(constant)} {are} constant over the training rows"
                self._notes.append(f"{note} and can teach the model nothing")
        rows = self._place(table, names, splits, labels, standardization)
        here = splits == TRAIN
        suspicions = find_suspicions(
            stored_columns(rows[TRAIN].X, names, encoding, standardization),
            class_numbers(labels.y[here]),
            np.flatnonzero(here),
            targets=() if rule else self._columns.labels,
            classes=rule.names if rule else (),
        )
        time = self._shuffled_time(table, self._shares(others))
        return Dataset(
            train=rows[TRAIN],
            validation=rows.get(VALIDATION),
            test=rows.get(TEST),
            feature_names=names,
            label_names=("0", "1") if rule is None else rule.names,
            rule=rule,
            standardization=standardization,
            array_widths=self._array_widths(),
            encoding=encoding,
            targets=() if rule else self._columns.labels,
            warnings=(*(each.sentence for each in suspicions), *time),
            origins=self._origins(splits, labels.kept, ranks) if self._wants_origins else None,
        )

    def _split(
        self, table: Table, labels: Labels, rule: Rule | None, others: Collection[int], seed: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64] | None]:
        """Return each row's split, and its rank along the column that divides the rows, if one does."""
        along, classes = self._columns.along, ("",) if rule is None else rule.names
        shares = self._shares(others)
        if along is None:
            # Targets have their classes in other rows each: a split can follow none of them.
            y = labels.y if rule else np.zeros(table.rows, np.uint8)
            splits = stratified(y, labels.kept, shares, classes, seed)
            _require_all_classes(table.name, labels, splits, classes)
            return splits, None
        splits, note, ranks = split_along(along, table, labels.kept, shares, len(classes), seed)
        self._notes.append(note)
        _require_all_classes(table.name, labels, splits, classes, along.remedy)
        return splits, ranks

    def _shares(self, others: Collection[int]) -> dict[int, float]:
        """Return the fractions of the splits that have no file of their own."""
        shares = {VALIDATION: self._settings.split.validation, TEST: self._settings.split.test}
        return {split: share for split, share in shares.items() if split not in others}

    def _shuffled_time(self, table: Table, shares: Mapping[int, float]) -> tuple[str, ...]:
        """Return a warning where rows in the order of a date are split at random: a model that is tested on rows of
        before its own is in use never as good. Rows in another order have a note, for dates may be of birth."""
        asked = self._settings.dates
        split = self._columns.along is None and any(shares.values())
        if not (asked and split and isinstance(table, EncodedTable)):
            return ()
        remedy = "to test the model on later rows than its own, set data.time to {} in place of data.dates"
        for name in asked:
            seconds = table.seconds(name)
            steps = np.diff(seconds[seconds != NO_MOMENT])
            if len(steps) and max((steps >= 0).mean(), (steps <= 0).mean()) >= _SORTED and steps.any():
                return (f'rows are in the order of "{name}", and are split at random; {remedy.format(name)}',)
        first = next(iter(asked))
        self._notes.append(f"Rows have dates ({listing(asked)}) and are split at random; {remedy.format(first)}")
        return ()

    def _origins(self, splits: NDArray[np.uint8], kept: Mask, ranks: NDArray[np.int64] | None) -> RowOrigins:
        numbers, along = np.flatnonzero(splits == TRAIN) + 1, self._columns.along
        if ranks is None or along is None:
            return RowOrigins(numbers)
        return RowOrigins(numbers, ranks[splits[kept] == TRAIN], along.kind)

    def _other(self, split: int, file: TableFile, data: Dataset) -> Rows:
        """Return the rows of a file that are all of one split, read as the training file was."""
        reading = reading_by(self._settings) if data.encoding is None else reading_of(data.encoding)
        table = file.read(self._columns.features, self._columns.keys, reading)
        labels = self._labels(table, data.rule)
        table = self._encoded(table, data.encoding, labels.kept)
        if isinstance(table, EncodedTable):
            self._notes += [f"In {table.name}, {sentence}" for sentence in table.unknown]
        splits = np.where(labels.kept, split, DROPPED).astype(np.uint8)
        _require_all_classes(table.name, labels, splits, ("",) if data.targets else data.label_names)
        return self._place(table, data.feature_names, splits, labels, data.standardization)[split]

    def _label_mends(self, table: Table) -> dict[str, Any]:
        """Return the settings that mend the label, where it is one column."""
        return label_mends(table.column(self._columns.labels[0]), self._settings) if not self._settings.targets else {}

    def _label_place(self, table: Table) -> str:
        name = self._columns.labels[0]
        return f'label column "{name}" of {table.file_of(name)}'

    def _labels(self, table: Table, rule: Rule | None) -> Labels:
        if rule is None:
            Y = read_targets(table, self._columns.labels)
            labels = Labels(Y, np.asarray(~np.isnan(Y).all(axis=1)))
        else:
            column, place = table.column(self._columns.labels[0]), self._label_place(table)
            labels = apply_rule(rule, column, self._settings.label, place)
        if dropped := int((~labels.kept).sum()):
            self._unlabelled += dropped
            self._notes.append(f"Left out {dropped} of {table.rows} rows of {table.name}, which have no label")
        if self._columns.weight is None:
            return labels
        dtype = np.float64 if self._dtype == torch.float64 else np.float32
        return replace(labels, weights=read_weights(table, self._columns.weight, labels.kept, dtype))

    def _encoded(self, table: Table, encoding: Encoding | None, kept: Mask) -> Table:
        """Return a table of the features: another file's are made like the training file's.

        An error comes before any work on them where X would not fit into the memory.
        """
        names = self._columns.features if encoding is None else encoding.features
        require_room(int(kept.sum()), len(names), self._dtype, self._device, table.name)
        if encoding is not None:
            return EncodedTable(table, encoding, kept)
        table.require_numbers(names)
        return table

    def _place(
        self,
        table: Table,
        names: tuple[str, ...],
        splits: NDArray[np.uint8],
        labels: Labels,
        standardization: Standardization,
    ) -> dict[int, Rows]:
        tensors = place(table, names, splits, standardization, self._dtype, self._device)
        rows = {}
        for split, X in tensors.items():
            here = splits == split
            weights = None if labels.weights is None else torch.from_numpy(labels.weights[here]).to(self._device)
            number = None if split == TRAIN else np.flatnonzero(here) + 1
            rows[split] = Rows(X, torch.from_numpy(labels.y[here]).to(self._device), weights, number)
        return rows


def _require_all_classes(
    file: str, labels: Labels, splits: NDArray[np.uint8], class_names: tuple[str, ...], remedy: str = ""
) -> None:
    """Raise UserError for a split without a class: neither the balanced class weight nor a ROC curve means anything for
    one class. Of more than two classes a split that is not for training may lack some."""
    K = len(class_names)
    if K == 1:  # targets, each of which has classes of its own
        return
    for split in np.unique(splits[splits != DROPPED]):
        if K > 2 and split != TRAIN:
            continue
        here = splits == split
        counts = np.bincount(labels.y[here], minlength=K)
        weights = None if labels.weights is None else labels.weights[here]
        totals = np.bincount(labels.y[here], weights, minlength=K)
        if not totals.all():
            what = "rows of positive weight" if counts.all() else "rows"
            problem = f'the {NAMES[split]} rows have no {what} of the class "{class_names[int(np.argmin(totals))]}"'
            remedy = remedy or f"give {what} of {'both' if K == 2 else 'all'} classes"
            raise UserError(problem, setting=file, remedy=remedy)
