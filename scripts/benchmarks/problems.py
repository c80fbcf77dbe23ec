"""What is timed and checked, calls of the passes and tables to fit as data, and what is right by torch in float64."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

import flashlogit
from flashlogit_kernels.contract import pad_rows, padded_columns
from flashlogit_kernels.gpu.arguments import has_clusters
from flashlogit_kernels.gpu.launch import REGISTER_ROW_BYTES, LaunchConfig, block_width

OPTIONS = frozenset({"weights", "pos_weight", "rows", "center", "column_major", "padded", "outputs", "exact", "border"})
_OUTPUTS = ("residual", "curvature", "logits")
_PARTS = {"bce_onepass": ["packed"], "bce_hessian": ["sums.packed", "matrix"], "bce_rows": ["loss", "residual"]}
"""By function: the tensors that its result consists of."""
BOUND = {"float32": 1e-6, "float64": 1e-13}
"""Error of a number as a share of the absolute terms that it is the sum of: a few roundings of the arithmetic."""
GAP = 1e-8
"""Relative gap of a fit to the least objective, unless another one is asked for."""


def dtype_of(name: str) -> torch.dtype:
    """Return torch.float32 for "float32"."""
    return getattr(torch, name)


@dataclass(frozen=True)
class Call:
    """A pass over X [N, D].

    function: of `flashlogit_kernels`. launch: None for the launch table. labels: dtype of y. options: some of
    `OPTIONS`; "outputs" are the rows' residual, curvature and logits, "exact" is the gradient of clamped rows, "border"
    the sums that solvers take in float64. odd: N is no multiple of 16.
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
        parts += [f"clusters of {self.launch.num_ctas}"] if self.launch and self.launch.num_ctas > 1 else []
        return " ".join([*parts, *self.options, *(["odd N"] if self.odd else [])])

    @property
    def stride(self) -> int:
        """Numbers between the beginnings of two rows."""
        return padded_columns(self.D, dtype_of(self.storage)) if "padded" in self.options else self.D

    def rows_of(self, nbytes: int) -> int:
        """Return rows of an X of about so many bytes, a multiple of 16."""
        return max(16, nbytes // (self.stride * dtype_of(self.storage).itemsize) // 16 * 16)

    def few_rows(self) -> int:
        """Return rows that launch what millions of them do: multiples of 16, and so many that no tile is lowered."""
        rows = 300_000 if self.D <= 64 else 20_000 if self.D <= 4096 else 2_000 if self.D <= 65_536 else 400
        return rows + self.odd

    def bytes_read(self, N: int) -> int:
        """Return bytes that the pass reads: X once, and the labels or the rows' values once."""
        beside = self.compute if self.function in ("hessian_product", "column_sums") else self.labels
        return N * (self.stride * dtype_of(self.storage).itemsize + dtype_of(beside).itemsize)


def as_loaded(function: str, D: int, storage: str, compute: str) -> Call:
    """Return a call on X with the row stride that it has when data are loaded."""
    padded = padded_columns(D, dtype_of(storage)) > D
    return Call(function, D, storage, compute, options=("padded",) if padded else ())


def cluster_calls(device: torch.device) -> list[Call]:
    """Return passes over rows that the registers of 2, 4 or 8 multiprocessors hold, in one read; none where the device
    or Triton has no clusters."""
    kinds = [("float32", "float32", D) for D in (20_000, 32_768, 65_536, 131_072)]
    kinds += [("bfloat16", "float32", D) for D in (32_768, 131_072)]
    kinds += [("float32", "float64", D) for D in (16_384, 32_768, 65_536)]
    calls = [Call("bce_onepass", D, *dtypes) for *dtypes, D in kinds if has_clusters(device)]
    return [replace(call, launch=cluster_launches(call)[0]) for call in calls]


def cluster_launches(call: Call) -> list[LaunchConfig]:
    """Return launches with a row for a cluster: as few multiprocessors as hold it, then twice as many, up to 8."""
    width = dtype_of(call.compute).itemsize
    least, warps = block_width(call.D) * width // REGISTER_ROW_BYTES, 64 // width
    sizes = product((least, 2 * least), (warps, 2 * warps))
    return [LaunchConfig(1, warps, 1, num_ctas=ctas) for ctas, warps in sizes if ctas <= 8]


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
    """Make the numbers of a call on the device, always the same; the rows of X, if it is given, count instead of N."""
    known = {"generator": torch.Generator(device).manual_seed(call.D), "device": device}
    normal, uniform, compute = partial(torch.randn, **known), partial(torch.rand, **known), dtype_of(call.compute)
    if X is None:
        X = normal(N, call.D).to(dtype_of(call.storage))
        if "column_major" in call.options:
            X = X.t().contiguous().t()
        if "padded" in call.options:
            X = pad_rows(X)
    N = len(X)
    y = (uniform(N) < 0.3).to(dtype_of(call.labels))
    visited = max(1, N // 32 * 16) if "rows" in call.options else N
    made: dict[str, tuple[str, Callable[[], Any]]] = {
        "weights": ("sample_weight", lambda: uniform(N)),
        "pos_weight": ("pos_weight", lambda: torch.full((), 2.5, device=device)),
        "rows": ("rows", lambda: torch.randint(N, (visited,), **known)),
        "center": ("center", lambda: normal(call.D)),
        "exact": ("clamp_gradient", lambda: "exact"),
        "border": ("border", lambda: True),
    }
    options = {name: make() for option, (name, make) in made.items() if option in call.options}
    if "exact" in call.options:
        options["eps"] = 0.1
    w, b = normal(call.D).to(compute) / call.D**0.5, normal(1).to(compute)
    return Problem(X, y, w, b, normal(visited).abs().to(compute), options)


def packed(call: Call, problem: Problem, passes: Any) -> Callable[[], Tensor]:
    """Return what makes the call, and gives all that it sums as one float64 vector."""
    X, y, w, b, v = problem.X, problem.y, problem.w, problem.b, problem.v
    options: dict[str, Any] = {"compute_dtype": dtype_of(call.compute)} | problem.options
    if call.launch is not None:
        options["launch"] = call.launch
    some = {name: value for name, value in options.items() if name in ("compute_dtype", "launch", "rows", "center")}
    if call.function == "hessian_product":
        return partial(passes.hessian_product, X, v, w, b, **some)
    if call.function == "column_sums":
        return partial(passes.column_sums, X, v, **some)
    outputs = _OUTPUTS if "outputs" in call.options and call.function == "bce_onepass" else ()
    work = partial(getattr(passes, call.function), X, y, w, b, **options, **dict.fromkeys(outputs, True))
    parts = [attrgetter(name) for name in (*_PARTS[call.function], *outputs)]

    def all_numbers() -> Tensor:
        found = work()
        if len(parts) == 1:
            return parts[0](found)  # a concatenation of one would be a launch more
        return torch.cat([part(found).reshape(-1) for part in parts])

    return all_numbers


@dataclass(frozen=True)
class Truth:
    """A call's result in float64, and for each of its numbers the sum of absolute terms that it is made of."""

    value: Tensor
    size: Tensor

    def error(self, found: Tensor) -> float:
        """Return the largest error of the first numbers, as a share of their terms; NaN where one is not finite."""
        count = len(found)
        return float(((found.double() - self.value[:count]).abs() / self.size[:count]).max())


def truth(call: Call, problem: Problem) -> Truth:
    """Return the result of a call on the whole of X."""
    options = problem.options
    X, y, w, b, v = (value.double() for value in (problem.X, problem.y, problem.w, problem.b, problem.v))
    s = options.get("sample_weight", torch.ones_like(y)).double()
    if "rows" in options:
        X, y, s = (value[options["rows"]] for value in (X, y, s))
    if "center" in options:
        X = X - options["center"].double()
    if call.function == "column_sums":
        return Truth(X.t() @ v, X.abs().t() @ v.abs())
    z, each = X @ w + b, X.abs() @ w.abs() + b.abs()
    if call.function == "hessian_product":
        return Truth(_with_sum(X, v * z), _with_sum(X.abs(), v.abs() * each))
    q = options.get("pos_weight", z.new_ones(())).double()
    bound = math.log1p(-options.get("eps", 1e-8)) - math.log(options.get("eps", 1e-8))
    c, p = z.clamp(-bound, bound), torch.sigmoid(z)
    softplus = partial(torch.nn.functional.softplus, threshold=50.0)
    loss = s * ((1 - y) * softplus(c) + q * y * softplus(-c))
    r, on = s * ((1 - y) * p - q * y * (1 - p)), 1 - y + q * y
    h = s * on * p * (1 - p)
    if "exact" in call.options:
        r, h = (torch.where(z.abs() > bound, 0.0, value) for value in (r, h))
    if call.function == "bce_rows":
        return Truth(torch.cat([loss, r]), torch.cat([loss.abs(), s * on]).clamp(min=1e-30))
    # A number's own rounding is that of its terms and of the logits that they are functions of.
    slack = h * each
    zero = z.new_zeros(())
    scalars = torch.stack([loss.sum(), s.sum(), zero, z.abs().max()])
    terms = torch.stack([(loss + slack).sum(), s.sum(), zero, each.max()])
    value = torch.cat([_with_sum(X, r), scalars])
    size = torch.cat([_with_sum(X.abs(), r.abs() + slack), terms]).clamp(min=1e-30)
    if call.function == "bce_hessian":
        X1 = torch.cat([X, X.new_ones(len(X), 1)], dim=1)
        matrix, terms = X1.t() @ (h[:, None] * X1), X1.abs().t() @ ((h + slack)[:, None] * X1.abs())
        value, size = torch.cat([value, matrix.reshape(-1)]), torch.cat([size, terms.reshape(-1)])
    if "border" in call.options:
        value = torch.cat([value, _with_sum(X, h)])
        size = torch.cat([size, _with_sum(X.abs(), h + slack)])
    if call.function == "bce_onepass" and "outputs" in call.options:
        value, size = torch.cat([value, r, h, z]), torch.cat([size, r.abs() + slack, h + slack, each])
    return Truth(value, size.clamp(min=1e-30))


def _with_sum(X: Tensor, r: Tensor) -> Tensor:
    return torch.cat([X.t() @ r, r.sum().reshape(1)])


@dataclass(frozen=True)
class Table:
    """N rows of D columns to fit.

    kind: "mixed" columns, whose correlation matrix has singular values over so many decades; "correlated" ones, each
    with its neighbours and all through a common factor, and a signal with an AUC of about 0.7; or scikit-learn's
    "breast cancer" data. quick: N and D with --quick. solvers: those of flashlogit that the command device tries.
    """

    N: int
    D: int
    kind: str = "mixed"
    decades: float = 0.0
    l1: float = 0.0
    quick: tuple[int, int] | None = None
    solvers: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The table in tables and files."""
        kind = f", {self.decades:g} decades" if self.decades > 0 else ""
        return f"{self.N:,} x {self.D:,}{kind}{f', l1 {self.l1:g}' if self.l1 else ''}"

    def fit(self, solver: Any, X: Tensor, y: Tensor, gap: float = GAP) -> Any:
        """Fit by flashlogit with C = 1, or with l1 alone."""
        penalty = {"l1": self.l1, "l2": 0.0 if self.l1 else 1 / len(X)}
        return flashlogit.fit(X, y, **penalty, tolerance=gap, solver=solver, max_iterations=400)

    def make(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Make X [N, D] float32 and y [N] uint8 on the device, always the same."""
        if self.kind == "breast cancer":
            from sklearn.datasets import load_breast_cancer

            columns, labels = load_breast_cancer(return_X_y=True)
            X = torch.from_numpy((columns - columns.mean(axis=0)) / columns.std(axis=0)).float()
            return X.to(device), torch.from_numpy(labels).to(device, torch.uint8)
        N, D, generator = self.N, self.D, torch.Generator(device).manual_seed(self.D)
        normal = partial(torch.randn, generator=generator, device=device)
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


TABLES = {
    "1M x 28": Table(1_000_000, 28, "correlated", quick=(50_000, 28)),
    "20k x 1024": Table(20_000, 1024, "correlated", quick=(2_000, 256)),
    "569 x 30": Table(569, 30, "breast cancer", solvers=("auto", "newton", "lbfgs", "newton-cg")),
    "11M x 28": Table(11_000_000, 28, quick=(100_000, 28), solvers=("auto", "newton", "lbfgs", "newton-cg")),
    "200k x 1024": Table(200_000, 1024, quick=(5_000, 256), solvers=("auto", "lbfgs")),
    "2M x 64 hard": Table(2_000_000, 64, decades=3.0, quick=(50_000, 64), solvers=("auto", "newton", "newton-cg")),
    "1M x 28 l1": Table(1_000_000, 28, l1=1e-3, solvers=("auto", "lbfgs")),
}
"""What is fitted: by `fit` those without l1, the first three on a CPU; by `device` those with solvers."""


class Objective:
    """The mean logistic loss over X [N, D] and y [N] plus l2/2 ||w||^2 + l1 ||w||_1, the intercept free."""

    def __init__(self, X: Tensor, y: Tensor, l2: float, l1: float = 0.0) -> None:
        self.X, self.y, self.l2, self.l1 = X.double(), y.double(), l2, l1
        mean = float(self.y.mean())
        self.null = -sum(p * math.log(p) for p in (mean, 1 - mean))
        """The objective of the intercept alone."""
        self.best = math.inf
        """The least objective that is known."""

    def __call__(self, weight: object, bias: object) -> float:
        """Return the objective; NaN where the parameters are not finite."""
        w, b = (torch.as_tensor(value).to(self.X).reshape(-1) for value in (weight, bias))
        z = self.X @ w + b
        loss = float((torch.nn.functional.softplus(z, threshold=50.0) - self.y * z).mean())
        return loss + 0.5 * self.l2 * float(w @ w) + self.l1 * float(w.abs().sum())

    def gap(self, value: float) -> float:
        """Return how far an objective is above the least one, as a share of the null model's."""
        return (value - self.best) / self.null

    def minimize(self) -> None:
        """Find the least objective without l1, by Newton's method with halved steps from zero."""
        N, D = self.X.shape
        X1 = torch.cat([self.X, self.X.new_ones(N, 1)], dim=1)
        theta = X1.new_zeros(D + 1)
        penalty = torch.full_like(theta, self.l2)
        penalty[-1] = 0.0
        self.best = self(theta[:D], theta[D:])
        for _ in range(50):
            p = torch.sigmoid(X1 @ theta)
            gradient = theta * penalty + X1.t() @ (p - self.y) / N
            H = torch.diag(penalty) + X1.t() @ (X1 * (p * (1 - p))[:, None]) / N
            step = torch.linalg.solve(H, gradient)
            trials = (theta - 0.5**k * step for k in range(20))
            theta = next((t for t in trials if self(t[:D], t[D:]) <= self.best * (1 + 1e-15)), theta)
            self.best = min(self.best, self(theta[:D], theta[D:]))
            if float(gradient @ step) < 1e-15 * self.null:
                break
