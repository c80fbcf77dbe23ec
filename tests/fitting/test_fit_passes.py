"""What a fit hands to the passes, how often, and what it says of that: counted by a spy between the two."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from launches import Launches, counted_launches
from problems import easy, fitted
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from flashlogit import fit, reference
from flashlogit.fitting.task import FitOptions, FitTask
from flashlogit.objectives import design
from flashlogit.objectives.objective import Objective
from flashlogit.solvers import method, newton, working_set

pytestmark = pytest.mark.usefixtures("in_steps")
SOLVERS = pytest.mark.parametrize("solver", ["newton", "lbfgs", "newton-cg"])


class Spy:
    """The reference, which notes down its calls, and the tables that are read block by block."""

    def __init__(self) -> None:
        self.calls: list[SimpleNamespace] = []
        self.tables: list[Tensor] = []

    label_sums, column_moments = staticmethod(reference.label_sums), staticmethod(reference.column_moments)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function = getattr(reference, name)

        def spied(X: Tensor, second: Tensor, *rest: Any, **options: Any) -> Any:
            labels = second if name.startswith("bce_") else None
            call = SimpleNamespace(name=name, X=X, labels=labels, weights=options.get("sample_weight"))
            self.calls.append(call)
            with _disable_current_modes():  # what it reads itself is not counted
                return function(X, second, *rest, **options)

        return spied

    def count(self, name: str, rows: int) -> int:
        return sum(call.name == name and len(call.X) == rows for call in self.calls)

    def seen(self) -> list[list[Tensor]]:
        """X, labels and weights of all calls that were given any."""
        columns = zip(*((call.X, call.labels, call.weights) for call in self.calls), strict=True)
        return [[tensor for tensor in column if tensor is not None] for column in columns]


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    made, row_blocks = Spy(), design.row_blocks
    monkeypatch.setattr(
        "flashlogit.fitting.fit.choose_backend", lambda *_: SimpleNamespace(name="torch", passes=made, class_loops=None)
    )
    monkeypatch.setattr(
        design, "row_blocks", lambda X, *rest, **more: made.tables.append(X) or row_blocks(X, *rest, **more)
    )
    return made


def data(N: int = 400, D: int = 6) -> tuple[Tensor, Tensor]:
    X, y, _ = easy(N=N, D=D).tensors(torch.float32)
    return X, y > 0


@pytest.mark.parametrize("N", [400, 70_000])
@pytest.mark.parametrize(
    ("solver", "l1", "l2"),
    [
        ("newton", 0.0, 1e-4),
        ("newton", 0.003, 0.0),
        ("lbfgs", 0.0, 1e-4),
        ("lbfgs", 0.003, 1e-4),
        ("newton-cg", 0.0, 1e-4),
    ],
)
def test_every_pass_is_counted(
    spy: Spy, monkeypatch: pytest.MonkeyPatch, solver: Any, l1: float, l2: float, N: int
) -> None:
    """One read more measures the columns, and another one of a sample's rows copies them; what is done with a sample of
    the rows counts as its share, a preconditioner's too, and so does a copy of columns. Iterations are evaluations
    after the first."""
    shares, copies = [0.0], [0.0]
    fitting = working_set._by_loop

    def by_loop(objective: Objective, *rest: Any) -> Any:
        copies.append(objective.design.share)
        return fitting(objective, *rest)

    monkeypatch.setattr(working_set, "_by_loop", by_loop)
    original = design.Design.sampled_moments

    def second_moments(*arguments: Any, **options: Any) -> tuple[Tensor, float]:
        matrix, share = original(*arguments, **options)
        shares.append(share)
        return matrix, share

    monkeypatch.setattr(design.Design, "sampled_moments", second_moments)
    X, y = data(N)
    result = fit(X, y, l1=l1, l2=l2, solver=solver, intercept=N > 400, tolerance=1e-9)
    assert result.converged
    # L-BFGS has the Hessian of the sample that it starts from, where there is one.
    assert (sum(shares) > 0) == (solver == "newton-cg" or (solver == "lbfgs" and l1 == 0 and N == 400))
    if N > 400:
        shares.append(N // 16 / N)
    assert {len(call.X) for call in spy.calls} == ({N, N // 16} if N > 400 else {N})
    assert result.passes == pytest.approx(1 + sum(len(call.X) / N for call in spy.calls) + sum(shares) + sum(copies))
    if solver == "lbfgs":
        assert spy.count("bce_onepass", N) == result.iterations + 1


def test_without_a_penalty_a_last_newton_step_is_evaluated_as_well(spy: Spy) -> None:
    result = fit(*data(), solver="lbfgs", tolerance=1e-9)
    assert result.converged
    assert spy.count("bce_onepass", 400) == result.iterations + 2


@pytest.mark.parametrize(("solver", "classes"), [("newton", 2), ("lbfgs", 2), ("newton-cg", 2), ("newton", 3)])
@pytest.mark.parametrize("layout", ["rows", "columns", "a part of wider rows", "strided"])
def test_data_are_used_in_place_or_copied_once(spy: Spy, solver: Any, classes: int, layout: str) -> None:
    """A bool's byte is the label as it is."""
    X, y = data(D=8)
    y, s = y if classes == 2 else y + (X[:, 0] > 1).long(), torch.rand(len(X))
    X = {"columns": X.t().contiguous().t(), "a part of wider rows": X[:, :5], "strided": X[:, ::2]}.get(layout, X)
    if layout == "strided":
        y, s = (torch.stack([each, each], dim=1)[:, 0] for each in (y, s))
    options = {"l2": 0.01, "tolerance": 1e-10}
    expected = fitted(X.contiguous(), y.clone(), classes, sample_weight=s.clone(), **options)
    spy.calls.clear()
    spy.tables.clear()
    result = fitted(X, y, classes, sample_weight=s, solver=solver, **options)
    torch.testing.assert_close(result.weight, expected.weight, rtol=1e-3, atol=1e-6)
    seen = zip(spy.seen(), (X, y, s), strict=True) if classes == 2 else [(spy.tables, X)]
    for tensors, given in seen:
        ((address, stride),) = {(tensor.data_ptr(), tensor.stride()) for tensor in tensors}
        assert (address == given.data_ptr()) == (layout != "strided")
        assert stride == (given.contiguous() if layout == "strided" else given).stride()


