"""A fit between its call and its result: where it starts, what its driver is given, and what it gives in the end."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from flashlogit_kernels.compiling import compile_seconds

from ..objectives.certificate import Certificate
from ..objectives.design import what_is_lost, what_is_not_finite
from ..objectives.objective import Objective
from ..objectives.parameters import RowLoss
from ..solvers.choose import SolverName, begun, choose_method
from ..solvers.driver import Ending, HistoryRow, Limits, Outcome, Progress
from ..solvers.method import Method, Start, State, of_shapes
from ..solvers.sample import start_from_sample
from ..solvers.unpenalised.finding import Separation, separation_message
from ..solvers.unpenalised.problem import Unpenalised

_ROUNDING = 1e-14
"""A given start that is worse by no more than this share of the null model's P is as good."""
_NEAR = 1e-2
"""The same of a sample's start: to begin again costs more. It happens where the null model is next to the optimum."""

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
    objective: Objective = field(repr=False)

    def __call__(self) -> Parameters:
        """Return weights and intercepts, in the units of X."""
        return parameters_of(self.objective, self.state.tensors["theta"])


Listener = Callable[[HistoryRow, FitPoint], object]
"""Called for each accepted point, with its row in the history."""


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
    """Passes over X; one over a part of its rows counts as that part."""
    bytes_read: float
    """Bytes of X that these read."""
    seconds: float
    """Time from the call to its end, without `compile_seconds`."""
    compile_seconds: float
    """Time within the fit in which kernels were compiled, or loaded from Triton's cache."""
    history: list[HistoryRow] = field(repr=False)
    """A row for each accepted point; its seconds are those since the call, with any compilation."""
    names: Sequence[str] = field(repr=False)
    """[D] of the columns."""
    remarks: tuple[str, ...] = ()
    """Sentences on a start that was left out, and on collinear columns."""
    separation: Separation | None = None
    """Whether the classes are separated, so that an unpenalised objective has no optimum."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the user: the remarks, and if it did not end well why, and what to do."""
        return self.notes_with({})

    def notes_with(self, parameters: Mapping[str, str]) -> tuple[str, ...]:
        """Return the notes in the words of a caller who has other names for l2, tolerance or max_iterations."""
        l2, tolerance, limit = (parameters.get(name, name) for name in ("l2", "tolerance", "max_iterations"))
        if self.separation is not None:
            return *self.remarks, separation_message(self.separation, self.names, l2)
        if self.ending == "tolerance":
            return self.remarks
        what = "gap" if self.certificate.kind == "gap" else "half squared Newton decrement"
        if self.ending == "limit":
            ended = f"at the limit of {self.iterations} iteration{'s' if self.iterations != 1 else ''}"
            remedy = f"raise {limit}, or take a larger {tolerance} or penalty"
        else:
            ended = "where rounding ends all progress"
            remedy = f"take a larger {tolerance} or penalty, or store X as float64 if its columns are nearly collinear"
        reached = f"the {what} is {self.relative_gap:.1e} of the null model's objective"
        return *self.remarks, f"stopped {ended}: {reached}, and {self.tolerance:g} was asked for; {remedy}"

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


@functools.lru_cache(maxsize=8)
def default_names(columns: int) -> tuple[str, ...]:
    """Return x0, x1, ...; those of 20,000 columns take milliseconds."""
    return tuple(f"x{j}" for j in range(columns))


def parameters_of(objective: Objective, theta: Tensor) -> Parameters:
    """Return the weights and intercepts of theta [P C, 1] in the shapes that a `Fit` has."""
    weight, bias = objective.to_user(theta)
    return (weight[:, 0] if objective.loss.columns == 1 else weight.t().contiguous()), bias


def theta_of(objective: Objective, start: Parameters) -> Tensor:
    """Return the theta [P C, 1] of weights and intercepts in any of these shapes, with the least penalty."""
    weight, bias = (value.to(objective.X.device, torch.float64) for value in start)
    C = objective.loss.columns
    return objective.canonical(objective.from_user(weight.reshape(C, -1).t(), bias.reshape(C)))


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
    began: float = field(default_factory=time.perf_counter)
    compiled: float = field(default_factory=compile_seconds)
    """Seconds that had been spent on compiling kernels when the fit began."""

    def __post_init__(self) -> None:
        if self.names is not None:  # of whatever kind, such as an array
            object.__setattr__(self, "names", list(self.names))
        for name, value in (("l1", self.l1), ("l2", self.l2)):
            object.__setattr__(self, name, float(value))
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} is {value}; must be at least 0 and finite")
        if not 0 < self.tolerance < 1:
            raise ValueError(f"tolerance is {self.tolerance}; must lie between 0 and 1")
        if not self.max_iterations >= 1 or self.max_iterations % 1 != 0:
            raise ValueError(f"max_iterations is {self.max_iterations}; must be a whole number of at least 1")


def _check_start(start: Parameters, weights: int, intercepts: int) -> None:
    """Raise TypeError or ValueError for what is no pair of so many weights and intercepts."""
    if not isinstance(start, Sequence) or len(start) != 2 or not all(isinstance(each, Tensor) for each in start):
        raise TypeError("start is no pair of tensors, weight and bias; give one, or the state of a `FitPoint`")
    found = start[0].numel(), start[1].numel()
    if found != (weights, intercepts):
        raise ValueError(f"start has {found[0]} weights and {found[1]} intercepts; must be {weights} and {intercepts}")


