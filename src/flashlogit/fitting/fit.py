"""The optimum of a logistic regression, and the proof of it, as a function of tensors.

    P(w, b) = 1/S sum_i s_i loss_i + l1 ||w||_1 + l2/2 ||w||_2^2

with the exact loss (eps = 0), in the units of X: `mathematics` of the certificate are in
`flashlogit.objectives.certificate`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from flashlogit_kernels.checks import check_matrix, check_same_device, check_vector
from flashlogit_kernels.gpu.resources import compile_seconds

from ..objectives.certificate import Certificate
from ..objectives.logistic import ConvexObjective
from ..passes.backend import BackendName, choose_backend
from ..solvers.choose import SolverName, choose_solver
from ..solvers.driver import PROGRESS, Ending, HistoryRow, Outcome, Solver, State, drive, of_shapes
from ..solvers.methods import make_solver, resumed_solver
from ..solvers.problem import Problem, WithoutPenalty
from ..solvers.start import start_from_sample
from ..solvers.unpenalised.logistic import Unpenalised
from ..solvers.unpenalised.separation import Separation, separation_message
from ..system.threads import threads_as_before, threads_for_passes

_ROUNDING = 1e-14
"""A start that is worse by no more than this share of the null model's P is as good."""

Parameters = tuple[Tensor, Tensor]
"""(weight [D], bias [1]), or [K, D] and [K] of K classes, float64, in the units of X."""


@dataclass(frozen=True)
class FitState:
    """A fit at an accepted point, from which another one of the same data, penalties and solver goes on.

    With the same number of threads it goes on as if it had never stopped, to the last bit.
    """

    solver: str
    """The method, as in `Fit.solver`."""
    tensors: State
    """What it knows, by name: to be saved as they are."""


@dataclass(frozen=True)
class FitPoint:
    """An accepted point of a fit: called, it gives its parameters."""

    state: FitState
    """What to go on from it with."""
    to_user: Callable[[Tensor], Parameters] = field(repr=False)

    def __call__(self) -> Parameters:
        """Weights and intercepts, in the units of X."""
        return self.to_user(self.state.tensors["theta"])


Listener = Callable[[HistoryRow, FitPoint], object]
"""Hears of an accepted point, and of its row in the history."""


@dataclass(frozen=True)
class Fit:
    """A fitted model, and what is known about it."""

    weight: Tensor
    """[D] float64, in the units of X; [K, D] for more than two classes."""
    bias: Tensor
    """[1] float64, or [K]; 0 without an intercept."""
    certificate: Certificate
    """How far from the optimum it is at most."""
    tolerance: float
    """What was asked for of `certificate.relative`."""
    solver: str
    """The method that ran."""
    ending: Ending
    """Why it ended."""
    iterations: int
    """Evaluations of the objective over all rows, after the first."""
    passes: float
    """Reads of X; a read of a part of its rows counts as that part."""
    bytes_read: float
    """By those."""
    seconds: float
    """From the call to its end, without `compile_seconds`."""
    compile_seconds: float
    """Within the fit, until kernels were compiled, or loaded from Triton's cache."""
    history: list[HistoryRow] = field(repr=False)
    """A row for each accepted point; its seconds are those since the call, with any compilation."""
    notes: tuple[str, ...] = ()
    """Sentences for the user: how it ended if not well, collinear columns, separated classes."""
    separation: Separation | None = None
    """Whether the classes are separated, so that an unpenalised objective has no optimum."""

    @property
    def converged(self) -> bool:
        """Whether there is an optimum, and the certificate is within the tolerance."""
        return self.ending == "tolerance" and self.separation is None

    @property
    def objective(self) -> float:
        """P at the solution, in nats."""
        return self.certificate.objective

    @property
    def gap(self) -> float:
        """Proven bound on P - P*, in nats; see `Certificate.kind`."""
        return self.certificate.gap

    @property
    def relative_gap(self) -> float:
        """The same as a share of the null model's objective."""
        return self.certificate.relative


