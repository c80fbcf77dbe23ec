"""Whole runs through the command line's entry point: what they leave, and that stopped ones go on unharmed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from flashlogit.commands.shell import train_main
from flashlogit.config.load import load_settings
from flashlogit.data import load
from flashlogit.models.model import Model
from flashlogit.runs.directory import PICTURE_FILES
from flashlogit.runs.results import column_deviation
from flashlogit.training.checkpoint import Checkpoint
from flashlogit.training.trainer import Trainer

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
BCE = str(CONFIGS / "bce.yaml")
SMALL = [
    "training.epochs=6",
    "training.checkpoint_every=2",
    "training.early_stopping.patience=100",
    "report.html=false",  # a second of drawing
]


@pytest.fixture
def train(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Train bce.yaml into tmp_path; gives what was printed."""

    def run(*arguments: str, config: str = BCE, code: int = 0) -> str:
        assert train_main(["--config", config, f"output={tmp_path}", *arguments]) == code
        captured = capsys.readouterr()
        return captured.err if code else captured.out

    return run


def read_history(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in ("seconds", "rows_per_second")} for row in rows]


def test_the_default_run_is_good_and_leaves_everything(train: Callable[..., str], tmp_path: Path) -> None:
    printed = train()
    folder = tmp_path / "bce"
    assert {file.name for file in folder.iterdir()} == {
        "config.yaml",
        "history.jsonl",
        "model.safetensors",
        "metrics.json",
        "coefficients.csv",
        "curves.png",
        "report.html",
        "pictures",
        "checkpoint.safetensors",
        ".lock",
    }
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["test"]["roc_auc"] >= 0.99
    assert set(metrics) == {"train", "validation", "test", "intervals", "run"}
    assert len(read_history(folder)) == metrics["run"]["epochs"] >= metrics["run"]["kept_epoch"]
    assert matplotlib.image.imread(folder / "curves.png").ndim == 3
    lines = printed.splitlines()
    assert lines[0] == "backend: torch on cpu (the data are on cpu)"
    assert lines[1].startswith("data: 399 train, 85 validation, 85 test rows, 30 columns; 37.1%")
    assert re.match(r"test +85 ", lines[-2])
    assert lines[-1] == f"results: {folder}"


def test_the_resolved_config_trains_the_same_run_again(train: Callable[..., str], tmp_path: Path) -> None:
    train(*SMALL)
    first = read_history(tmp_path / "bce")
    train("name=again", config=str(tmp_path / "bce" / "config.yaml"))
    assert read_history(tmp_path / "again") == first


def test_the_model_file_is_a_linear_layer_with_its_context(train: Callable[..., str], tmp_path: Path) -> None:
    train(*SMALL, "report.threshold=0.3", "loss.eps=1e-6")
    path = tmp_path / "bce" / "model.safetensors"
    torch.nn.Linear(30, 1).load_state_dict(load_file(path))
    with safe_open(path, framework="pt") as file:
        (value,) = file.metadata().values()
    about = json.loads(value)["content"]
    assert about["feature_names"][0] == "mean radius"
    assert about["label_names"] == ["benign", "malignant"]
    assert len(about["standardization"]["mean"]) == len(about["standardization"]["scale"]) == 30
    assert about["eps"] == 1e-6
    assert about["threshold"] == 0.3


def test_metrics_are_those_of_the_model_file_on_the_raw_rows(
    train: Callable[..., str], tmp_path: Path
) -> None:
    from sklearn.datasets import load_breast_cancer

    train(*SMALL)
    model = Model.load(tmp_path / "bce")
    data = load_breast_cancer()
    accuracy = np.mean((model.logits(data.data) >= 0) == (data.target == 0))
    metrics = json.loads((tmp_path / "bce" / "metrics.json").read_text())
    rows = sum(metrics[split]["rows"] for split in ("train", "validation", "test"))
    by_split = (
        sum(metrics[s]["accuracy"] * metrics[s]["rows"] for s in ("train", "validation", "test")) / rows
    )
    assert rows == 569
    assert accuracy == pytest.approx(by_split)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
@pytest.mark.parametrize("config", ["bce.yaml", "synthetic.yaml"])
def test_configs_run_small_in_every_storage_dtype(
    config: str, dtype: str, train: Callable[..., str], tmp_path: Path
) -> None:
    small = ["data.rows=2000"] if config == "synthetic.yaml" else []
    train("training.epochs=2", f"data.dtype={dtype}", "name=small", *small, config=str(CONFIGS / config))
    metrics = json.loads((tmp_path / "small" / "metrics.json").read_text())
    assert metrics["test"]["roc_auc"] > 0.6


