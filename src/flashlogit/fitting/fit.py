"""The optimum of a logistic or softmax regression, and the proof of it, as a function of tensors.

    P(W, b) = 1/S sum_i s_i loss_i + l1 ||W||_1 + l2/2 ||W||_F^2

with the exact loss (eps = 0), in the units of X: see `flashlogit.objectives.objective` for the formula,
`flashlogit.objectives.certificate` for the proof and `flashlogit.solvers.choose` for the methods.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from flashlogit_kernels.checks import check_matrix, check_same_device, check_vector
from flashlogit_kernels.gpu.resources import compile_seconds

from ..objectives.logistic import Logistic
from ..objectives.objective import Objective, RowLoss
from ..objectives.softmax import Softmax
from ..passes.backend import BackendName, choose_backend
from ..solvers.choose import SolverName, choose_method, make_method
from ..solvers.driver import HistoryRow, Limits, Outcome, Progress, drive
from ..solvers.method import Method, Start, State, of_shapes
from ..solvers.start import start_from_sample
from ..solvers.unpenalised.problem import Unpenalised
from ..solvers.unpenalised.separation import separation_message
from ..system.threads import threads_as_before, threads_for_passes
from .result import Fit, FitPoint, FitState, Listener, Parameters, parameters_of, theta_of

__all__ = ["Fit", "FitPoint", "FitState", "Listener", "Parameters", "fit", "fit_softmax"]

_ROUNDING = 1e-14
"""A start that is worse by no more than this share of the null model's P is as good."""


@dataclass(frozen=True)
class FitOptions:
    """The options of a fit, as `fit` documents them."""

    l1: float
    l2: float
    solver: SolverName
    tolerance: float
    max_iterations: int
    start: Parameters | FitState | None
    names: Sequence[str] | None
    on_point: Listener | None

    def __post_init__(self) -> None:
        for name, value in (("l1", self.l1), ("l2", self.l2)):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} is {value}; must be at least 0 and finite")
        if not 0 < self.tolerance < 1:
            raise ValueError(f"tolerance is {self.tolerance}; must lie between 0 and 1")
        if self.max_iterations < 1:
            raise ValueError(f"max_iterations is {self.max_iterations}; must be at least 1")


class Stopwatch:
    """Times a fit from where it is made, and tells compilation apart."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self._compiled = compile_seconds()

    def read(self) -> tuple[float, float]:
        """Return the seconds since then without compilation, and those of compilation."""
        elapsed = time.perf_counter() - self.began
        compiling = compile_seconds() - self._compiled
        return elapsed - compiling, compiling


@threads_for_passes()
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
        max_iterations: evaluations of the objective, at most.
        start: weights and intercept to start from, or the state of a point that `on_point` was given, to go on from;
            default: the optimum of a sample of the rows.
        backend: triton for the kernels, torch for the reference; auto takes the kernels where they can run.
        names: of the columns, for `Fit.notes`; default x0, x1, ...
        on_point: called for each accepted point with its history row, and a `FitPoint`, which called gives its
            parameters.

    Raises:
        UserError: a solver that cannot take this problem, or a backend that cannot be had.
        ValueError: an argument outside of these bounds, values of X that are not finite, or a state of another solver
            or of another problem's size.
        TypeError: a dtype that cannot be used.
    """
    watch = Stopwatch()
    options = FitOptions(
        l1=l1,
        l2=l2,
        solver=solver,
        tolerance=tolerance,
        max_iterations=max_iterations,
        start=start,
        names=names,
        on_point=on_point,
    )
    X, y, sample_weight = _checked(X, y, sample_weight)
    if not (bool((y >= 0).all()) and bool((y <= 1).all())):
        raise ValueError("y holds a label outside [0, 1], or NaN; labels must lie in [0, 1]")
    passes = choose_backend(backend, X.device).passes
    task = _Task(X, Logistic.of(y, sample_weight, passes, intercept=intercept), options, watch)
    return task.finished(drive(task.problem, task.method, task.limits))


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
    on_point: Listener | None = None,
) -> Fit:
    """Minimise P over the weights of K classes and their free, unpenalised intercepts.

    Args:
        X: as for `fit`.
        y: [N] class numbers from 0 to K - 1, of an integer dtype.
        classes: K, at least 2; default: the largest class number and 1.
        start: weight [K, D] and bias [K] to start from, or a state to go on from.
        sample_weight, l1, l2, intercept, solver, tolerance, max_iterations, names, on_point: as for `fit`.

    Returns:
        A `Fit` with weight [K, D] and bias [K], the intercepts adding up to 0.

    Raises:
        UserError: a solver that cannot take this problem.
        ValueError: an argument outside of these bounds, a class without a row, or values of X that are not finite.
        TypeError: a dtype that cannot be used.
    """
    watch = Stopwatch()
    options = FitOptions(
        l1=l1,
        l2=l2,
        solver=solver,
        tolerance=tolerance,
        max_iterations=max_iterations,
        start=start,
        names=names,
        on_point=on_point,
    )
    X, y, sample_weight = _checked(X, y, sample_weight)
    loss = Softmax.of(y.long(), _classes(y, classes), sample_weight, intercept=intercept)
    task = _Task(X, loss, options, watch)
    return task.finished(drive(task.problem, task.method, task.limits))


