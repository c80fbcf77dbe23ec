"""Logistic regression whose loss and gradient cost one read of X.

`bce_loss` is the loss as a function of tensors, `LogisticHead` the same as a module; ``python scripts/train.py --config
configs/bce.yaml`` trains from a file. Names are loaded when first used, so that the import costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flashlogit_kernels.lazy import attribute_loader

if TYPE_CHECKING:
    from .errors import UserError as UserError
    from .head import LogisticHead as LogisticHead
    from .loss import bce_loss as bce_loss

_HOMES = {"bce_loss": "loss", "LogisticHead": "head", "UserError": "errors"}
__all__ = ["LogisticHead", "UserError", "bce_loss"]
__version__ = "0.1.0"

__getattr__ = attribute_loader(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
