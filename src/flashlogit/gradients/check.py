"""Whether the gradient is right on this machine: every way to compute it, held against the chain rule in float64."""

from __future__ import annotations

import importlib.util
import math
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from flashlogit_kernels.contract import Clamp, ClampGradient

from ..passes import choose_backend
from ..system.errors import UserError
from .allowance import Allowance
from .differences import Remark, check_differences
from .methods import Gradient, Problem, by_autograd, by_hand, by_kernel, by_reference

_ROWS, _NUMBERS = 1 << 14, 1 << 24
"""Most rows of the user's data, and numbers of X, that are checked."""
_INTERPRETED_ROWS, _INTERPRETED_NUMBERS = 1 << 12, 1 << 20
"""The same for Triton's interpreter, which gets through them in some seconds."""


@dataclass(frozen=True, eq=False)
class Row:
    """What one method gave, and how far it is from the truth; the truth itself has no disagreement."""

    method: str
    arithmetic: str
    gradient: Gradient
    disagreement: float | None
    worst: str
    """The number that is furthest off: "loss", "dL/dw[3]" (columns counted from 0) or "dL/db"."""
    bound: float


@dataclass(frozen=True, eq=False)
class GradientCheck:
    """The outcome of a check; `notes` are sentences that a reader of the rows should know."""

    rows: tuple[Row | Remark, ...]
    notes: tuple[str, ...]

    @property
    def worst(self) -> Row:
        """The row that comes nearest to its bound, or exceeds it most."""
        compared = [row for row in self.rows if isinstance(row, Row) and row.disagreement is not None]
        return max(compared, key=lambda row: (row.disagreement or 0.0) / row.bound)

    @property
    def agrees(self) -> bool:
        """Whether every method that ran agrees with the truth."""
        refused = any(isinstance(row, Remark) and row.agrees is False for row in self.rows)
        return (self.worst.disagreement or 0.0) <= self.worst.bound and not refused


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
    """Find the kernel for data on `device`: on a GPU where there is one, though the data be on the CPU.

    Else it runs in Triton's interpreter, which this switches on for the whole process.
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
    """Make one row with one feature, on the CPU.

    Raises:
        UserError: a number that is not finite or out of bounds, or a logit that overflows.
    """
    bounds = {
        "y": ("must be from 0 to 1, the probability that the row is positive", 0 <= y <= 1),
        "eps": ("must be at least 0 and less than 0.5 (0 for no clamp)", 0 <= eps < 0.5),
    }
    for name, value in (("x", x), ("y", y), ("w", w), ("b", b), ("eps", eps)):
        problem, fits = bounds.get(name, ("", True))
        if not (fits and math.isfinite(value)):
            problem = problem if math.isfinite(value) else "must be a finite number"
            raise UserError(problem, setting=f"--{name}", value=value)
    if not math.isfinite(abs(x * w) + abs(b)):
        raise UserError(f"--x {x:g} times --w {w:g} plus --b {b:g} overflows", remedy="take smaller numbers")
    X, label, weight = (torch.tensor(value, dtype=torch.float64) for value in ([[x]], [y], [w]))
    return Problem(X, label, weight, b, Clamp(eps, clamp_gradient))


@dataclass(frozen=True, eq=False)
class DataProblem:
    """Training rows at random weights. `rows_in_all` counts the training rows, of which X holds the first ones."""

    problem: Problem
    feature_names: tuple[str, ...]
    rows_in_all: int
    kernel: KernelPlace


def data_problem(config: Path, overrides: Sequence[str] = ()) -> DataProblem:
    """Take the first training rows of a config file, weighted as in training, at seeded random weights.

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
    most, numbers = (_INTERPRETED_ROWS, _INTERPRETED_NUMBERS) if kernel.interpreted else (_ROWS, _NUMBERS)
    n = min(N, most, max(1, numbers // D))
    # Random w and b for which the logits' mean magnitude without b is 1.
    generator = torch.Generator().manual_seed(settings.seed)
    w = torch.randn(D, generator=generator, dtype=torch.float64).to(device)
    b = torch.randn((), generator=generator, dtype=torch.float64) / 2
    magnitude = (rows.X[:n].double() @ w).abs().mean()
    w = w / magnitude if magnitude > 0 else w
    problem = Problem(
        X=rows.X[:n],
        y=rows.y[:n],
        sample_weight=None if rows.sample_weight is None else rows.sample_weight[:n],
        # Numbers that float32 holds exactly, so that all methods are asked about the same point.
        weight=w.float().double(),
        bias=b.float().item(),
        clamp=Clamp(settings.loss.eps, settings.loss.clamp_gradient),
    )
    return DataProblem(problem, dataset.feature_names, N, kernel)


def check(problem: Problem, kernel: KernelPlace) -> GradientCheck:
    """Hold every method, in float64 and where it can hold the numbers in float32, against the chain rule in float64.

    Args:
        problem: rows and point. Everything but the kernel and the differences runs on their device.
        kernel: where the kernel runs.
    """
    dtypes, notes = [torch.float64, torch.float32], []
    if not _fits_float32(problem):
        dtypes.pop()
        notes.append("float32 cannot hold these numbers and is left out.")
    truth = by_hand(problem, torch.float64)
    allowances = {dtype: Allowance.of(problem, dtype) for dtype in dtypes}
    rows: list[Row | Remark] = []

    def add(name: str, compute: Callable[[Problem, torch.dtype], Gradient], at: Problem) -> None:
        for dtype, allowance in allowances.items():
            gradient = compute(at, dtype)
            error, worst = allowance.worst(gradient, truth)
            is_truth = compute is by_hand and dtype == torch.float64
            disagreement = None if is_truth else error
            arithmetic = _arithmetic(dtype, at.X.device)
            rows.append(Row(name, arithmetic, gradient, disagreement, worst, allowance.bound))

    add("chain rule by hand", by_hand, problem)
    add("autograd", by_autograd, problem)
    add("reference", by_reference, problem)
    if kernel.obstacle is None:
        add(kernel.label, by_kernel, problem.on(kernel.device))
    else:
        why = f"did not run: {kernel.obstacle}"
        rows += [Remark(kernel.label, _arithmetic(dtype, kernel.device), why) for dtype in dtypes]
    differences, more = check_differences(problem)
    return GradientCheck((*rows, *differences), (*notes, *more))


def _fits_float32(problem: Problem) -> bool:
    """Whether float32 holds the numbers, and the logits at their largest, without overflow or loss of precision."""
    limits = torch.finfo(torch.float32)
    X, w = problem.X.double().abs(), problem.weight.abs()
    sizes = torch.cat([X.flatten(), w, X @ w + abs(problem.bias)])
    return bool(((sizes == 0) | (sizes >= limits.tiny)).all()) and bool((sizes <= limits.max).all())


def _arithmetic(dtype: torch.dtype, device: torch.device) -> str:
    return f"{str(dtype).removeprefix('torch.')}, {device}"
