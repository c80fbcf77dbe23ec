"""Whether the gradient is right on this machine: every way to compute it, held against the chain rule in float64."""

from __future__ import annotations

import importlib.util
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from flashlogit_kernels.contract import Clamp, ClampGradient

from ..passes import choose_backend
from ..system.errors import UserError
from .methods import Allowance, Gradient, Problem, by_autograd, by_differences, by_hand, by_kernel, by_reference

_ROWS, _NUMBERS = 1 << 14, 1 << 24
"""Most rows of the user's data, and numbers of X, that are checked."""
_INTERPRETED_ROWS, _INTERPRETED_NUMBERS = 1 << 12, 1 << 20
"""The same for Triton's interpreter, which gets through them in some seconds."""
_STEP = 1e-5
"""Step of a logit: the cube root of float64's precision, where the error of central differences is least."""
_SATURATED = 1e3
"""Beyond this logit the float64 loss is a straight line, and a step in proportion to the logit loses nothing."""
_MOVED = 50
"""Most columns whose weights are moved: each costs two evaluations."""
_DIFFERENCES = 1e-6
"""Largest error of a difference."""


@dataclass(frozen=True, eq=False)
class Row:
    """What one method gave and how far it is from the truth, which itself has no disagreement; or its outcome in words.

    `agrees` is None for the truth, and where the method did not run; `text` then says why.
    """

    method: str
    arithmetic: str
    agrees: bool | None = None
    text: str = ""
    gradient: Gradient | None = None
    disagreement: float | None = None
    worst: str = ""
    """The number that is furthest off: "loss", "dL/dw[3]" (columns counted from 0) or "dL/db"."""
    bound: float = math.inf


@dataclass(frozen=True, eq=False)
class GradientCheck:
    """The outcome of a check; `notes` are sentences that a reader of the rows should know."""

    rows: tuple[Row, ...]
    notes: tuple[str, ...]

    @property
    def worst(self) -> Row:
        """The row that comes nearest to its bound, or exceeds it most."""
        return max(self.rows, key=lambda row: -1.0 if row.disagreement is None else row.disagreement / row.bound)

    @property
    def agrees(self) -> bool:
        """Whether every method that ran agrees with the truth."""
        return all(row.agrees is not False for row in self.rows)


@dataclass(frozen=True)
class KernelPlace:
    """Where the kernel runs, or in half a sentence why it does not."""

    device: torch.device
    interpreted: bool
    obstacle: str | None = None


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
    for name, value in {"x": x, "y": y, "w": w, "b": b, "eps": eps}.items():
        if not math.isfinite(value):
            raise UserError("must be a finite number", setting=f"--{name}", value=value)
    if not 0 <= y <= 1:
        raise UserError("must be from 0 to 1, the probability that the row is positive", setting="--y", value=y)
    if not 0 <= eps < 0.5:
        raise UserError("must be at least 0 and less than 0.5 (0 for no clamp)", setting="--eps", value=eps)
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
    from ..system.memory import resolve_device

    settings = load_settings(config, overrides).resolved()
    device = resolve_device(settings.device)
    kernel = find_kernel(device)
    from ..data.dataset import class_weights, with_class_weight
    from ..data.loading import load

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
    clamp = Clamp(settings.loss.eps, settings.loss.clamp_gradient)
    # Numbers that float32 holds exactly, so that all methods are asked about the same point.
    problem = Problem(rows.X, rows.y, w.float().double(), b.float().item(), clamp, rows.sample_weight)
    return DataProblem(problem.only(slice(n)), dataset.feature_names, N, kernel)


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
    rows = []
    label = "kernel (interpreter)" if kernel.interpreted else "kernel"
    ways = {"chain rule by hand": by_hand, "autograd": by_autograd, "reference": by_reference, label: by_kernel}
    for name, compute in ways.items():
        device = kernel.device if compute is by_kernel else problem.X.device
        for dtype, allowance in allowances.items():
            arithmetic = f"{str(dtype).removeprefix('torch.')}, {device}"
            if compute is by_kernel and kernel.obstacle:
                rows.append(Row(name, arithmetic, text=f"did not run: {kernel.obstacle}"))
                continue
            gradient = compute(problem.on(device), dtype)
            error, worst = allowance.worst(gradient, truth)
            row = Row(name, arithmetic, error <= allowance.bound, "", gradient, error, worst, allowance.bound)
            is_truth = compute is by_hand and dtype == torch.float64
            rows.append(replace(row, agrees=None, disagreement=None) if is_truth else row)
    differences, more = _differences(problem)
    return GradientCheck((*rows, *differences), (*notes, *more))


