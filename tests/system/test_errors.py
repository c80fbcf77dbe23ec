"""The sentences of errors, each made from fields: these five are pinned as wholes, elsewhere tests look at fields."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from flashlogit.commands.main import main
from flashlogit.config.load import load_settings
from flashlogit.system.errors import UserError

BCE = Path(__file__).parents[2] / "configs/bce.yaml"


def test_of_a_setting() -> None:
    with pytest.raises(UserError) as caught:
        load_settings(BCE, ["loss.eps=0.7"])
    assert str(caught.value) == "override loss.eps=0.7: loss.eps is 0.7; must be less than 0.5"


def test_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run.yaml").touch()
    with pytest.raises(UserError) as caught:
        load_settings(Path("rum.yaml"))
    assert str(caught.value) == "rum.yaml: cannot be read: No such file or directory; . holds run.yaml"


def test_of_a_column() -> None:
    error = UserError("is a column of text", setting="data.weight", value="name", remedy="name a column of numbers")
    assert str(error) == 'data.weight is "name"; is a column of text; name a column of numbers'


def test_of_a_package() -> None:
    error = UserError("needs tensorboard", setting="report.tensorboard", value=True, remedy="pip install tensorboard")
    assert str(error) == "report.tensorboard is true; needs tensorboard; pip install tensorboard"


def test_of_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "fit"]) == 2
    said = "error: the benchmarks are in the source tree; run python scripts/benchmark.py there\n"
    assert capsys.readouterr() == ("", said)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a", '"a"'),
        ("a" * 200, f'"{"a" * 97}..."'),
        (None, "null"),
        (1e-9, "1e-09"),
        (Path("a/b"), "a/b"),
        ([True, "x", [1, [2, [3]]]], '[true, "x", [1, [...]]]'),
        ({"x": 3}, '{"x": 3}'),
    ],
)
def test_values_appear_as_in_a_config_file(value: object, shown: str) -> None:
    assert str(UserError("wrong", setting="s", value=value)) == f"s is {shown}; wrong"


def test_fields_survive_a_pickle_and_others_have_lines() -> None:
    error = UserError("no", setting=Path("a"), origin="b", others=(UserError("nor this"),))
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.problem, copy.setting, copy.origin, copy.args) == ("no", "a", "b", ("no",))
    assert str(error) == "b: a: no\nnor this"
