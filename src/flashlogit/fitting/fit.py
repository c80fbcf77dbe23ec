"""The optimum of a logistic or softmax regression, and the proof of it, as a function of tensors.

    P(W, b) = 1/S sum_i s_i loss_i + l1 ||W||_1 + l2/2 ||W||_F^2

with the exact loss (eps = 0), in the units of X: see `flashlogit.objectives.objective` for the formula,
`flashlogit.objectives.certificate` for the proof and `flashlogit.solvers.choose` for the methods.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from flashlogit_kernels.checks import check_matrix, check_real, check_same_device, check_vector

from ..objectives.logistic import Logistic
from ..objectives.row_loss import check_weights
from ..objectives.softmax import Softmax
from ..passes import BackendName, choose_backend
from ..solvers.choose import SolverName
from ..solvers.driver import drive
from .task import Fit, FitOptions, FitPoint, FitState, FitTask, Listener, Parameters
from .tiny import tiny_fit

__all__ = ["Fit", "FitPoint", "FitState", "Listener", "Parameters", "fit", "fit_at_once", "fit_softmax"]


def fit(
    X: Tensor,
    y: Tensor,
    *,
    sample_weight: Tensor | None = None,
    l1: float = 0.0,
    l2: float = 0.0,
    intercept: bool = True,
    solver: SolverName = "auto",
    tolerance: float = 1e-6,
    max_iterations: int = 1000,
    start: Parameters | FitState | None = None,
    backend: BackendName = "auto",
    names: Sequence[str] | None = None,
    on_point: Listener | None = None,
) -> Fit:
    """Minimise P over the weights and a free, unpenalised intercept.

    Args:
        X: [N, D] float64, float32, bfloat16 or float16, on any device; it is used in place if its rows or its columns
            lie contiguously, and else copied once.
        y: [N] labels in [0, 1], soft ones too.
        sample_weight: [N], not negative; default ones.
        l1, l2: penalties as in P; scikit-learn's C is l2 = 1 / (C S), S being the sum of the weights.
        intercept: whether b is free; else it is 0.
        solver: auto, lbfgs, newton or newton-cg; see `flashlogit.solvers.choose`.
        tolerance: on the duality gap relative to the intercept-only model's objective; without a penalty on half the
            squared Newton decrement.
        max_iterations: evaluations of the objective over all rows and columns, at most.
        start: weights and intercept to start from, or the state of a point that `on_point` was given, to go on from;
            default: the null model, or with many rows what samples of them have for an optimum.
        backend: triton for the kernels, numba for loops compiled for the CPU, torch for the reference; auto takes the
            first that can run where X is. Without an l1 penalty, a start, a listener or a choice of another solver than
            newton a small table is fitted at once: by the kernels, with an l2 penalty, up to 200 KB and 63 columns; on
            a CPU up to 131,072 numbers and 128 columns, by a compiled loop or by plain steps.
        names: of the columns, for `Fit.notes`; default x0, x1, ...
        on_point: called for each accepted point with its history row, and a `FitPoint`, which called gives its
            parameters.

    Raises:
        UserError: a solver that cannot take this problem, or a backend that cannot be had.
        ValueError: an argument outside of these bounds, values of X that are not finite, or a state of another solver
            or of another problem's size.
        TypeError: a dtype that cannot be used.
    """
    options = FitOptions(l1, l2, solver, tolerance, max_iterations, start, names, on_point)
    X, y, sample_weight = checked(X, y, sample_weight)
    chosen = choose_backend(backend, X.device)
    found = tiny_fit(X, y, sample_weight, options, intercept=intercept, backend=chosen.name)
    if found is not None:
        return found
    task = FitTask(X, Logistic.of(y, sample_weight, chosen.passes, intercept=intercept), options)
    return task.finished(drive(task.objective, task.method, task.limits))


def fit_at_once(
    X: Tensor,
    y: Tensor,
    *,
    classes: int | None = None,
    sample_weight: Tensor | None = None,
    intercept: bool = True,
    **options: Any,
) -> Fit | None:
    """Return the fit of a small table on a CPU by plain steps, which waits for no compiler; None where it has none.

    Args:
        X, y, sample_weight, intercept: as for `fit`, or with `classes` as for `fit_softmax`.
        classes: K of a softmax; default: two classes that share their weights.
        options: `FitOptions`; with a start or a listener there is no such fit.

    Raises:
        ValueError, TypeError: an argument that `fit`, or `fit_softmax`, would not take.
    """
    given = FitOptions(**options)
    X, y, sample_weight = checked(X, y, sample_weight)
    if classes is None:
        return tiny_fit(X, y, sample_weight, given, intercept=intercept, backend="torch")
    K = _classes(y, classes)
    return tiny_fit(X, y.long(), sample_weight, given, intercept=intercept, backend="torch", classes=K)


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
    on_point: Listener | None = None,
    backend: BackendName = "auto",
) -> Fit:
    """Minimise P over the weights of K classes and their free, unpenalised intercepts.

    Args:
        X: as for `fit`.
        y: [N] class numbers from 0 to K - 1, of an integer dtype.
        classes: K, at least 2; default: the largest class number and 1.
        start: weight [K, D] and bias [K] to start from, or a state to go on from.
        sample_weight, l1, l2, intercept, solver, tolerance, max_iterations, names, on_point: as for `fit`.
        backend: numba for loops compiled for the CPU; triton and torch are torch's products; auto as for `fit`. Where
            `fit` would fit a small table at once, and l2 is positive, so is a softmax on a CPU, by plain steps: of up
            to 320 weights and intercepts, 32,768 logits, and N (D + 1) K (K - 1) / 2 = 524,288.

    Returns:
        A `Fit` with weight [K, D] and bias [K], the intercepts adding up to 0.

    Raises:
        UserError: a solver that cannot take this problem.
        ValueError: an argument outside of these bounds, a class without a row, or values of X that are not finite.
        TypeError: a dtype that cannot be used.
    """
    options = FitOptions(l1, l2, solver, tolerance, max_iterations, start, names, on_point)
    X, y, sample_weight = checked(X, y, sample_weight)
    chosen, K, y = choose_backend(backend, X.device), _classes(y, classes), y.long()
    found = tiny_fit(X, y, sample_weight, options, intercept=intercept, backend=chosen.name, classes=K)
    if found is not None:
        return found
    if sample_weight is not None:
        check_weights(negative=not bool((sample_weight >= 0).all()), total=float(sample_weight.sum()))
    loss = Softmax.of(y, K, sample_weight, intercept=intercept, loops=chosen.class_loops)
    task = FitTask(X, loss, options)
    return task.finished(drive(task.objective, task.method, task.limits))


def checked(X: Tensor, y: Tensor, sample_weight: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return X, y and sample_weight as every pass reads them, copied only where they do not lie so in memory.

    Looks at no values.

    Raises:
        TypeError, ValueError: naming the argument at fault.
    """
    X = check_matrix(X)
    N = X.shape[0]
    check_vector("y", y, N)
    check_vector("sample_weight", sample_weight, N)
    check_same_device(X, {"y": y, "sample_weight": sample_weight})
    check_real({"y": y, "sample_weight": sample_weight})
    if N == 0:
        raise ValueError(f"X is {list(X.shape)}: there are no rows; a fit needs rows of both classes")
    return X, y.detach().contiguous(), None if sample_weight is None else sample_weight.detach().contiguous()


def _classes(y: Tensor, classes: int | None) -> int:
    """Return K, where the labels are class numbers."""
    if y.dtype.is_floating_point or y.dtype.is_complex:
        raise TypeError(f"y is {y.dtype}; must be class numbers of an integer dtype")
    least, most = int(y.min()), int(y.max())
    K = max(2, most + 1) if classes is None else classes
    if K < 2:
        raise ValueError(f"classes is {classes}; must be at least 2")
    if least < 0 or most >= K:
        raise ValueError(f"y holds the class number {least if least < 0 else most}; must lie between 0 and {K - 1}")
    return K
