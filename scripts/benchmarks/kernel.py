"""The command `kernel`: passes over X beside torch's ways to the same numbers, as shares of the measured bandwidth.

Random N(0, 1) data, X row-major. Every contender's answer is first held against float64, computed from X as it is
stored; its error is relative to the sums of absolute terms. Wrong answers are not timed. Then all contenders and the
ceilings run in turn, again and again; the table gives the median, and the interquartile range as the spread. Shares
are of the bandwidth of `sum` over as many bytes as X, timed in the same turns. On a GPU calls are replayed from a CUDA
graph, the L2 cache refilled with other data before each. torch's ways run in the dtype of X, float32 products in full
float32 (no TF32), and as whole-matrix products.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from flashlogit.passes import choose_backend
from flashlogit_kernels.contract import HESSIAN_COLUMNS

from .clock import DeviceClock, HostClock, ceilings, clock_of
from .problems import BOUND, Call, Problem, Truth, dtype_of, make_problem, packed, truth
from .report import Record, Report, between, parser_of, reason, times

COLUMNS = (1, 4, 10, 28, 37, 50, 100, 256, 300, 513, 784, 1024, 2000, 4096, 8192, 16384, 32768)
QUICK_COLUMNS = (1, 28, 256, 1024)
_SCALES = {("cuda", 0): (2.0, 30), ("cuda", 1): (0.5, 10), ("cpu", 0): (0.2, 11), ("cpu", 1): (0.1, 5)}
"""Gigabytes of X, more than any last-level cache holds, and rounds, by device and --quick."""
_MOST_ROWS = {"cuda": 250_000_000, "cpu": 10_000_000}
"""With more, narrow tables would be held against float64 in more memory than there is."""
_TORCH_BOUND, _TORCH_16_BIT_BOUND = 1e-4, 1e-2
"""Loose bounds for torch's own ways, there to tell a broken one from one that is merely imprecise."""