@pytest.mark.parametrize(("l1", "l2"), [(0.0, 0.01), (0.003, 0.0), (0.0, 0.0)])
def test_labels_of_0_and_1_are_bytes_and_others_keep_their_digits(spy: Spy, l1: float, l2: float) -> None:
    """Also in a sample, and in the certificate and the search for separation that read them as well."""
    (X, y), fits = data(40_000, 4), set()
    for dtype in (torch.uint8, torch.bool, torch.int64, torch.float64, torch.float16):
        found = fit(X, y.to(dtype), sample_weight=X[:, 0].abs(), l1=l1, l2=l2, tolerance=1e-9)
        fits.add((*found.weight.tolist(), float(found.bias), found.certificate))
    assert {labels.dtype for labels in spy.seen()[1]} == {torch.uint8}
    assert len(fits) == 1
    for given, kept in ((torch.float32, torch.float32), (torch.float64, torch.float64), (torch.float16, torch.float64)):
        spy.calls.clear()
        soft = 0.25 + 0.5 * y.to(given)
        fit(X, soft, sample_weight=soft, l1=l1, l2=l2)
        assert len({len(call.X) for call in spy.calls}) == (2 if l1 or l2 else 1)  # a sample as well
        assert {vector.dtype for vectors in spy.seen()[1:] for vector in vectors} == {kept}


class Reads(TorchDispatchMode):
    """Counts the values that this thread reads from tensors."""

    values = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        name = func.overloadpacket.__name__
        self.values += name in ("_local_scalar_dense", "equal", "nonzero", "is_nonzero")
        return func(*args, **(kwargs or {}))


@SOLVERS
def test_a_point_is_read_back_at_once(spy: Spy, monkeypatch: pytest.MonkeyPatch, solver: Any) -> None:
    """L-BFGS waits once for an evaluation and the driver not at all; Newton's method once more for its direction, and
    twice where that needs another Hessian, and CG once more for each product."""
    waits: list[int] = []
    read_back = method.read_back
    for module in (method, newton):
        monkeypatch.setattr(module, "read_back", lambda tensors: waits.append(1) or read_back(tensors))
    X, y = data(2_000, 20)
    X = X * torch.logspace(0, 2, 20)
    counts: list[tuple[int, int, int, int]] = []
    for limit in (2, 5):
        waits.clear()
        spy.calls.clear()
        with Reads() as reads:
            result = fit(X, y, l2=1e-7, solver=solver, tolerance=1e-14, max_iterations=limit)
        assert result.ending == "limit"
        assert len(result.history) > 1
        others = spy.count("bce_hessian", len(X)), spy.count("hessian_product", len(X))
        counts.append((len(waits) + reads.values, result.iterations, *others))
    waited, evaluations, hessians, products = (after - before for before, after in zip(*counts, strict=True))
    assert evaluations == 3
    most = {"lbfgs": evaluations, "newton": 2 * evaluations + hessians, "newton-cg": evaluations + products}
    assert evaluations <= waited <= most[solver]


