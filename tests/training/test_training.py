"""The loop: what it converges to, early stopping, divergence, schedules, and going on from a checkpoint."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sklearn.linear_model import LogisticRegression

from flashlogit.config.settings import TrainingSettings
from flashlogit.data import Rows
from flashlogit.passes import choose_backend
from flashlogit.system.errors import UserError
from flashlogit.training.checkpoint import Checkpoint
from flashlogit.training.partial_fit import shuffled_batches
from flashlogit.training.trainer import Objective, Trainer
from flashlogit_kernels.contract import Clamp

OPTIMIZERS: list[dict[str, Any]] = [
    {"name": "adam", "lr": 0.05},
    {"name": "adamw", "lr": 0.05, "weight_decay": 0.1},
    {"name": "sgd", "lr": 0.5, "momentum": 0.9, "nesterov": True},
    {"name": "sgd", "lr": 0.5, "momentum": 0.0},
]
SCHEDULES: list[tuple[dict[str, Any], list[float]]] = [
    ({"name": "constant"}, [0.5, 0.5, 0.5, 0.5]),
    ({"name": "step", "every": 2, "factor": 0.5}, [0.5, 0.5, 0.25, 0.25]),
    ({"name": "exponential", "factor": 0.9}, [0.5, 0.45, 0.405, 0.3645]),
    ({"name": "cosine", "final_lr": 0.1}, [0.5, 0.1 + 0.4 * 0.8535534, 0.3, 0.1 + 0.4 * 0.1464466]),
]
"""Schedules, and the rates of their first four epochs from 0.5 on."""


def make_rows(n: int = 200, seed: int = 0, dtype: torch.dtype = torch.float32) -> Rows:
    generator = torch.Generator().manual_seed(seed)
    X = torch.randn(n, 5, generator=generator)
    truth = torch.tensor([1.0, -2.0, 0.0, 0.5, 0.0])
    y = (torch.rand(n, generator=generator) < torch.sigmoid(X @ truth + 0.3)).to(torch.uint8)
    return Rows(X.to(dtype), y, torch.rand(n, generator=generator, dtype=X.to(dtype).float().dtype) + 0.5)


def make_trainer(*, l2: float = 0.0, validation: bool = True, rows: Rows | None = None, **settings: Any) -> Trainer:
    backend = choose_backend("torch", torch.device("cpu"))
    clamp = Clamp(1e-8, "through")
    return Trainer(
        Objective(rows or make_rows(), clamp, l2, backend),
        Objective(make_rows(100, seed=1), clamp, l2, backend) if validation else None,
        TrainingSettings.model_validate(settings),
        seed=3,
    )


def run(trainer: Trainer) -> list[dict[str, Any]]:
    return list(trainer.epochs())


def without_times(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in ("seconds", "rows_per_second")} for row in history]


def test_full_batches_reach_scikit_learns_optimum():
    rows = make_rows()
    assert rows.sample_weight is not None
    l2 = 0.05
    trainer = make_trainer(l2=l2, epochs=300, batch_size=10_000, optimizer={"name": "sgd", "lr": 1.0})
    run(trainer)
    total = rows.sample_weight.double().sum().item()
    peer = LogisticRegression(C=1 / (l2 * total), tol=1e-10, max_iter=10_000)
    peer.fit(rows.X.double().numpy(), rows.y.numpy(), sample_weight=rows.sample_weight.double().numpy())
    torch.testing.assert_close(trainer.weight.detach().double(), torch.tensor(peer.coef_[0]), rtol=1e-4, atol=1e-5)
    assert trainer.bias.item() == pytest.approx(peer.intercept_[0], rel=1e-4)


def test_weight_decay_shrinks_the_weights_and_leaves_the_intercept_alone():
    rows = make_rows()
    rows = Rows(torch.zeros_like(rows.X), rows.y, rows.sample_weight)
    trainer = make_trainer(
        rows=rows, epochs=1, batch_size=1000, optimizer={"name": "adamw", "lr": 0.1, "weight_decay": 0.5}
    )
    with torch.no_grad():
        trainer.weight.fill_(1.0)
        trainer.bias.fill_(1.0)
    run(trainer)
    torch.testing.assert_close(trainer.weight.detach(), torch.full((5,), 0.95))
    assert abs(trainer.bias.item() - 1.0) == pytest.approx(0.1, rel=1e-3)


def test_every_epoch_has_an_order_of_its_own():
    generator, device = torch.Generator().manual_seed(0), torch.device("cpu")
    first, second = (torch.cat(list(shuffled_batches(100, 30, generator, device))) for _ in range(2))
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(100))
    assert not torch.equal(first, second)


@pytest.mark.parametrize(("schedule", "rates"), SCHEDULES, ids=lambda x: x["name"] if isinstance(x, dict) else "")
def test_schedules_step_once_an_epoch(schedule, rates):
    trainer = make_trainer(epochs=4, batch_size=64, optimizer={"name": "sgd", "lr": 0.5}, schedule=schedule)
    assert [row["lr"] for row in run(trainer)] == pytest.approx(rates)
    if schedule["name"] == "cosine":
        assert trainer.schedule.get_last_lr() == pytest.approx([0.1])


def test_early_stopping_keeps_the_best_epochs_weights():
    trainer = make_trainer(
        epochs=500, batch_size=16, optimizer={"name": "adam", "lr": 0.5}, early_stopping={"patience": 4}
    )
    history = run(trainer)
    losses = [row["validation_loss"] for row in history]
    best = losses.index(min(losses))
    assert len(history) == best + 1 + 4 < 500
    weight, bias = trainer.final_parameters()
    assert trainer.validation is not None
    assert trainer.validation.mean_loss(weight, bias) == losses[best]


def test_an_improvement_below_min_delta_does_not_count():
    trainer = make_trainer(epochs=50, batch_size=64, early_stopping={"patience": 3, "min_delta": 100.0})
    assert len(run(trainer)) == 4


def test_without_early_stopping_the_last_weights_are_kept():
    trainer = make_trainer(epochs=5, batch_size=16, optimizer={"name": "adam", "lr": 0.5}, validation=False)
    assert [row["validation_loss"] for row in run(trainer)] == [None] * 5
    assert torch.equal(trainer.final_parameters()[0], trainer.weight.detach())


def test_divergence_is_an_error_that_names_the_remedy():
    huge = make_rows()
    huge = Rows(huge.X * 1e30, huge.y, huge.sample_weight)
    trainer = make_trainer(rows=huge, epochs=20, batch_size=64, optimizer={"name": "sgd", "lr": 1e9})
    with pytest.raises(UserError, match=r"training diverged in epoch \d+") as caught:
        run(trainer)
    assert (caught.value.setting, caught.value.value) == ("training.optimizer.lr", 1e9)


def test_float64_data_train_in_float64_and_rows_are_reported_batch_by_batch():
    trainer = make_trainer(rows=make_rows(dtype=torch.float64), epochs=2, batch_size=64)
    seen: list[int] = []
    list(trainer.epochs(seen.append))
    assert trainer.weight.dtype == torch.float64
    assert seen == [64, 64, 64, 8] * 2


@pytest.mark.parametrize(
    ("optimizer", "schedule"), [(o, s) for o, (s, _) in zip(OPTIMIZERS, SCHEDULES, strict=True)], ids=str
)
def test_going_on_from_a_checkpoint_equals_an_uninterrupted_run(optimizer, schedule, tmp_path):
    settings = {
        "epochs": 7,
        "batch_size": 32,
        "optimizer": optimizer,
        "schedule": schedule,
        "early_stopping": {"patience": 100},
    }
    whole = make_trainer(**settings)
    expected = run(whole)
    assert expected[-1]["train_loss"] < 0.75 * 0.6931
    assert [row["epoch"] for row in expected] == list(range(1, 8))

    first, second = make_trainer(**settings), make_trainer(**settings)
    epochs = first.epochs()
    begun = [next(epochs) for _ in range(3)]
    first.checkpoint({}, 3).save(tmp_path / "checkpoint")
    second.restore(Checkpoint.load(tmp_path / "checkpoint"))
    assert without_times(begun + run(second)) == without_times(expected)
    ends = [[t.weight, t.bias, *t.final_parameters()] for t in (second, whole)]
    torch.testing.assert_close(*ends, rtol=0, atol=0)


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
def test_no_step_waits_for_the_device():
    device = torch.device("cuda")
    rows = make_rows(1000)
    rows = Rows(rows.X.to(device), rows.y.to(device), rows.sample_weight.to(device))
    objective = Objective(rows, Clamp(1e-8, "through"), 0.1, choose_backend("auto", device))
    trainer = Trainer(objective, None, TrainingSettings(epochs=2, batch_size=100), seed=0)
    seen: list[int] = []

    def on_batch(rows: int) -> None:
        """Forbid waiting from the first to the last batch of the second epoch; the first one compiles."""
        seen.append(rows)
        if len(seen) in (11, 20):
            torch.cuda.set_sync_debug_mode("error" if len(seen) == 11 else "default")

    list(trainer.epochs(on_batch))
    assert len(seen) == 20
    assert trainer.weight.isfinite().all()
