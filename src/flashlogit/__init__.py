"""Logistic regression whose loss and gradient cost one read of X.

`fit` finds the optimum of a whole table and proves how near it is; `bce_loss` is the loss as a function of tensors,
`LogisticHead` the same as a module; `Predictor` serves a run's model; ``python scripts/train.py --config
configs/bce.yaml`` trains from a file. Names are loaded when first used, so that the import costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flashlogit_kernels import attribute_loader

if TYPE_CHECKING:
    from .estimator.cross_validation import LogisticRegressionCV as LogisticRegressionCV
    from .estimator.logistic_regression import LogisticRegression as LogisticRegression
    from .fitting.bootstrap import Bootstrap as Bootstrap
    from .fitting.bootstrap import bootstrap as bootstrap
    from .fitting.fit import Fit as Fit
    from .fitting.fit import FitState as FitState
    from .fitting.fit import fit as fit
    from .fitting.fit import fit_softmax as fit_softmax
    from .fitting.groups import GroupFits as GroupFits
    from .fitting.groups import fit_groups as fit_groups
    from .fitting.many import ManyFits as ManyFits
    from .fitting.many import TargetFits as TargetFits
    from .fitting.many import fit_many as fit_many
    from .fitting.permutations import PermutationTest as PermutationTest
    from .fitting.permutations import permutation_test as permutation_test
    from .models.predictor import Predictor as Predictor
    from .nn.head import LogisticHead as LogisticHead
    from .nn.loss import bce_loss as bce_loss
    from .system.errors import UserError as UserError

_HOMES = {
    "Bootstrap": "fitting.bootstrap",
    "Fit": "fitting.fit",
    "FitState": "fitting.fit",
    "GroupFits": "fitting.groups",
    "LogisticHead": "nn.head",
    "ManyFits": "fitting.many",
    "PermutationTest": "fitting.permutations",
    "Predictor": "models.predictor",
    "TargetFits": "fitting.many",
    "UserError": "system.errors",
    "LogisticRegression": "estimator.logistic_regression",
    "LogisticRegressionCV": "estimator.cross_validation",
    "bce_loss": "nn.loss",
    "bootstrap": "fitting.bootstrap",
    "fit": "fitting.fit",
    "fit_groups": "fitting.groups",
    "fit_many": "fitting.many",
    "fit_softmax": "fitting.fit",
    "permutation_test": "fitting.permutations",
}
__all__ = [
    "Bootstrap",
    "Fit",
    "FitState",
    "GroupFits",
    "LogisticHead",
    "LogisticRegression",
    "LogisticRegressionCV",
    "ManyFits",
    "PermutationTest",
    "Predictor",
    "TargetFits",
    "UserError",
    "bce_loss",
    "bootstrap",
    "fit",
    "fit_groups",
    "fit_many",
    "fit_softmax",
    "permutation_test",
]
__version__ = "0.1.0"

__getattr__ = attribute_loader(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
