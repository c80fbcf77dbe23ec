"""Whole runs by mini-batches: what they leave, and that stopped ones go on unharmed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
import torch
from run_files import CONFIGS, history, metrics
from safetensors import safe_open
from safetensors.torch import load_file
from sklearn.datasets import load_breast_cancer

from flashlogit.config.load import load_settings
from flashlogit.data import load
from flashlogit.models.model import Model
from flashlogit.runs.directory import PICTURE_FILES
from flashlogit.runs.results import Bar, column_deviation
from flashlogit.training.checkpoint import Checkpoint

CONFIG = "bce"
SMALL = ["training.epochs=6", "training.checkpoint_every=2", "report.html=false"]
SMALL += ["training.early_stopping.patience=100"]
Train = Callable[..., str]


def test_the_default_run_is_good_and_leaves_everything(train: Train, tmp_path: Path, pictures: None) -> None:
    printed = train()
    folder = tmp_path / "bce"
    files = "config.yaml history.jsonl model.safetensors metrics.json coefficients.csv curves.png report.html pictures"
    assert {file.name for file in folder.iterdir()} == {*files.split(), "checkpoint.safetensors", ".lock"}
    found = metrics(folder)
    assert found["test"]["roc_auc"] >= 0.99
    assert list(found) == ["train", "validation", "test", "intervals", "run"]
    assert len(history(folder)) == found["run"]["epochs"] >= found["run"]["kept_epoch"]
    assert list(found["run"]) == ["device", "backend", "epochs", "kept_epoch", "flashlogit", "torch", "gpu", "threads"]
    low, high = found["intervals"]["splits"]["validation"]["log_loss"]
    assert low < found["validation"]["log_loss"] < high
    assert matplotlib.image.imread(folder / "curves.png").ndim == 3
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "training by mini-batches ends near the optimum" in page
    assert {file.name for file in (folder / "pictures").iterdir()} == set(PICTURE_FILES)
    assert "data: 399 train, 85 validation, 85 test rows, 30 columns; 37.1%" in printed
    assert printed.endswith(f"results: {folder}\n")
    # Without a report an earlier one does not stay; what the user keeps there does.
    own = folder / "pictures" / "mine.png"
    own.write_bytes(b"the user's")
    train(*SMALL, "--overwrite")
    assert not (folder / "report.html").exists()
    assert list((folder / "pictures").iterdir()) == [own]
    own.unlink()
    train(*SMALL, "--overwrite")
    assert not (folder / "pictures").exists()


def test_the_resolved_config_trains_the_same_run_again(train: Train, tmp_path: Path) -> None:
    train(*SMALL)
    train("name=again", config=tmp_path / "bce" / "config.yaml")
    assert history(tmp_path / "again") == history(tmp_path / "bce")


def test_the_model_file_is_a_linear_layer_with_its_context(train: Train, tmp_path: Path) -> None:
    printed = json.loads(train(*SMALL, "report.threshold=0.3", "loss.eps=1e-6", "--json"))
    folder = tmp_path / "bce"
    path = folder / "model.safetensors"
    torch.nn.Linear(30, 1).load_state_dict(load_file(path))
    with safe_open(path, framework="pt") as file:
        (value,) = file.metadata().values()
    about = json.loads(value)["content"]
    assert (about["feature_names"][0], about["label_names"]) == ("mean radius", ["benign", "malignant"])
    assert (len(about["standardization"]["mean"]), about["eps"], about["threshold"]) == (30, 1e-6, 0.3)
    # The metrics are those of the model on the raw rows.
    found = metrics(folder)
    assert printed == {"directory": str(folder), **found}
    data = load_breast_cancer()
    right = (1 / (1 + np.exp(-Model.load(folder).logits(data.data))) >= 0.3) == (data.target == 0)
    splits = [found[split] for split in ("train", "validation", "test")]
    assert sum(split["rows"] for split in splits) == 569
    assert sum(split["accuracy"] * split["rows"] for split in splits) / 569 == pytest.approx(right.mean())


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_configs_run_small_in_every_storage_dtype(dtype: str, train: Train, tmp_path: Path) -> None:
    small = ["training.epochs=2", f"data.dtype={dtype}", "report.html=false", "--overwrite"]
    for config, rows in (("bce", []), ("synthetic", ["data.rows=2000"])):
        train(*small, *rows, "name=small", config=config)
        assert metrics(tmp_path / "small")["test"]["roc_auc"] > 0.6


def test_own_file_config_runs_on_a_table_of_its_kind(train: Train, tmp_path: Path) -> None:
    """own_file.yaml names a file and columns that only its reader has; here a table with those names stands in."""
    settings = load_settings(CONFIGS / "own_file.yaml").data
    assert settings.source == "file"
    generator = np.random.default_rng(0)
    table = pd.DataFrame(generator.normal(size=(300, 3)), columns=["a", "b", "c"])
    table[settings.label.column] = (table["a"] + generator.normal(size=300) > 0).astype(int)
    table[[*settings.drop, *([settings.weight] if settings.weight else [])]] = 1.0
    path = tmp_path / "table.csv"
    table.to_csv(path, index=False)
    given = [f"data.path={path}", "training.epochs=3", "name=own", "report.html=false"]
    train(*given, config="own_file")
    assert metrics(tmp_path / "own")["train"]["roc_auc"] > 0.6
    # A checkpoint of other data is refused.
    table.assign(a=1.5 * table["a"]).to_csv(path, index=False)
    assert "the data's fingerprint was" in train(*given, "--resume", config="own_file", code=2)
    trained = {file.stem for file in CONFIGS.glob("*.yaml") if load_settings(file).solver is None}
    assert trained == {"bce", "synthetic", "own_file"}  # each is run by a test here


def test_class_weights_move_the_decision(train: Train, tmp_path: Path) -> None:
    common = ["data.intercept=-2.0", "data.rows=2000", "training.epochs=15", "training.batch_size=128"]
    bias = {}
    for name, weight in (("plain", "null"), ("even", "balanced"), ("own", "{negative: 1.0, positive: 3.0}")):
        train(f"name={name}", f"loss.class_weight={weight}", "report.html=false", *common, config="synthetic")
        bias[name] = Model.load(tmp_path / name).bias[0]
    assert min(bias["even"], bias["own"]) > bias["plain"] + 0.5


def test_columns_as_they_are_have_deviations_too() -> None:
    settings = load_settings(CONFIGS / "bce.yaml", ["data.standardize=false", "data.dtype=float64"])
    dataset = load(settings.data, seed=0, device=torch.device("cpu"))
    np.testing.assert_allclose(column_deviation(dataset), dataset.train.X.numpy().std(axis=0), rtol=1e-9)


def test_resuming_a_finished_run_with_more_epochs_equals_one_long_run(train: Train, tmp_path: Path) -> None:
    train(*SMALL, "name=short", "training.epochs=4")
    before = (tmp_path / "short" / "model.safetensors").read_bytes()
    assert "nothing was left to train" in train(*SMALL, "name=short", "training.epochs=4", "--resume")
    assert (tmp_path / "short" / "model.safetensors").read_bytes() == before
    message = train(*SMALL, "name=short", "training.optimizer.lr=0.5", "--resume", code=2)
    assert "training.optimizer.lr was 0.02 and is 0.5" in message
    assert "resuming after epoch 4" in train(*SMALL, "name=short", "training.epochs=9", "--resume")
    train(*SMALL, "name=long", "training.epochs=9")
    short, long = tmp_path / "short", tmp_path / "long"
    assert history(short) == history(long)
    assert (short / "model.safetensors").read_bytes() == (long / "model.safetensors").read_bytes()


@pytest.mark.parametrize("epochs_before", [0, 2])
def test_ctrl_c_within_an_epoch_keeps_the_last_boundary(
    epochs_before: int, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(*SMALL, "name=whole")
    seen: list[int] = []

    def interrupted(bar: Bar, n: int) -> None:
        seen.append(n)
        if sum(seen) > 399 * epochs_before:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Bar, "update", interrupted)
        message = train(*SMALL, "name=stopped", code=130)
    assert f"holds the state after epoch {epochs_before}; go on with --resume" in message
    saved = Checkpoint.load(tmp_path / "stopped" / "checkpoint.safetensors")
    assert saved.progress["history_length"] == epochs_before
    train(*SMALL, "name=stopped", "--resume")
    assert history(tmp_path / "stopped") == history(tmp_path / "whole")
