"""From a path to its table: the kind of file goes by the name's ending."""

from __future__ import annotations

import glob
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from flashlogit.data.arrow_files import open_csv, open_parquet
from flashlogit.data.many_files import open_many
from flashlogit.data.numpy_files import NpyFile, NpzFile
from flashlogit.data.svmlight import SvmlightFile
from flashlogit.data.tables import TableFile
from flashlogit.errors import UserError

ENDINGS = (".csv", ".csv.gz", ".csv.zip", ".parquet", ".npy", ".npz", ".svmlight", ".libsvm")
_IN_FOLDERS = (".parquet", ".csv", ".csv.gz", ".csv.zip")
_PACKAGE = "package:"


def open_files(paths: str | Path | Sequence[str], setting: str) -> TableFile:
    """Open one file, a list of files, a pattern such as `data/*.parquet`, or all files of a folder, as one table.

    `package:NAME/FILE` is a file within an installed package, which is not imported. Rows are in the order of the list,
    or of the files' names. Raises UserError as `open_file` does, and for files with other columns than the first.
    """
    opened = [open_file(file, setting) for file in named_files(paths, setting)]
    return opened[0] if len(opened) == 1 else open_many(opened, setting)


def named_files(paths: str | Path | Sequence[str], setting: str) -> list[Path]:
    """The files that `open_files` opens, in their order; UserError for a pattern, folder or package without any."""
    listed = [str(paths)] if isinstance(paths, str | Path) else [str(path) for path in paths]
    if not listed:
        raise UserError(f"{setting} is an empty list; name at least one file")
    return [file for path in listed for file in _expanded(path, setting)]


def _expanded(path: str, setting: str) -> list[Path]:
    """The files that a path means."""
    if path.startswith(_PACKAGE):
        return [_in_package(path, setting)]
    expanded = Path(path).expanduser()
    if expanded.is_dir():
        found = sorted(file for file in expanded.rglob("*") if _is_data(file, expanded))
        if not found:
            raise UserError(
                f'{setting} is "{path}", a folder without a file that ends in {", ".join(_IN_FOLDERS)};'
                " correct the path"
            )
        kinds = {".parquet" if file.name.lower().endswith(".parquet") else ".csv" for file in found}
        if len(kinds) > 1:
            raise UserError(
                f'{setting} is "{path}", a folder with both .csv and .parquet files; name the ones to read, as in'
                f' "{path}/*.parquet"'
            )
        return found
    if any(mark in path for mark in "*?[") and not expanded.exists():
        matches = sorted(Path(file) for file in glob.glob(str(expanded), recursive=True))
        if not matches:
            raise UserError(f'{setting} is "{path}", and no file is like that; correct the pattern')
        return matches
    return [expanded]


def _is_data(file: Path, folder: Path) -> bool:
    """Whether a file of a folder is one to read; Spark and others put markers beside them that begin with _"
    " or a dot."""
    hidden = any(part.startswith(("_", ".")) for part in file.relative_to(folder).parts)
    return file.is_file() and not hidden and file.name.lower().endswith(_IN_FOLDERS)


def _in_package(path: str, setting: str) -> Path:
    name, _, inside = path.removeprefix(_PACKAGE).partition("/")
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            f'{setting} is "{path}", and there is no package {name!r}; install it (pip install {name or "NAME"}; the'
            " examples' packages come with pip install 'flashlogit[examples]')"
        )
    return Path(next(iter(spec.submodule_search_locations))) / inside


def open_file(path: str | Path, setting: str) -> TableFile:
    """Open a data file far enough to know its columns' names. `setting` is what errors call the path by.

    Raises UserError for a file that is missing, of an unknown kind, empty or damaged, or whose columns have
    no usable names.
    """
    path = Path(path).expanduser()
    ending = next((ending for ending in ENDINGS if path.name.lower().endswith(ending)), None)
    if ending is None:
        raise UserError(
            f'{setting} is "{path}"; the name must end in {", ".join(ENDINGS[:-1])} or {ENDINGS[-1]}'
        )
    if path.is_dir():
        raise UserError(f'{setting} is "{path}", which is a folder; give a file')
    if not path.exists():
        raise UserError(
            f'{setting} is "{path}", and there is no such file; correct the path (it is relative to'
            f" {Path.cwd()})"
            if not path.is_absolute()
            else f'{setting} is "{path}", and there is no such file; correct the path'
        )
    if path.stat().st_size == 0:
        raise UserError(f'{setting} is "{path}", which is empty; give a file with data')
    if ending == ".npy":
        return NpyFile(path, setting)
    if ending in (".svmlight", ".libsvm"):
        return SvmlightFile(path, setting)
    if ending == ".npz":
        return NpzFile(path, setting)
    return open_parquet(path, setting) if ending == ".parquet" else open_csv(path, setting)