@pytest.mark.parametrize("classes", [2, 3])
def test_compilation_is_told_apart(monkeypatch: pytest.MonkeyPatch, classes: int) -> None:
    """A fit that takes some seconds by its clock."""
    clock = SimpleNamespace(now=100.0, compiled=7.0)

    def tick() -> float:
        clock.now += 0.25
        return float(clock.now)

    def compiling(row: Any, *_: Any) -> None:
        waited = 40.0 if row["iteration"] == 0 else 0.0
        clock.now, clock.compiled = clock.now + waited, clock.compiled + waited

    monkeypatch.setattr("flashlogit.fitting.fit.FitOptions", lambda *given: FitOptions(*given, tick(), clock.compiled))
    monkeypatch.setattr("flashlogit.fitting.task.compile_seconds", lambda: clock.compiled)
    for module in ("fitting.task", "solvers.driver"):
        monkeypatch.setattr(f"flashlogit.{module}.time", SimpleNamespace(perf_counter=tick))
    X, y = data()
    result = fitted(X, (y + (classes - 2.0) * (X[:, 0] > 1)).long(), classes, l2=0.01, on_point=compiling)
    assert result.compile_seconds == 40.0
    assert result.seconds == 0.25 * (len(result.history) + 1)
    seconds = [row["seconds"] for row in result.history]
    assert seconds[:2] == [0.25, 40.5]
    assert seconds == sorted(seconds)  # type: ignore[type-var]


@pytest.mark.skipif(torch.cuda.is_available(), reason="counts what is interpreted")
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("sampled", [False, True])
def test_a_fit_begins_and_ends_in_a_few_launches(
    monkeypatch: pytest.MonkeyPatch, sampled: bool, intercept: bool, weighted: bool
) -> None:
    """Two kernels look at the data, perhaps at a sample of it, which is drawn first, by weight if there are any; at the
    end weights and intercept are put into the units of X."""
    pytest.importorskip("triton")
    begun: list[tuple[int, int]] = []
    ended: list[tuple[int, int]] = []
    null, finished = Objective.null.func, FitTask.finished  # type: ignore[attr-defined]
    X = torch.randn(150, 5)
    y = (X[:, 0] + 0.5 * torch.randn(150) > 0).float()
    sample_weight = torch.rand(150) if weighted else None
    found: Launches

    def at_null(objective: Objective) -> torch.Tensor:
        begun.append((found.total, found.reads))
        theta: torch.Tensor = null(objective)
        return theta

    def finish(*arguments: Any) -> Any:
        before = found.total, found.reads
        result = finished(*arguments)
        ended.append((found.total - before[0], found.reads - before[1]))
        return result

    monkeypatch.setattr(design, "_MEASURED_ROWS", 64 if sampled else 1024)
    monkeypatch.setattr(design, "_MEASURED_VALUES", 1)
    seen = cached_property(at_null)
    seen.__set_name__(Objective, "null")
    monkeypatch.setattr(Objective, "null", seen)
    design._sampled.cache_clear()
    monkeypatch.setattr(FitTask, "finished", finish)
    with counted_launches() as found:
        result = fit(
            X, y, sample_weight=sample_weight, l2=1.0, intercept=intercept, backend="triton", solver="lbfgs",
            tolerance=0.5,
        )  # fmt: skip
    drawn = 2 if sampled else 0  # the draw, and on a CPU a sort
    drawn = (9 if sampled else 8) if weighted else drawn
    assert begun == [(2 + drawn, 2)]
    assert len(ended) == 1
    assert ended[0][0] <= 4
    assert ended[0][1] == 0
    assert result.converged
    assert found.kernels["label_sums_kernel"] == found.kernels["column_moments_kernel"] == 1