class FitTask:
    """A fit whose objective, method and limits the driver is given."""

    def __init__(self, X: Tensor, loss: RowLoss, options: FitOptions) -> None:
        self._options, self._began = options, options.began
        D, start = X.shape[1], options.start
        if options.names is not None and len(options.names) != D:
            raise ValueError(f"names has {len(options.names)} entries; must have {D}, one for each column of X")
        if start is not None and not isinstance(start, FitState):
            _check_start(start, D * loss.columns, loss.columns)
        self._name = choose_method(options.solver, X, outputs=loss.columns, l1=options.l1)
        objective = Objective.of(X, loss, l1=options.l1, l2=options.l2, tolerance=options.tolerance)
        self._unpenalised = None if objective.penalised else Unpenalised(objective, options.names)
        self.objective = self._unpenalised.objective if self._unpenalised else objective
        self._remarks: list[str] = []
        self._saved: Tensor | None = None
        if isinstance(start, FitState):
            self.method, self._saved = self._resumed(start)
            self._began -= float(self._saved[-1])
        else:
            self.method = self._started(start)

    @property
    def limits(self) -> Limits:
        """How far the method goes: not kept, for it knows this task, and X would outlive a circle."""
        options = self._options
        on_point = None if options.on_point is None else self._on_point
        certify = (self._unpenalised or self.objective).certify
        return Limits(options.tolerance, options.max_iterations, certify, on_point, self._began, self._saved)

    def finished(self, outcome: Outcome) -> Fit:
        """Return the result of a run of the driver, and say how it went."""
        options, objective, unpenalised = self._options, self.objective, self._unpenalised
        separation, theta, coordinates = None, outcome.point.theta, objective.design.coordinates
        if unpenalised:
            separation = unpenalised.separation(outcome)
            theta, outcome.certificate = unpenalised.optimum(outcome)
        elif outcome.ending == "precision" and (lost := what_is_lost(objective.X, coordinates, options.names)):
            self._remarks.append(lost)
        elif outcome.ending == "precision":
            # Rounding may hide the gap of a weak penalty: what stands in for one may be small enough.
            certificate = Unpenalised(objective, options.names).certify(outcome.point)
            if certificate.relative <= options.tolerance:
                outcome.certificate, outcome.ending = certificate, "tolerance"
                outcome.history[-1] |= {"gap": certificate.gap, "relative_gap": certificate.relative}
        weight, bias = parameters_of(objective, theta)
        X, passes = objective.X, objective.counter.passes
        names = options.names or default_names(X.shape[1])
        compiling = compile_seconds() - options.compiled
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
            seconds=time.perf_counter() - self._began - compiling,
            compile_seconds=compiling,
            history=outcome.history,
            names=names,
            remarks=(*self._remarks, *(unpenalised.remarks(names) if unpenalised else [])),
            separation=separation,
        )

    def _on_point(self, row: HistoryRow, state: State) -> None:
        if self._options.on_point is not None:
            self._options.on_point(row, FitPoint(FitState(self._name, state), self.objective))

    def _make(self, start: Start) -> Method:
        return begun(self._name, self.objective, start)

    def _resumed(self, state: FitState) -> tuple[Method, Tensor]:
        """Return the method that goes on from a state, and what the driver knew there."""
        if state.solver != self._name:
            raise ValueError(f"start is a state of the solver {state.solver}; must be of {self._name} to go on from")
        # Copied, for a file's tensors lie in memory as they come, and products of such differ in their last digits.
        tensors = {key: tensor.to(self.objective.X.device, copy=True) for key, tensor in state.tensors.items()}
        (saved,) = of_shapes(tensors, driver=(Progress.SAVED,))
        known = [saved[-Progress.COUNTS :], *(tensor for key, tensor in tensors.items() if key != "driver")]
        if bool(saved.isnan().any()) or not all(bool(each.isfinite().all()) for each in known):
            raise ValueError("start is a state with values that are not finite; take one that `on_point` was given")
        return self._make(Start.resumed(self.objective, tensors, self._options.tolerance)), saved

    def _started(self, given: Parameters | None) -> Method:
        """Return the method at the first start that is no worse than the null model.

        From a worse one the steps lead through points where float64 sees no curvature; some runs ended there.
        """
        objective, tolerance = self.objective, self._options.tolerance
        bound = (1 + _ROUNDING) * objective.null_value
        if given is not None:
            theta = theta_of(objective, given)
            method = self._make(Start(theta, tolerance))
            value = method.search.numbers.value
            if value <= bound:
                return method
            if not all(bool(each.isfinite().all()) for each in given):
                raise ValueError("start holds a value that is not finite; weights and intercepts must be finite")
            if not bool(theta.isfinite().all()):
                raise ValueError(what_is_not_finite(objective.X, self._options.names))
            self._remarks.append(
                f"the start is left out: the objective is {value:.3g} there, and {objective.null_value:.3g} at the"
                " null model"
            )
        null = first = Start(objective.null, tolerance)
        # A sample may be separated where the whole is not, and a softmax's is worth its passes to Newton's method only.
        if objective.penalised and (objective.loss.columns == 1 or self._name == "newton"):
            first = start_from_sample(objective, null)
        method = self._make(first)
        if first is not null and not method.search.numbers.value <= (1 + _NEAR) * objective.null_value:
            method = self._make(null)
        if not math.isfinite(method.search.numbers.value):
            raise ValueError(what_is_not_finite(objective.X, self._options.names))
        return method