class Stopwatch:
    """Times a fit from where it is made, and tells compilation apart."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self._compiled = compile_seconds()

    def read(self) -> tuple[float, float]:
        """Seconds since then without compilation, and those of compilation."""
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
    on_point: Listener = lambda row, point: None,
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
        start: weights and intercept to start from, or the state of a point that `on_point` heard of, to go on from;
            default: the optimum of a sample of the rows.
        backend: triton for the kernels, torch for the reference; auto takes the kernels where they can run.
        names: of the columns, for `Fit.notes`; default x0, x1, ...
        on_point: hears of each accepted point: its history row, and a `FitPoint`, which called gives its parameters.

    Raises:
        UserError: a solver that cannot take this problem, or a backend that cannot be had.
        ValueError: an argument outside of these bounds, values of X that are not finite, or a state of another solver
            or of another problem's size.
        TypeError: a dtype that cannot be used.
    """
    watch = Stopwatch()
    X, y, sample_weight = check_fit(
        X, y, sample_weight, l1=l1, l2=l2, tolerance=tolerance, max_iterations=max_iterations
    )
    _check_labels(y)
    check_start(start, X.shape[1], 1)
    name = choose_solver(solver, *X.shape, l1=l1)
    chosen = choose_backend(backend, X.device)
    objective = ConvexObjective(
        X, y, sample_weight, chosen.passes, l1=l1, l2=l2, intercept=intercept, tolerance=tolerance
    )
    begin: Tensor | FitState | None = None
    if isinstance(start, FitState):
        begin = start
    elif start is not None:
        weight, bias = (value.to(X.device, torch.float64) for value in start)
        begin = objective.coordinates.from_user(weight.reshape(-1, 1), bias.reshape(1))
    return minimise(
        objective,
        lambda: Unpenalised(objective),
        begin,
        lambda theta: _parameters(objective, theta),
        name=name,
        sampled=objective.penalised,  # a sample may be separated where the whole is not
        tolerance=tolerance,
        max_iterations=max_iterations,
        names=names,
        on_point=on_point,
        watch=watch,
    )


def minimise(
    objective: Problem,
    without_penalty: Callable[[], WithoutPenalty],
    start: Tensor | FitState | None,
    parameters: Callable[[Tensor], Parameters],
    *,
    name: str,
    sampled: bool,
    tolerance: float,
    max_iterations: int,
    names: Sequence[str] | None,
    on_point: Listener,
    watch: Stopwatch,
) -> Fit:
    """Run a solver to its certificate, and say how it went; the rest as for `fit`.

    Args:
        without_penalty: makes what stands in for the duality gap where there is no penalty to prove one by.
        start: theta [P, 1], or a state to go on from, if one is given.
        parameters: (weight, bias) of a theta.
        name: of the solver.
        sampled: whether a sample of the rows may give a start.
        watch: made when the fit began.
    """

    def heard(row: HistoryRow, state: State) -> None:
        with threads_as_before():
            on_point(row, FitPoint(FitState(name, state), parameters))

    unpenalised = None if objective.penalised else without_penalty()
    progress: Tensor | None = None
    left_out: list[str] = []
    if isinstance(start, FitState):
        solver, progress = _resumed(objective, start, name, tolerance)
        watch.began -= float(progress[PROGRESS.index("seconds")])
    else:
        solver, left_out = _started(objective, start, name, sampled, tolerance)
    outcome = drive(
        objective,
        solver,
        tolerance=tolerance,
        iterations=max_iterations,
        certify=unpenalised.certify if unpenalised else lambda solver: objective.certify(solver.search.theta),
        on_point=heard,
        resumed=progress,
        separated=unpenalised.separated if unpenalised else lambda: False,
        began=watch.began,
    )
    if unpenalised is None and outcome.ending == "precision":
        _without_gap(outcome, without_penalty(), solver, tolerance)
    separation, theta, certificate = None, outcome.theta, outcome.certificate
    if unpenalised:
        separation = unpenalised.separation(outcome)
        theta, certificate = unpenalised.optimum(outcome)
    weight, bias = parameters(theta)
    X = objective.X
    names = names or [f"x{j}" for j in range(X.shape[1])]
    notes = [*left_out, *(unpenalised.notes(names) if unpenalised else [])]
    if separation:
        notes.append(separation_message(separation, names))
    elif outcome.ending != "tolerance":
        notes.append(_shortfall(outcome, tolerance))
    return Fit(
        weight,
        bias,
        certificate,
        tolerance,
        name,
        outcome.ending,
        outcome.iterations,
        objective.reads,
        objective.reads * X.numel() * X.element_size(),
        *watch.read(),
        outcome.history,
        tuple(notes),
        separation,
    )


