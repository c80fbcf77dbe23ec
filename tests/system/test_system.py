"""The sentences of errors, the file of --out, devices, and tables as text."""

import pickle
from pathlib import Path

import pytest
import torch

from flashlogit.config.data import FileData, Label
from flashlogit.config.load import load_settings
from flashlogit.data.loading import load
from flashlogit.system.console import aligned
from flashlogit.system.errors import UserError
from flashlogit.system.files import require_output
from flashlogit.system.memory import resolve_device

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (UserError("must be less than 0.5", setting="loss.eps", value=0.7, origin="override loss.eps=0.7"),
         "override loss.eps=0.7: loss.eps is 0.7; must be less than 0.5"),
        (UserError("cannot be read", setting=Path("rum.yaml"), remedy=". holds run.yaml"),
         "rum.yaml cannot be read; . holds run.yaml"),
        (UserError("exists", setting="--out", value=Path("a.csv")), '--out is "a.csv"; it exists'),
        (UserError("no", setting="a", origin="b", others=(UserError("nor this"),)), "b: a: no\nnor this"),
    ],
)  # fmt: skip
def test_sentences_of_errors(error: UserError, sentence: str) -> None:
    assert str(error) == sentence
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.problem, copy.setting, copy.origin) == (error.problem, error.setting, error.origin)


def test_sentences_of_settings_and_files(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        load_settings(Path(__file__).parents[2] / "configs/bce.yaml", ["loss.l2=-1"])
    assert str(caught.value) == "override loss.l2=-1: loss.l2 is -1; must be at least 0"
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n1,0\n")
    with pytest.raises(UserError) as caught:
        load(FileData(source="file", path=str(path), label=Label(column="bb")), seed=0, device=CPU)
    sentence = f'data.label.column is "bb"; {path} has no such column (did you mean "b"?); name one of "a" and "b"'
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a", '"a"'),
        ("a" * 200, f'"{"a" * 97}..."'),
        (None, "null"),
        (1e-9, "1e-09"),
        (Path("a/b"), '"a/b"'),
        ([True, "x", [1, [2, [3]]]], '[true, "x", [1, [...]]]'),
        ({"x": 3}, '{"x": 3}'),
    ],
)
def test_values_appear_as_in_a_config_file(value: object, shown: str) -> None:
    assert str(UserError("wrong", setting="s", value=value)) == f"s is {shown}; wrong"


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
    with pytest.raises(UserError, match="device or a pipe"):
        require_output(Path("/dev/null"), [""], overwrite=True)


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("auto") == resolve_device("cuda") == torch.device("cuda", 0)
    assert resolve_device("cuda:1") == torch.device("cuda", 1)
    assert resolve_device("cpu:0") == CPU
    with pytest.raises(UserError, match="torch sees 2 CUDA devices"):
        resolve_device("cuda:2")
    for name in ("tpu", "cuda:x", "meta", 3):
        with pytest.raises(UserError, match="must be auto"):
            resolve_device(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == CPU


def test_aligned() -> None:
    rows = [["name", "kind", "n"], ["a", "long", "10"], ["b", "did not run"]]
    assert aligned(rows, left=(0, 1)) == "name  kind   n\na     long  10\nb     did not run"
    assert aligned(rows[:2], gap=" ") == "name kind  n\na    long 10"
