"""From a path to its table: the kind of file goes by the name's ending, and several files are one."""

from __future__ import annotations

import glob
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa

from ...system.errors import UserError
from .arrow import ArrowFile, open_parquet
from .csv import open_csv
from .labelled import LabelledFile
from .matrices import NpyFile, NpyLabels, NpzFile, SvmlightFile
from .names import ColumnNames
from .tables import PLAIN, Reading, TableFile
from .text import as_text, is_number, is_text, with_column, without_dictionary

_TEXT = (".csv", ".csv.gz", ".csv.zip", ".tsv", ".tsv.gz", ".tsv.zip")
_IN_FOLDERS = (".parquet", *_TEXT)
_SVMLIGHT = dict.fromkeys((".svmlight", ".libsvm"), SvmlightFile)
_OTHERS = {".parquet": open_parquet, ".npy": NpyFile, ".npz": NpzFile, **_SVMLIGHT}
_LABELS = {".parquet": open_parquet, ".npy": NpyLabels}
_PACKAGE = "package:"
_Kinds: TypeAlias = Mapping[str, Callable[[Path, str], TableFile]]


def open_files(
    paths: str | Path | Sequence[str],
    setting: str,
    reading: Reading = PLAIN,
    *,
    labels: str | Path | Sequence[str] | None = None,
    labels_setting: str = "data.labels",
) -> TableFile:
    """Open one file, a list of files, a pattern such as `data/*.parquet`, or all files of a folder, as one table.

    `package:NAME/FILE` is a file within an installed package, which is not imported. Rows are in the order of the list,
    or of the files' names. Errors call the path by `setting`, and `reading` has the separator of files of text.
    `labels`, called by `labels_setting`, are .csv, .parquet or .npy files whose rows are the labels, weights and ids of
    the rows of `paths`, all columns of which are then features.

    Raises UserError for a file that is missing, of an unknown kind, empty or damaged, or whose columns have no usable
    names, and for files that cannot be one table.
    """
    file = _open_all(paths, setting, reading, _OTHERS)
    return file if labels is None else LabelledFile(file, _open_all(labels, labels_setting, reading, _LABELS))


def _open_all(paths: str | Path | Sequence[str], setting: str, reading: Reading, kinds: _Kinds) -> TableFile:
    opened = [_open_file(file, setting, reading, kinds) for file in named_files(paths, setting)]
    return opened[0] if len(opened) == 1 else _open_many(opened, setting)


def named_files(paths: str | Path | Sequence[str], setting: str) -> list[Path]:
    """Return the files that `open_files` opens, in order; UserError for a pattern, folder or package without any."""
    listed = [str(paths)] if isinstance(paths, str | Path) else [str(path) for path in paths]
    if not listed:
        raise UserError("is an empty list", setting=setting, remedy="name at least one file")
    return [file for path in listed for file in _expanded(path, setting)]


def _expanded(path: str, setting: str) -> list[Path]:
    """Return the files that a path means."""
    if path.startswith(_PACKAGE):
        return [_in_package(path, setting)]
    try:
        expanded = Path(path).expanduser()
    except RuntimeError as error:
        raise _unusable(path, setting, "there is no such user's folder", "write the path in full") from error
    if _is_folder(expanded, setting):
        found = sorted(file for file in expanded.rglob("*") if _is_data(file, expanded))
        if not found:
            problem = f"is a folder without a file that ends in {', '.join(_IN_FOLDERS)}"
            raise _unusable(path, setting, problem, "correct the path")
        if len({file.name.lower().endswith(".parquet") for file in found}) > 1:
            remedy = f'name the ones to read, as in "{path}/*.parquet"'
            raise _unusable(path, setting, "is a folder with both .csv and .parquet files", remedy)
        return found
    if any(mark in path for mark in "*?[") and not expanded.exists():
        matches = sorted(Path(file) for file in glob.glob(str(expanded), recursive=True))
        if not matches:
            raise _unusable(path, setting, "no file is like that", "correct the pattern")
        return matches
    return [expanded]


def _unusable(path: str | Path, setting: str, problem: str, remedy: str) -> UserError:
    return UserError(problem, setting=setting, value=str(path), remedy=remedy)