class _Task:
    """A fit between its call and its result: what the driver is given."""

    def __init__(self, X: Tensor, loss: RowLoss, options: FitOptions, watch: Stopwatch) -> None:
        self._options, self._watch = options, watch
        D, start = X.shape[1], options.start
        if isinstance(start, tuple) and (
            start[0].numel() != D * loss.columns or start[1].numel() != loss.columns
        ):
            raise ValueError(
                f"start has {start[0].numel()} weights and {start[1].numel()} intercepts; must be"
                f" {D * loss.columns} and {loss.columns}"
            )
        self._name = choose_method(options.solver, D, outputs=loss.columns, l1=options.l1)
        objective = Objective.of(X, loss, l1=options.l1, l2=options.l2, tolerance=options.tolerance)
        self._unpenalised = None if objective.penalised else Unpenalised(objective)
        self._objective = self._unpenalised.objective if self._unpenalised else objective
        self.problem = self._unpenalised or objective
        self._notes: list[str] = []
        self._saved: Tensor | None = None
        if isinstance(start, FitState):
            self.method, self._saved = self._resumed(start)
            watch.began -= float(self._saved[-1])
        else:
            self.method = self._started(start)

    @property
    def limits(self) -> Limits:
        """How far the method goes: not kept, for it knows this task, and X would outlive a circle."""
        options = self._options
        return Limits(
            options.tolerance, options.max_iterations, self._on_point, self._watch.began, self._saved
        )

    def finished(self, outcome: Outcome) -> Fit:
        """Return the result of a run of the driver, and say how it went."""
        options, objective, unpenalised = self._options, self._objective, self._unpenalised
        separation, theta = None, outcome.point.theta
        if unpenalised:
            separation = unpenalised.separation(outcome)
            theta, outcome.certificate = unpenalised.optimum(outcome)
        elif outcome.ending == "precision":
            # Rounding may hide the gap of a weak penalty: what stands in for one may be small enough.
            certificate = Unpenalised(objective).certify(outcome.point)
            if certificate.relative <= options.tolerance:
                outcome.certificate, outcome.ending = certificate, "tolerance"
                outcome.history[-1] |= {"gap": certificate.gap, "relative_gap": certificate.relative}
        weight, bias = parameters_of(objective, theta)
        X, passes = objective.X, objective.counter.passes
        names = options.names or [f"x{j}" for j in range(X.shape[1])]
        notes = [*self._notes, *(unpenalised.notes(names) if unpenalised else [])]
        if separation:
            notes.append(separation_message(separation, names))
        elif outcome.ending != "tolerance":
            notes.append(_shortfall(outcome, options.tolerance))
        seconds, compiling = self._watch.read()
        return Fit(
            weight=weight,
            bias=bias,
            certificate=outcome.certificate,
            tolerance=options.tolerance,
            solver=self._name,
            ending=outcome.ending,
            iterations=outcome.iterations,
            passes=passes,
            bytes_read=passes * X.numel() * X.element_size(),
            seconds=seconds,
            compile_seconds=compiling,
            history=outcome.history,
            notes=tuple(notes),
            separation=separation,
        )

    def _on_point(self, row: HistoryRow, state: State) -> None:
        if self._options.on_point is not None:
            with threads_as_before():
                self._options.on_point(row, FitPoint(FitState(self._name, state), self._objective))

    def _make(self, start: Start) -> Method:
        return make_method(self._name, self._objective, start)

    def _resumed(self, state: FitState) -> tuple[Method, Tensor]:
        """Return the method that goes on from a state, and what the driver knew there."""
        if state.solver != self._name:
            raise ValueError(
                f"start is a state of the solver {state.solver}; must be of {self._name} to go on from"
            )
        # Copied, for a file's tensors lie in memory as they come, and products of such differ in their last digits.
        tensors = {
            key: tensor.to(self._objective.X.device, copy=True) for key, tensor in state.tensors.items()
        }
        (saved,) = of_shapes(tensors, driver=(Progress.SAVED,))
        known = [saved[-Progress.COUNTS :], *(tensor for key, tensor in tensors.items() if key != "driver")]
        if bool(saved.isnan().any()) or not all(bool(each.isfinite().all()) for each in known):
            raise ValueError(
                "start is a state with values that are not finite; take one that `on_point` was given"
            )
        return self._make(Start.resumed(self._objective, tensors, self._options.tolerance)), saved

    def _started(self, given: Parameters | None) -> Method:
        """Return the method at the first start that is no worse than the null model.

        From a worse one the steps lead through points where float64 sees no curvature; some runs ended there.
        """
        objective, tolerance = self._objective, self._options.tolerance
        bound = (1 + _ROUNDING) * objective.null_value
        if given is not None:
            theta = theta_of(objective, given)
            method = self._make(Start(theta, tolerance))
            value = method.search.numbers.value
            if value <= bound:
                return method
            if not bool(theta.isfinite().all()):
                raise ValueError(
                    "start holds a value that is not finite; weights and intercepts must be finite"
                )
            self._notes.append(
                f"the start is left out: the objective is {value:.3g} there, and {objective.null_value:.3g} at the"
                " null model"
            )
        null = first = Start(objective.null_theta(), tolerance)
        # A sample may be separated where the whole is not, and a softmax's is worth its passes to Newton's method only.
        if objective.penalised and (objective.loss.columns == 1 or self._name == "newton"):
            first = start_from_sample(objective, null)
        method = self._make(first)
        if first is not null and not method.search.numbers.value <= bound:
            method = self._make(null)
        if not math.isfinite(method.search.numbers.value):
            raise ValueError(
                "the objective is not finite at the null model; X, y and sample_weight must be finite"
            )
        return method


