"""The objective against its formula, and the loop: where it ends, schedules, going on from a checkpoint's file."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.utils.class_weight import compute_class_weight
from torch import optim
from torch.optim import lr_scheduler

from flashlogit.config.settings import ClassWeight, TrainingSettings
from flashlogit.data.dataset import Rows, class_weights, with_class_weight
from flashlogit.passes import choose_backend
from flashlogit.system.errors import UserError
from flashlogit.training.checkpoint import Checkpoint
from flashlogit.training.optimizers import learning_rate, shuffled_batches, update_rules
from flashlogit.training.trainer import Trainer, TrainingObjective
from flashlogit_kernels.contract import Clamp

OPTIMIZERS: list[dict[str, Any]] = [
    {"name": "adam", "lr": 0.05},
    {"name": "adamw", "lr": 0.05, "weight_decay": 0.1},
    {"name": "sgd", "lr": 0.5, "momentum": 0.9, "nesterov": True},
    {"name": "sgd", "lr": 0.5, "momentum": 0.0},
]
SCHEDULES: list[tuple[dict[str, Any], list[float]]] = [
    ({"name": "constant"}, [0.05, 0.05, 0.05, 0.05, 0.05]),
    ({"name": "step", "every": 2, "factor": 0.5}, [0.05, 0.05, 0.025, 0.025, 0.0125]),
    ({"name": "exponential", "factor": 0.9}, [0.5, 0.45, 0.405, 0.3645, 0.32805]),
    ({"name": "cosine", "final_lr": 0.1}, [0.5, 0.1 + 0.4 * 0.8535534, 0.3, 0.1 + 0.4 * 0.1464466, 0.1]),
]
"""For each of the optimisers a schedule, the rates of its four epochs, and the one that a fifth would have."""


def make_rows(n: int = 200, seed: int = 0, dtype: torch.dtype = torch.float32, scale: float = 1.0) -> Rows:
    generator = torch.Generator().manual_seed(seed)
    X = torch.randn(n, 5, generator=generator)
    truth = torch.tensor([1.0, -2.0, 0.0, 0.5, 0.0])
    y = (torch.rand(n, generator=generator) < torch.sigmoid(X @ truth + 0.3)).to(torch.uint8)
    return Rows(scale * X.to(dtype), y, torch.rand(n, generator=generator, dtype=dtype) + 0.5)


def make_trainer(
    rows: Rows, *, l2: float = 0.0, validation: bool = True, auto: bool = False, **settings: Any
) -> Trainer:
    backend, clamp = choose_backend("auto" if auto else "torch", rows.X.device), Clamp(1e-8, "through")
    held_out = TrainingObjective(make_rows(100, seed=1), clamp, l2, backend) if validation else None
    return Trainer(
        TrainingObjective(rows, clamp, l2, backend), held_out, TrainingSettings.model_validate(settings), seed=3
    )


def run(trainer: Trainer, epochs: int | None = None) -> list[dict[str, Any]]:
    """The history of some epochs or of all, without what a clock says."""
    rows = islice(trainer.epochs(), epochs)
    return [{k: v for k, v in row.items() if k not in ("seconds", "rows_per_second")} for row in rows]


# --- The objective ------------------------------------------------------------------------------------------


def test_loss_and_gradient_are_those_of_the_formula_and_batches_average_to_the_whole():
    rows = make_rows(50, dtype=torch.float64)
    objective = make_trainer(rows, l2=0.7).training
    W, B = torch.tensor([0.3, -0.2, 0.5, 1.0, 0.7]).double(), torch.tensor([0.1]).double()
    w, b = W.clone().requires_grad_(), B.clone().requires_grad_()
    share = rows.sample_weight / rows.sample_weight.sum()
    loss = torch.nn.functional.binary_cross_entropy_with_logits(rows.X @ w + b, rows.y.double(), share, reduction="sum")
    assert objective.mean_loss(W, B) == pytest.approx(loss.item(), rel=1e-13)  # without the penalty
    expected = torch.autograd.grad(loss + 0.7 / 2 * w.square().sum(), (w, b))
    gradient = objective.gradient(objective.sums(W, B), W, len(rows))
    torch.testing.assert_close(gradient, expected, rtol=1e-13, atol=1e-15)
    batches = torch.randperm(50, generator=torch.Generator().manual_seed(1)).split(10)
    each = [objective.gradient(objective.sums(W, B, rows=batch), W, 10) for batch in batches]
    mean = tuple(torch.stack(parts).mean(dim=0) for parts in zip(*each, strict=True))
    torch.testing.assert_close(mean, gradient, rtol=1e-13, atol=1e-15)


def test_balanced_gives_both_classes_half_of_the_weight():
    rows = make_rows(50, dtype=torch.float64)
    weighted = with_class_weight(rows, class_weights(rows, "balanced")).sample_weight
    of_classes = [weighted[rows.y == label].sum().item() for label in (0, 1)]
    assert of_classes == pytest.approx([rows.sample_weight.sum().item() / 2] * 2)
    expected = compute_class_weight("balanced", classes=rows.y.unique().numpy(), y=rows.y.numpy())
    assert class_weights(Rows(rows.X, rows.y), "balanced") == pytest.approx(tuple(expected))


def test_given_class_weights_multiply_the_rows_own():
    rows = make_rows(50, dtype=torch.float64)
    setting = ClassWeight(negative=2.0, positive=5.0)
    factors = torch.where(rows.y == 1, 5.0, 2.0)
    weighted = with_class_weight(rows, class_weights(rows, setting))
    torch.testing.assert_close(weighted.sample_weight, rows.sample_weight * factors)
    alone = with_class_weight(Rows(rows.X, rows.y), class_weights(rows, setting))
    assert torch.equal(alone.sample_weight, factors)
    assert with_class_weight(rows, class_weights(rows, None)) is rows
    with pytest.raises(UserError) as caught:
        class_weights(rows, setting, classes=3)
    assert caught.value.setting == "loss.class_weight"


# --- The loop -----------------------------------------------------------------------------------------------


def test_full_batches_reach_scikit_learns_optimum():
    rows, l2 = make_rows(), 0.05
    X, y, weights = rows.X.double().numpy(), rows.y.numpy(), rows.sample_weight.double().numpy()
    trainer = make_trainer(rows, l2=l2, epochs=300, batch_size=10_000, optimizer={"name": "sgd", "lr": 1.0})
    run(trainer)
    peer = LogisticRegression(C=1 / (l2 * weights.sum()), tol=1e-10, max_iter=10_000).fit(X, y, sample_weight=weights)
    torch.testing.assert_close(trainer.weight.double(), torch.tensor(peer.coef_[0]), rtol=1e-4, atol=1e-5)
    assert trainer.bias.item() == pytest.approx(peer.intercept_[0], rel=1e-4)


def test_weight_decay_shrinks_the_weights_and_leaves_the_intercept_alone():
    optimizer = {"name": "adamw", "lr": 0.1, "weight_decay": 0.5}
    trainer = make_trainer(make_rows(scale=0.0), epochs=1, batch_size=1000, optimizer=optimizer)
    trainer.weight.fill_(1.0)
    trainer.bias.fill_(1.0)
    run(trainer)
    torch.testing.assert_close(trainer.weight, torch.full((5,), 0.95))
    assert abs(trainer.bias.item() - 1.0) == pytest.approx(0.1, rel=1e-3)


def test_every_epoch_has_an_order_of_its_own():
    generator, device = torch.Generator().manual_seed(0), torch.device("cpu")
    first, second = (torch.cat(list(shuffled_batches(100, 30, generator, device))) for _ in range(2))
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(100))
    assert not torch.equal(first, second)


def test_early_stopping_keeps_the_best_epochs_weights():
    learning = {"batch_size": 16, "optimizer": {"name": "adam", "lr": 0.5}, "early_stopping": {"patience": 4}}
    trainer = make_trainer(make_rows(), epochs=500, **learning)
    losses = [row["validation_loss"] for row in run(trainer)]
    best = losses.index(min(losses))
    assert len(losses) == best + 1 + 4 < 500
    assert trainer.validation.mean_loss(*trainer.final_parameters()) == losses[best]


def test_an_improvement_below_min_delta_does_not_count():
    trainer = make_trainer(make_rows(), epochs=50, batch_size=64, early_stopping={"patience": 3, "min_delta": 100.0})
    assert len(run(trainer)) == 4


def test_divergence_is_an_error_that_names_the_remedy():
    optimizer = {"name": "sgd", "lr": 1e9}
    with pytest.raises(UserError, match=r"training diverged in epoch \d+") as caught:
        run(make_trainer(make_rows(scale=1e30), epochs=20, batch_size=64, optimizer=optimizer))
    assert (caught.value.setting, caught.value.value) == ("training.optimizer.lr", 1e9)


def test_without_early_stopping_the_last_weights_are_kept_in_the_datas_dtype_and_every_batch_is_reported():
    trainer = make_trainer(make_rows(dtype=torch.float64), epochs=2, batch_size=64, validation=False)
    seen: list[int] = []
    assert [row["validation_loss"] for row in trainer.epochs(seen.append)] == [None] * 2
    assert seen == [64, 64, 64, 8] * 2
    assert trainer.weight.dtype == torch.float64
    assert torch.equal(trainer.final_parameters()[0], trainer.weight)


PEERS: dict[str, Any] = {"adam": optim.Adam, "adamw": optim.AdamW, "sgd": optim.SGD}
PEERS |= {"constant": lambda of, epochs: lr_scheduler.ConstantLR(of, 1.0), "cosine": lr_scheduler.CosineAnnealingLR}
PEERS["step"] = lambda of, epochs, every, factor: lr_scheduler.StepLR(of, every, factor)
PEERS["exponential"] = lambda of, epochs, factor: lr_scheduler.ExponentialLR(of, factor)
"""torch.optim's own, by the names of the settings."""


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("optimizer", "schedule"), [*zip(OPTIMIZERS, SCHEDULES, strict=True)], ids=str)
def test_steps_are_those_of_torch_optim_to_the_last_bit_and_rates_to_rounding(optimizer, schedule, dtype):
    epochs = 30
    given = {"optimizer": optimizer, "schedule": schedule[0], "epochs": epochs}
    settings, states = TrainingSettings.model_validate(given), ({}, {})
    generator = torch.Generator().manual_seed(0)
    ours = [torch.randn(n, dtype=dtype, generator=generator) for n in (7, 1)]
    theirs = [each.clone() for each in ours]
    (name, *options), (scheduler, *more) = list(optimizer.items()), list(schedule[0].items())
    groups = [{"params": [theirs[0]]}, {"params": [theirs[1]], "weight_decay": 0.0}]
    peer = PEERS[name[1]](groups, **dict(options))
    rates = PEERS[scheduler[1]](peer, epochs, *(value for _, value in more))
    for epoch in range(epochs):
        rate = peer.param_groups[0]["lr"]
        assert learning_rate(settings, epoch) == pytest.approx(rate, rel=1e-13, abs=1e-16)
        for _ in range(3):
            gradients = [torch.randn(each.shape, dtype=dtype, generator=generator) for each in ours]
            for each, gradient in zip(theirs, gradients, strict=True):
                each.grad = gradient.clone()
            peer.step()
            for rule, *step in zip(update_rules(settings.optimizer), ours, gradients, states, strict=True):
                rule(*step, rate)
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
        rates.step()