def _fits_float32(problem: Problem) -> bool:
    """Return whether float32 holds the numbers, and the logits at their largest, without overflow or loss of
    precision."""
    limits = torch.finfo(torch.float32)
    X, w = problem.X.double().abs(), problem.weight.abs()
    sizes = torch.cat([X.flatten(), w, X @ w + abs(problem.bias)])
    return bool(((sizes == 0) | (sizes >= limits.tiny)).all()) and bool((sizes <= limits.max).all())


def _differences(problem: Problem) -> tuple[list[Row], list[str]]:
    """Compare, and return the outcome with sentences on rows near the clamp or beyond it.

    Beyond the clamp the loss is flat: its derivative is 0, which is the gradient under "exact". Under "through" the
    gradient is p - y there, which is the derivative of the loss without the clamp. So where rows lie beyond, each loss
    is held against the gradient that belongs to it.
    """
    problem = problem.on(torch.device("cpu"))
    X, _, _ = problem.rows(torch.float64)
    w, b = problem.parameters(torch.float64)
    z, terms = X @ w + b, float((X.abs() @ w.abs() + b.abs()).max())
    nearest = float(z.abs().min())
    step = _STEP * (nearest if nearest > _SATURATED else 1.0)
    clamp = problem.clamp
    N = len(z)
    beyond, near = z.abs() > clamp.bound, (z.abs() - clamp.bound).abs() <= 2 * step * math.sqrt(len(w) + 1)
    notes = []
    if near.any():
        notes.append(
            f"{_count(near, N)} within {step:.1g} of the clamp, where the derivative jumps; differences leave it out."
        )
    if len(w) > _MOVED:
        notes.append(f"Finite differences cover the first {_MOVED} of {len(w):,} columns and dL/db.")
    kept = problem.only(~near)
    ways = {"finite differences": Clamp(clamp.eps, "exact")}
    if beyond.any() and clamp.gradient == "exact":
        notes.append(f"{_count(beyond, N)} beyond the clamp, with gradient 0 (exact).")
    elif beyond.any():
        ways = {"differences, unclamped": Clamp(0.0, "through"), "differences, clamped": ways.popitem()[1]}
        notes.append(
            f"{_count(beyond, N)} beyond the clamp, where the clamped loss is flat and its derivative 0."
            " clamp_gradient 'through' keeps p - y there, the derivative of the loss without the clamp (which autograd"
            " is given here). So the differences of the clamped loss differ from the gradient above by design, and are"
            " held against that of 'exact'."
        )
    return [_compare(name, replace(kept, clamp=each), step, terms) for name, each in ways.items()], notes


def _compare(method: str, problem: Problem, step: float, terms: float) -> Row:
    """Compare at one clamp, with steps that move no logit by more than `step` where logits are sums of `terms`."""
    rounding = 1e-15 * terms / step
    if len(problem.y) == 0 or rounding > 1e-4:
        why = "every row lies at the clamp" if len(problem.y) == 0 else "float64 cannot tell its steps apart"
        return Row(method, "float64, cpu", text=f"did not run: {why}")
    truth = by_hand(problem, torch.float64)
    gradient, scale = by_differences(problem, step, _MOVED)
    found, right = (
        torch.cat([each.weight[: len(scale)] / scale, torch.tensor([each.bias], dtype=torch.float64)])
        for each in (gradient, truth)
    )
    # Relative to the number itself, and to what rounding does to the differences of numbers near 0.
    errors = (found - right).abs() / (right.abs() + 1e-2 + rounding / _DIFFERENCES)
    most, worst = errors.nan_to_num(nan=math.inf).max(dim=0)
    error, name = float(most), "dL/db" if int(worst) == len(scale) else f"dL/dw[{int(worst)}]"
    return Row(method, "float64, cpu", error <= _DIFFERENCES, "", gradient, error, name, _DIFFERENCES)


def _count(rows: Tensor, of: int) -> str:
    n = int(rows.sum())
    return "The row lies" if of == 1 else f"{n:,} of {of:,} rows {'lies' if n == 1 else 'lie'}"
