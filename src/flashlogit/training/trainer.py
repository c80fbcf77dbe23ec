"""Mini-batch training by epochs.

Within an epoch nothing waits for the device: rows are shuffled there, batches are read through their row numbers
without being copied, and losses add up there. Once an epoch one small tensor is read back.
"""

from __future__ import annotations

import copy
import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, ExponentialLR, LRScheduler, StepLR

from flashlogit_kernels.contract import SCALARS, BCESums, Clamp

from ..config import settings as config
from ..config.settings import TrainingSettings
from ..data.dataset import Rows
from ..passes import Backend
from ..solvers.driver import HistoryRow
from ..system.errors import UserError
from .checkpoint import Checkpoint, SavedProgress, generator_state, optimizer_state, optimizer_tensors
from .partial_fit import shuffled_batches


@dataclass
class Best:
    """The epoch with the lowest validation loss, and its parameters."""

    epoch: int
    loss: float
    weight: Tensor
    bias: Tensor


class _SavedGroup(SavedProgress):
    lr: float = Field(ge=0, le=1e30)


class _SavedOptimizer(SavedProgress):
    param_groups: list[_SavedGroup]


class _SavedBest(SavedProgress):
    epoch: int = Field(ge=1)
    loss: float


class TrainerProgress(SavedProgress):
    """What is read of a checkpoint's progress; the other numbers of optimiser and schedule follow from the settings."""

    epoch: int = Field(ge=0, lt=2**53)
    history_length: int = Field(ge=0, lt=2**53)
    threads: int
    optimizer: _SavedOptimizer
    best: _SavedBest | None


class TrainingObjective:
    """What training minimises, over `rows`, whose sample_weight s already holds the class weights:

        P(w, b) = 1/S sum_i s_i loss_i + l2/2 ||w||^2,      S = sum_i s_i

    The intercept b is not penalised.

    ``sums(w, b)`` is a pass over all rows at w [D] and b [1], and ``sums(w, b, rows=numbers)`` one over some of them.
    """

    def __init__(self, rows: Rows, clamp: Clamp, l2: float, backend: Backend) -> None:
        s = rows.sample_weight
        self.rows = rows
        self.l2 = l2
        self.weight_sum = len(rows) if s is None else s.sum(dtype=torch.float64).item()
        self.sums = functools.partial(
            backend.passes.bce_onepass,
            rows.X,
            rows.y,
            sample_weight=s,
            eps=clamp.eps,
            clamp_gradient=clamp.gradient,
        )

    def mean_loss(self, w: Tensor, b: Tensor) -> float:
        """Return 1/S sum_i s_i loss_i over all rows, without the penalty. Waits for the device."""
        return float(self.sums(w, b).loss) / self.weight_sum

    def gradient(self, sums: BCESums, w: Tensor, n: int) -> tuple[Tensor, Tensor]:
        """Return dP/dw [D] and dP/db [1] at w, in its dtype, estimated without bias from the sums over n rows.

        They are scaled by N / (n S) and not by the batch's own weight sum, whose expectation would not be the gradient
        of P.
        """
        scale = len(self.rows) / n / self.weight_sum
        weight_grad = (sums.weight_grad * scale).to(w.dtype).add_(w, alpha=self.l2)
        return weight_grad, (sums.bias_grad * scale).to(w.dtype).reshape(1)