def _is_folder(path: Path, setting: str) -> bool:
    """Return whether there is such a folder; UserError for a path that the system does not look at."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        remedy = "correct the path, or its permissions"
        raise _unusable(path, setting, f"it cannot be looked at ({reason})", remedy) from error
    return path.is_dir()


def _is_data(file: Path, folder: Path) -> bool:
    """Return whether a file of a folder is one to read; Spark and others put markers beside them that begin with _ or a
    dot."""
    hidden = any(part.startswith(("_", ".")) for part in file.relative_to(folder).parts)
    return file.is_file() and not hidden and file.name.lower().endswith(_IN_FOLDERS)


def _in_package(path: str, setting: str) -> Path:
    name, _, inside = path.removeprefix(_PACKAGE).partition("/")
    try:
        spec = importlib.util.find_spec(name) if name.isidentifier() else None
    except ValueError:  # such as __main__, which is imported but was not found anywhere
        spec = None
    if spec is None or not spec.submodule_search_locations:
        install = f"pip install {name or 'NAME'}; the examples' packages come with pip install 'flashlogit[examples]'"
        raise _unusable(path, setting, f"there is no package {name!r}", f"install it ({install})")
    return Path(next(iter(spec.submodule_search_locations))) / inside


def _open_file(path: Path, setting: str, reading: Reading, kinds: _Kinds) -> TableFile:
    """Open a data file far enough to know its columns' names."""
    endings = (*_TEXT, *kinds)
    ending = next((ending for ending in endings if path.name.lower().endswith(ending)), None)
    if ending is None:
        raise _unusable(path, setting, f"the name must end in {', '.join(endings)}", "give another file")
    if _is_folder(path, setting):
        raise _unusable(path, setting, "it is a folder", "give a file")
    if not path.exists():
        where = "" if path.is_absolute() else f" (it is relative to {Path.cwd()})"
        raise _unusable(path, setting, "there is no such file", f"correct the path{where}")
    if path.stat().st_size == 0:
        raise _unusable(path, setting, "it is empty", "give a file with data")
    return open_csv(path, setting, reading) if ending in _TEXT else kinds[ending](path, setting)


def _open_many(files: Sequence[TableFile], setting: str) -> TableFile:
    """Return the rows of all files, one after the other, with the columns that any of them has.

    UserError for files that are no tables, and on reading for one that lacks a column that is read.
    """
    parts = [file for file in files if isinstance(file, ArrowFile)]
    if len(parts) < len(files):
        other = next(file for file in files if not isinstance(file, ArrowFile))
        problem = f"among its {len(files)} files is {other.name}, and several files must be .csv or .parquet"
        raise UserError(problem, setting=setting, remedy="name that one alone")
    columns = tuple(dict.fromkeys(name for part in parts for name in part.features))
    named = ColumnNames(
        (),
        frozenset().union(*(part.left_out for part in parts)).difference(columns),
        {other: names for part in reversed(parts) for other, names in part.also.items()},
        tuple(dict.fromkeys(note for part in parts for note in part.notes)),
    )
    typed = all(part.typed for part in parts)

    def read(names: list[str], reading: Reading) -> pa.Table:
        for part in parts:
            part.require(names, (), setting)
        tables = [_decoded(part.read_arrow(names, reading), reading.text) for part in parts]
        mixed = {name for name in names if len({_kind(table, name) for table in tables} - {"null"}) > 1}
        if mixed and not typed:
            # As in one file of text that had all these values.
            reading = replace(reading, text=reading.text | mixed)
            tables = [_decoded(part.read_arrow(names, reading), reading.text) for part in parts]
        joined = [_joined(name, [table.column(name) for table in tables], parts, setting) for name in names]
        return pa.table(joined, names=names)

    name = f"{parts[0].name} and {len(parts) - 1} more file{'s' if len(parts) > 2 else ''}"
    vectors = {name: names for part in reversed(parts) for name, names in part.vectors.items()}
    return ArrowFile(name, columns, read, typed=typed, vectors=vectors, named=named)


def _decoded(table: pa.Table, text: frozenset[str]) -> pa.Table:
    """Return the table without dictionaries, which differ from file to file, and with the columns `text` as text."""
    for field in table.schema:
        column = without_dictionary(table.column(field.name))
        if field.name in text and not is_text(column.type):
            column = as_text(column, f'column "{field.name}"')
        table = with_column(table, field.name, column)
    return table


def _kind(table: pa.Table, name: str) -> str:
    """Return what a column is: kinds that differ from file to file do not go together."""
    kind = table.schema.field(name).type
    return "number" if is_number(kind) else "text" if is_text(kind) else str(kind)


def _joined(name: str, columns: Sequence[pa.ChunkedArray], parts: Sequence[ArrowFile], setting: str) -> pa.ChunkedArray:
    """Return a column's rows of all files, true and false as 1 and 0 where another file has numbers."""
    kinds = {column.type for column in columns if not pa.types.is_null(column.type)}
    as_number = [column.cast(pa.int8()) if column.type == pa.bool_() else column for column in columns]
    tables = [pa.table([column], names=[name]) for column in (as_number if len(kinds) > 1 else columns)]
    try:
        return pa.concat_tables(tables, promote_options="permissive").column(0)
    except pa.ArrowException as error:
        first = columns[0].type
        other, part = next((c.type, p) for c, p in zip(columns, parts, strict=True) if c.type != first)
        problem = f'column "{name}" is {first} in {parts[0].name} and {other} in {part.name}'
        raise UserError(problem, setting=setting, remedy="give it the same kind of values in all files") from error
