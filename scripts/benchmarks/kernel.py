"""The command `kernel`: passes over X beside torch's ways to the same numbers, as shares of the measured bandwidth.

Random N(0, 1) data, X row-major. Every contender's answer is first held against float64, computed from X as it is
stored; its error is relative to the sums of absolute terms. Wrong answers are not timed. Then all contenders and the
ceilings run in turn, again and again; the table gives the median, and the interquartile range as the spread. Shares
are of the bandwidth of `sum` over as many bytes as X, timed in the same turns. On a GPU calls are replayed from a CUDA
graph, the L2 cache refilled with other data before each. torch's ways run in the dtype of X, float32 products in full
float32 (no TF32), and as whole-matrix products.
"""

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

import flashlogit_kernels
from flashlogit import reference
from flashlogit_kernels.contract import HESSIAN_COLUMNS
from flashlogit_kernels.padding import pad_rows

from .clock import DeviceClock, HostClock, clock_of
from .problems import Call, Problem, as_loaded, dtype_of, make_problem, packed
from .report import Record, Report, between, parser_of, reason, times
from .truth import BOUND, Truth, truth

COLUMNS = (1, 4, 10, 28, 37, 50, 100, 256, 300, 513, 784, 1024, 2000, 4096, 8192, 16384, 32768)
QUICK_COLUMNS = (1, 28, 256, 1024)
_SCALES = {("cuda", 0): (2.0, 30), ("cuda", 1): (0.5, 10), ("cpu", 0): (0.2, 11), ("cpu", 1): (0.1, 5)}
"""Gigabytes of X, more than any last-level cache holds, and rounds, by device and --quick."""
_MOST_ROWS = {"cuda": 250_000_000, "cpu": 10_000_000}
"""With more, narrow tables would be held against float64 in more memory than there is."""
_TORCH_BOUND, _TORCH_16_BIT_BOUND = 1e-4, 1e-2
"""Loose bounds for torch's own ways, there to tell a broken one from one that is merely imprecise."""


class Eager:
    """The passes as a user of torch would write them: whole-matrix products in the dtype of X."""

    @staticmethod
    def sums(X: Tensor, y: Tensor, w: Tensor, b: Tensor) -> Tensor:
        """Return gradient and loss by two products."""
        z = X @ w + b
        loss = binary_cross_entropy_with_logits(z, y, reduction="sum")
        r = (torch.sigmoid(z) - y).to(X.dtype)
        return torch.cat([X.t() @ r, r.sum().reshape(1), loss.reshape(1)])

    def bce_onepass(self, *data: Tensor, **options: object) -> SimpleNamespace:
        """Return them as the pass does."""
        return SimpleNamespace(packed=self.sums(*data))

    def hessian_product(self, X: Tensor, v: Tensor, w: Tensor, b: Tensor, **options: object) -> Tensor:
        """Return X^T (v (X w + b)), without the intercept's entry."""
        return X.t() @ (v * (X @ w + b))

    def bce_hessian(self, X: Tensor, y: Tensor, w: Tensor, b: Tensor, **options: object) -> SimpleNamespace:
        """Return the Hessian with the intercept's row and column, and gradient and loss beside it."""
        z = X @ w + b
        p = torch.sigmoid(z)
        h = p * (1 - p)
        border = torch.cat([X.t() @ h, h.sum().reshape(1)])
        matrix = torch.cat([torch.cat([X.t() @ (h[:, None] * X), border[None, :-1]]), border[:, None]], dim=1)
        # Three sums of the pass that torch's user has no use for; a bfloat16 would round the number of rows.
        rows = torch.full((1,), len(X), dtype=torch.float64, device=X.device)
        sums = torch.cat([self.sums(X, y, w, b), rows, torch.zeros_like(rows), z.abs().max().reshape(1)])
        return SimpleNamespace(sums=SimpleNamespace(packed=sums), matrix=matrix)


class Autograd(Eager):
    """The mean loss and its backward pass; times N these are sums."""

    @staticmethod
    def sums(X: Tensor, y: Tensor, w: Tensor, b: Tensor) -> Tensor:
        """Return gradient and loss."""
        w, b = w.detach().requires_grad_(), b.detach().requires_grad_()
        loss = binary_cross_entropy_with_logits(X @ w + b, y)
        return torch.cat([*torch.autograd.grad(loss, (w, b)), loss.detach().reshape(1)]) * len(X)


@dataclass(frozen=True, eq=False)
class Way:
    """A way to the numbers of a pass, of which it may give the first ones only."""

    contender: str
    call: Call
    run: Callable[[], Tensor]
    truth: Truth
    bound: float


