"""`predict --data -`: rows of a pipe, answered one by one."""

from __future__ import annotations

import csv
import io
import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from run_files import made

from flashlogit.models.predictor import Predictor
from flashlogit.runs.streaming import predict_stream
from flashlogit.system.errors import UserError

COMMAND = [sys.executable, "-m", "flashlogit", "predict", "--data", "-", "--model"]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    made([2.0, -1.0], "xz").save(tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors"


@pytest.fixture
def answer(model: Path) -> Callable[..., tuple[str, tuple[int, int]]]:
    """What is written for the text that comes in."""

    def answer_to(text: str, ids: tuple[str, ...] = (), threshold: float | None = None):
        out = io.StringIO()
        counts = predict_stream(model, io.BytesIO(text.encode()), out, id_columns=ids, threshold=threshold)
        return out.getvalue(), counts

    return answer_to


def test_csv(answer, model):
    for text in ('\ufeffz , id,x\n1,=a,"2"\n\n,b,3\n4,c\n1,d,2\n', "z;id;x\r\n1;=a;2\r\n;b;3\r\n4;c\r\n1;d;2\r\n"):
        written, counts = answer(text, ("id",))
        rows = list(csv.DictReader(io.StringIO(written)))
        assert list(rows[0]) == ["id", "probability", "prediction", "error"]
        assert [row["id"] for row in rows] == ["'=a", "b", "c", "d"]
        p = Predictor.load(model).probability({"x": 2, "z": 1})
        assert [float(rows[i]["probability"]) for i in (0, 3)] == [p, p]
        assert [row["prediction"] for row in rows] == ["1", "", "", "1"]
        assert [bool(row["error"]) for row in rows] == [False, True, True, False]
        assert "2 fields" in rows[2]["error"]
        assert counts == (4, 2)


def test_json_lines(answer):
    written, counts = answer(
        '{"x": 1, "z": 2, "id": [1]}\n\n{"x": 1}\n{"x\n[1]\n{"x": 0, "z": 3, "id": null}\n', ("id",), 0.9
    )
    found = [json.loads(line) for line in written.splitlines()]
    assert found[0] == {"id": [1], "probability": 0.5, "prediction": "0"}
    assert [list(each) for each in found[1:4]] == [["error"]] * 3
    assert (found[4]["id"], counts) == (None, (5, 3))


def test_what_no_row_can_mend_is_refused_at_once(answer):
    for text, words in (
        ("", "no rows"),
        ("x,y\n1,2\n", 'lacks "z", which the model needs'),
        ("x,z\n1,2\n", 'lacks "id"'),
    ):
        with pytest.raises(UserError, match=words):
            answer(text, ("id",))
    with pytest.raises(UserError, match="--threshold"):
        answer("x,z\n1,2\n", threshold=2.0)


def test_each_row_is_answered_before_the_next_comes(model):
    with subprocess.Popen([*COMMAND, str(model)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        process.stdin.write("x,z\n1,2\n")
        process.stdin.flush()
        assert process.stdout.readline() == '"probability","prediction","error"\n'
        assert process.stdout.readline() == '0.5,"1",""\n'
        process.stdin.write("1,a\n")
        process.stdin.flush()
        answer = next(csv.reader([process.stdout.readline()]))
        assert answer[:2] == ["", ""]
        assert answer[2].startswith('"z" of the record is "a"')
        process.stdin.close()
        assert process.wait(20) == 2


def test_options_that_do_not_go_together(model):
    for options in (["--out", "p.csv"], ["more.csv"]):
        done = subprocess.run(
            [*COMMAND[:-1], *options, "--model", str(model)], input="x,z\n", capture_output=True, text=True
        )
        assert done.returncode == 2
        assert "-" in done.stderr


def test_lines_above_the_header_and_columns_without_a_name(answer):
    for text in ("# made by hand\n\nz,,x\n1,u,2\n", "sep=|\nz||x\n1|u,v|2\n", '\ufeff"sep=;"\r\nz;;x\r\n1;u;2\r\n'):
        rows = list(csv.DictReader(io.StringIO(answer(text, ("column 2",))[0])))
        assert rows[0]["column 2"][0] == "u"
        assert float(rows[0]["probability"]) > 0.9


def test_columns_of_one_name_are_those_of_a_file(answer):
    rows = list(csv.DictReader(io.StringIO(answer("x,z,x\n2,1,9\n", ("x (2)",))[0])))
    assert rows[0]["x (2)"] == "9"
    assert float(rows[0]["probability"]) == pytest.approx(1 / (1 + math.exp(-3)))
