"""The stages of `device` in which nothing is fitted: what the device is, what is right on it, and what calls cost."""

import importlib.util
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from itertools import product
from pathlib import Path

import torch

import flashlogit
import flashlogit_kernels as passes
from flashlogit_kernels.gpu.launch import packaged
from flashlogit_kernels.gpu.run import reduction

from .bench import Bench, compile_all, table_launch
from .clock import Work, capture, ceilings, synchronize, wall
from .fit import profiled, tables
from .problems import BOUND, Call, as_loaded, cluster_calls, make_problem, packed, truth
from .report import Record, facts, reason, times, trouble

_ROOT = Path(__file__).parents[2]
_TESTS = ["tests/kernels", "tests/solvers", "tests/estimator/test_estimator_gpu.py"]
_TESTS += ["tests/training/test_training.py", "tests/fitting/test_fit_state.py"]
_KEPT_LINES = 60


def machine(bench: Bench, record: Record) -> None:
    """Fill in what there is and how fast it reads and copies."""
    record |= facts(bench.device)
    bench.clock.warm()
    X = bench.numbers(torch.float32)
    found = bench.clock(dict(zip(("read", "copy"), ceilings(X), strict=True)), bench.rounds)
    read, nbytes = found["read"], X.numel() * X.element_size() / 1e9
    rates = {"read_tb_s": nbytes / read.ms, "copy_tb_s": 2 * nbytes / found["copy"].ms}
    record["ceilings"] = rates | {"method": read.method, "late": read.late}


def compiling(bench: Bench, record: Record) -> None:
    """Compile what the stages correctness, host and passes launch, and the fits."""
    calls = dict.fromkeys([*timed_calls(bench.tiny), *checked_calls(bench.tiny), *cluster_calls(bench.device)])
    record["calls"] = compile_all(bench, [*([] if bench.tiny else tables(bench.tiny)), *calls])
    found = [kernel for entry in record["calls"] for kernel in entry.get("kernels", ())]
    record |= {"kernels": len(found), "spilling": sum(bool(kernel["spilled"]) for kernel in found)}
    record["clamped"] = sum(kernel["fitting"] < (kernel["asked"] or 0) for kernel in found)
    record["disagreeing_with_the_driver"] = sum(kernel["driver"] not in (None, kernel["fitting"]) for kernel in found)


def checked_calls(tiny: bool) -> list[Call]:
    """Return what is checked: every launch of the table by one column count, every layout, option and kind of label."""
    every = ("weights", "pos_weight", "rows", "center", "outputs", "exact")
    onepass, floats = partial(Call, "bce_onepass"), ("float32", "bfloat16")
    if tiny:
        found = [onepass(3), onepass(28, "bfloat16", "float64", odd=True), onepass(5, options=every)]
        found += [onepass(5, "float32", "float64", options=("border",))]
        found += [Call(function, 5) for function in ("bce_hessian", "hessian_product", "bce_rows")]
        return [*found, Call("column_sums", 5, options=("column_major",))]
    columns = (1, 4, 10, 28, 37, 50, 100, 256, 300, 784, 1024, 4096, 16384, 20000)
    both, labels = ("float32", "float64"), ("float32", "float64", "int64")
    found = [onepass(D, *dtypes) for *dtypes, D in product(floats, both, columns)]
    found += [onepass(D, "float64", "float64") for D in (10, 256, 2000)]
    found += [onepass(100, "float16"), onepass(2_000, odd=True)]
    found += [onepass(D, labels=y) for D, y in product((1, 28), labels)]
    found += [onepass(D, storage, odd=True) for D, storage in product((1, 10, 28), floats)]
    single = [(name,) for name in ("weights", "rows", "center", "column_major", "outputs", "exact")]
    for options in [*single, ("column_major", "rows"), every]:
        found += [onepass(D, options=options) for D in (28, 300)]
        found += [onepass(28, "bfloat16", "float64", options=options)]
    found += [onepass(D, "bfloat16", options=("padded",)) for D in (37, 50, 100)]
    found += [onepass(D, options=("center",)) for D in (2000, 8192, 16384)]
    found += [onepass(D, "float32", "float64", options=("border",)) for D in (1, 28, 100, 300, 1024, 4096)]
    hessian = partial(Call, "bce_hessian")
    for D in (1, 10, 28, 64, 100, 128):
        found += [hessian(D), hessian(D, "bfloat16"), hessian(D, options=("weights", "center", "rows"))]
    found += [hessian(D, compute="float64") for D in (28, 128)]
    for name in ("hessian_product", "column_sums"):
        kinds = product((1, 28, 300, 1024, 20000), both, ((), ("center",)))
        found += [Call(name, D, compute=compute, options=options) for D, compute, options in kinds]
        found += [Call(name, 28, "bfloat16", options=("rows",)), Call(name, 28, options=("column_major",))]
    return found + [Call("bce_rows", D, storage) for D, storage in product((28, 1024), floats)]