def _resumed(objective: Problem, state: FitState, name: str, tolerance: float) -> tuple[Solver, Tensor]:
    """The solver that goes on from a state, and what the driver knew there."""
    if state.solver != name:
        raise ValueError(f"start is a state of the solver {state.solver}; must be of {name} to go on from")
    # Copied, for a file's tensors lie in memory as they come, and products of such differ in their last digits.
    tensors = {key: tensor.to(objective.X.device, copy=True) for key, tensor in state.tensors.items()}
    (progress,) = of_shapes(tensors, driver=(len(PROGRESS),))
    counts = progress[PROGRESS.index("idle") :]
    known = [tensor for key, tensor in tensors.items() if key != "driver"]
    if bool(progress.isnan().any()) or not all(bool(each.isfinite().all()) for each in [counts, *known]):
        raise ValueError(
            "start is a state with values that are not finite; take one that `on_point` heard of"
        )
    return resumed_solver(name, objective, tensors, tolerance=tolerance), progress


def _started(
    objective: Problem, start: Tensor | None, name: str, sampled: bool, tolerance: float
) -> tuple[Solver, list[str]]:
    """The solver at the first start that is no worse than the null model, and a sentence on one that was left out.

    From a worse one the steps lead through points where float64 sees no curvature; some runs ended there.
    """
    left_out: list[str] = []
    if start is not None:
        solver = make_solver(name, objective, start, tolerance=tolerance)
        value = solver.search.numbers.value
        if value <= (1 + _ROUNDING) * objective.null_value:
            return solver, []
        if not bool(start.isfinite().all()):
            raise ValueError("start holds a value that is not finite; weights and intercepts must be finite")
        left_out = [
            f"the start is left out: the objective is {value:.3g} there, and {objective.null_value:.3g} at the"
            " null model"
        ]
    null, hessian = objective.null_theta(), None
    theta = null
    if sampled:
        theta, hessian = start_from_sample(objective, null)
    solver = make_solver(name, objective, theta, tolerance=tolerance, hessian=hessian)
    if theta is not null and not solver.search.numbers.value <= (1 + _ROUNDING) * objective.null_value:
        solver = make_solver(name, objective, null, tolerance=tolerance)
    if not math.isfinite(solver.search.numbers.value):
        raise ValueError(
            "the objective is not finite at the null model; X, y and sample_weight must be finite"
        )
    return solver, left_out


def _without_gap(outcome: Outcome, without_penalty: WithoutPenalty, solver: Solver, tolerance: float) -> None:
    """Take what stands in for a gap where rounding hides one, as that of a weak penalty, and it is small enough."""
    certificate = without_penalty.certify(solver)
    if certificate.relative <= tolerance:
        outcome.certificate, outcome.ending = certificate, "tolerance"
        outcome.history[-1] |= {"gap": certificate.gap, "relative_gap": certificate.relative}


def _parameters(objective: ConvexObjective, theta: Tensor) -> Parameters:
    weight, bias = objective.coordinates.to_user(theta)
    return weight[:, 0], bias if objective.intercept else torch.zeros_like(bias)


def _shortfall(outcome: Outcome, tolerance: float) -> str:
    """A sentence on a run that did not reach its tolerance, and what to do."""
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


def check_fit(
    X: Tensor,
    y: Tensor,
    sample_weight: Tensor | None,
    *,
    l1: float,
    l2: float,
    tolerance: float,
    max_iterations: int,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """X, y and sample_weight as every pass reads them, copied only where they do not lie so in memory.

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
    for name, value in (("l1", l1), ("l2", l2)):
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} is {value}; must be at least 0 and finite")
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance is {tolerance}; must lie between 0 and 1")
    if max_iterations < 1:
        raise ValueError(f"max_iterations is {max_iterations}; must be at least 1")
    if sample_weight is not None and not (
        bool((sample_weight >= 0).all()) and 0 < float(sample_weight.sum()) < math.inf
    ):
        raise ValueError(
            "sample_weight holds a negative or NaN value, or only zeros; weights must be at least 0, and finite"
        )
    return X, y.detach().contiguous(), None if sample_weight is None else sample_weight.detach().contiguous()


def check_start(start: Parameters | FitState | None, D: int, K: int) -> None:
    """ValueError where the start is not of D columns and K models."""
    if isinstance(start, tuple) and (start[0].numel() != D * K or start[1].numel() != K):
        raise ValueError(
            f"start has {start[0].numel()} weights and {start[1].numel()} intercepts; must be {D * K} and {K}"
        )


def _check_labels(y: Tensor) -> None:
    if not (bool((y >= 0).all()) and bool((y <= 1).all())):
        raise ValueError("y holds a label outside [0, 1], or NaN; labels must lie in [0, 1]")