@pytest.mark.parametrize(("optimizer", "schedule"), [*zip(OPTIMIZERS, SCHEDULES, strict=True)], ids=str)
def test_schedules_step_once_an_epoch_and_a_checkpoint_goes_on_to_the_same_end(optimizer, schedule, tmp_path):
    settings = {"optimizer": optimizer, "schedule": schedule[0], "early_stopping": {"patience": 100}}
    whole, first, second = (make_trainer(make_rows(), epochs=4, batch_size=32, **settings) for _ in range(3))
    expected = run(whole)
    assert expected[-1]["train_loss"] < 0.75 * 0.6931
    assert [row["epoch"] for row in expected] == [1, 2, 3, 4]
    assert [*(row["lr"] for row in expected), whole.learning_rate] == pytest.approx(schedule[1])
    begun = run(first, 2)
    first.checkpoint({}, 2).save(tmp_path / "checkpoint")
    second.restore(Checkpoint.load(tmp_path / "checkpoint"))
    assert begun + run(second) == expected
    ends = [[t.weight, t.bias, *t.final_parameters()] for t in (second, whole)]
    torch.testing.assert_close(*ends, rtol=0, atol=0)


def test_a_checkpoint_reads_back_equal_with_all_digits_of_its_numbers(tmp_path):
    tensors = {"step": torch.tensor(7.0), "state": torch.arange(5, dtype=torch.uint8)}
    tensors["transposed"] = torch.arange(6.0).reshape(2, 3).T
    numbers = np.random.default_rng(0).integers(2**63, size=2000).view(np.float64)
    progress = {"numbers": [*numbers[np.isfinite(numbers)].tolist(), float("inf")], "nested": {"a": [1, None, {}]}}
    Checkpoint(tensors, progress, {"seed": 0}).save(tmp_path / "c")
    loaded = Checkpoint.load(tmp_path / "c")
    assert (loaded.progress, loaded.origin) == (progress, {"seed": 0})
    torch.testing.assert_close(loaded.tensors, tensors, rtol=0, atol=0)
    assert [file.name for file in tmp_path.iterdir()] == ["c"]


