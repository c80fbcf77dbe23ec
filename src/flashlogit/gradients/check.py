"""Whether the gradient is right on this machine: every way to compute it, held against the chain rule in float64."""

from __future__ import annotations

import importlib.util
import math
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from flashlogit_kernels.contract import Clamp, ClampGradient

from ..passes.backend import choose_backend
from ..system.errors import UserError
from .allowance import (
    FLOAT64_BOUND,
    INTERPRETED_SUM_BOUND,
    Allowance,
    allowance_of,
    difference_allowance,
)
from .methods import (
    DIFFERENCE_COLUMNS,
    Gradient,
    Problem,
    Steps,
    by_autograd,
    by_differences,
    by_hand,
    by_kernel,
    by_reference,
    difference_steps,
)

INTERPRETED_ROWS = 1 << 12
_INTERPRETED_NUMBERS = 1 << 20
"""Rows, and numbers of X, that Triton's interpreter gets through in some seconds."""


@dataclass(frozen=True, eq=False)
class Row:
    """What one method gave, and how far it is from the truth; the truth itself has no disagreement.

    `worst` names the number that is furthest off: "loss", "dL/dw[3]" (columns counted from 0) or "dL/db".
    """

    method: str
    arithmetic: str
    gradient: Gradient
    disagreement: float | None
    worst: str
    bound: float


@dataclass(frozen=True)
class NotRun:
    """A method that could not run, and why."""

    method: str
    arithmetic: str
    reason: str


@dataclass(frozen=True, eq=False)
class GradientCheck:
    """The outcome of a check; `notes` are sentences that a reader of the rows should know."""

    rows: tuple[Row | NotRun, ...]
    notes: tuple[str, ...]

    @property
    def worst(self) -> Row:
        """The row that comes nearest to its bound, or exceeds it most."""
        compared = [row for row in self.rows if isinstance(row, Row) and row.disagreement is not None]
        return max(compared, key=lambda row: (row.disagreement or 0.0) / row.bound)

    @property
    def disagreement(self) -> float:
        """The worst row's disagreement."""
        return self.worst.disagreement or 0.0

    @property
    def bound(self) -> float:
        """The worst row's bound."""
        return self.worst.bound

    @property
    def agrees(self) -> bool:
        """Whether every method that ran is within its bound."""
        return self.disagreement <= self.bound


@dataclass(frozen=True)
class KernelPlace:
    """Where the kernel runs, or in half a sentence why it does not."""

    device: torch.device
    interpreted: bool
    obstacle: str | None = None

    @property
    def label(self) -> str:
        """The kernel's name in the table."""
        return "kernel (interpreter)" if self.interpreted else "kernel"


def find_kernel(device: torch.device) -> KernelPlace:
    """The kernel for data on `device`: on a GPU where there is one, though the data be on the CPU.

    Else in Triton's interpreter, which this switches on for the whole process.
    """
    if device.type == "cpu" and torch.cuda.is_available():
        device = torch.device("cuda")
    if importlib.util.find_spec("triton") is None:
        return KernelPlace(device, False, "the package triton is not installed")
    if device.type == "cpu" and "triton" not in sys.modules:
        os.environ["TRITON_INTERPRET"] = "1"
    try:
        choose_backend("triton", device)
    except UserError as error:
        late = "triton was imported before TRITON_INTERPRET=1 was set"
        return KernelPlace(device, False, late if device.type == "cpu" else str(error))
    import triton

    return KernelPlace(device, bool(triton.knobs.runtime.interpret))


def example_problem(
    x: float, y: float, w: float, b: float, *, eps: float = 1e-8, clamp_gradient: ClampGradient = "through"
) -> Problem:
    """One row with one feature, on the CPU.

    Raises:
        UserError: a number that is not finite or out of bounds, or a logit that overflows.
    """
    for name, value in (("x", x), ("y", y), ("w", w), ("b", b), ("eps", eps)):
        if not math.isfinite(value):
            raise UserError(f"--{name} is {value}; must be a finite number")
    if not 0 <= y <= 1:
        raise UserError(f"--y is {y:g}; must be from 0 to 1, the probability that the row is positive")
    if not 0 <= eps < 0.5:
        raise UserError(f"--eps is {eps:g}; must be at least 0 and less than 0.5 (0 for no clamp)")
    if not math.isfinite(abs(x * w) + abs(b)):
        raise UserError(f"--x {x:g} times --w {w:g} plus --b {b:g} overflows; take smaller numbers")
    X, label, weight = (torch.tensor(value, dtype=torch.float64) for value in ([[x]], [y], [w]))
    return Problem(X, label, weight, b, Clamp(eps, clamp_gradient))