def test_own_file_config_runs_on_a_table_of_its_kind(train: Callable[..., str], tmp_path: Path) -> None:
    """own_file.yaml names a file and columns that only its reader has; here a table with those names stands in."""
    config = CONFIGS / "own_file.yaml"
    settings = load_settings(config).data
    assert settings.source == "file"
    generator = np.random.default_rng(0)
    X = generator.normal(size=(300, 3))
    label = np.where(X[:, 0] + generator.normal(size=300) > 0, 1, 0)
    names = ["a", "b", "c", str(settings.label.column), *map(str, settings.drop)]
    columns = [*X.T, label, *(np.zeros(300) for _ in settings.drop)]
    if settings.weight is not None:
        names, columns = [*names, str(settings.weight)], [*columns, np.ones(300)]
    path = tmp_path / "table.csv"
    np.savetxt(path, np.column_stack(columns), delimiter=",", header=",".join(names), comments="")
    train(f"data.path={path}", "training.epochs=3", "name=own", config=str(config))
    assert json.loads((tmp_path / "own" / "metrics.json").read_text())["train"]["roc_auc"] > 0.6


def test_every_config_of_mini_batch_training_is_run_by_a_test_here() -> None:
    trained = {file.name for file in CONFIGS.glob("*.yaml") if load_settings(file).solver is None}
    assert trained == {"bce.yaml", "synthetic.yaml", "own_file.yaml"}


@pytest.mark.parametrize("class_weight", ["balanced", "{negative: 1.0, positive: 3.0}"])
def test_class_weights_move_the_decision(
    class_weight: str, train: Callable[..., str], tmp_path: Path
) -> None:
    common = ["data.intercept=-2.0", "data.rows=3000", "training.epochs=20", "training.batch_size=128"]
    config = str(CONFIGS / "synthetic.yaml")
    train("name=plain", *common, config=config)
    train("name=weighted", f"loss.class_weight={class_weight}", *common, config=config)
    plain, weighted = (Model.load(tmp_path / name).bias[0] for name in ("plain", "weighted"))
    assert weighted > plain + 0.5


def test_triton_backend_in_the_interpreter_trains_like_torch(
    train: Callable[..., str], tmp_path: Path
) -> None:
    pytest.importorskip("triton")
    if os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip("the kernels run on the GPU here; this test is about the interpreter")
    shared = ["training.epochs=2", "training.batch_size=200"]
    printed = train(*shared, "name=triton", "backend=triton")
    assert "backend: triton on cpu" in printed
    train(*shared, "name=torch", "backend=torch")
    one, other = (Model.load(tmp_path / name).weight for name in ("triton", "torch"))
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_a_run_is_never_overwritten_unless_asked(train: Callable[..., str], tmp_path: Path) -> None:
    train(*SMALL)
    before = (tmp_path / "bce" / "history.jsonl").read_bytes()
    message = train(*SMALL, code=2)
    assert "--overwrite" in message
    assert "--resume" in message
    assert (tmp_path / "bce" / "history.jsonl").read_bytes() == before
    (tmp_path / "bce" / "notes.txt").write_text("mine")
    train("training.epochs=1", "--overwrite")
    assert len(read_history(tmp_path / "bce")) == 1
    assert (tmp_path / "bce" / "notes.txt").read_text() == "mine"


