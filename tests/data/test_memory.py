"""What a file unpacks to is checked against the free memory before it is taken."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest
import torch
from refused import refused

from flashlogit.config.data import SyntheticData
from flashlogit.data import load
from flashlogit.data.files.open import open_files
from flashlogit.system import memory

CPU = torch.device("cpu")


@pytest.fixture
def free(monkeypatch):
    """Sets the free memory, in bytes, less what Arrow takes from then on."""

    def set_free(size):
        before = pa.total_allocated_bytes()
        left = lambda device=None: size - (pa.total_allocated_bytes() - before)  # noqa: E731
        monkeypatch.setattr("flashlogit.system.memory.free_bytes", left)
        monkeypatch.setattr("flashlogit.data.files.arrow.free_bytes", left)

    return set_free


def read(path):
    file = open_files(str(path), "data.path")
    return file.read(file.features, file.keys)


@pytest.mark.parametrize("name", ["d.csv", "d.csv.gz", "d.csv.zip"])
def test_text_that_unpacks_to_more_than_there_is(free, monkeypatch, write, name):
    monkeypatch.setattr("flashlogit.data.files.csv._OPTIONS", csv.ReadOptions(block_size=1 << 16))
    text = "a,b,y\n" + "1,2,0\n0,1,1\n" * 100_000  # 1.2 MB, and as a table 4.8 MB
    path = write(name, text)
    free(4 << 20)
    with refused("unpacks to"):
        read(path)
    free(40 << 20)
    assert read(path).rows == 200_000


def test_arrays_of_an_archive(tmp_path, free):
    np.savez_compressed(tmp_path / "d.npz", X=np.zeros((10_000, 100)), y=np.arange(10_000) % 2)
    free(6 << 20)
    with refused('array "X" of shape [10000, 100]', "8.0 MB"):
        read(tmp_path / "d.npz")
    free(20 << 20)
    assert read(tmp_path / "d.npz").rows == 10_000


@pytest.mark.parametrize(("value", "N"), [(1.5, 12_500_000), ("a" * 1000, 100_000)])
def test_repeated_values_of_a_parquet_file(tmp_path, free, value, N):
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(N, np.int32)), pa.array([value]))
    column = column if isinstance(value, str) else column.cast(pa.float64())
    pq.write_table(pa.table({"x": column}), tmp_path / "d.parquet", store_schema=False)
    assert (tmp_path / "d.parquet").stat().st_size < 1 << 20
    del column
    free(60 << 20)  # the column takes 100 MB
    before = pa.total_allocated_bytes()
    with refused("unpacks to 0.1 GB"):
        read(tmp_path / "d.parquet")
    assert pa.total_allocated_bytes() - before < 10 << 20


def test_many_values_of_a_category(learn, free, monkeypatch):
    text = "c,y\n" + "".join(f"v{i},{i % 2}\n" for i in range(1000))
    free(2 << 20)  # X of 1000 x 1000 takes 4 MB
    monkeypatch.setattr("flashlogit.data.loading.measure", lambda *_: pytest.fail("X was looked at"))
    with refused("X of 1,000 rows and 1,000 columns", "takes 4.0 MB"):
        learn(text, categories={"min_rows": 1, "max": 1_000_000})


def test_a_file_of_libsvm_is_never_dense(tmp_path):
    (tmp_path / "d.svmlight").write_text("1 2:5 50000:1\n0 3:2\n" * 150)
    table = read(tmp_path / "d.svmlight")
    blocks = [block for _, block in table.blocks([f"x{j}" for j in range(1, 50_001)])]
    assert max(block.nbytes for block in blocks) <= 64 << 20
    assert sum(map(len, blocks)) == 300
    assert table.column("x2").to_pylist() == [5.0, 0.0] * 150
    assert table.block(["x50000", "x3"], 0, 2).tolist() == [[1, 0], [0, 2]]


@pytest.mark.parametrize(("rows", "columns"), [(10**15, 28), (10, 10**15)])
def test_synthetic_data_that_fit_nowhere(rows, columns):
    settings = SyntheticData(source="synthetic", rows=rows, columns=columns)
    with refused(" GB of memory"):
        load(settings, seed=0, device=CPU)


def test_room_of_control_groups(tmp_path, monkeypatch):
    """Both versions of Linux's interface, a limit of a group above, and one that a container calls the root."""
    own = tmp_path / "cgroup"
    monkeypatch.setattr(memory, "_OWN_GROUPS", own)
    monkeypatch.setattr(memory, "_GROUPS", tmp_path)
    monkeypatch.setattr(memory, "_available", lambda: 10**15)
    (tmp_path / "job/step").mkdir(parents=True)
    (tmp_path / "memory").mkdir()
    for groups, files, free in (
        ("", {}, 10**15),
        ("0::/job/step\n3:cpu:/x\n", {"job/step/memory.max": "max\n"}, 10**15),
        (None, {"job/memory.max": "5000\n", "job/memory.current": "3000\n"}, 2000),
        (None, {"job/memory.stat": "anon 7\ninactive_file 500\n"}, 2500),
        ("4:memory:/elsewhere\n", {"memory/memory.limit_in_bytes": "900\n"}, 900),
        (None, {"memory/memory.usage_in_bytes": "100\n"}, 800),
    ):
        if groups is not None:
            own.write_text(groups)
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        assert memory.free_bytes() == free
