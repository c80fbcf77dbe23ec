"""From a path to its table: the kind of file goes by the name's ending."""

from __future__ import annotations

import glob
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from ...system.errors import UserError
from .arrow import open_parquet
from .csv import open_csv
from .many import open_many
from .numpy import NpyFile, NpzFile
from .reading import PLAIN, Reading
from .svmlight import SvmlightFile
from .tables import TableFile

ENDINGS = (
    ".csv",
    ".csv.gz",
    ".csv.zip",
    ".tsv",
    ".tsv.gz",
    ".tsv.zip",
    ".parquet",
    ".npy",
    ".npz",
    ".svmlight",
    ".libsvm",
)
_IN_FOLDERS = (".parquet", ".csv", ".csv.gz", ".csv.zip", ".tsv", ".tsv.gz", ".tsv.zip")
_PACKAGE = "package:"


def open_files(paths: str | Path | Sequence[str], setting: str, reading: Reading = PLAIN) -> TableFile:
    """Open one file, a list of files, a pattern such as `data/*.parquet`, or all files of a folder, as one table.

    `package:NAME/FILE` is a file within an installed package, which is not imported. Rows are in the order of the list,
    or of the files' names. Raises UserError as `open_file` does, and for files that cannot be one table.
    """
    opened = [open_file(file, setting, reading) for file in named_files(paths, setting)]
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
    expanded = _expand_user(path, setting)
    if _is_folder(expanded, setting):
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


def _expand_user(path: str | Path, setting: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(
            f'{setting} is "{path}", and there is no such user\'s folder; write the path in full'
        ) from error


def _is_folder(path: Path, setting: str) -> bool:
    """Whether there is such a folder; UserError for a path that the system does not look at."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        shown = text if len(text := str(path)) <= 100 else f"{text[:97]}..."
        raise UserError(
            f'{setting} is "{shown}", which cannot be looked at ({reason}); correct the path, or its permissions'
        ) from error
    return path.is_dir()


def _is_data(file: Path, folder: Path) -> bool:
    """Whether a file of a folder is one to read; Spark and others put markers beside them that begin with _ or a
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
        raise UserError(
            f'{setting} is "{path}", and there is no package {name!r}; install it (pip install {name or "NAME"}; the'
            " examples' packages come with pip install 'flashlogit[examples]')"
        )
    return Path(next(iter(spec.submodule_search_locations))) / inside


def open_file(path: str | Path, setting: str, reading: Reading = PLAIN) -> TableFile:
    """Open a data file far enough to know its columns' names. `setting` is what errors call the path by, and
    `reading` has the separator of files of text.

    Raises UserError for a file that is missing, of an unknown kind, empty or damaged, or whose columns have
    no usable names.
    """
    path = _expand_user(path, setting)
    ending = next((ending for ending in ENDINGS if path.name.lower().endswith(ending)), None)
    if ending is None:
        raise UserError(
            f'{setting} is "{path}"; the name must end in {", ".join(ENDINGS[:-1])} or {ENDINGS[-1]}'
        )
    if _is_folder(path, setting):
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
    if ending == ".parquet":
        return open_parquet(path, setting)
    return open_csv(path, setting, reading)
