"""Calls of the passes, as data: what is compiled, checked against float64 and timed is one list of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from flashlogit_kernels.gpu.table import LaunchConfig
from flashlogit_kernels.padding import padded_columns

Packed = Callable[[], Tensor]
"""Makes the call; gives all that it sums as one float64 vector."""

OPTIONS = frozenset({"weights", "pos_weight", "rows", "center", "column_major", "padded", "outputs", "exact"})
_FEW_ROWS = {64: 300_000, 4096: 20_000, 1 << 30: 2_000}
"""Rows by columns that make a call launch what it does with millions: multiples of 16, and no tile is lowered."""


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
        """For tables and files."""
        parts = [self.function, f"D={self.D}", self.storage]
        parts += [f"in {self.compute}"] if self.compute != "float32" else []
        parts += [f"y {self.labels}"] if self.labels != "uint8" else []
        return " ".join([*parts, *self.options, *(["odd N"] if self.odd else [])])

    @property
    def stride(self) -> int:
        """Numbers between the beginnings of two rows."""
        return padded_columns(self.D, getattr(torch, self.storage)) if "padded" in self.options else self.D

    def rows(self, values: int) -> int:
        """Rows of about so many values: a multiple of 16, or one more."""
        return max(16, values // self.D // 16 * 16) + self.odd

    def few_rows(self) -> int:
        """Rows with which everything is compiled that more of them need."""
        return next(rows for most, rows in _FEW_ROWS.items() if most >= self.D) + self.odd


def as_loaded(function: str, D: int, storage: str, compute: str) -> Call:
    """A call on X with the row stride that it has when data are loaded."""
    padded = padded_columns(D, getattr(torch, storage)) > D
    return Call(function, D, storage, compute, options=("padded",) if padded else ())


@dataclass(frozen=True)
class Data:
    """What a call is made with; tensors as for the passes."""

    X: Tensor
    y: Tensor
    w: Tensor
    b: Tensor
    v: Tensor
    options: dict[str, Any]


def make_data(call: Call, N: int, device: torch.device, *, X: Tensor | None = None) -> Data:
    """Data of the call, made on the device, always the same; `X` [N, D] in place of new numbers."""
    generator = torch.Generator(device).manual_seed(call.D)
    storage, compute = getattr(torch, call.storage), getattr(torch, call.compute)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device)

    if X is None:
        X = normal(N, call.D).to(storage)
        if "column_major" in call.options:
            X = X.t().contiguous().t()
        if "padded" in call.options:
            import flashlogit_kernels

            X = flashlogit_kernels.pad_rows(X)
    y = (torch.rand(N, generator=generator, device=device) < 0.3).to(getattr(torch, call.labels))
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
    return Data(X, y, w, b, normal(visited).abs().to(compute), options)


def packed(call: Call, data: Data, passes: Any) -> Packed:
    """The call, ready to be made."""
    compute = getattr(torch, call.compute)
    options: dict[str, Any] = {"compute_dtype": compute}
    if call.launch is not None:
        options["launch"] = call.launch
    some = {name: value for name, value in data.options.items() if name in ("rows", "center")}
    X, y, w, b = data.X, data.y, data.w, data.b
    if call.function == "bce_onepass":
        wanted = dict.fromkeys(("residual", "curvature", "logits"), True) if "outputs" in call.options else {}

        def onepass() -> Tensor:
            sums = passes.bce_onepass(X, y, w, b, **wanted, **options, **data.options)
            if not wanted:
                result: Tensor = sums.packed
                return result
            return torch.cat([sums.packed, sums.residual, sums.curvature, sums.logits])

        return onepass
    if call.function == "bce_hessian":

        def hessian() -> Tensor:
            found = passes.bce_hessian(X, y, w, b, **options, **data.options)
            return torch.cat([found.sums.packed, found.matrix.reshape(-1)])

        return hessian
    if call.function == "bce_rows":

        def rows() -> Tensor:
            found = passes.bce_rows(X, y, w, b, **options, **data.options)
            return torch.cat([found.loss, found.residual])

        return rows
    if call.function == "hessian_product":
        return lambda: passes.hessian_product(X, data.v, w, b, **options, **some)
    if call.function == "column_sums":
        return lambda: passes.column_sums(X, data.v, **options, **some)
    raise ValueError(f"function is {call.function!r}; must be one of the passes")


@dataclass(frozen=True)
class Truth:
    """A call's result in float64, and for each of its numbers the sum of absolute terms that it is made of."""

    value: Tensor
    size: Tensor


def truth(call: Call, data: Data) -> Truth:
    """By torch alone, on the whole of X in float64."""
    dtype = torch.float64
    X, y, w, b = (value.to(dtype) for value in (data.X, data.y, data.w, data.b))
    options = data.options
    s = options.get("sample_weight", torch.ones_like(y)).to(dtype)
    chosen = options.get("rows")
    if chosen is not None:
        X, y, s = X[chosen], y[chosen], s[chosen]
    if "center" in options:
        X = X - options["center"].to(dtype)
    v = data.v.to(dtype)
    if call.function == "column_sums":
        return Truth(X.t() @ v, X.abs().t() @ v.abs())
    z = X @ w + b
    if call.function == "hessian_product":
        r = v * z
        return Truth(_with_sum(X, r), _with_sum(X.abs(), v.abs() * (X.abs() @ w.abs() + b.abs())))
    q = options.get("pos_weight", z.new_ones(())).to(dtype)
    eps = options.get("eps", 1e-8)
    bound = float(torch.logit(torch.tensor(1 - eps, dtype=torch.float64)))
    c, p = z.clamp(-bound, bound), torch.sigmoid(z)
    on = 1 - y + q * y
    softplus = torch.nn.functional.softplus
    loss = s * ((1 - y) * softplus(c, threshold=50.0) + q * y * softplus(-c, threshold=50.0))
    r = s * ((1 - y) * p - q * y * (1 - p))
    h = s * on * p * (1 - p)
    if "exact" in call.options:
        r, h = (torch.where(z.abs() > bound, 0.0, value) for value in (r, h))
    if call.function == "bce_rows":
        return Truth(torch.cat([loss, r]), torch.cat([loss.abs(), s * on]).clamp(min=1e-30))
    # A number's own rounding is that of its terms and of the logits that they are functions of.
    slack = h * (X.abs() @ w.abs() + b.abs())
    scalars = torch.stack([loss.sum(), s.sum(), z.new_zeros(()), z.abs().max()])
    value = torch.cat([_with_sum(X, r), scalars])
    size = torch.cat(
        [_with_sum(X.abs(), r.abs() + slack), scalars + torch.stack([slack.sum(), *z.new_full((3,), 1e-30)])]
    )
    size[-1] = (X.abs() @ w.abs() + b.abs()).max()
    if call.function == "bce_hessian":
        X1 = torch.cat([X, X.new_ones(len(X), 1)], dim=1)
        matrix, bound_of = X1.t() @ (h[:, None] * X1), X1.abs().t() @ ((h + slack)[:, None] * X1.abs())
        return Truth(torch.cat([value, matrix.reshape(-1)]), torch.cat([size, bound_of.reshape(-1)]))
    if "outputs" in call.options:
        each = X.abs() @ w.abs() + b.abs()
        value = torch.cat([value, r, h, z])
        size = torch.cat([size, r.abs() + slack, h + slack, each])
    return Truth(value, size.clamp(min=1e-30))


def _with_sum(X: Tensor, r: Tensor) -> Tensor:
    return torch.cat([X.t() @ r, r.sum().reshape(1)])
