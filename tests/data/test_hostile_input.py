"""Input that someone else wrote: formulas for spreadsheets, sequences for terminals, settings beyond reason, damaged
files, and files that unpack to more than the free memory, which is looked at before it is taken."""

import gc
import io
import struct
import sys
import time
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest
from refused import refused

from flashlogit.commands.main import run_command
from flashlogit.config.load import load_settings
from flashlogit.data.files.open import open_files
from flashlogit.data.files.text import safe_cells
from flashlogit.system import machine
from flashlogit.system.console import Output, Parser, binary_stdout, complain, visible
from flashlogit.system.errors import UserError

SYNTHETIC = "name: a\ndata: {source: synthetic, rows: 200, columns: 3}\nreport: {html: false}\n"
MANY = 2_000


def test_cells_that_a_spreadsheet_would_run():
    run = ["=1+1", "+x", "-x", "@sum", "\tx", "\rx", "＝1", "-1.5e3x", "'=1", "''@x", "-"]
    text = ["a", "", "-1.5", "+2", " =1", "'x", "a=1", "-1e5", None]
    columns = {"=n": run + text, "x": np.full(20, -1.5), "d": pa.array(["@"] * 20).dictionary_encode()}
    safe = safe_cells(pa.table(columns)).to_pydict()
    assert safe == {"'=n": [f"'{cell}" for cell in run] + text, "x": [-1.5] * 20, "d": ["'@"] * 20}


def test_a_run_on_such_names(tmp_path, capsys):
    """Its columns and categories begin like formulas, and one column would rename the terminal's window."""
    rows = [f"{i * 7 % 10},{('-a', '+b')[i % 3 % 2]},id{i},{int(i * 3 % 11 > 4)}\n" for i in range(120)]
    (tmp_path / "d.csv").write_text("=cmd|' /C calc'!A0,\x1b]0;owned\x07,@id,y\n" + "".join(rows))
    config = f"name: r\noutput: {tmp_path}\ndata: {{source: file, path: {tmp_path}/d.csv, drop: ['@id']}}\n"
    (tmp_path / "c.yaml").write_text(config + "solver: {name: auto}\nloss: {l2: 0.01}\nreport: {html: false}\n")
    assert run_command("train", ["--config", f"{tmp_path}/c.yaml"]) == 0
    for arguments in (["data.drop=[@id, \x1b[6m]"], ["data.label.column=\x1b[7m"]):
        assert run_command("train", ["--config", f"{tmp_path}/c.yaml", "--overwrite", *arguments]) == 2
    said = "".join(capsys.readouterr())
    assert "\x1b" not in said
    assert all(each in said for each in ("\\x1b]0;owned\\x07", "\\x1b[6m", "\\x1b[7m"))
    assert csv.read_csv(tmp_path / "r/coefficients.csv").column("column")[0].as_py() == "'=cmd|' /C calc'!A0"
    predict = ["--model", f"{tmp_path}/r", "--data", f"{tmp_path}/d.csv", "--id", "@id", "--quiet", "--out"]
    assert run_command("predict", [*predict, f"{tmp_path}/p.csv"]) == 0
    assert (tmp_path / "p.csv").read_text().splitlines()[0] == '"\'@id","probability","prediction"'
    assert run_command("predict", [*predict, f"{tmp_path}/p.parquet"]) == 0
    assert pq.read_schema(tmp_path / "p.parquet").names[0] == "@id"


def test_everything_that_is_said_is_visible(capsys):
    assert visible("a\x1b[31m\r\x00\x7f\x9b\u202e\n\té€") == "a\\x1b[31m\\r\\x00\\x7f\\x9b\\u202e\n\té€"
    output = Output(quiet=False, json=False)
    output.say("\x1b[1m")
    output.warn("\x1b[2m")
    output.answer("\x1b[3m", {})
    complain("\x1b[4m")
    with pytest.raises(SystemExit):
        Parser(prog="p").parse_args(["\x1b[5m"])
    said = "".join(capsys.readouterr())
    assert "\x1b" not in said
    assert all(f"\\x1b[{k}m" in said for k in range(1, 6))


