"""The estimator's parameters: their bounds, and what they mean in the words of `flashlogit.fit`."""

from __future__ import annotations

import math
import warnings
from numbers import Integral, Real
from typing import Any, get_args

from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Hidden, Interval, StrOptions

from ..fitting.fit import Fit
from ..passes import BackendName
from ..solvers.choose import SolverName

SOLVERS = {name: name for name in get_args(SolverName)}
SOLVERS |= dict.fromkeys(("newton-cholesky", "liblinear", "sag", "saga"), "auto")
"""scikit-learn's names and what they mean here: any solver ends at the same, certified optimum."""
_L1_RATIOS = {"l2": 0.0, "l1": 1.0}
"""What a penalty sets `l1_ratio` to."""
_LOOSEST = 0.5
"""Largest relative gap that a fit is asked for: the intercept-only model's is at most 1."""

_CALLED = {"l2": "a finite C", "tolerance": "tol", "max_iterations": "max_iter"}
"""What the estimator's user calls the parameters that a fit's notes speak of."""

CONSTRAINTS = {
    # "deprecated" is scikit-learn's own default, which leaves it to C and l1_ratio, as elasticnet does.
    "penalty": [StrOptions({"elasticnet", "l2", "l1"}), Hidden(StrOptions({"deprecated"})), None],
    "C": [Interval(Real, 0, None, closed="right")],
    "l1_ratio": [Interval(Real, 0, 1, closed="both")],
    "dual": ["boolean"],
    "tol": [Interval(Real, 0, None, closed="neither")],
    "fit_intercept": ["boolean"],
    "class_weight": [dict, StrOptions({"balanced"}), None],
    "random_state": ["random_state"],
    "solver": [StrOptions(set(SOLVERS))],
    "max_iter": [Interval(Integral, 0, None, closed="left")],
    "verbose": [Interval(Real, 0, None, closed="left"), "boolean"],
    "warm_start": ["boolean"],
    "backend": [StrOptions(set(get_args(BackendName)))],
    "learning_rate": [Interval(Real, 0, None, closed="neither")],
    "batch_size": [Interval(Integral, 1, 2**63, closed="left")],
}
"""Bounds of the parameters, for scikit-learn's validation. `device` is checked where it is resolved."""


def check_parameters(e: BaseEstimator) -> None:
    """Raise ValueError naming the first parameter that is out of bounds; warn of those that `penalty` overrides."""
    e._validate_params()
    if e.dual:
        raise ValueError("dual is True; must be False: the dual problem is not solved for; its gap is the certificate")
    for label, value in e.class_weight.items() if isinstance(e.class_weight, dict) else ():
        if not (isinstance(value, Real) and 0 <= float(value) < math.inf):
            raise ValueError(
                f"class_weight has {value!r} for the class {label!r}; must be a number of at least 0, and finite"
            )
    if SOLVERS[e.solver] == "newton-cg" and e.penalty is not None and math.isfinite(e.C) and _l1_ratio(e) > 0:
        by = "penalty='l1'" if e.penalty == "l1" else f"l1_ratio={e.l1_ratio}"
        raise ValueError(f"solver is 'newton-cg' with {by}; it takes no l1 term: set solver to 'auto'")
    # scikit-learn warns of these, too.
    if e.penalty is None and (e.C != 1.0 or e.l1_ratio != 0.0):
        warnings.warn("Setting penalty=None will ignore the C and l1_ratio parameters", UserWarning, stacklevel=3)
    if e.l1_ratio not in (0.0, _l1_ratio(e)):
        warnings.warn(
            f"penalty={e.penalty!r} ignores l1_ratio={e.l1_ratio}; leave penalty out to go by l1_ratio",
            UserWarning,
            stacklevel=3,
        )


def penalties(e: BaseEstimator, total: float) -> dict[str, float]:
    """Return l1 and l2 of the mean loss for the sum of weights S: scikit-learn's C multiplies the sum of losses.

    Raises:
        ValueError: C and weights so small that 1 / (C S) is beyond all numbers.
    """
    if e.penalty is None or math.isinf(e.C):
        return {"l1": 0.0, "l2": 0.0}
    product = float(e.C) * total
    strength = 1 / product if product > 0 else math.inf
    if math.isinf(strength):
        raise ValueError(
            f"C is {e.C:g} and the weights add up to {total:g}; their product must be above 1e-308, as"
            " 1 / (C S) is the strength of the penalty: take a larger C, or weights about 1"
        )
    return {"l1": _l1_ratio(e) * strength, "l2": (1 - _l1_ratio(e)) * strength}


def fit_options(e: BaseEstimator, total: float) -> dict[str, Any]:
    """Return the keywords of `flashlogit.fit` and `fit_softmax` for the sum of weights S."""
    names = getattr(e, "feature_names_in_", None)
    return {
        **penalties(e, total),
        "intercept": bool(e.fit_intercept),
        "solver": SOLVERS[e.solver],
        "tolerance": min(float(e.tol), _LOOSEST),
        "max_iterations": e.max_iter,
        "names": None if names is None else names.tolist(),
    }


def sklearn_options(e: BaseEstimator) -> dict[str, Any]:
    """Return the keywords of scikit-learn's LogisticRegression with which a clone of it would be fitted alike."""
    C, l1_ratio = (math.inf if e.penalty is None else e.C), _l1_ratio(e)
    same = ("fit_intercept", "class_weight", "random_state", "max_iter", "warm_start")
    # Only saga takes an l1 term there.
    solver = "saga" if l1_ratio > 0 and math.isfinite(C) else "lbfgs"
    return {"C": C, "l1_ratio": l1_ratio, "solver": solver, **{name: getattr(e, name) for name in same}}


def shortfall(result: Fit | None) -> str:
    """Return a sentence on a fit that has not converged, or was none as `max_iter` is 0, in the estimator's words."""
    if result is None:
        return "max_iter is 0: the coefficients are where a fit starts, and nothing is known of their gap"
    return "; ".join(result.notes_with(_CALLED))


def _l1_ratio(e: BaseEstimator) -> float:
    return _L1_RATIOS.get(e.penalty or "", float(e.l1_ratio))
