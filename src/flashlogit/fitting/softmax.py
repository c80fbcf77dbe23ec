"""The optimum of a softmax regression over more than two classes, and the proof of it, as a function of tensors.

    P(W, b) = 1/S sum_i s_i (logsumexp_k z_ik - z_i,y_i) + l1 ||W||_1 + l2/2 ||W||_F^2,      z = X W^T + b

`flashlogit.objectives.softmax` has the objective and its certificate; the solvers are those of two classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..objectives.softmax import SoftmaxObjective
from ..solvers.choose import SolverName, choose_softmax_solver
from ..solvers.unpenalised.softmax import UnpenalisedSoftmax
from ..system.threads import threads_for_passes
from .fit import Fit, FitState, Listener, Parameters, Stopwatch, check_fit, check_start, minimise


@threads_for_passes()
def fit_softmax(
    X: Tensor,
    y: Tensor,
    *,
    classes: int | None = None,
    sample_weight: Tensor | None = None,
    l1: float = 0.0,
    l2: float = 0.0,
    intercept: bool = True,
    solver: SolverName = "auto",
    tolerance: float = 1e-6,
    max_iterations: int = 1000,
    start: Parameters | FitState | None = None,
    names: Sequence[str] | None = None,
    on_point: Listener = lambda row, point: None,
) -> Fit:
    """Minimise P over the weights of K classes and their free, unpenalised intercepts.

    Args:
        X: [N, D] float64, float32, bfloat16 or float16, on any device; it is used in place if its rows or its columns
            lie contiguously, and else copied once.
        y: [N] class numbers from 0 to K - 1, of an integer dtype.
        classes: K, at least 2; default: the largest class number and 1.
        start: weight [K, D] and bias [K] to start from, or a state to go on from.
        sample_weight, l1, l2, intercept, solver, tolerance, max_iterations, names, on_point: as for `flashlogit.fit`.

    Returns:
        A `Fit` with weight [K, D] and bias [K], the intercepts adding up to 0.

    Raises:
        UserError: a solver that cannot take this problem.
        ValueError: an argument outside of these bounds, a class without a row, or values of X that are not finite.
        TypeError: a dtype that cannot be used.
    """
    watch = Stopwatch()
    X, y, sample_weight = check_fit(
        X, y, sample_weight, l1=l1, l2=l2, tolerance=tolerance, max_iterations=max_iterations
    )
    K = _classes(y, classes)
    D = X.shape[1]
    check_start(start, D, K)
    name = choose_softmax_solver(solver, D, K, l1=l1)
    objective = SoftmaxObjective(
        X, y.long(), K, sample_weight, l1=l1, l2=l2, intercept=intercept, tolerance=tolerance
    )
    begin: Tensor | FitState | None = None
    if isinstance(start, FitState):
        begin = start
    elif start is not None:
        weight, bias = (value.to(X.device, torch.float64) for value in start)
        begin = objective.settled(objective.from_user(weight.reshape(K, D).t(), bias.reshape(K)))

    def parameters(theta: Tensor) -> Parameters:
        weight, bias = objective.to_user(theta)
        return weight.t().contiguous(), bias

    return minimise(
        objective,
        lambda: UnpenalisedSoftmax(objective),
        begin,
        parameters,
        name=name,
        sampled=objective.penalised and name == "newton",
        tolerance=tolerance,
        max_iterations=max_iterations,
        names=names,
        on_point=on_point,
        watch=watch,
    )


def _classes(y: Tensor, classes: int | None) -> int:
    """K, where the labels are class numbers."""
    if y.dtype.is_floating_point or y.dtype.is_complex:
        raise TypeError(f"y is {y.dtype}; must be class numbers of an integer dtype")
    least, most = int(y.min()), int(y.max())
    K = max(2, most + 1) if classes is None else classes
    if K < 2:
        raise ValueError(f"classes is {classes}; must be at least 2")
    if least < 0 or most >= K:
        raise ValueError(
            f"y holds the class number {least if least < 0 else most}; must lie between 0 and {K - 1}"
        )
    return K