class Trainer:
    """Weights [D] and intercept [1] on their way from zero to a minimum of the training objective.

    Starting from zero is starting from the null model's probabilities; the objective is convex, so that no random
    start is needed.
    """

    def __init__(
        self,
        training: TrainingObjective,
        validation: TrainingObjective | None,
        settings: TrainingSettings,
        *,
        seed: int,
    ) -> None:
        self.training = training
        self.validation = validation
        self.settings = settings
        X = training.rows.X
        dtype = torch.float64 if X.dtype == torch.float64 else torch.float32
        self.weight = nn.Parameter(torch.zeros(X.shape[1], dtype=dtype, device=X.device))
        self.bias = nn.Parameter(torch.zeros(1, dtype=dtype, device=X.device))
        self.optimizer = build_optimizer(settings.optimizer, self.weight, self.bias)
        self.schedule = build_schedule(settings.schedule, self.optimizer, settings.epochs)
        self.generator = torch.Generator(device=X.device)
        self.generator.manual_seed(seed)
        self.epoch = 0
        self.best: Best | None = None

    @property
    def finished(self) -> bool:
        """Whether all epochs are done or early stopping has had enough."""
        stopping = self.settings.early_stopping
        patience_lost = stopping and self.best and self.epoch - self.best.epoch >= stopping.patience
        return self.epoch >= self.settings.epochs or bool(patience_lost)

    def epochs(self, on_batch: Callable[[int], object] = lambda rows: None) -> Iterator[HistoryRow]:
        """Train epoch by epoch until finished, giving each epoch's history row.

        Args:
            on_batch: called with the number of rows after each step.

        Raises:
            UserError: a logit that is not finite, which finite data only have where training diverges.
        """
        training, N, device = self.training, len(self.training.rows), self.weight.device
        w, b = self.weight.detach(), self.bias.detach()
        while not self.finished:
            start = time.perf_counter()
            total = torch.zeros(SCALARS, dtype=torch.float64, device=device)
            size = self.settings.batch_size
            # All rows at once need no order.
            batches = shuffled_batches(N, size, self.generator, device) if size < N else [None]
            for rows in batches:
                n = N if rows is None else len(rows)
                sums = training.sums(w, b, rows=rows)
                self.weight.grad, self.bias.grad = training.gradient(sums, w, n)
                self.optimizer.step()
                sums.add_scalars_to(total)
                on_batch(n)
            yield self._finish_epoch(BCESums(total.cpu()), start)

    def _finish_epoch(self, sums: BCESums, start: float) -> HistoryRow:
        """Return the history row of the epoch that began at `start`, from its five scalars, read back at once."""
        lr = self.optimizer.param_groups[0]["lr"]
        loss, nonfinite, largest = sums.loss.item(), sums.nonfinite.item(), sums.max_abs_logit.item()
        if nonfinite:
            raise UserError(
                f"training diverged in epoch {self.epoch + 1}: {nonfinite:.0f} logits are not finite",
                setting="training.optimizer.lr",
                value=lr,
                remedy="lower it",
            )
        self.epoch += 1
        self.schedule.step()
        seconds = time.perf_counter() - start
        validation_loss = None
        if self.validation:
            w, b = self.weight.detach(), self.bias.detach()
            validation_loss = self.validation.mean_loss(w, b)
            stopping = self.settings.early_stopping
            margin = stopping.min_delta if stopping else 0.0
            if self.best is None or validation_loss < self.best.loss - margin:
                self.best = Best(self.epoch, validation_loss, w.clone(), b.clone())
        return {
            "epoch": self.epoch,
            "train_loss": loss / self.training.weight_sum,
            "validation_loss": validation_loss,
            "lr": lr,
            "max_abs_logit": largest,
            "seconds": seconds,
            "rows_per_second": len(self.training.rows) / seconds,
        }

    def final_parameters(self) -> tuple[Tensor, Tensor]:
        """Return weights [D] and intercept [1] to keep: the best epoch's with early stopping, else the last."""
        if self.settings.early_stopping and self.best:
            return self.best.weight, self.best.bias
        return self.weight.detach().clone(), self.bias.detach().clone()

    def checkpoint(self, origin: dict[str, Any], history_length: int) -> Checkpoint:
        """Return a copy of the state at an epoch's end."""
        optimizer = self.optimizer.state_dict()
        tensors = {
            "weight": self.weight.detach().clone(),
            "bias": self.bias.detach().clone(),
            "generator": generator_state(self.generator),
            **optimizer_tensors(optimizer),
        }
        progress: dict[str, Any] = {
            "epoch": self.epoch,
            "history_length": history_length,
            "threads": torch.get_num_threads(),
            "optimizer": {"param_groups": optimizer["param_groups"]},
            "best": None,
        }
        if self.best:
            tensors |= {"best.weight": self.best.weight, "best.bias": self.best.bias}
            progress["best"] = {"epoch": self.best.epoch, "loss": self.best.loss}
        return Checkpoint(tensors, progress, origin)

    def restore(self, checkpoint: Checkpoint) -> TrainerProgress:
        """Go on from a checkpoint of the same run, and give its progress.

        Raises:
            UserError: the checkpoint does not fit this run's settings and data; nothing is changed then.
        """
        tensors, saved = checkpoint.tensors, checkpoint.progress_as(TrainerProgress)
        checkpoint.check_tensors(self._expected(started=saved.epoch > 0, best=saved.best is not None))
        optimizer, schedule = self.optimizer.state_dict(), self.schedule.state_dict()
        lr = [group.lr for group in saved.optimizer.param_groups]
        best_epoch = saved.best.epoch if saved.best else 0
        if len(lr) != len(optimizer["param_groups"]) or not best_epoch <= saved.epoch == saved.history_length:
            raise checkpoint.unusable("its learning rates or numbers of epochs do not fit together")
        try:
            self.generator.set_state(tensors["generator"])
        except RuntimeError as error:
            raise checkpoint.unusable(f"the generator's state is none: {error}") from error
        with torch.no_grad():
            self.weight.copy_(tensors["weight"])
            self.bias.copy_(tensors["bias"])
        groups = [group | {"lr": rate} for group, rate in zip(optimizer["param_groups"], lr, strict=True)]
        self.optimizer.load_state_dict({"state": optimizer_state(tensors), "param_groups": groups})
        self.schedule.load_state_dict(
            schedule | {"last_epoch": saved.epoch, "_step_count": saved.epoch + 1, "_last_lr": lr}
        )
        self.epoch = saved.epoch
        if saved.best:
            best = [tensors[f"best.{name}"].to(self.weight.device) for name in ("weight", "bias")]
            self.best = Best(saved.best.epoch, saved.best.loss, *best)
        return saved

    def _expected(self, *, started: bool, best: bool) -> dict[str, Tensor]:
        """Return tensors like those of this run's checkpoints: `started` of those after an epoch."""
        expected = {"weight": self.weight, "bias": self.bias, "generator": generator_state(self.generator)}
        if started:
            # An optimiser makes its state in its first step.
            twin = copy.deepcopy(self.optimizer)
            for parameter in (each for group in twin.param_groups for each in group["params"]):
                parameter.grad = torch.zeros_like(parameter)
            twin.step()
            expected |= optimizer_tensors(twin.state_dict())
        return expected | ({"best.weight": self.weight, "best.bias": self.bias} if best else {})


