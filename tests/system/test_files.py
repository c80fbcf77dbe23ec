"""What is asked before any work: the file of --out, the device; and tables as text."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from flashlogit.system.console import aligned
from flashlogit.system.errors import UserError
from flashlogit.system.files import require_output
from flashlogit.system.memory import resolve_device


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("model.txt", "must end in .onnx or .pkl"),
        ("nowhere/model.onnx", "folder that does not exist"),
        ("there.onnx", "exists"),
        ("folder.onnx", "is a folder"),
        ("/proc/model.onnx", "cannot be written"),
    ],
)
def test_files_that_are_not_written(name: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "there.onnx").write_text("kept")
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(UserError) as caught:
        require_output(tmp_path / name, [".onnx", ".pkl"], overwrite=False)
    assert (caught.value.setting, caught.value.value) == ("--out", tmp_path / name)
    assert problem in caught.value.problem
    assert caught.value.remedy
    assert (tmp_path / "there.onnx").read_text() == "kept"


def test_files_that_are_written(tmp_path: Path) -> None:
    (tmp_path / "there.pkl").write_text("kept")
    require_output(tmp_path / "there.pkl", [".onnx", ".pkl"], overwrite=True)
    require_output(tmp_path / "NEW.ONNX", [".onnx", ".pkl"], overwrite=False)
    assert [each.name for each in tmp_path.iterdir()] == ["there.pkl"]


def test_a_pipe_is_not_written() -> None:
    with pytest.raises(UserError, match="device or a pipe"):
        require_output(Path("/dev/null"), [""], overwrite=True)


@pytest.mark.parametrize("name", ["tpu", "cuda:x", "meta", 3])
def test_devices_that_there_are_none_of(name: str) -> None:
    with pytest.raises(UserError, match="must be 'auto'") as caught:
        resolve_device(name)
    assert (caught.value.setting, caught.value.value) == ("device", name)


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("auto") == resolve_device("cuda") == torch.device("cuda", 0)
    assert resolve_device("cuda:1") == torch.device("cuda", 1)
    assert resolve_device("cpu:0") == torch.device("cpu")
    with pytest.raises(UserError, match="torch sees 2 CUDA devices"):
        resolve_device("cuda:2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == torch.device("cpu")


def test_aligned() -> None:
    rows = [["name", "kind", "n"], ["a", "long", "10"], ["b", "did not run"]]
    assert aligned(rows, left=(0, 1)) == "name  kind   n\na     long  10\nb     did not run"
    assert aligned(rows[:2], gap=" ") == "name kind  n\na    long 10"
