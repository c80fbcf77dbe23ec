"""Models, checkpoints and histories as files: those of 0.1.0, damaged ones, and ones that a stranger wrote."""

from __future__ import annotations

import copy
import itertools
import json
import operator
import shutil
from collections.abc import Callable, Iterator
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from run_files import contents, made
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from flashlogit import LogisticRegression
from flashlogit.commands.main import main
from flashlogit.data.columns.encoding import Codes
from flashlogit.models.model import Model, raw_coefficients
from flashlogit.system.errors import UserError
from flashlogit.system.safetensors_file import write_safetensors
from flashlogit.training.checkpoint import Checkpoint

EARLIER = Path(__file__).parent / "written_by_0_1_0"
"""Two runs on table.csv, as version 0.1.0 left them: by mini-batches, of two classes, and by a solver, of three."""
WAYS = pytest.mark.parametrize("way", ["batches", "solver"])
LOAD = {"model": Model.load, "checkpoint": Checkpoint.load}
KINDS = pytest.mark.parametrize("kind", LOAD)


def with_checksum(path: Path, tensors: dict[str, Any], content: Any) -> None:
    """A file as this version writes it, whatever is in it."""
    write_safetensors(path, tensors, kind=path.stem, content=content)


def as_0_1_0(path: Path, tensors: dict[str, Any], content: Any) -> None:
    """A file as 0.1.0 wrote it, whatever is in it."""
    parts = {key: json.dumps(value) for key, value in content.items()}
    if path.stem == "checkpoint":
        parts = {"state": json.dumps(content)}
    save_file(tensors, path, metadata={"format": f"flashlogit-{path.stem}-1", **parts})