def ways(X: Tensor, passes: Any, *, compiled: bool) -> Iterator[Way]:
    """Yield all ways on X [N, D]: flashlogit's passes and torch's products, eager, by autograd and compiled."""
    (N, D), storage = X.shape, str(X.dtype).removeprefix("torch.")
    natural = "float64" if storage == "float64" else "float32"
    functions = ["bce_onepass", "hessian_product", *(["bce_hessian"] if D <= HESSIAN_COLUMNS else [])]
    calls = {function: Call(function, D, storage, natural) for function in functions}
    own = make_problem(calls["bce_onepass"], N, X.device, X=X)
    known = {function: truth(call, own) for function, call in calls.items()}

    def way(name: str, call: Call, module: Any, X: Tensor = X) -> Way:
        ours = name.startswith("flashlogit")
        dtype, y = (dtype_of(call.compute), own.y) if ours else (X.dtype, own.y.float())
        problem = Problem(X, y, *(value.to(dtype) for value in (own.w, own.b, own.v)))
        bound = BOUND[call.compute] if ours else _TORCH_16_BIT_BOUND if dtype.itemsize == 2 else _TORCH_BOUND
        return Way(name, call, packed(call, problem, module), known[call.function], bound)

    onepass, padded = calls["bce_onepass"], as_loaded("bce_onepass", D, storage, natural)
    for call in dict.fromkeys([*calls.values(), replace(onepass, compute="float64")]):
        yield way("flashlogit", call, passes)
    if padded.options and X.device.type == "cuda":
        yield way("flashlogit, rows padded", padded, passes, pad_rows(X))
    for call in calls.values():
        yield way("torch eager", call, Eager())
    yield way("torch autograd", onepass, Autograd())
    if compiled:
        torch.compiler.reset()  # Dynamo gives up on a function after a few shapes
        module = Eager()
        module.sums = torch.compile(Eager.sums, dynamic=False)  # type: ignore[method-assign]
        yield way("torch.compile", onepass, module)


def measure(X: Tensor, found: Sequence[Way], clock: DeviceClock | HostClock, rounds: int) -> Iterator[Record]:
    """Check every way, time those that are right in turn with the ceilings, and yield a record of each."""
    (N, D), dtype = X.shape, str(X.dtype).removeprefix("torch.")
    records: dict[Any, Record] = {}
    works: dict[Any, Callable[[], object]] = {}
    for way in found:
        exact = f", {way.call.compute}" if way.call.compute == "float64" != dtype else ""
        record = records[way] = {"line": f"{way.call.function}: {way.contender}{exact}", "allowed": way.bound}
        try:
            record["error"] = way.truth.error(way.run())
        except Exception as error:
            record |= {"status": "skipped" if "memory" in str(error) else "failed", "reason": reason(error)}
            continue
        if record["error"] <= way.bound:
            works[way] = way.run
        else:
            why = f"off by {record.pop('error'):.1e} of its terms, {way.bound:.0e} is allowed"
            record |= {"status": "wrong", "reason": why}
    nbytes = X.numel() * X.element_size()
    source, total = torch.ones(max(1, nbytes // 4), device=X.device), torch.empty((), device=X.device)
    works["ceiling: read (torch.sum)"] = partial(torch.sum, source, dim=0, out=total)
    works["ceiling: copy, read and written"] = partial(torch.empty_like(source).copy_, source)
    works["ceiling: torch X @ w"] = partial(torch.mv, X, X.new_ones(D))
    timed = clock(works, rounds)
    per_ms = timed["ceiling: read (torch.sum)"].ms / nbytes
    # Eager torch is the one to beat on a GPU, autograd on a CPU, where it has the pass.
    baselines: dict[str, float] = {}
    for name in ("torch eager", "torch autograd")[: 1 + (X.device.type == "cpu")]:
        baselines |= {way.call.function: timed[way].ms for way in found if way.contender == name and way in works}
    for key, work in timed.items():
        record = records.setdefault(key, {"line": key})
        moved = key.call.bytes_read(N) if isinstance(key, Way) else (1 + ("copy" in key)) * nbytes
        record |= times(work) | {"fraction": moved * per_ms / work.ms}
        if isinstance(key, Way) and key.call.function in baselines:
            record["speedup"] = baselines[key.call.function] / work.ms
    panel = f"{X.device.type}, {dtype}"
    for record in records.values():
        name = f"{panel}, {N:,} x {D:,}: {record['line']}"
        yield {"name": name} | record | {"panel": panel, "x": str(D), "y": "fraction"}


def measure_device(device: torch.device, options: argparse.Namespace, report: Report) -> None:
    """Measure all dtypes and shapes on a device."""
    gpu, clock = device.type == "cuda", clock_of(device)
    passes: Any = flashlogit_kernels if gpu else reference
    gigabytes, rounds = _SCALES[device.type, int(options.quick)]
    gigabytes, rounds = options.gigabytes or gigabytes, options.repeats or rounds
    clock.warm()
    for name in options.dtypes or ["float32", "bfloat16"][: 1 + gpu]:
        dtype, generator = dtype_of(name), torch.Generator(device)
        for D in options.columns:
            N = min(math.ceil(gigabytes * 1e9 / (D * dtype.itemsize)), _MOST_ROWS[device.type])
            X = torch.randn(N, D, dtype=dtype, device=device, generator=generator.manual_seed(0))
            found = list(ways(X, passes, compiled=gpu and not options.quick))
            report.add(f"{device.type}, {name}, {N:,} x {D:,}", measure(X, found, clock, rounds))
            del X, found


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    parser = parser_of("kernel", __doc__)
    columns, dtypes = between(1, 1 << 20, int), ("float32", "bfloat16", "float16", "float64")
    parser.add_argument("--columns", nargs="+", type=columns, metavar="D", help="default: 1 to 32768")
    parser.add_argument("--dtypes", nargs="+", choices=dtypes, help="how X is stored")
    parser.add_argument("--gigabytes", type=between(1e-6, 16), help="of X; default: 2, on a CPU 0.2")
    parser.add_argument("--repeats", type=between(1, 100_000, int), help="rounds; default: 30 and 11")
    options = parser.parse_args(arguments)
    options.columns = sorted(set(options.columns or (QUICK_COLUMNS if options.quick else COLUMNS)))
    report = Report("kernel", __doc__, options)
    torch.set_float32_matmul_precision("highest")
    for device in options.devices:
        index = torch.cuda.current_device() if device == "cuda" else None
        measure_device(torch.device(device, index), options, report)
    report.finish()
    return 0