def test_results_on_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stdout", Terminal())
    csv.write_csv(pa.table({"a": ["\x1b[1mé"]}), binary_stdout())
    assert sys.stdout.getvalue() == '"a"\n"\\x1b[1mé"\n'


LISTS = "".join(f"k{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 40))
LONG = {
    "keys": (SYNTHETIC + "".join(f"key{i}: 1\n" for i in range(MANY)), []),
    "overrides": (SYNTHETIC, [f"data.key{i}=1" for i in range(MANY)]),
    "one override": (SYNTHETIC, [f"seed=-{i}" for i in range(1, MANY)]),
    "deep": (SYNTHETIC + "loss: " + "[" * 5_000, []),
    "path": (SYNTHETIC, ["name." + ".".join("a" * MANY) + "=1"]),
    "aliases": (f"k0: &a0 [x]\n{LISTS}name: *a39\ndata: {{source: file, path: *a39}}\n", []),
    "digits": (SYNTHETIC + f"seed: 0x{'f' * 100_000}\n", []),
}


@pytest.mark.parametrize("what", LONG)
def test_time_and_words_stay_in_proportion(tmp_path, what):
    text, overrides = LONG[what]
    (tmp_path / "c.yaml").write_text(text)
    start = time.process_time()
    with pytest.raises(UserError) as caught:
        load_settings(tmp_path / "c.yaml", overrides)
    assert time.process_time() - start < 15  # half a second; much more where pairs are compared
    assert len(str(caught.value)) < 10_000


def train(folder, *overrides):
    (folder / "c.yaml").write_text(SYNTHETIC + "training: {epochs: 1}\n")
    return run_command("train", ["--config", str(folder / "c.yaml"), f"output={folder}", *overrides])


BEYOND = [
    *(f"training.optimizer={{name: {each}}}" for each in ("adam, lr: 1e300", "sgd, lr: 1e39")),
    *(f"loss.class_weight={{negative: {each}}}" for each in ("5e-324", "1e-7, positive: 1e7")),
    *("loss.l2=1e300", "data.rows=1e18", f"data.rows=1{'0' * 400}", "data.intercept=-1e300"),
    *('output="a\\0b"', "name=a\udcffb", 'data={source: file, path: "a\\0b"}'),
]


@pytest.mark.parametrize("override", BEYOND)
def test_settings_beyond_reason(tmp_path, capsys, override):
    assert train(tmp_path, override) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_settings_at_their_bounds(tmp_path):
    """They may diverge, and say so."""
    optimizer = "training.optimizer={name: adamw, lr: 1e18, weight_decay: 1e18}"
    assert train(tmp_path, "loss.class_weight={negative: 1e-12, positive: 1}", optimizer) in (0, 2)


@pytest.mark.parametrize("option", ["--model", "--data", "--out"])
def test_options_with_a_nul(option, capsys):
    with pytest.raises(SystemExit, match="2"):
        run_command("predict", ["--model", "m", "--data", "d.csv", "--out", "o.csv", option, "a\0b"])
    assert "a\\x00b has a NUL" in capsys.readouterr().err


SHAPES = "(-5, 5)", "(-5, -5)", "(1, 10000000000)"
HEADERS = [
    *(f"{{'descr': '<f8', 'shape': {shape}, 'fortran_order': False}}".encode() for shape in SHAPES),
    b"{'descr': '<f8', 'shape': (5, 5), 'fortran_order': False (",
    *(b"-" * 9000, b"\xff" * 50),
]


@pytest.mark.parametrize("header", HEADERS)
def test_headers_of_arrays(tmp_path, header):
    array = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + b"\0" * 400
    (tmp_path / "d.npy").write_bytes(array)
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("X.npy", array)
    for name in ("d.npy", "d.npz"):
        with pytest.raises(UserError):
            open_files(str(tmp_path / name), "data.path")


@pytest.mark.parametrize("name", ["d.npy", "d.npz", "d.csv.gz", "d.csv.zip", "d.svmlight"])
def test_damaged_files(tmp_path, name, write):
    """Either they are read or refused in a sentence."""
    rng, path = np.random.default_rng(0), tmp_path / name
    text, line = ("", "{1} 1:{0} 3:2\n") if "svm" in name else ("a,b,y\n", "{0},{0}.5,{1}\n")
    text += "".join(line.format(i, i % 2) for i in range(50))
    write(name, {"X": rng.normal(size=(50, 3)), "y": np.arange(50)} if ".np" in name else text)
    whole, errors = path.read_bytes(), 0
    for _ in range(50):
        damaged = bytearray(whole)
        for _ in range(rng.integers(1, 4)):
            damaged[rng.integers(len(damaged))] = rng.integers(256)
        path.write_bytes(damaged[: rng.integers(len(damaged) + 1)] if rng.random() < 0.2 else damaged)
        try:
            file = open_files(str(path), "data.path")
            file.read(file.features[:3], file.keys[:1])
        except UserError:
            errors += 1
    assert errors > 5


@pytest.fixture
def free(monkeypatch):
    """Sets the free memory, in bytes, less what Arrow takes from then on."""

    def set_free(size):
        gc.collect()  # what other tests have left must not be given back meanwhile
        before = pa.total_allocated_bytes()
        left = lambda: size - (pa.total_allocated_bytes() - before)  # noqa: E731
        monkeypatch.setattr("flashlogit.system.machine.free_bytes", left)
        monkeypatch.setattr("flashlogit.data.files.arrow.free_bytes", left)

    return set_free


def read(path):
    file = open_files(str(path), "data.path")
    return file.read(file.features, file.keys)


@pytest.mark.parametrize("name", ["d.csv", "d.csv.gz", "d.csv.zip", "d.npz"])
def test_what_unpacks_to_more_than_there_is(free, monkeypatch, write, name):
    monkeypatch.setattr("flashlogit.data.files.csv._BLOCK_BYTES", 1 << 15)
    content, words = "a,b,y\n" + "1,2,0\n0,1,1\n" * 50_000, ["unpacks to"]  # 0.6 MB, and as a table 2.4 MB
    if name == "d.npz":
        content, words = {"X": np.zeros((10_000, 100))}, ['array "X" of shape [10000, 100]', "8.0 MB"]
    path = write(name, content)
    free(2_000_000)
    with refused(*words):
        read(path)
    free(200_000_000)
    assert read(path).rows == (10_000 if name == "d.npz" else 100_000)


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


def test_room_of_control_groups(tmp_path, monkeypatch):
    """Both versions of Linux's interface, a limit of a group above, and one that a container calls the root."""
    monkeypatch.setattr(machine, "_OWN_GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(machine, "_GROUPS", tmp_path)
    monkeypatch.setattr(machine, "_available", lambda: 10**15)
    (tmp_path / "job/step").mkdir(parents=True)
    (tmp_path / "memory").mkdir()
    for groups, files, free in (
        ("", {}, 10**15),
        ("0::/job/step\n3:cpu:/x\n", {"job/step/memory.max": "max\n"}, 10**15),
        ("0::/job/step\n", {"job/memory.max": "5000\n", "job/memory.current": "3000\n"}, 2000),
        ("0::/job/step\n", {"job/memory.stat": "anon 7\ninactive_file 500\n"}, 2500),
        ("4:memory:/elsewhere\n", {"memory/memory.limit_in_bytes": "900\n"}, 900),
        ("4:memory:/elsewhere\n", {"memory/memory.usage_in_bytes": "100\n"}, 800),
    ):
        for name, text in {"cgroup": groups, **files}.items():
            (tmp_path / name).write_text(text)
        assert machine.free_bytes() == free
