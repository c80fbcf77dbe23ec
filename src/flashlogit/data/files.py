"""From a path to its table: the kind of file goes by the name's ending."""

from __future__ import annotations

from pathlib import Path

from flashlogit.data.arrow_files import open_csv, open_parquet
from flashlogit.data.numpy_files import NpyFile, NpzFile
from flashlogit.data.tables import TableFile
from flashlogit.errors import UserError

ENDINGS = (".csv", ".csv.gz", ".parquet", ".npy", ".npz")


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
    if ending == ".npz":
        return NpzFile(path, setting)
    return open_parquet(path, setting) if ending == ".parquet" else open_csv(path, setting)