def contents(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_run_leaves_a_report_with_pictures_and_intervals(train: Callable[..., str], tmp_path: Path) -> None:
    train(*SMALL, "report.html=true")
    folder = tmp_path / "bce"
    metrics = json.loads((folder / "metrics.json").read_text())
    low, high = metrics["intervals"]["splits"]["validation"]["log_loss"]
    assert low < metrics["validation"]["log_loss"] < high
    assert metrics["intervals"]["level"] == 0.95
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "training by mini-batches ends near the optimum" in page
    assert {file.name for file in (folder / "pictures").iterdir()} == set(PICTURE_FILES)


def test_without_a_report_an_earlier_one_does_not_stay(train: Callable[..., str], tmp_path: Path) -> None:
    train(*SMALL, "report.html=true")
    own = tmp_path / "bce" / "pictures" / "mine.png"
    own.write_bytes(b"the user's")
    train(*SMALL, "--overwrite")
    assert not (tmp_path / "bce" / "report.html").exists()
    assert list((tmp_path / "bce" / "pictures").iterdir()) == [own]
    own.unlink()
    train(*SMALL, "--overwrite")
    assert not (tmp_path / "bce" / "pictures").exists()


def test_columns_as_they_are_have_deviations_too() -> None:
    settings = load_settings(CONFIGS / "bce.yaml", ["data.standardize=false", "data.dtype=float64"])
    dataset = load(settings.data, seed=0, device=torch.device("cpu"))
    expected = dataset.train.X.numpy().std(axis=0)
    np.testing.assert_allclose(column_deviation(dataset), expected, rtol=1e-9)


def test_a_refused_overwrite_loses_nothing(train: Callable[..., str], tmp_path: Path) -> None:
    train(*SMALL, "report.html=true")
    before = contents(tmp_path / "bce")
    train("--overwrite", "data.split.test=0.0001", code=2)
    train("--overwrite", "device=cuda:99", code=2)
    assert contents(tmp_path / "bce") == before


def test_resuming_a_finished_run_with_more_epochs_equals_one_long_run(
    train: Callable[..., str], tmp_path: Path
) -> None:
    train(*SMALL, "name=short", "training.epochs=4")
    printed = train(*SMALL, "name=short", "training.epochs=9", "--resume")
    assert "resuming after epoch 4" in printed
    train(*SMALL, "name=long", "training.epochs=9")
    assert read_history(tmp_path / "short") == read_history(tmp_path / "long")
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("short", "long"))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_resuming_a_finished_run_as_it_is_trains_nothing(train: Callable[..., str], tmp_path: Path) -> None:
    train(*SMALL)
    before = load_file(tmp_path / "bce" / "model.safetensors")
    assert "nothing was left to train" in train(*SMALL, "--resume")
    after = load_file(tmp_path / "bce" / "model.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_checkpoint_of_another_config_is_refused(train: Callable[..., str]) -> None:
    train(*SMALL)
    message = train(*SMALL, "training.optimizer.lr=0.5", "--resume", code=2)
    assert "training.optimizer.lr was 0.02 and is 0.5" in message


def test_a_checkpoint_of_other_data_is_refused(train: Callable[..., str], tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    text = "a,b,y\n" + "".join(f"{i % 7},{i % 5},{i % 2}\n" for i in range(100))
    path.write_text(text)
    arguments = [
        f"data.path={path}",
        "data.label={column: y}",
        "name=own",
        "training.epochs=2",
        "data.drop=[]",
    ]
    train(*arguments, "data.weight=null", config=str(CONFIGS / "own_file.yaml"))
    path.write_text(text.replace("6,", "60,"))
    message = train(*arguments, "data.weight=null", "--resume", config=str(CONFIGS / "own_file.yaml"), code=2)
    assert "the data's fingerprint was" in message


def test_resuming_without_a_checkpoint_is_refused(train: Callable[..., str], tmp_path: Path) -> None:
    assert "without --resume" in train("--resume", code=2)
    assert not (tmp_path / "bce").exists()


@pytest.mark.parametrize("epochs_before", [0, 2])
def test_ctrl_c_within_an_epoch_keeps_the_last_boundary(
    epochs_before: int, train: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(*SMALL, "name=whole")
    steps, calls = Trainer._steps, []

    def interrupted(trainer: Trainer, on_batch: Callable[[int], object]) -> Any:
        calls.append(trainer.epoch)
        result = steps(trainer, on_batch)
        if trainer.epoch == epochs_before:
            raise KeyboardInterrupt
        return result

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_steps", interrupted)
        message = train(*SMALL, "name=stopped", code=130)
    assert f"holds the state after epoch {epochs_before}; go on with --resume" in message
    assert calls == list(range(epochs_before + 1))
    train(*SMALL, "name=stopped", "--resume")
    assert read_history(tmp_path / "stopped") == read_history(tmp_path / "whole")


def start_long_run(folder: Path) -> subprocess.Popen[str]:
    """A run in a process of its own, some seconds long, once it has written its first checkpoint."""
    arguments = ["training.epochs=3000", "training.early_stopping=null", "training.checkpoint_every=20"]
    process = subprocess.Popen(
        [sys.executable, ROOT / "scripts/train.py", "--config", BCE, f"output={folder}", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
    )
    deadline = time.monotonic() + 60
    while not (folder / "bce" / "checkpoint.safetensors").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


@pytest.fixture(scope="module")
def uninterrupted(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[int], tuple[list[dict[str, Any]], Any]]:
    """History and final weights of a run that nobody stopped."""

    def run(epochs: int) -> tuple[list[dict[str, Any]], Any]:
        folder = tmp_path_factory.mktemp("whole")
        arguments = [f"training.epochs={epochs}", "training.early_stopping=null", f"output={folder}"]
        assert train_main(["--config", BCE, *arguments, "--quiet"]) == 0
        return read_history(folder / "bce"), load_file(folder / "bce" / "model.safetensors")

    return run


@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "killed"])
def test_a_stopped_run_goes_on_as_if_it_had_not(
    kill: signal.Signals, train: Callable[..., str], tmp_path: Path, uninterrupted: Callable[..., Any]
) -> None:
    process = start_long_run(tmp_path)
    process.send_signal(kill)
    _, error = process.communicate(timeout=30)
    if kill == signal.SIGINT:
        assert process.returncode == 130
        assert "go on with --resume" in error
        assert "Traceback" not in error
    saved = Checkpoint.load(tmp_path / "bce" / "checkpoint.safetensors")
    done = saved.progress["epoch"]
    assert done >= 20
    if kill == signal.SIGINT:
        assert len(read_history(tmp_path / "bce")) - done in (0, 1)
    total = done + 5
    train(f"training.epochs={total}", "training.early_stopping=null", "--resume")
    history, weights = uninterrupted(total)
    assert read_history(tmp_path / "bce") == history
    resumed = load_file(tmp_path / "bce" / "model.safetensors")
    assert all(torch.equal(resumed[key], weights[key]) for key in weights)
    assert not list((tmp_path / "bce").glob("*.tmp"))
