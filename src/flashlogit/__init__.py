"""Logistic regression whose loss and gradient cost one read of X.

`fit` finds the optimum of a whole table and proves how near it is; `bce_loss` is the loss as a function of tensors,
`LogisticHead` the same as a module; ``python scripts/train.py --config configs/bce.yaml`` trains from a file. Names are
loaded when first used, so that the import costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flashlogit_kernels.lazy import attribute_loader

if TYPE_CHECKING:
    from .errors import UserError as UserError
    from .estimator import LogisticRegression as LogisticRegression
    from .fitting import Fit as Fit
    from .fitting import FitState as FitState
    from .fitting import fit as fit
    from .head import LogisticHead as LogisticHead
    from .loss import bce_loss as bce_loss
    from .softmax_fitting import fit_softmax as fit_softmax

_HOMES = {
    "Fit": "fitting",
    "FitState": "fitting",
    "LogisticHead": "head",
    "UserError": "errors",
    "LogisticRegression": "estimator",
    "bce_loss": "loss",
    "fit": "fitting",
    "fit_softmax": "softmax_fitting",
}
__all__ = [
    "Fit",
    "FitState",
    "LogisticHead",
    "LogisticRegression",
    "UserError",
    "bce_loss",
    "fit",
    "fit_softmax",
]
__version__ = "0.1.0"

__getattr__ = attribute_loader(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
