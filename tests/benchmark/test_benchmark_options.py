"""What the programs refuse, before any work."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from flashlogit.benchmark.cli import main
from flashlogit.benchmark.options import COLUMNS, QUICK_COLUMNS, kernel_options
from flashlogit.benchmark.problem import CPU_ROWS, rows_for


@pytest.fixture(autouse=True)
def _no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(*args: object, **options: object) -> None:
        raise AssertionError("measured before the options were checked")

    monkeypatch.setattr("flashlogit.benchmark.kernel.run_kernel", work)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--columns", "0"], "--columns is 0"),
        (["--columns", "28", "-3"], "--columns is -3"),
        (["--columns", "9999999"], "--columns is 9999999"),
        (["--gigabytes", "-1"], "--gigabytes is -1"),
        (["--gigabytes", "0"], "--gigabytes is 0"),
        (["--gigabytes", "nan"], "--gigabytes is nan"),
        (["--gigabytes", "inf"], "--gigabytes is inf"),
        (["--gigabytes", "1e9"], "a quarter of its memory"),
        (["--repeats", "0"], "--repeats is 0"),
        (["--repeats", "-5"], "--repeats is -5"),
        (["--dtypes", "int8"], "--dtypes is 'int8'"),
        (["--dtypes", "float32", "float"], "--dtypes is 'float'"),
        (["--devices", "tpu"], "--devices is 'tpu'"),
        (["--picture", "roofline.jpg"], "ends in .png"),
    ],
)
def test_bad_values(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]):
    assert main(["kernel", "--devices", "cpu", *arguments]) == 2
    errors = capsys.readouterr().err
    assert said in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize("option", ["--out", "--picture"])
def test_files_that_cannot_be_written(option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "missing" / "a.png", tmp_path / "file" / "a.png"):
        assert main(["kernel", "--devices", "cpu", option, str(path)]) == 2
        assert f"{path.parent} is not a folder" in capsys.readouterr().err
    assert main(["kernel", "--devices", "cpu", option, str(tmp_path)]) == 2
    assert "which is a folder" in capsys.readouterr().err


def test_one_file_for_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = str(tmp_path / "a.png")
    assert main(["kernel", "--devices", "cpu", "--out", path, "--picture", path]) == 2
    assert "name two files" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(
    "arguments", [["kernel", "--devices", "cuda"], ["kernel", "--devices", "cpu", "cuda"]]
)
def test_a_gpu_that_is_not_there(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    assert main(arguments) == 2
    assert "torch sees no" in capsys.readouterr().err


def test_errors_come_through_with_debug():
    from flashlogit.system.errors import UserError

    with pytest.raises(UserError, match="--columns is 0"):
        main(["kernel", "--columns", "0", "--debug"])


def options(**changes: object):
    given: dict[str, object] = dict.fromkeys(
        ("devices", "columns", "dtypes", "gigabytes", "repeats", "out", "picture")
    )
    return kernel_options(**{"quick": False, **given, **changes})


def test_defaults():
    full, quick = options(devices=["cpu"]), options(devices=["cpu"], quick=True)
    assert full.columns == COLUMNS
    assert quick.columns == QUICK_COLUMNS
    assert full.scales["cpu"].dtypes == ("float32",)
    assert quick.scales["cpu"].gigabytes < full.scales["cpu"].gigabytes
    assert quick.scales["cpu"].repeats < full.scales["cpu"].repeats


def test_given_values_replace_defaults():
    found = options(devices=["cpu"], columns=[300, 28, 300], dtypes=["float64"], gigabytes=0.01, repeats=3)
    assert found.columns == (28, 300)
    scale = found.scales["cpu"]
    assert (scale.gigabytes, scale.dtypes, scale.repeats) == (0.01, ("float64",), 3)


def test_settings_hold_no_path(tmp_path: Path):
    found = options(devices=["cpu"], out=tmp_path / "out.json", picture=tmp_path / "a.png")
    assert str(tmp_path) not in str(found.to_json())


def test_rows():
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    for D in (1, 7, 32768):
        rows = rows_for(D, torch.bfloat16, 2.0, gpu)
        assert rows * D * 2 >= 2e9 > (rows - 1) * D * 2
    assert rows_for(1, torch.float32, 0.2, cpu) == CPU_ROWS
    assert rows_for(1 << 20, torch.float32, 1e-9, cpu) == 1
