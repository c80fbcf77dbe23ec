"""What the estimator's parameters may be, and what they mean for a fit."""

from __future__ import annotations

import math
import warnings
from collections.abc import Container
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils import check_random_state

if TYPE_CHECKING:
    from .logistic_regression import LogisticRegression

SOLVERS = {
    "auto": "auto",
    "lbfgs": "lbfgs",
    "newton": "newton",
    "newton-cg": "newton-cg",
    "newton-cholesky": "auto",
    "liblinear": "auto",
    "sag": "auto",
    "saga": "auto",
}
"""scikit-learn's names and what they mean here: any solver ends at the same, certified optimum."""
_PENALTIES = ("elasticnet", "l2", "l1", None, "deprecated")
"""The last is scikit-learn's own default, which leaves it to C and l1_ratio, as elasticnet does."""
_BACKENDS = ("auto", "triton", "torch")
_LOOSEST = 0.5
"""Relative gap: the intercept-only model itself is within 1."""
_OWN_WORDS = {
    "max_iterations": "max_iter",
    "larger tolerance": "larger tol",
    " (l2)": "",
}
"""Parameters of a fit that its notes name, and what they are called here."""


def check_parameters(estimator: LogisticRegression) -> None:
    """ValueError naming the first parameter that is out of bounds; a warning for those that penalty overrides."""

    def check(name: str, good: bool, bound: str) -> None:
        if not good:
            raise ValueError(f"{name} is {getattr(estimator, name)!r}; must be {bound}")

    e = estimator
    check("penalty", _is_among(e.penalty, _PENALTIES), "'elasticnet', 'l2', 'l1' or None")
    check("C", _is_real(e.C) and e.C > 0, "a number above 0, infinity for no penalty")
    check("l1_ratio", _is_real(e.l1_ratio) and 0 <= e.l1_ratio <= 1, "between 0 (l2) and 1 (l1)")
    dual = "False: the dual problem is not solved for; its gap is the certificate"
    check("dual", _is_bool(e.dual) and not e.dual, dual)
    check("tol", _is_real(e.tol) and 0 < e.tol < math.inf, "a number above 0")
    for name in ("fit_intercept", "warm_start"):
        check(name, _is_bool(getattr(e, name)), "True or False")
    check("max_iter", _is_whole(e.max_iter) and e.max_iter >= 0, "a whole number of at least 0")
    check("solver", _is_among(e.solver, SOLVERS), " or ".join(repr(name) for name in SOLVERS))
    _check_class_weight(e.class_weight)
    check(
        "verbose", _is_bool(e.verbose) or (_is_real(e.verbose) and e.verbose >= 0), "a number of at least 0"
    )
    check("backend", _is_among(e.backend, _BACKENDS), "'auto', 'triton' or 'torch'")
    check("learning_rate", _is_real(e.learning_rate) and 0 < e.learning_rate < math.inf, "above 0")
    whole = _is_whole(e.batch_size) and 1 <= e.batch_size < 2**63
    check("batch_size", whole, "a whole number of at least 1")
    check_random_state(e.random_state)
    _warn_of_overridden(e)


def _check_class_weight(weights: Any) -> None:
    if weights is None or _is_among(weights, ("balanced",)):
        return
    if not isinstance(weights, dict):
        raise ValueError(f"class_weight is {weights!r}; must be None, 'balanced' or a dict")
    for label, value in weights.items():
        if not (_is_real(value) and 0 <= value < math.inf):
            raise ValueError(
                f"class_weight has {value!r} for the class {label!r}; must be a number of at least 0, and finite"
            )


def _warn_of_overridden(e: LogisticRegression) -> None:
    """What scikit-learn warns of, too."""
    if e.penalty is None and (e.C != 1.0 or e.l1_ratio != 0.0):
        warnings.warn(
            "Setting penalty=None will ignore the C and l1_ratio parameters", UserWarning, stacklevel=4
        )
    meant = {"l2": 0.0, "l1": 1.0}.get(e.penalty or "")
    if meant is not None and e.l1_ratio not in (0.0, meant):
        warnings.warn(
            f"penalty={e.penalty!r} ignores l1_ratio={e.l1_ratio}; leave penalty out to go by l1_ratio",
            UserWarning,
            stacklevel=4,
        )


def tolerance(estimator: LogisticRegression) -> float:
    """`tol` as a bound on the relative gap, which is never above 1."""
    return min(float(estimator.tol), _LOOSEST)


def own_words(sentence: str) -> str:
    """A solver's sentence with the estimator's names for what a run calls otherwise."""
    for setting, parameter in _OWN_WORDS.items():
        sentence = sentence.replace(setting, parameter)
    return sentence


def solver_name(estimator: LogisticRegression, l1: float) -> str:
    """The solver of `flashlogit.fit` that is meant; ValueError for one that takes no l1 term."""
    solver = SOLVERS[estimator.solver]
    if solver == "newton-cg" and l1 > 0:
        by = "penalty='l1'" if estimator.penalty == "l1" else f"l1_ratio={estimator.l1_ratio}"
        raise ValueError(f"solver is 'newton-cg' with {by}; it takes no l1 term: set solver to 'auto'")
    return solver


def penalties(estimator: LogisticRegression, total: float) -> tuple[float, float]:
    """(l1, l2) of the mean loss, for the sum of weights S: scikit-learn's C multiplies the sum of losses.

    Raises:
        ValueError: C and weights so small that 1 / (C S) is beyond all numbers.
    """
    if estimator.penalty is None or math.isinf(estimator.C):
        return 0.0, 0.0
    share = {"l2": 0.0, "l1": 1.0}.get(estimator.penalty, float(estimator.l1_ratio))
    product = float(estimator.C) * total
    strength = 1 / product if product > 0 else math.inf
    if math.isinf(strength):
        raise ValueError(
            f"C is {estimator.C:g} and the weights add up to {total:g}; their product must be above 1e-308, as"
            " 1 / (C S) is the strength of the penalty: take a larger C, or weights about 1"
        )
    return share * strength, (1 - share) * strength


def _is_among(value: Any, choices: Container[Any]) -> bool:
    return (value is None or isinstance(value, str)) and value in choices


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool | np.bool_)


def _is_real(value: Any) -> bool:
    kind: type = type(value)
    return isinstance(value, Real) and kind not in (bool, np.bool_) and not math.isnan(value)


def _is_whole(value: Any) -> bool:
    kind: type = type(value)
    return isinstance(value, Integral) and kind is not bool