def correctness(bench: Bench, record: Record) -> None:
    """Fill in each call's largest error, as a share of its terms, and whether two calls gave the same bits."""
    asked = [*checked_calls(bench.tiny), *cluster_calls(bench.device)]
    record |= {"asked": len(asked), "calls": []}
    for call in asked:
        bench.add(record["calls"], call.name, partial(check, call, bench))
    record["failed"] = [entry["name"] for entry in record["calls"] if trouble(entry)]


def check(call: Call, bench: Bench) -> Record:
    """Return one call's error and repeatability."""
    N = (40 if bench.tiny else call.rows_of(1 << 26)) + call.odd
    problem = make_problem(call, N, bench.device)
    make = packed(call, problem, passes)
    first, second = make().double(), make().double()
    error = truth(call, problem).error(first)
    compute = "float64" if "float64" in (call.storage, call.compute) else "float32"
    right = bool(torch.isfinite(first).all()) and error <= BOUND[compute]
    return {"relative_error": error, "right": right, "repeatable": torch.equal(first, second)}


def bodies(bench: Bench) -> dict[str, tuple[Callable[[], torch.Tensor], torch.Tensor]]:
    """Return what is captured, and a tensor that its result depends on."""
    device, found = bench.device, {}
    calls = [Call("bce_onepass", 40 if bench.tiny else 20_000)]
    kinds = product(("bce_onepass", "bce_hessian"), ("float32", "float64"))
    calls += [Call(name, 28, compute=compute) for name, compute in kinds]
    calls += [Call(name, 28) for name in ("hessian_product", "column_sums", "bce_rows")]
    for call in calls:
        problem = make_problem(call, 32 if bench.tiny else call.few_rows(), device)
        # Sums over the columns depend on the values of the rows alone.
        changed = problem.v if call.function == "column_sums" else problem.w
        found[call.name] = packed(call, problem, passes), changed
    X, y, w = _small_problem(64, 28, device)

    def loss_and_gradient() -> torch.Tensor:
        loss = flashlogit.bce_loss(X, y, w)
        return torch.cat([loss.detach().reshape(1), *torch.autograd.grad(loss, w)])

    found["bce_loss and its gradient"] = loss_and_gradient, w.detach()
    return found | plan_runs(bench, 64, 28)


def plan_runs(bench: Bench, N: int, D: int) -> dict[str, tuple[Callable[[], torch.Tensor], torch.Tensor]]:
    """Return runs of plans that are made already, and the weights that each is run with."""
    X, y, _ = _small_problem(N, D, bench.device)
    found = {}
    for compute, border in product((torch.float32, torch.float64), (False, True)):
        weight, plan = X[0].to(compute, copy=True), passes.Plans(X, y).onepass(compute, border=border)
        name = f"plan.run D={D} {str(compute).removeprefix('torch.')}{' border' * border}"
        found[name] = partial(plan.run, weight), weight
    return found