def check_example(problem: Problem, kernel: KernelPlace) -> GradientCheck:
    """Check one row in float64 and in float32 (where that can hold its numbers)."""
    x, w, b = problem.X.item(), problem.weight.item(), problem.bias
    if all(map(_fits_float32, (x, w, b, x * w + b))):
        return check(problem, kernel, (torch.float64, torch.float32))
    outcome = check(problem, kernel, (torch.float64,))
    return replace(outcome, notes=(*outcome.notes, "float32 cannot hold these numbers and is left out."))


def _fits_float32(value: float) -> bool:
    limits = torch.finfo(torch.float32)
    return value == 0 or limits.tiny <= abs(value) <= limits.max


@dataclass(frozen=True, eq=False)
class DataProblem:
    """Training rows at random weights. `rows_in_all` counts the training rows, of which X holds the first ones."""

    problem: Problem
    feature_names: tuple[str, ...]
    rows_in_all: int
    kernel: KernelPlace


def data_problem(config: Path, overrides: Sequence[str] = ()) -> DataProblem:
    """The training rows of a config file, weighted as in training, at seeded random weights.

    Where the kernel is interpreted these are the first rows only, for every method alike.

    Raises:
        UserError: a setting, file or value that cannot be used.
    """
    # Settings are checked before the slow imports, so that a typing mistake is answered at once.
    from ..config.load import load_settings
    from ..system.device import resolve_device

    settings = load_settings(config, overrides)
    device = resolve_device(settings.device)
    kernel = find_kernel(device)
    from ..data import load
    from ..training.objective import class_weights, with_class_weight

    dataset = load(settings.data, seed=settings.seed, device=device)
    rows = with_class_weight(dataset.train, class_weights(dataset.train, settings.loss.class_weight))
    N, D = rows.X.shape
    n = min(N, INTERPRETED_ROWS, max(1, _INTERPRETED_NUMBERS // D)) if kernel.interpreted else N
    problem = Problem(
        X=rows.X[:n],
        y=rows.y[:n],
        sample_weight=None if rows.sample_weight is None else rows.sample_weight[:n],
        weight=torch.zeros(D, dtype=torch.float64, device=device),
        bias=0.0,
        clamp=Clamp(settings.loss.eps, settings.loss.clamp_gradient),
    )
    return DataProblem(_at_random_weights(problem, settings.seed), dataset.feature_names, N, kernel)


def _at_random_weights(problem: Problem, seed: int) -> Problem:
    """Random w and b for which the logits' mean magnitude without b is 1."""
    generator = torch.Generator().manual_seed(seed)
    w = torch.randn(problem.X.shape[1], generator=generator, dtype=torch.float64).to(problem.X.device)
    b = torch.randn((), generator=generator, dtype=torch.float64) / 2
    magnitude = sum((X @ w).abs().sum().item() for X, _, _ in problem.blocks(torch.float64))
    if magnitude > 0:
        w *= problem.X.shape[0] / magnitude
    if problem.X.dtype != torch.float64:
        # Numbers that float32 holds exactly, so that all methods are asked about the same point.
        w, b = w.float().double(), b.float().double()
    return replace(problem, weight=w, bias=b.item())


def check_data(data: DataProblem) -> GradientCheck:
    """Check the mean loss over the rows, in float64 and, unless X is float64, in float32."""
    X = data.problem.X
    wide = X.dtype == torch.float64
    outcome = check(data.problem, data.kernel, (torch.float64,) if wide else (torch.float64, torch.float32))
    notes = list(outcome.notes)
    if wide:
        notes.append("X is stored in float64, so that all arithmetic is float64.")
    if X.shape[1] > DIFFERENCE_COLUMNS:
        notes.append(
            f"Finite differences cover the first {DIFFERENCE_COLUMNS} of {X.shape[1]:,} columns and dL/db."
        )
    return replace(outcome, notes=tuple(notes))


def check(problem: Problem, kernel: KernelPlace, dtypes: Sequence[torch.dtype]) -> GradientCheck:
    """Every method in every dtype against the chain rule by hand in float64.

    Args:
        problem: rows and point. Everything but the kernel runs on their device.
        kernel: where the kernel runs.
        dtypes: of the arithmetic, float64 among them.
    """
    place = problem.X.device
    truth = by_hand(problem, torch.float64)
    allowances = {dtype: allowance_of(problem, dtype, truth) for dtype in dtypes}
    rows: list[Row | NotRun] = []
    methods: dict[str, Callable[[Problem, torch.dtype], Gradient]] = {
        "chain rule by hand": by_hand,
        "autograd": by_autograd,
        "reference": by_reference,
    }
    for method, compute in methods.items():
        for dtype in dtypes:
            arithmetic = _arithmetic(dtype, place)
            if compute is by_hand and dtype == torch.float64:
                rows.append(Row(method, arithmetic, truth, None, "", FLOAT64_BOUND))
            else:
                rows.append(_row(method, arithmetic, compute(problem, dtype), truth, allowances[dtype]))
    rows += [_kernel_row(problem, kernel, dtype, truth, allowances[dtype]) for dtype in dtypes]
    difference_rows, notes = _check_differences(problem)
    return GradientCheck((*rows, *difference_rows), tuple(notes))


def _kernel_row(
    problem: Problem, kernel: KernelPlace, dtype: torch.dtype, truth: Gradient, allowance: Allowance
) -> Row | NotRun:
    arithmetic = _arithmetic(dtype, kernel.device)
    if kernel.obstacle is not None:
        return NotRun(kernel.label, arithmetic, kernel.obstacle)
    if kernel.interpreted and dtype == torch.float32 and problem.X.shape[0] > 1:
        allowance = replace(allowance, bound=allowance.bound + INTERPRETED_SUM_BOUND)
    return _row(kernel.label, arithmetic, by_kernel(problem.on(kernel.device), dtype), truth, allowance)


def _check_differences(problem: Problem) -> tuple[list[Row], list[str]]:
    """Finite differences of the loss; under "through" also of the loss without its clamp, where that matters.

    Beyond the clamp the loss is flat: its derivative is 0, which is the gradient under "exact". Under "through" the
    gradient is p - y there, which is the derivative of the loss without the clamp. So differences of either loss are
    held against the gradient that belongs to it.
    """
    clamp = problem.clamp
    steps = difference_steps(problem)
    N = problem.X.shape[0]
    exact = problem.with_clamp(Clamp(clamp.eps, "exact"))
    clamped, near = _rows_at_clamp(problem, steps.logit)
    notes = []
    if near:
        notes.append(
            f"{_count(near, N)} within {steps.logit:.1g} of the clamp, where the derivative jumps; there either side"
            " counts as agreement."
        )
    if clamped and clamp.gradient == "exact":
        notes.append(f"{_count(clamped, N)} beyond the clamp, with gradient 0 (exact).")
    if not clamped or clamp.gradient == "exact":
        return [_difference_row("finite differences", exact, steps)], notes
    notes.append(
        f"{_count(clamped, N)} beyond the clamp, where the clamped loss is flat. Its derivative is 0 there, but"
        " clamp_gradient 'through' keeps p - y, the derivative of the loss without the clamp (which autograd is given"
        " here). Finite differences of the clamped loss differ from the gradient above by design; they are held"
        " against the gradient of 'exact', and those of the unclamped loss against p - y."
    )
    return [
        _difference_row("differences, unclamped", problem.with_clamp(Clamp(0.0, "through")), steps),
        _difference_row("differences, clamped", exact, steps),
    ], notes


def _difference_row(method: str, problem: Problem, steps: Steps) -> Row:
    allowance = difference_allowance(problem, steps)
    truth = by_hand(problem, torch.float64)
    gradient = by_differences(problem, steps)
    return _row(method, _arithmetic(torch.float64, problem.X.device), gradient, truth, allowance)


def _rows_at_clamp(problem: Problem, margin: float) -> tuple[int, int]:
    """How many rows lie beyond the clamp, and how many within `margin` of it on either side."""
    w, b = problem.parameters(torch.float64)
    beyond = near = 0
    for X, _, _ in problem.blocks(torch.float64):
        distance = (X @ w + b).abs() - problem.clamp.bound
        beyond += int((distance > 0).sum())
        near += int((distance.abs() <= margin).sum())
    return beyond, near


def _count(rows: int, of: int) -> str:
    if of == 1:
        return "The row lies"
    return f"{rows:,} of {of:,} rows {'lies' if rows == 1 else 'lie'}"


def _row(method: str, arithmetic: str, gradient: Gradient, truth: Gradient, allowance: Allowance) -> Row:
    return Row(method, arithmetic, gradient, *allowance.worst(gradient, truth), allowance.bound)


def _arithmetic(dtype: torch.dtype, device: torch.device) -> str:
    return f"{str(dtype).removeprefix('torch.')}, {device}"
