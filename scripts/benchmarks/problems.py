"""What is timed and checked: calls of the passes, as data, and tables to fit; and the numbers that both are made on."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from flashlogit_kernels.gpu.table import LaunchConfig
from flashlogit_kernels.padding import pad_rows, padded_columns

OPTIONS = frozenset({"weights", "pos_weight", "rows", "center", "column_major", "padded", "outputs", "exact"})
_FEW_ROWS = {64: 300_000, 4096: 20_000, 1 << 30: 2_000}
"""Rows by columns that make a call launch what it does with millions: multiples of 16, and no tile is lowered."""
_OUTPUTS = ("residual", "curvature", "logits")


def dtype_of(name: str) -> torch.dtype:
    """Return torch.float32 for "float32"."""
    found: torch.dtype = getattr(torch, name)
    return found


@dataclass(frozen=True)
class Call:
    """A pass over X [N, D].

    function: of `flashlogit_kernels`. launch: None for the launch table. labels: dtype of y. options: some of
    `OPTIONS`; "outputs" are the rows' residual, curvature and logits, "exact" is the gradient of clamped rows. odd: N
    is no multiple of 16.
    """

    function: str
    D: int
    storage: str = "float32"
    compute: str = "float32"
    launch: LaunchConfig | None = None
    labels: str = "uint8"
    options: tuple[str, ...] = ()
    odd: bool = False

    @property
    def name(self) -> str:
        """The call in tables and files."""
        parts = [self.function, f"D={self.D}", self.storage]
        parts += [f"in {self.compute}"] if self.compute != "float32" else []
        parts += [f"y {self.labels}"] if self.labels != "uint8" else []
        return " ".join([*parts, *self.options, *(["odd N"] if self.odd else [])])

    @property
    def stride(self) -> int:
        """Numbers between the beginnings of two rows."""
        return padded_columns(self.D, dtype_of(self.storage)) if "padded" in self.options else self.D

    def rows_of(self, nbytes: int) -> int:
        """Rows of an X of about so many bytes, a multiple of 16."""
        return max(16, nbytes // (self.stride * dtype_of(self.storage).itemsize) // 16 * 16)

    def few_rows(self) -> int:
        """Rows with which everything is compiled that more of them need."""
        return next(rows for most, rows in _FEW_ROWS.items() if most >= self.D) + self.odd

    def bytes_read(self, N: int) -> int:
        """Bytes that the pass reads: X once, and the labels or the rows' values once."""
        beside = self.compute if self.function in ("hessian_product", "column_sums") else self.labels
        return N * (self.stride * dtype_of(self.storage).itemsize + dtype_of(beside).itemsize)


def as_loaded(function: str, D: int, storage: str, compute: str) -> Call:
    """Return a call on X with the row stride that it has when data are loaded."""
    padded = padded_columns(D, dtype_of(storage)) > D
    return Call(function, D, storage, compute, options=("padded",) if padded else ())


@dataclass(frozen=True, eq=False)
class Problem:
    """X [N, D] and y [N] of 0 and 1. For passes also w [D], b [1], v (a value of each row), and options of the call."""

    X: Tensor
    y: Tensor
    w: Tensor
    b: Tensor
    v: Tensor
    options: dict[str, Any] = field(default_factory=dict)