def _small_problem(N: int, D: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    w = torch.randn(D, device=device, requires_grad=True)
    return torch.randn(N, D, device=device), torch.rand(N, device=device) < 0.5, w


def recorded(bench: Bench, work: Work) -> Work:
    """Capture what the work does; in the interpreter the work itself stands for the replay."""
    return work if bench.tiny else capture(work, bench.device)


def capturing(bench: Bench, record: Record) -> None:
    """Fill in whether replays on other values give what the bodies then give, and what a failing capture left."""
    record["bodies"] = []
    for name, (body, changed) in bodies(bench).items():
        bench.add(record["bodies"], name, partial(_replayed, bench, body, changed))
    record["failing capture"] = failing_capture(bench)


def _replayed(bench: Bench, body: Callable[[], torch.Tensor], changed: torch.Tensor) -> Record:
    results: list[torch.Tensor] = []
    body()
    replay = recorded(bench, lambda: results.append(body()))
    with torch.no_grad():
        changed.mul_(0.5)
    replay()
    known = body()
    error = float((results[-1] - known).abs().max() / known.abs().max())
    return {"captured": True, "same": error <= 1e-12, "relative_difference": error}


def failing_capture(bench: Bench) -> Record:
    """Capture a body that reads a value, which is forbidden: the stream afterwards is the one before, passes go on."""
    make = bench.work(Call("bce_onepass", 28), 32 if bench.tiny else 4096)
    before = make()
    if bench.tiny:
        return {"raised": None, "stream_restored": True, "passes_go_on": torch.equal(make(), before)}
    stream, left = torch.cuda.current_stream(bench.device), {"raised": ""}
    try:
        capture(lambda: make().sum().item(), bench.device)
    except Exception as error:
        left["raised"] = reason(error)
    left |= {"stream_restored": torch.cuda.current_stream(bench.device) == stream}
    left |= {"random_numbers_go_on": bool(torch.randn(8, device=bench.device).isfinite().all())}
    return left | {"passes_go_on": torch.equal(make(), before)}


def host(bench: Bench, record: Record) -> None:
    """Fill in what a call costs the host, and what it launches, on data so small that nothing else costs anything."""
    N, often = (16, 1) if bench.tiny else (569, 200)
    bench.clock.warm()
    one = torch.ones(30, device=bench.device)
    found: dict[str, Work] = {"torch addition": lambda: one + one, "torch .item()": lambda: one[0].item()}
    calls = [Call("bce_onepass", 30, **some) for some in ({}, {"compute": "float64"}, {"labels": "int64"})]
    calls += [Call(function, 30) for function in ("hessian_product", "column_sums", "bce_hessian")]
    found |= {call.name: bench.work(call, N) for call in calls}
    found |= {name: run for name, (run, _) in plan_runs(bench, N, 30).items()}
    X, y, w = _small_problem(N, 30, bench.device)
    labels, plain = y.float(), torch.nn.functional.binary_cross_entropy_with_logits
    found["bce_loss and backward"] = lambda: torch.autograd.grad(flashlogit.bce_loss(X, y, w), w)
    found["torch's own loss and backward"] = lambda: torch.autograd.grad(plain(X @ w, labels), w)
    record["calls"] = []
    for name, call in found.items():
        bench.add(record["calls"], name, partial(host_cost, call, often, bench))
    record["graph of 180 additions"] = _graph(bench, one)


def host_cost(call: Work, often: int, bench: Bench) -> Record:
    """Return the median of five mean host times of a call, waiting for the device between them, and its launches."""
    call()
    found = []
    for _ in range(1 if bench.tiny else 5):
        synchronize(bench.device)
        began = time.perf_counter()
        for _ in range(often):
            call()
        found.append((time.perf_counter() - began) / often * 1e6)
    return {"us": statistics.median(found), "launches": profiled(call, bench).get("launches")}


def _graph(bench: Bench, x: torch.Tensor) -> Record:
    """Return milliseconds to capture and instantiate a graph of 180 small kernels, and microseconds of its replay."""
    if bench.tiny:
        return {}

    def chain() -> None:
        for _ in range(180):
            x.add_(1.0)

    capture(chain, bench.device)
    captured, _ = wall(partial(capture, chain, bench.device), bench.device)
    return {"capture_ms": captured, "replay_us": bench.clock({"chain": chain}, 20)["chain"].ms * 1e3}


def timed_calls(tiny: bool) -> list[Call]:
    """Return one call for each row of the launch table, and a few more."""
    if tiny:
        return [Call("bce_onepass", 28), Call("bce_hessian", 28), Call("column_sums", 28)]
    found = []
    for entry in packaged():
        # Float64 arithmetic is the solvers' own, over X of either storage.
        storages = ("float32", "bfloat16") if entry.storage == "float64" else (entry.storage,)
        function = "bce_onepass" if entry.kernel == "onepass" else "bce_hessian"
        found += [as_loaded(function, entry.D, s, entry.compute) for s in storages if entry.machine == "any"]
    found += [Call("bce_onepass", D, labels="float32") for D in (1, 4, 28)]
    found += [Call("bce_onepass", D, options=("column_major",)) for D in (10, 28)]
    found += [Call("bce_onepass", D, compute="float64", options=("border",)) for D in (10, 28, 64, 100, 256, 1024)]
    found += [Call("hessian_product", D) for D in (28, 300, 1024)]
    found += [Call("column_sums", D, compute=c) for D, c in product((28, 1024), ("float32", "float64"))]
    found += [Call("bce_onepass", 28, compute="float64", options=("center",))]
    return found + [Call("bce_onepass", D) for D in (20_000, 32_768)]


def passes_stage(bench: Bench, record: Record) -> None:
    """Fill in milliseconds, TB/s and share of the read bandwidth of every call, and of torch's two products."""
    bench.clock.warm()
    record["calls"], record["torch"], record["reduction"] = [], [], []
    for call in [*timed_calls(bench.tiny), *cluster_calls(bench.device)]:
        bench.add(record["calls"], call.name, partial(timed, bench, call))
    for D in (28,) if bench.tiny else (28, 300, 1024):
        bench.add(record["torch"], f"torch D={D} float32", partial(_torch, bench, D))
    sizes = ((4, 5),) if bench.tiny else ((264, 28), (1848, 28), (1056, 300), (396, 1024), (132, 16384))
    for programs, D in sizes:
        bench.add(record["reduction"], f"reduce {programs} x {D}", partial(_reduction, bench, programs, D))


def timed(bench: Bench, call: Call) -> Record:
    """Time one call: by the table as it is, where that can be asked for, and fitted, in turn."""
    fixed = call.function == "column_sums" or (call.function == "bce_hessian" and call.compute == "float64")
    config, N = None if fixed or call.launch else table_launch(call, bench.device), call.rows_of(bench.bytes)
    works = {"fitted": bench.work(call)}
    if config is not None:
        works["as it is"] = bench.work(replace(call, launch=config))
    found = bench.clock(works, bench.rounds)
    best, moved = found["fitted"], call.bytes_read(N)
    taken = config or call.launch
    entry: Record = {"N": N, "launch": None if taken is None else asdict(taken)} | times(best)
    entry["as_it_is_ms"] = None if config is None else found["as it is"].ms
    entry |= {"tb_s": moved / best.ms / 1e9, "fraction": bench.ceiling(moved, best.ms)}
    return entry | {"method": best.method, "late": best.late}


def _torch(bench: Bench, D: int) -> Record:
    """Time X w, sigmoid, X^T r in float32 torch, each product a read of X."""
    call = Call("bce_onepass", D, labels="float32")
    problem = make_problem(call, 0, bench.device, X=bench.matrix(call))
    X, y, w, b = problem.X, problem.y, problem.w, problem.b
    ms = bench.clock({"torch": lambda: X.t() @ (torch.sigmoid(X @ w + b) - y)}, bench.rounds)["torch"].ms
    return {"ms": ms, "fraction": bench.ceiling(X.numel() * 4, ms)}


def _reduction(bench: Bench, programs: int, D: int) -> Record:
    """Time the second stage alone, over as many partial sums as the first leaves."""
    partials = torch.randn(programs, D, device=bench.device)
    totals = torch.rand(programs, 5, device=bench.device, dtype=torch.float64)
    out = torch.empty(D + 5, device=bench.device, dtype=torch.float64)
    found = bench.clock({"reduce": partial(reduction(partials, totals), {"OUT": out})}, bench.rounds)
    return {"us": found["reduce"].ms * 1e3}


def gpu_tests(bench: Bench, record: Record) -> None:
    """Fill in pytest's exit code and the end of what it printed, of the tests marked gpu that matter here.

    They run in a process of their own; in the interpreter they are only collected. No pytest, no exit code.
    """
    if importlib.util.find_spec("pytest") is None:
        record["summary"] = "not run, for pytest is not installed; pip install pytest"
        return
    how = ["--collect-only"] if bench.tiny else ["--maxfail=12", "--durations=5", "-pno:cacheprovider"]
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", *how, *_TESTS]
    paths = os.pathsep.join([f"{_ROOT}/src", f"{_ROOT}/kernels", os.environ.get("PYTHONPATH", "")])
    env, limit = {**os.environ, "PYTHONPATH": paths}, max(5.0, bench.left() - 2)
    try:
        done = subprocess.run(command, cwd=_ROOT, env=env, capture_output=True, text=True, timeout=limit)
        code, lines = done.returncode, (done.stderr + done.stdout).splitlines()
    except subprocess.TimeoutExpired:
        code, lines = None, ["out of time"]
    record |= {"exit_code": code, "summary": lines[-1] if lines else "", "output": lines[-_KEPT_LINES:]}
