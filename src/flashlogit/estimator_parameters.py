"""What the estimator's parameters may be, and what they mean for a fit."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .estimator import LogisticRegression

SOLVERS = {
    "auto": "auto",
    "lbfgs": "lbfgs",
    "newton": "newton",
    "newton-cg": "newton-cg",
    "newton-cholesky": "newton",
    "liblinear": "auto",
    "sag": "auto",
    "saga": "auto",
}
"""scikit-learn's names and what they mean here: any solver ends at the same, certified optimum."""
_PENALTIES = ("elasticnet", "l2", "l1", None)


def check_parameters(estimator: LogisticRegression) -> None:
    """ValueError naming the first parameter that is out of bounds."""

    def check(name: str, good: bool, bound: str) -> None:
        if not good:
            raise ValueError(f"{name} is {getattr(estimator, name)!r}; must be {bound}")

    e = estimator
    check("penalty", e.penalty in _PENALTIES, "'elasticnet', 'l2', 'l1' or None")
    check("C", _is_real(e.C) and e.C > 0, "a number above 0, infinity for no penalty")
    check("l1_ratio", _is_real(e.l1_ratio) and 0 <= e.l1_ratio <= 1, "between 0 (l2) and 1 (l1)")
    check("dual", not e.dual, "False: the dual problem is not solved for; its gap is the certificate")
    check("tol", _is_real(e.tol) and 0 < e.tol < 1, "between 0 and 1")
    check("max_iter", _is_whole(e.max_iter) and e.max_iter >= 1, "a whole number of at least 1")
    check("solver", e.solver in SOLVERS, " or ".join(repr(name) for name in SOLVERS))
    balanced = e.class_weight is None or e.class_weight == "balanced"
    check("class_weight", balanced or isinstance(e.class_weight, dict), "None, 'balanced' or a dict")
    check("learning_rate", _is_real(e.learning_rate) and 0 < e.learning_rate < math.inf, "above 0")
    check("batch_size", _is_whole(e.batch_size) and e.batch_size >= 1, "a whole number of at least 1")


def solver_name(estimator: LogisticRegression, l1: float) -> str:
    """The solver of `flashlogit.fit` that is meant; ValueError for one that takes no l1 term."""
    solver = SOLVERS[estimator.solver]
    if solver == "newton-cg" and l1 > 0:
        raise ValueError(
            f"solver is 'newton-cg' with l1_ratio={estimator.l1_ratio}; it takes no l1 term: set solver to 'auto'"
        )
    # Asked for by scikit-learn's name, it need not be an error where there are too many columns for it.
    return "auto" if estimator.solver == "newton-cholesky" and estimator.n_features_in_ > 1000 else solver


def penalties(estimator: LogisticRegression, total: float) -> tuple[float, float]:
    """(l1, l2) of the mean loss, for the sum of weights S: scikit-learn's C multiplies the sum of losses."""
    if estimator.penalty is None or math.isinf(estimator.C):
        return 0.0, 0.0
    share = {"l2": 0.0, "l1": 1.0}.get(estimator.penalty, float(estimator.l1_ratio))
    strength = 1 / (estimator.C * total)
    return share * strength, (1 - share) * strength


def _is_real(value: Any) -> bool:
    kind: type = type(value)
    return isinstance(value, Real) and kind not in (bool, np.bool_) and not math.isnan(value)


def _is_whole(value: Any) -> bool:
    kind: type = type(value)
    return isinstance(value, Integral) and kind is not bool
