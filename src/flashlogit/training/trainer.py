"""Mini-batch training by epochs.

Within an epoch nothing waits for the device: rows are shuffled there, batches are read through their row numbers
without being copied, and losses add up there. Once an epoch one small tensor is read back.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from pydantic import Field
from torch import Tensor

from flashlogit_kernels.contract import SCALARS, BCESums, Clamp

from ..config.settings import TrainingSettings
from ..data.dataset import Rows
from ..passes import Backend
from ..system.errors import UserError
from .checkpoint import Checkpoint, SavedProgress, generator_state, optimizer_states, optimizer_tensors
from .optimizers import State, learning_rate, shuffled_batches, update_rules

if TYPE_CHECKING:
    from ..solvers.driver import HistoryRow


@dataclass
class Best:
    """The epoch with the lowest validation loss, and its parameters."""

    epoch: int
    loss: float
    weight: Tensor
    bias: Tensor


class _SavedBest(SavedProgress):
    epoch: int = Field(ge=1)
    loss: float


class TrainerProgress(SavedProgress):
    """What is read of a checkpoint's progress; the learning rate follows from the epoch and the settings."""

    epoch: int = Field(ge=0, lt=2**53)
    history_length: int = Field(ge=0, lt=2**53)
    threads: int
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
        self.weight = torch.zeros(X.shape[1], dtype=dtype, device=X.device)
        self.bias = torch.zeros(1, dtype=dtype, device=X.device)
        self._rules = update_rules(settings.optimizer)
        self._states: tuple[State, State] = ({}, {})
        """What the rules know of earlier steps, of weights and of the intercept."""
        self.generator = torch.Generator(device=X.device)
        self.generator.manual_seed(seed)
        self.epoch = 0
        self.best: Best | None = None

    @property
    def learning_rate(self) -> float:
        """The learning rate of the epoch that comes next, or is under way."""
        return learning_rate(self.settings, self.epoch)

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
        w, b = self.weight, self.bias
        while not self.finished:
            start, lr = time.perf_counter(), self.learning_rate
            total = torch.zeros(SCALARS, dtype=torch.float64, device=device)
            size = self.settings.batch_size
            # All rows at once need no order.
            batches = shuffled_batches(N, size, self.generator, device) if size < N else [None]
            for rows in batches:
                n = N if rows is None else len(rows)
                sums = training.sums(w, b, rows=rows)
                self._step(training.gradient(sums, w, n), lr)
                sums.add_scalars_to(total)
                on_batch(n)
            yield self._finish_epoch(BCESums(total.cpu()), start)

    def _step(self, gradients: tuple[Tensor, Tensor], lr: float) -> None:
        parameters = self.weight, self.bias
        for rule, parameter, gradient, state in zip(self._rules, parameters, gradients, self._states, strict=True):
            rule(parameter, gradient, state, lr)

    def _finish_epoch(self, sums: BCESums, start: float) -> HistoryRow:
        """Return the history row of the epoch that began at `start`, from its five scalars, read back at once."""
        lr = self.learning_rate
        loss, nonfinite, largest = sums.loss.item(), sums.nonfinite.item(), sums.max_abs_logit.item()
        if nonfinite:
            problem = f"training diverged in epoch {self.epoch + 1}: {nonfinite:.0f} logits are not finite"
            raise UserError(problem, setting="training.optimizer.lr", value=lr, remedy="lower it")
        self.epoch += 1
        seconds = time.perf_counter() - start
        validation_loss = None
        if self.validation:
            w, b = self.weight, self.bias
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
        return self.weight.clone(), self.bias.clone()

    def checkpoint(self, origin: dict[str, Any], history_length: int) -> Checkpoint:
        """Return a copy of the state at an epoch's end."""
        tensors = {
            "weight": self.weight.clone(),
            "bias": self.bias.clone(),
            "generator": generator_state(self.generator),
            **optimizer_tensors(self._states),
        }
        progress: dict[str, Any] = {
            "epoch": self.epoch,
            "history_length": history_length,
            "threads": torch.get_num_threads(),
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
        best_epoch = saved.best.epoch if saved.best else 0
        if not best_epoch <= saved.epoch == saved.history_length:
            raise checkpoint.unusable("its numbers of epochs do not fit together")
        try:
            self.generator.set_state(tensors["generator"])
        except RuntimeError as error:
            raise checkpoint.unusable(f"the generator's state is none: {error}") from error
        self.weight.copy_(tensors["weight"])
        self.bias.copy_(tensors["bias"])
        self._states = optimizer_states(tensors, self.weight)
        self.epoch = saved.epoch
        if saved.best:
            best = [tensors[f"best.{name}"].to(self.weight.device) for name in ("weight", "bias")]
            self.best = Best(saved.best.epoch, saved.best.loss, *best)
        return saved

    def _expected(self, *, started: bool, best: bool) -> dict[str, Tensor]:
        """Return tensors like those of this run's checkpoints: `started` of those after an epoch."""
        expected = {"weight": self.weight, "bias": self.bias, "generator": generator_state(self.generator)}
        if started:
            # A rule makes its state in its first step.
            states: tuple[State, State] = ({}, {})
            for rule, parameter, state in zip(self._rules, (self.weight, self.bias), states, strict=True):
                rule(parameter.clone(), torch.zeros_like(parameter), state, 0.0)
            expected |= optimizer_tensors(states)
        return expected | ({"best.weight": self.weight, "best.bias": self.bias} if best else {})
