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

_TEXT = (".csv", ".csv.gz", ".csv.zip", ".tsv", ".tsv.gz", ".tsv.zip")
_IN_FOLDERS = (".parquet", *_TEXT)
_SVMLIGHT = dict.fromkeys((".svmlight", ".libsvm"), SvmlightFile)
_OTHERS = {".parquet": open_parquet, ".npy": NpyFile, ".npz": NpzFile, **_SVMLIGHT}
_PACKAGE = "package:"


def open_files(paths: str | Path | Sequence[str], setting: str, reading: Reading = PLAIN) -> TableFile:
    """Open one file, a list of files, a pattern such as `data/*.parquet`, or all files of a folder, as one table.

    `package:NAME/FILE` is a file within an installed package, which is not imported. Rows are in the order of the list,
    or of the files' names. Errors call the path by `setting`, and `reading` has the separator of files of text.

    Raises UserError for a file that is missing, of an unknown kind, empty or damaged, or whose columns have no usable
    names, and for files that cannot be one table.
    """
    opened = [_open_file(file, setting, reading) for file in named_files(paths, setting)]
    return opened[0] if len(opened) == 1 else open_many(opened, setting)


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
            problem = f"a folder without a file that ends in {', '.join(_IN_FOLDERS)}"
            raise _unusable(path, setting, problem, "correct the path")
        if len({file.name.lower().endswith(".parquet") for file in found}) > 1:
            remedy = f'name the ones to read, as in "{path}/*.parquet"'
            raise _unusable(path, setting, "a folder with both .csv and .parquet files", remedy)
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


def _open_file(path: Path, setting: str, reading: Reading) -> TableFile:
    """Open a data file far enough to know its columns' names."""
    endings = (*_TEXT, *_OTHERS)
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
    return open_csv(path, setting, reading) if ending in _TEXT else _OTHERS[ending](path, setting)
