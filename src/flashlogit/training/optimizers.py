"""The update rules of mini-batch training, the schedules of their learning rate, and the order of the rows.

The rules are those of torch.optim, operation for operation. Importing that would load torch's compiler, which takes
1.5 s and compiles nothing here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor

from ..config import settings as config

State: TypeAlias = dict[str, Tensor]
"""What a rule knows of one parameter's earlier steps, by torch.optim's names; empty before the first step."""
Rule: TypeAlias = Callable[[Tensor, Tensor, State, float], None]
"""It takes a parameter, its gradient, the state and the learning rate, and changes the parameter and the state."""

_EPS = 1e-8
"""Adam's bound of the denominator, torch.optim's default."""


def adam(
    parameter: Tensor,
    gradient: Tensor,
    state: State,
    lr: float,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    weight_decay: float = 0.0,
) -> None:
    """Take a step of Adam (Kingma and Ba 2015, algorithm 1), or of AdamW where the weights decay (Loshchilov and Hutter
    2019, algorithm 2).

        m <- b1 m + (1 - b1) g,    v <- b2 v + (1 - b2) g^2
        w <- (1 - lr decay) w - lr m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps)
    """
    if not state:
        state["step"] = torch.zeros(())  # on the CPU: reading it never waits for a device
        state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
    first, second = betas
    mean, mean_square = state["exp_avg"], state["exp_avg_sq"]
    t = state["step"].add_(1).item()
    if weight_decay:
        parameter.mul_(1 - lr * weight_decay)
    mean.lerp_(gradient, 1 - first)
    mean_square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
    root = (mean_square.sqrt() / (1 - second**t) ** 0.5).add_(_EPS)
    parameter.addcdiv_(mean, root, value=-lr / (1 - first**t))


def sgd(parameter: Tensor, gradient: Tensor, state: State, lr: float, *, momentum: float, nesterov: bool) -> None:
    """Take a gradient step with momentum (Polyak 1964), as Sutskever et al. 2013 write Nesterov's.

    u <- momentum u + g, beginning with u = g;    w <- w - lr u, or for Nesterov w - lr (g + momentum u)
    """
    if momentum:
        if state:
            state["momentum_buffer"].mul_(momentum).add_(gradient)
        else:
            state["momentum_buffer"] = gradient.clone()
        velocity = state["momentum_buffer"]
        gradient = gradient.add(velocity, alpha=momentum) if nesterov else velocity
    parameter.add_(gradient, alpha=-lr)


def shuffled_batches(N: int, size: int, generator: torch.Generator, device: torch.device) -> Sequence[Tensor]:
    """Return row numbers of the batches of one epoch in a new random order, on `device`."""
    order = torch.randperm(N, generator=generator, device=generator.device).to(device)
    return torch.split(order, size)


def update_rules(settings: config.Optimizer) -> tuple[Rule, Rule]:
    """Return the rules of the weights and of the intercept, which does not decay."""
    if isinstance(settings, config.SGD):
        rule: Rule = partial(sgd, momentum=settings.momentum, nesterov=settings.nesterov)
        return rule, rule
    rule = partial(adam, betas=settings.betas)
    decay = settings.weight_decay if isinstance(settings, config.AdamW) else 0.0
    return partial(rule, weight_decay=decay), partial(rule, weight_decay=0.0)


def learning_rate(settings: config.TrainingSettings, epoch: int) -> float:
    """Return the learning rate after `epoch` epochs.

    The cosine is that of Loshchilov and Hutter 2017, equation 5, without a restart.
    """
    lr, schedule = settings.optimizer.lr, settings.schedule
    if isinstance(schedule, config.CosineSchedule):
        turn = math.cos(math.pi * epoch / settings.epochs)
        return schedule.final_lr + (lr - schedule.final_lr) * (1 + turn) / 2
    if isinstance(schedule, config.StepSchedule):
        return float(lr * schedule.factor ** (epoch // schedule.every))
    if isinstance(schedule, config.ExponentialSchedule):
        return float(lr * schedule.factor**epoch)
    return lr