def make_problem(call: Call, N: int, device: torch.device, *, X: Tensor | None = None) -> Problem:
    """Make the numbers of a call on the device, always the same; `X` [N, D] is taken in place of new numbers."""
    generator = torch.Generator(device).manual_seed(call.D)
    compute = dtype_of(call.compute)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device)

    if X is None:
        X = normal(N, call.D).to(dtype_of(call.storage))
        if "column_major" in call.options:
            X = X.t().contiguous().t()
        if "padded" in call.options:
            X = pad_rows(X)
    y = (torch.rand(N, generator=generator, device=device) < 0.3).to(dtype_of(call.labels))
    options: dict[str, Any] = {}
    visited = N
    if "weights" in call.options:
        options["sample_weight"] = torch.rand(N, generator=generator, device=device)
    if "pos_weight" in call.options:
        options["pos_weight"] = torch.full((), 2.5, device=device)
    if "rows" in call.options:
        visited = max(1, N // 32 * 16)
        options["rows"] = torch.randint(N, (visited,), generator=generator, device=device)
    if "center" in call.options:
        options["center"] = normal(call.D)
    if "exact" in call.options:
        options |= {"clamp_gradient": "exact", "eps": 0.1}
    w, b = normal(call.D).to(compute) / call.D**0.5, normal(1).to(compute)
    return Problem(X, y, w, b, normal(visited).abs().to(compute), options)


def packed(call: Call, problem: Problem, passes: Any) -> Callable[[], Tensor]:
    """Return what makes the call, and gives all that it sums as one float64 vector."""
    X, y, w, b, v = problem.X, problem.y, problem.w, problem.b, problem.v
    options: dict[str, Any] = {"compute_dtype": dtype_of(call.compute)}
    if call.launch is not None:
        options["launch"] = call.launch
    some = options | {name: value for name, value in problem.options.items() if name in ("rows", "center")}
    if call.function == "hessian_product":
        return partial(passes.hessian_product, X, v, w, b, **some)
    if call.function == "column_sums":
        return partial(passes.column_sums, X, v, **some)
    options |= problem.options
    outputs = _OUTPUTS if "outputs" in call.options and call.function == "bce_onepass" else ()
    parts: dict[str, Callable[[Any], list[Tensor]]] = {
        "bce_onepass": lambda sums: [sums.packed, *(getattr(sums, name) for name in outputs)],
        "bce_hessian": lambda found: [found.sums.packed, found.matrix.reshape(-1)],
        "bce_rows": lambda found: [found.loss, found.residual],
    }
    if call.function not in parts:
        raise ValueError(f"function is {call.function!r}; must be one of the passes")
    function, parts_of = partial(getattr(passes, call.function), X, y, w, b), parts[call.function]
    options |= dict.fromkeys(outputs, True)
    if call.function == "bce_onepass" and not outputs:
        return lambda: function(**options).packed  # a concatenation of one would be a launch more
    return lambda: torch.cat(parts_of(function(**options)))


@dataclass(frozen=True)
class Table:
    """N rows of D columns to fit.

    kind: "mixed" columns, whose correlation matrix has singular values over so many decades; "correlated" ones, each
    with its neighbours and all through a common factor, and a signal with an AUC of about 0.7; or scikit-learn's
    "breast cancer" data. solvers: those of flashlogit that the command device tries.
    """

    N: int
    D: int
    kind: str = "mixed"
    decades: float = 0.0
    l1: float = 0.0
    solvers: tuple[str, ...] = ("auto", "newton", "lbfgs", "newton-cg")

    @property
    def name(self) -> str:
        """The table in tables and files."""
        kind = f", {self.decades:g} decades" if self.decades > 0 else ""
        return f"{self.N:,} x {self.D:,}{kind}{f', l1 {self.l1:g}' if self.l1 else ''}"

    def make(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Make X [N, D] float32 and y [N] uint8 on the device, always the same."""
        if self.kind == "breast cancer":
            return _breast_cancer(device)
        generator = torch.Generator(device).manual_seed(self.D)
        N, D = self.N, self.D

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, device=device)

        if self.kind == "correlated":
            order = torch.arange(D, dtype=torch.float64, device=device)
            covariance = 0.7 * 0.5 ** (order[:, None] - order).abs() + 0.3
            mix = torch.linalg.cholesky(covariance).t()
        else:
            mix = torch.linalg.qr(normal(D, D).double())[0]
        if self.decades > 0:
            sizes = torch.logspace(0, -self.decades, D, dtype=torch.float64, device=device)
            mix = mix * sizes[:, None] * D**0.5
        X = torch.empty(N, D, device=device)
        for part in torch.split(X, max(1, (1 << 26) // D)):
            torch.mm(normal(len(part), D), mix.float(), out=part)
        w = mix.float().t() @ normal(D) / D**0.5 if self.decades > 0 else normal(D) / D**0.5
        z = X @ w
        slope, bias = (0.75, -0.4) if self.kind == "correlated" else (2.0, -0.5)
        chance = torch.sigmoid(slope * z / z.std() + bias)
        return X, (torch.rand(N, generator=generator, device=device) < chance).to(torch.uint8)


def _breast_cancer(device: torch.device) -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_breast_cancer

    X, y = load_breast_cancer(return_X_y=True)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    return torch.from_numpy(X).float().to(device), torch.from_numpy(y).to(torch.uint8).to(device)