def eager(X: Tensor, y: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """Return gradient and loss by two products, as a user of torch would write them."""
    z = X @ w + b
    r = (torch.sigmoid(z) - y).to(X.dtype)
    loss = binary_cross_entropy_with_logits(z, y, reduction="sum")
    return torch.cat([X.t() @ r, r.sum().reshape(1), loss.reshape(1)])


def autograd(X: Tensor, y: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """Return gradient and loss as N times those of the mean loss."""
    w, b = w.detach().requires_grad_(), b.detach().requires_grad_()
    loss = binary_cross_entropy_with_logits(X @ w + b, y)
    return torch.cat([*torch.autograd.grad(loss, (w, b)), loss.detach().reshape(1)]) * len(X)


def eager_hessian(X: Tensor, y: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """Return the Hessian with the intercept's row and column, and gradient and loss before it."""
    p = torch.sigmoid(X @ w + b)
    h = p * (1 - p)
    border = torch.cat([X.t() @ h, h.sum().reshape(1)])
    matrix = torch.cat([torch.cat([X.t() @ (h[:, None] * X), border[None, :-1]]), border[:, None]], dim=1)
    return torch.cat([eager(X, y, w, b), matrix.reshape(-1)])


@dataclass(frozen=True, eq=False)
class Way:
    """A way to the numbers of a pass, of which it may give the first ones only."""

    contender: str
    call: Call
    run: Callable[[], Tensor]
    truth: Truth
    bound: float


def ways(X: Tensor, passes: Any) -> Iterator[Way]:
    """Yield all ways on X [N, D]: flashlogit's passes and torch's products, eager and by autograd."""
    (N, D), storage = X.shape, str(X.dtype).removeprefix("torch.")
    natural = "float64" if storage == "float64" else "float32"
    calls = [Call(name, D, storage, natural) for name in ("bce_onepass", "hessian_product", "bce_hessian")]
    onepass, hessian_product, hessian = calls
    del calls[2 + (D <= HESSIAN_COLUMNS) :]
    own = make_problem(onepass, N, X.device, X=X)
    known = {call.function: truth(call, own) for call in calls}
    for call in dict.fromkeys([*calls, replace(onepass, compute="float64")]):
        values = (value.to(dtype_of(call.compute)) for value in (own.w, own.b, own.v))
        run = packed(call, Problem(X, own.y, *values), passes)
        name = "flashlogit" if call in calls else "flashlogit, float64"
        yield Way(name, call, run, known[call.function], BOUND[call.compute])
    w, b, v = (value.to(X.dtype) for value in (own.w, own.b, own.v))
    data, bound = (X, own.y.float(), w, b), _TORCH_16_BIT_BOUND if X.dtype.itemsize == 2 else _TORCH_BOUND
    yield Way("torch eager", onepass, partial(eager, *data), known["bce_onepass"], bound)
    product = known["hessian_product"]
    yield Way("torch eager", hessian_product, lambda: X.t() @ (v * (X @ w + b)), product, bound)
    if hessian in calls:  # without three sums of the pass that a user of torch has no use for
        matrix = known["bce_hessian"]
        fewer = Truth(*(torch.cat([part[: D + 2], part[D + 5 :]]) for part in (matrix.value, matrix.size)))
        yield Way("torch eager", hessian, partial(eager_hessian, *data), fewer, bound)
    yield Way("torch autograd", onepass, partial(autograd, *data), known["bce_onepass"], bound)


def measure(X: Tensor, found: Sequence[Way], clock: DeviceClock | HostClock, rounds: int) -> Iterator[Record]:
    """Check every way, time those that are right in turn with the ceilings, and yield a record of each."""
    (N, D), nbytes = X.shape, X.numel() * X.element_size()
    records: dict[Any, Record] = {}
    works: dict[Any, Callable[[], object]] = {}
    for way in found:
        record = records[way] = {"line": f"{way.call.function}: {way.contender}", "allowed": way.bound}
        try:
            record["error"] = way.truth.error(way.run())
        except Exception as error:
            record |= {"status": "skipped" if "memory" in str(error) else "failed", "reason": reason(error)}
            continue
        if record["error"] <= way.bound:
            works[way] = way.run
        else:
            record |= {"status": "wrong", "reason": f"off by {record.pop('error'):.1e}, {way.bound:.0e} is allowed"}
    read, copy, mv = "ceiling: read (torch.sum)", "ceiling: copy, read and written", "ceiling: torch X @ w"
    works[read], works[copy] = ceilings(torch.ones(max(1, nbytes // 4), device=X.device))
    works[mv] = partial(torch.mv, X, X.new_ones(D))
    timed = clock(works, rounds)
    # Eager torch is the one to beat on a GPU, autograd on a CPU, where it has the pass.
    baselines: dict[str, float] = {}
    for name in ("torch eager", "torch autograd")[: 1 + (X.device.type == "cpu")]:
        baselines |= {way.call.function: timed[way].ms for way in found if way.contender == name and way in works}
    for key, work in timed.items():
        record = records.setdefault(key, {"line": key})
        moved = key.call.bytes_read(N) if isinstance(key, Way) else (1 + (key == copy)) * nbytes
        record |= times(work) | {"fraction": moved / nbytes * timed[read].ms / work.ms}
        if isinstance(key, Way) and key.call.function in baselines:
            record["speedup"] = baselines[key.call.function] / work.ms
    panel = f"{X.device.type}, {str(X.dtype).removeprefix('torch.')}"
    for record in records.values():
        name = f"{panel}, {N:,} x {D:,}: {record['line']}"
        yield {"name": name} | record | {"panel": panel, "x": str(D), "y": "fraction"}


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
    for kind in options.devices:
        gpu, device = kind == "cuda", torch.device(kind)
        clock, generator = clock_of(device), torch.Generator(device)
        gigabytes, rounds = _SCALES[kind, int(options.quick)]
        clock.warm()
        for name, D in product(options.dtypes or ["float32", "bfloat16"][: 1 + gpu], options.columns):
            nbytes = (options.gigabytes or gigabytes) * 1e9
            N = min(math.ceil(nbytes / (D * dtype_of(name).itemsize)), _MOST_ROWS[kind])
            X = torch.randn(N, D, dtype=dtype_of(name), device=device, generator=generator.manual_seed(0))
            found = list(ways(X, choose_backend("auto", device).passes))
            report.add(f"{kind}, {name}, {N:,} x {D:,}", measure(X, found, clock, options.repeats or rounds))
            del X, found
    report.finish()
    return 0