def parts(kind: str, way: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tensors and JSON of a file of 0.1.0."""
    path = EARLIER / way / f"{kind}.safetensors"
    with safe_open(path, framework="numpy") as file:
        content = {key: json.loads(value) for key, value in file.metadata().items() if key != "format"}
    return load_file(path), content["state"] if kind == "checkpoint" else content


def places(value: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The keys that lead to everything within a JSON value."""
    if place:
        yield place
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inside:
        yield from places(item, (*place, key))


def changed(content: Any, place: tuple[str | int, ...], value: Any) -> Any:
    """A copy with another value in a place."""
    content = copy.deepcopy(content)
    reduce(operator.getitem, place[:-1], content)[place[-1]] = value
    return content


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Goes on with a run of 0.1.0 in tmp_path, and gives the exit code."""
    shutil.copytree(EARLIER, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)

    def resume(way: str, *arguments: str) -> int:
        # The last digits of the columns' statistics may be another processor's.
        saved = parts("checkpoint", way)[1]["origin"]["the data's fingerprint"]
        monkeypatch.setattr("flashlogit.runs.results.fingerprint", lambda dataset: saved)
        longer = "training.epochs=6" if way == "batches" else "solver.max_iterations=200"
        return main(["train", "--config", f"{way}/run.yaml", "--quiet", longer, *arguments])

    return resume


@WAYS
def test_models_of_0_1_0_predict_as_they_did(way, tmp_path):
    given = ["--model", str(EARLIER / way), "--data", str(EARLIER / "table.csv")]
    assert main(["predict", *given, "--out", str(tmp_path / "p.csv")]) == 0
    predicted, expected = (pd.read_csv(folder) for folder in (tmp_path / "p.csv", EARLIER / way / "predictions.csv"))
    pd.testing.assert_frame_equal(predicted, expected, rtol=1e-12)
    assert main(["evaluate", *given, "--label", "kind" if way == "batches" else "group"]) == 0


@WAYS
def test_runs_of_0_1_0_go_on(way, tmp_path, run):
    earlier = (tmp_path / way / "history.jsonl").read_text().splitlines()
    assert run(way, "--resume") == 0
    rows = (tmp_path / way / "history.jsonl").read_text().splitlines()
    assert rows[: len(earlier)] == earlier
    assert len(rows) > len(earlier)
    assert run(way, "name=whole") == 0
    resumed, whole = Model.load(tmp_path / way), Model.load(tmp_path / "whole")
    # The solver ends where its gap is below 1e-6, which two ways there do not do in the same point.
    np.testing.assert_allclose(resumed.weight, whole.weight, atol=2e-3 if way == "solver" else 1e-6)


@WAYS
@KINDS
def test_equal_contents_are_equal_bytes(kind, way, tmp_path):
    LOAD[kind](EARLIER / way / f"{kind}.safetensors").save(tmp_path / "first")
    LOAD[kind](tmp_path / "first").save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "first").read_bytes()


@WAYS
@KINDS
def test_no_flipped_bit_and_no_missing_byte_is_overlooked(kind, way, tmp_path):
    load, path = LOAD[kind], tmp_path / "file.safetensors"
    load(EARLIER / way / f"{kind}.safetensors").save(path)
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    step = 1 + len(whole) // 80
    places = [*range(0, header, step), *range(header, len(whole), step), len(whole) - 1]
    flipped = [whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :] for place in places]
    for damaged in [*flipped, *(whole[:size] for size in range(0, len(whole), 2 * step)), whole + b"\0"]:
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"file\.safetensors"):
            load(path)


def test_a_file_without_its_checksum_is_not_one_of_0_1_0(tmp_path):
    Model.load(EARLIER / "batches").save(tmp_path / "m")
    with safe_open(tmp_path / "m", framework="numpy") as file:
        ((key, text),) = file.metadata().items()
    about = json.loads(text)
    del about["checksum"]
    save_file(load_file(tmp_path / "m"), tmp_path / "m", metadata={key: json.dumps(about)})
    with pytest.raises(UserError):
        Model.load(tmp_path / "m")


@WAYS
def test_a_model_with_another_value_is_refused_or_can_be_used(way, tmp_path):
    tensors, content = parts("model", way)
    path, refused = tmp_path / "model.safetensors", 0
    values = (None, True, -1, 0.5, 1.0, 1e308, 10**30, float("nan"), "a", ["a", "a"], [0], [10**30], {})
    for place, value in itertools.product(places(content), values):
        as_0_1_0(path, tensors, changed(content, place, value))
        try:
            model = Model.load(path)
        except UserError:
            refused += 1
            continue
        assert len({*model.feature_names}) == len(content["feature_names"])
        assert len({*map(str.strip, model.label_names)}) == len(content["label_names"])
        assert np.isfinite([*map(np.sum, model.raw())]).all()
        assert (model.standardization.scale > 0).all()
        assert (0 <= model.eps < 0.5, 0 < model.threshold < 1, type(model.threshold)) == (True, True, float)
        assert all(0 < width < 2**31 for width in model.array_widths)
    assert refused > 200


BAD_TENSORS: list[dict[str, Any]] = [
    {"weight": np.ones((1, 7), np.float32)},
    {"weight": np.full((1, 5), np.nan, np.float32)},
    {"bias": np.full(1, np.inf, np.float32)},
    {"weight": np.full((1, 5), 1e308)},
    {"weight": np.ones((1, 5), np.float16)},
    {"more": np.zeros(1, np.float32)},
]
BAD_HEADERS: list[dict[str, Any]] = [
    {"standardization": {"mean": [0.0] * 5, "scale": [0.0] * 5}},
    {"standardization": {"mean": [0.0] * 5, "scale": [5e-324] * 5}},
    {"standardization": {"mean": [0.0] * 5, "scale": [1.0]}},
    {"feature_names": ["a", "e", "b", "c", "d"]},
    {"feature_names": ["a", "b", "c", "d", "d"], "encoding": None},
    {"label_names": ["a"], "rule": None},
    {"label_names": ["a", "b"]},
    {"encoding": [{"kind": "date", "name": "a"}]},
    {"encoding": {"columns": [], "separator": "ab"}},
    {"rule": {"kind": "values", "names": ["no", "yes"], "values": [["a", 0], ["b", 2]]}},
    {"rule": {"kind": "values", "names": ["no", "yes"], "values": [[1, 0], [1.0, 1]]}},
    {"rule": {"kind": "values", "names": ["no", "yes"], "values": [[[], 0], ["b", 1]]}},
    {"rule": {"kind": "above", "above": float("nan")}},
    {"more": 1},
]


@pytest.mark.parametrize("write", [with_checksum, as_0_1_0])
def test_a_model_of_parts_that_do_not_fit_is_refused(write, tmp_path):
    tensors, content = parts("model", "batches")
    path = tmp_path / "model.safetensors"
    write(path, tensors, content)
    Model.load(path)
    damaged = [(tensors | bad, content) for bad in BAD_TENSORS] + [(tensors, content | bad) for bad in BAD_HEADERS]
    for each in damaged:
        write(path, *each)
        with pytest.raises(UserError, match=r"model\.safetensors"):
            Model.load(path)


@pytest.mark.parametrize("text", ["[" * 9000 + "]" * 9000, "9" * 9000, "{", '"\\ud800"', ""])
def test_a_header_of_odd_json_is_refused(text, tmp_path):
    tensors, content = parts("model", "batches")
    metadata = {key: json.dumps(value) for key, value in content.items()} | {"rule": text}
    save_file(tensors, tmp_path / "m", metadata={"format": "flashlogit-model-1", **metadata})
    with pytest.raises(UserError):
        Model.load(tmp_path / "m")


@pytest.mark.parametrize(("dtype", "width"), [("BF16", 2), ("F8_E4M3", 1), ("U64", 8), ("C64", 8), ("none", 4)])
def test_a_tensor_of_a_dtype_that_numpy_lacks_is_refused(dtype, width, tmp_path):
    header = json.dumps({"weight": {"dtype": dtype, "shape": [4], "data_offsets": [0, 4 * width]}}).encode()
    (tmp_path / "m").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4 * width))
    for load in LOAD.values():
        with pytest.raises(UserError):
            load(tmp_path / "m")


@pytest.mark.parametrize("text", ["", '{"run": [1]}', '{"run": {"iterations": 1e99}}', "[" * 9000])
def test_metrics_that_say_nothing_do_not_keep_a_model_from_loading(text, tmp_path):
    shutil.copy(EARLIER / "solver" / "model.safetensors", tmp_path)
    (tmp_path / "metrics.json").write_text(text)
    loaded = LogisticRegression.load(tmp_path)
    assert loaded.n_iter_.tolist() == [1]
    assert not hasattr(loaded, "gap_")
    (tmp_path / "metrics.json").write_text('{"run": {"iterations": 7, "relative_gap": 0.5}}')
    loaded = LogisticRegression.load(tmp_path)
    assert (loaded.n_iter_.tolist(), loaded.gap_) == ([7], 0.5)


@pytest.mark.parametrize("names", ["0 1", "-1 1", "01 1", "1_0 10", "1" * 30 + " 2"])
def test_labels_that_are_written_as_whole_numbers_become_numbers(names, tmp_path):
    made(np.ones(1), labels=names.split()).save(tmp_path / "m")
    kind = int if names in ("0 1", "-1 1") else str
    assert raw_coefficients(tmp_path / "m").classes.tolist() == sorted(map(kind, names.split()))


@pytest.mark.parametrize("K", [2, 3])
def test_a_logit_beyond_all_numbers_is_refused(K):
    weight = np.array([[1e300, -1e300], [1.0, 1.0], [0.0, 0.0]])
    model = made(weight[0] if K == 2 else weight, labels="abc"[:K])
    assert np.isfinite(model.logits(Codes.of(np.array([[1e5, 2e5]])))).all()
    for row in ([1e10, 1e10], [1e9, 0.0]):
        with pytest.raises(UserError):
            model.logits(Codes.of(np.array([row])))


BAD_PROGRESS: list[tuple[str, list[str | int], list[Any]]] = [
    ("batches", ["progress"], [{}]),
    ("batches", ["progress", "epoch"], ["4", -1, 10**30, 0]),
    ("batches", ["progress", "history_length"], [2.5, 0, 9]),
    ("batches", ["progress", "best"], [None]),
    ("batches", ["progress", "best", "epoch"], [99]),
    ("batches", ["origin"], [[]]),
    ("batches", ["origin", "seed"], [[[]]]),
    ("batches", ["advance"], [{}]),
    ("solver", ["progress"], [{}]),
    ("solver", ["origin", "data"], [None]),
]


BAD_STATES: list[tuple[str, str, list[Callable[[Any], Any]]]] = [
    ("batches", "weight", [lambda t: t[:-1], lambda t: t * np.float32(np.inf)]),
    ("batches", "best.bias", [lambda t: t[None], lambda t: None]),
    ("batches", "generator", [lambda t: t[:-1], lambda t: t * 0 + 255, lambda t: t.astype(np.float32)]),
    ("batches", "optimizer.0.exp_avg", [lambda t: None]),
    ("batches", "optimizer.1.step", [lambda t: np.array(-1, np.float32)]),
    ("batches", "optimizer.x.y", [lambda t: np.zeros(1, np.float32)]),
    ("solver", "weight", [lambda t: t[:, :-1].copy(), lambda t: t * np.nan]),
]


@pytest.mark.parametrize("write", [with_checksum, as_0_1_0])
def test_a_checkpoint_of_another_state_is_refused(write, tmp_path, run, capsys):
    saved = {way: parts("checkpoint", way) for way in ("batches", "solver")}
    damaged = []
    for way, place, values in BAD_PROGRESS:
        damaged += [(way, saved[way][0], changed(saved[way][1], place, value)) for value in values]
    for way, name, changes in BAD_STATES:
        others = [saved[way][0] | {name: change(saved[way][0].get(name))} for change in changes]
        damaged += [(way, {k: v for k, v in other.items() if v is not None}, saved[way][1]) for other in others]
    for way, tensors, content in damaged:
        write(tmp_path / way / "checkpoint.safetensors", tensors, content)
        before = contents(tmp_path / way)
        assert run(way, "--resume") == 2, (way, content["progress"], tensors)
        assert f"error: {way}/checkpoint.safetensors" in capsys.readouterr().err
        assert before.items() <= contents(tmp_path / way).items()


@pytest.mark.parametrize(
    "damage",
    [
        lambda history: history.replace(b"}\n", b"\n", 1),
        lambda history: history.replace(b'"epoch": 3', b'"epoch": "3"'),
        lambda history: history.replace(b'"lr"', b'"lp"', 1),
        lambda history: history.replace(b'"epoch"', b'"epoc"'),
        lambda history: b"[" * 9000 + b"\n" + history,
        lambda history: b"\xff" + history,
        lambda history: history[:300],
    ],
)
def test_a_damaged_history_is_refused_and_kept(damage, tmp_path, run):
    path = tmp_path / "batches" / "history.jsonl"
    damaged = damage(path.read_bytes())
    path.write_bytes(damaged)
    assert run("batches", "--resume") == 2
    assert path.read_bytes() == damaged