def _shortfall(outcome: Outcome, tolerance: float) -> str:
    """Return a sentence on a run that did not reach its tolerance, and what to do."""
    what = "gap" if outcome.certificate.kind == "gap" else "half squared Newton decrement"
    gap, count = outcome.certificate.relative, outcome.iterations
    reached = f"the {what} is {gap:.1e} of the null model's objective, and {tolerance:g} was asked for"
    if outcome.ending == "limit":
        return (
            f"stopped at the limit of {count} iteration{'s' if count != 1 else ''}: {reached}; raise"
            " solver.max_iterations, or take a larger solver.tolerance or penalty"
        )
    return (
        f"stopped where rounding ends all progress: {reached}; take a larger solver.tolerance or penalty, or store X as"
        " float64 if its columns are nearly collinear"
    )


def _checked(X: Tensor, y: Tensor, sample_weight: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return X, y and sample_weight as every pass reads them, copied only where they do not lie so in memory.

    Raises:
        TypeError, ValueError: naming the argument at fault.
    """
    X = check_matrix(X)
    N = X.shape[0]
    check_vector("y", y, N)
    check_vector("sample_weight", sample_weight, N)
    check_same_device(X, {"y": y, "sample_weight": sample_weight})
    if N == 0:
        raise ValueError(f"X is {list(X.shape)}: there are no rows; a fit needs rows of both classes")
    if sample_weight is not None and not (
        bool((sample_weight >= 0).all()) and 0 < float(sample_weight.sum()) < math.inf
    ):
        raise ValueError(
            "sample_weight holds a negative or NaN value, or only zeros; weights must be at least 0, and finite"
        )
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
        raise ValueError(
            f"y holds the class number {least if least < 0 else most}; must lie between 0 and {K - 1}"
        )
    return K