def build_optimizer(settings: config.Optimizer, w: nn.Parameter, b: nn.Parameter) -> Optimizer:
    """Return the optimiser of weights w and intercept b; weight decay touches w only."""
    if isinstance(settings, config.SGD):
        return SGD([w, b], lr=settings.lr, momentum=settings.momentum, nesterov=settings.nesterov)
    if isinstance(settings, config.AdamW):
        groups = [
            {"params": [w], "weight_decay": settings.weight_decay},
            {"params": [b], "weight_decay": 0.0},
        ]
        return AdamW(groups, lr=settings.lr, betas=settings.betas)
    return Adam([w, b], lr=settings.lr, betas=settings.betas)


def build_schedule(settings: config.Schedule, optimizer: Optimizer, epochs: int) -> LRScheduler:
    """Return the schedule of the learning rate, to be stepped once an epoch."""
    if isinstance(settings, config.CosineSchedule):
        return CosineAnnealingLR(optimizer, T_max=epochs, eta_min=settings.final_lr)
    if isinstance(settings, config.StepSchedule):
        return StepLR(optimizer, step_size=settings.every, gamma=settings.factor)
    if isinstance(settings, config.ExponentialSchedule):
        return ExponentialLR(optimizer, gamma=settings.factor)
    return ConstantLR(optimizer, factor=1.0, total_iters=0)
