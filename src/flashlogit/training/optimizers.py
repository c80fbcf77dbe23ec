"""torch's optimisers and learning-rate schedules, as the settings name them."""

from __future__ import annotations

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, ExponentialLR, LRScheduler, StepLR

from ..config import settings as config


def build_optimizer(settings: config.Optimizer, w: nn.Parameter, b: nn.Parameter) -> Optimizer:
    """The optimiser of weights w and intercept b; weight decay touches w only."""
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
    """The schedule of the learning rate, to be stepped once an epoch."""
    if isinstance(settings, config.CosineSchedule):
        return CosineAnnealingLR(optimizer, T_max=epochs, eta_min=settings.final_lr)
    if isinstance(settings, config.StepSchedule):
        return StepLR(optimizer, step_size=settings.every, gamma=settings.factor)
    if isinstance(settings, config.ExponentialSchedule):
        return ExponentialLR(optimizer, gamma=settings.factor)
    return ConstantLR(optimizer, factor=1.0, total_iters=0)
