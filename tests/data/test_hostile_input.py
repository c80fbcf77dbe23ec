"""Input that someone else wrote: formulas for spreadsheets, sequences for terminals, settings beyond reason."""

from __future__ import annotations

import gzip
import io
import struct
import sys
import time
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

from flashlogit.commands.main import run_command
from flashlogit.config.load import load_settings
from flashlogit.data.files.open import open_files
from flashlogit.data.files.text import safe_cells
from flashlogit.system.console import Output, Parser, binary_stdout, complain, visible
from flashlogit.system.errors import UserError

SYNTHETIC = "name: a\ndata: {source: synthetic, rows: 200, columns: 3}\nreport: {html: false}\n"
MANY = 5_000


def test_cells_that_a_spreadsheet_would_run():
    run = ["=1+1", "+x", "-x", "@sum", "\tx", "\rx", "＝1", "-1.5e3x", "'=1", "''@x", "-"]
    text = ["a", "", "-1.5", "+2", " =1", "'x", "a=1", "-1e5", None]
    columns = {"=n": run + text, "x": np.full(20, -1.5), "d": pa.array(["@"] * 20).dictionary_encode()}
    safe = safe_cells(pa.table(columns))
    assert safe.column_names == ["'=n", "x", "d"]
    assert safe.column(0).to_pylist() == [f"'{cell}" for cell in run] + text
    assert safe.column(1).to_pylist() == [-1.5] * 20
    assert safe.column(2).to_pylist() == ["'@"] * 20


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on columns and categories of such names."""
    folder = tmp_path_factory.mktemp("hostile")
    rng = np.random.default_rng(0)
    x, kinds, noise = rng.normal(size=120), rng.integers(0, 2, 120), rng.normal(size=120)
    rows = [f"{x[i]:.3f},{('-a', '+b')[kinds[i]]},id{i},{int(x[i] + noise[i] > 0)}\n" for i in range(120)]
    (folder / "d.csv").write_text("=cmd|' /C calc'!A0,\x1b]0;owned\x07,@id,y\n" + "".join(rows))
    config = f"name: r\noutput: {folder}\ndata: {{source: file, path: {folder}/d.csv, drop: ['@id']}}\n"
    (folder / "c.yaml").write_text(config + "solver: {name: auto}\nloss: {l2: 0.01}\nreport: {html: false}\n")
    assert run_command("train", ["--config", str(folder / "c.yaml"), "--quiet"]) == 0
    return folder


def test_files_that_a_run_writes(run):
    names = pyarrow.csv.read_csv(run / "r/coefficients.csv").column("column").to_pylist()
    assert names[0] == "'=cmd|' /C calc'!A0"
    arguments = ["--model", f"{run}/r", "--data", f"{run}/d.csv", "--id", "@id", "--quiet", "--out"]
    assert run_command("predict", [*arguments, f"{run}/p.csv"]) == 0
    assert (run / "p.csv").read_text().splitlines()[0] == '"\'@id","probability","prediction"'
    assert run_command("predict", [*arguments, f"{run}/p.parquet"]) == 0
    assert pa.parquet.read_schema(run / "p.parquet").names[0] == "@id"


def test_control_characters_are_written_out():
    assert visible("a\x1b[31m\r\x00\x7f\x9b\u202e\n\té€") == "a\\x1b[31m\\r\\x00\\x7f\\x9b\\u202e\n\té€"


def test_everything_that_is_said_is_visible(run, capsys):
    output = Output(quiet=False, json=False)
    output.say("\x1b[1m")
    output.warn("\x1b[2m")
    output.answer("\x1b[3m", {})
    complain("\x1b[4m")
    with pytest.raises(SystemExit):
        Parser(prog="p").parse_args(["\x1b[5m"])
    config = ["--config", str(run / "c.yaml"), "--overwrite"]
    assert run_command("train", config) == 0
    for each in ("data.drop=[@id, \x1b[6m]", "data.label.column=\x1b[7m"):
        assert run_command("train", [*config, each]) == 2
    assert run_command("train", ["--config", "\x1b[8m"]) == 2
    said = "".join(capsys.readouterr())
    assert "\x1b" not in said
    assert "\\x1b]0;owned\\x07" in said
    assert all(f"\\x1b[{k}m" in said for k in range(1, 9))


def test_results_on_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stdout", Terminal())
    pyarrow.csv.write_csv(pa.table({"a": ["\x1b[1mé"]}), binary_stdout())
    assert sys.stdout.getvalue() == '"a"\n"\\x1b[1mé"\n'


LISTS = "".join(f"k{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 40))


@pytest.mark.parametrize(
    ("text", "overrides"),
    [
        (SYNTHETIC + "".join(f"key{i}: 1\n" for i in range(MANY)), []),
        (SYNTHETIC, [f"data.key{i}=1" for i in range(MANY)]),
        (SYNTHETIC, [f"seed=-{i}" for i in range(1, MANY)]),
        (f"name: a\ndata: {{source: file, path: x, drop: [{', '.join(['[]'] * MANY)}]}}\n", []),
        (SYNTHETIC + "loss: " + "[" * 20_000, []),
        ("name: " + "[" * 200 + "]" * 200 + "\ndata: {source: synthetic}\n", []),
        (SYNTHETIC, ["name." + ".".join("a" * MANY) + "=1"]),
        (f"k0: &a0 [x]\n{LISTS}name: *a39\ndata: {{source: file, path: *a39}}\n", []),
        (SYNTHETIC + f"seed: 0x{'f' * 100_000}\n", []),
    ],
    ids=["keys", "overrides", "one_override", "items", "deep", "nested", "path", "aliases", "digits"],
)
def test_time_and_words_stay_in_proportion(tmp_path, text, overrides):
    (tmp_path / "c.yaml").write_text(text)
    start = time.process_time()
    with pytest.raises(UserError) as caught:
        load_settings(tmp_path / "c.yaml", overrides)
    assert time.process_time() - start < 8  # a second or two; much more where pairs are compared
    assert len(str(caught.value)) < 10_000


@pytest.mark.parametrize(
    "override",
    [
        *(f"training.optimizer={{name: {each}}}" for each in ("adam, lr: 1e300", "adamw, weight_decay: 1e300")),
        *(f"loss.class_weight={{negative: {each}}}" for each in ("1e300", "5e-324", "1e-7, positive: 1e7")),
        *(f"{each}=1e300" for each in ("loss.l2", "data.signal", "training.epochs")),
        *("training.optimizer={name: sgd, lr: 1e39}", "training.schedule={name: cosine, final_lr: 1e300}"),
        *("data.rows=1e18", "data.columns=1e18", f"data.rows=1{'0' * 400}", "data.intercept=-1e300"),
        *('output="a\\0b"', "name=a\udcffb", 'data={source: file, path: "a\\0b"}'),
    ],
)
def test_settings_beyond_reason(tmp_path, capsys, override):
    (tmp_path / "c.yaml").write_text(SYNTHETIC)
    assert run_command("train", ["--config", str(tmp_path / "c.yaml"), f"output={tmp_path}", override]) == 2
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize(
    "override",
    [
        "training.optimizer={name: adamw, lr: 1e18, weight_decay: 1e18}",
        "loss.class_weight={negative: 1e-12, positive: 1}",
        "data.signal=1e6",
    ],
)
def test_settings_at_their_bounds(tmp_path, override):
    """They may diverge, and say so."""
    (tmp_path / "c.yaml").write_text(SYNTHETIC + "training: {epochs: 1}\n")
    assert run_command("train", ["--config", str(tmp_path / "c.yaml"), f"output={tmp_path}", override]) in (0, 2)


def test_options_with_a_nul(capsys):
    for option in ("--model", "--data", "--out"):
        given = {"--model": "m", "--data": "d.csv", "--out": "o.csv"} | {option: "a\0b"}
        with pytest.raises(SystemExit) as ended:
            run_command("predict", [each for pair in given.items() for each in pair])
        assert ended.value.code == 2
        assert "a\\x00b has a NUL" in capsys.readouterr().err


SHAPES = "(-5, 5)", "(-5, -5)", "(1, 10000000000)"


@pytest.mark.parametrize(
    "header",
    [
        *(f"{{'descr': '<f8', 'shape': {shape}, 'fortran_order': False}}".encode() for shape in SHAPES),
        b"{'descr': '<f8', 'shape': (5, 5), 'fortran_order': False (",
        b"{'descr': 'O', 'shape': (5, 5), 'fortran_order': False}",
        *(b"-" * 9000, b"\xff" * 50),
    ],
)
def test_headers_of_arrays(tmp_path, header):
    array = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + b"\0" * 400
    (tmp_path / "d.npy").write_bytes(array)
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("X.npy", array)
    for name in ("d.npy", "d.npz"):
        with pytest.raises(UserError):
            open_files(str(tmp_path / name), "data.path")


@pytest.mark.parametrize("ending", ["npy", "npz", "csv.gz", "csv.zip", "svmlight"])
def test_damaged_files(tmp_path, ending):
    """Either they are read or refused in a sentence."""
    rng, path = np.random.default_rng(0), tmp_path / f"d.{ending}"
    X, text = rng.normal(size=(50, 3)), "a,b,y\n" + "".join(f"{i},{i * 2},{i % 2}\n" for i in range(50))
    if ending == "npy":
        np.save(path, X)
    elif ending == "npz":
        np.savez_compressed(path, X=X, y=np.arange(50), feature_names=np.array(["a", "b", "c"]))
    elif ending == "csv.zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("d.csv", text)
    elif ending == "csv.gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text("".join(f"{i % 2} 1:{i} 3:2\n" for i in range(50)))
    whole = path.read_bytes()
    refused = 0
    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(rng.integers(1, 4)):
            damaged[rng.integers(len(damaged))] = rng.integers(256)
        path.write_bytes(damaged[: rng.integers(len(damaged) + 1)] if rng.random() < 0.2 else damaged)
        try:
            file = open_files(str(path), "data.path")
            file.read(file.features[:3], file.keys[:1])
        except UserError:
            refused += 1
    assert refused > 5
