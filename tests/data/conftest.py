"""One data set, written in every kind of file.

pyarrow and flashlogit's settings are imported by the fixtures: a conftest cannot be skipped where a package is missing.
"""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

if TYPE_CHECKING:
    from flashlogit.data.dataset import Dataset


@pytest.fixture
def numbers() -> tuple[np.ndarray, np.ndarray]:
    """X [200, 3] float64 and y [200], 0 or 1, about a third of them 1."""
    rng = np.random.default_rng(0)
    X = rng.normal([0.0, 5.0, -100.0], [1.0, 0.1, 30.0], size=(200, 3))
    y = (rng.random(200) < 1 / 3).astype(np.int64)
    return X, y


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Write columns (or text, for CSV) to a file of the kind its name says; returns the path."""

    def write_file(name: str, columns: dict[str, Any] | str) -> str:
        path = tmp_path / name
        if isinstance(columns, str):
            data = columns.encode()
            if name.endswith(".zip"):
                with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
                    archive.writestr("d.csv", data)
            else:
                path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        elif name.endswith(".npz"):
            np.savez(path, **columns)
        elif name.endswith(".npy"):
            np.save(path, np.column_stack(list(columns.values())))
        else:
            import pyarrow as pa
            from pyarrow import csv, parquet

            table = pa.table(columns)
            if name.endswith(".parquet"):
                parquet.write_table(table, path, row_group_size=64)
            else:
                with pa.output_stream(str(path)) as out:  # packed as its name says
                    csv.write_csv(table, out)
        return str(path)

    return write_file


@pytest.fixture
def load_file() -> Callable[..., Dataset]:
    """Load a file on the CPU with seed 0; settings of FileData by keyword."""
    from flashlogit.config.data import FileData
    from flashlogit.data.loading import load

    def load_with(path: str, seed: int = 0, **settings: Any) -> Dataset:
        return load(FileData(source="file", path=path, **settings), seed=seed, device=torch.device("cpu"))

    return load_with


@pytest.fixture
def learn(write: Callable[..., str], load_file: Callable[..., Dataset]) -> Callable[..., Dataset]:
    """Load what it writes, all of it for training, each value a category, and nothing standardised."""
    more = {"categories": {"min_rows": 1}, "split": {"validation": 0, "test": 0}, "standardize": False}

    def learn_from(columns: dict[str, Any] | str, name: str = "d.csv", **settings: Any) -> Dataset:
        return load_file(write(name, columns), **more | settings)

    return learn_from