@pytest.mark.parametrize("content", [None, b"not safetensors", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_a_missing_or_damaged_checkpoint_names_the_remedy(content, tmp_path):
    if content is not None:
        (tmp_path / "c").write_bytes(content)
    with pytest.raises(UserError, match=f"{tmp_path}/c.*--{'resume' if content is None else 'overwrite'}"):
        Checkpoint.load(tmp_path / "c")


def test_another_runs_checkpoint_names_the_first_difference(tmp_path):
    checkpoint = Checkpoint({}, {}, {"seed": 0, "loss": {"l2": 0.1, "eps": 1e-8}})
    checkpoint.check_origin(tmp_path, {"seed": 0, "loss": {"l2": 0.1, "eps": 1e-8}})
    with pytest.raises(UserError, match=r"seed was 0 and is 1 \(and 1 more settings\)"):
        checkpoint.check_origin(tmp_path, {"seed": 1, "loss": {"l2": 0.2, "eps": 1e-8}})
    with pytest.raises(UserError, match=r"loss\.l2 was 0\.1 and is None;"):
        checkpoint.check_origin(tmp_path, {"seed": 0, "loss": {"eps": 1e-8}})


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
def test_no_step_waits_for_the_device():
    rows = make_rows(1000)
    rows = Rows(*(part.to("cuda") for part in (rows.X, rows.y, rows.sample_weight)))
    trainer = make_trainer(rows, l2=0.1, validation=False, auto=True, epochs=2, batch_size=100)
    seen: list[int] = []

    def on_batch(rows: int) -> None:
        """Forbid waiting from the first to the last batch of the second epoch; the first one compiles."""
        seen.append(rows)
        if len(seen) in (11, 20):
            torch.cuda.set_sync_debug_mode("error" if len(seen) == 11 else "default")

    list(trainer.epochs(on_batch))
    assert len(seen) == 20
    assert trainer.weight.isfinite().all()
