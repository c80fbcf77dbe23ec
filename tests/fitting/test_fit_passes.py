"""What a fit hands to the passes, how often, and what it says of that: counted by a spy between the two."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from problems import fitted
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from flashlogit import fit, fit_softmax, reference
from flashlogit.objectives import design
from flashlogit.solvers import method, newton

SOLVERS = pytest.mark.parametrize("solver", ["newton", "lbfgs", "newton-cg"])
PENALTIES = pytest.mark.parametrize(("l1", "l2"), [(0.0, 0.01), (0.003, 0.0), (0.0, 0.0)])


@dataclass(frozen=True)
class Call:
    name: str
    X: Tensor
    labels: Tensor | None
    weights: Tensor | None


class Spy:
    """The reference, which notes down its calls."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.at_work = False

    def __getattr__(self, name: str) -> Callable[..., Any]:
        real: Callable[..., Any] = getattr(reference, name)

        def spied(X: Tensor, second: Tensor, *rest: Any, **options: Any) -> Any:
            labels = second if name.startswith("bce_") else None
            self.calls.append(Call(name, X, labels, options.get("sample_weight")))
            self.at_work = True
            try:
                return real(X, second, *rest, **options)
            finally:
                self.at_work = False

        return spied

    def count(self, name: str, rows: int) -> int:
        return sum(call.name == name and len(call.X) == rows for call in self.calls)

    def seen(self) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """X, labels and weights of all calls that were given any."""
        X, labels, weights = zip(*((call.X, call.labels, call.weights) for call in self.calls), strict=True)
        return list(X), [v for v in labels if v is not None], [v for v in weights if v is not None]


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    made = Spy()
    monkeypatch.setattr("flashlogit.fitting.fit.choose_backend", lambda *_: SimpleNamespace(passes=made))
    return made


def data(N: int = 400, D: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    X = torch.randn(N, D, generator=generator)
    z = X @ torch.linspace(-1, 1, D) - 0.3
    return X, torch.rand(N, generator=generator) < torch.sigmoid(z)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize(
    ("solver", "l1"), [("newton", 0.0), ("newton", 0.003), ("lbfgs", 0.0), ("lbfgs", 0.003), ("newton-cg", 0.0)]
)
def test_every_pass_is_counted(
    spy: Spy, monkeypatch: pytest.MonkeyPatch, solver: Any, l1: float, intercept: bool
) -> None:
    """One read more measures the columns, and a preconditioner's sample of rows is a part of one."""
    shares: list[float] = []
    original = design.Design.sampled_moments

    def second_moments(*arguments: Any, **options: Any) -> tuple[Tensor, float]:
        matrix, share = original(*arguments, **options)
        shares.append(share)
        return matrix, share

    monkeypatch.setattr("flashlogit.objectives.design.Design.sampled_moments", second_moments)
    X, y = data()
    result = fit(X, y, l1=l1, l2=0.01, solver=solver, intercept=intercept, tolerance=1e-9)
    assert result.converged
    assert (sum(shares) > 0) == (solver == "newton-cg")
    assert result.passes == pytest.approx(1 + len(spy.calls) + sum(shares))


@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
def test_passes_over_a_sample_count_as_its_share(spy: Spy, solver: Any) -> None:
    """One read more measures the columns, and another one of the sample's rows copies them."""
    N = 70_000
    X, y = data(N, 4)
    result = fit(X, y, l2=1e-4, solver=solver, tolerance=1e-9)
    sample = N // 16
    assert {len(call.X) for call in spy.calls} == {N, sample}
    launched = sum(len(call.X) / N for call in spy.calls)
    assert result.passes == pytest.approx(1 + sample / N + launched)


@PENALTIES
def test_iterations_are_evaluations_after_the_first(spy: Spy, l1: float, l2: float) -> None:
    X, y = data()
    result = fit(X, y, l1=l1, l2=l2, solver="lbfgs", tolerance=1e-9)
    assert result.converged
    # Without a penalty a last Newton step is evaluated as well.
    assert spy.count("bce_onepass", len(X)) == result.iterations + (1 if l1 or l2 else 2)
    spy.calls.clear()
    few = fit(X, y, l1=l1, l2=l2, solver="lbfgs", tolerance=1e-12, max_iterations=4)
    assert (few.ending, few.iterations) == ("limit", 4)
    assert spy.count("bce_onepass", len(X)) == 5


@SOLVERS
@pytest.mark.parametrize("layout", ["rows", "columns", "a part of wider rows", "strided"])
def test_data_are_used_in_place_or_copied_once(spy: Spy, solver: Any, layout: str) -> None:
    """A bool's byte is the label as it is."""
    X, y = data(D=8)
    s = torch.rand(len(X))
    X = {"columns": X.t().contiguous().t(), "a part of wider rows": X[:, :5], "strided": X[:, ::2]}.get(layout, X)
    if layout == "strided":
        y, s = torch.stack([y, ~y], dim=1)[:, 0], torch.stack([s, s], dim=1)[:, 0]
    options = {"l2": 0.01, "tolerance": 1e-10}
    expected = fit(X.clone(memory_format=torch.contiguous_format), y.clone(), sample_weight=s.clone(), **options)
    spy.calls.clear()
    result = fit(X, y, sample_weight=s, solver=solver, **options)
    torch.testing.assert_close(result.weight, expected.weight, rtol=1e-3, atol=1e-6)
    for tensors, given in zip(spy.seen(), (X, y, s), strict=True):
        ((address, stride),) = {(tensor.data_ptr(), tensor.stride()) for tensor in tensors}
        assert (address == given.data_ptr()) == (layout != "strided")
        assert stride == (given.contiguous() if layout == "strided" else given).stride()


@pytest.mark.parametrize("part", [slice(None), slice(None, None, 2)])
def test_a_softmax_uses_its_data_in_place_or_copies_them_once(part: slice, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[tuple[int, tuple[int, ...]]] = set()
    real = design.row_blocks

    def row_blocks(X: Tensor, *rest: Any) -> Any:
        seen.add((X.data_ptr(), X.stride()))
        return real(X, *rest)

    monkeypatch.setattr(design, "row_blocks", row_blocks)
    X, y = data(D=12)
    fit_softmax(X[:, part], y.long() + (X[:, 0] > 1), l2=0.01)
    ((address, stride),) = seen
    assert stride == (len(range(12)[part]), 1)
    assert (address == X.data_ptr()) == (part.step is None)


@PENALTIES
def test_labels_of_0_and_1_are_bytes_whatever_they_were(spy: Spy, l1: float, l2: float) -> None:
    """Also in a sample, and in the certificate and the search for separation that read them as well."""
    X, y = data(40_000, 4)
    fits = []
    for dtype in (torch.uint8, torch.bool, torch.int64, torch.float64, torch.float16):
        fits.append(fit(X, y.to(dtype), sample_weight=X[:, 0].abs(), l1=l1, l2=l2, tolerance=1e-9))
        assert {labels.dtype for labels in spy.seen()[1]} == {torch.uint8}
        spy.calls.clear()
    assert len({(*each.weight.tolist(), float(each.bias), each.certificate) for each in fits}) == 1


@pytest.mark.parametrize(
    ("given", "seen"),
    [(torch.float32, torch.float32), (torch.float64, torch.float64), (torch.float16, torch.float64)],
)
def test_soft_labels_and_weights_keep_their_digits(spy: Spy, given: torch.dtype, seen: torch.dtype) -> None:
    X, y = data(40_000, 4)
    soft = 0.25 + 0.5 * y.to(given)
    fit(X, soft, sample_weight=soft, l2=0.01)
    assert len({len(call.X) for call in spy.calls}) == 2  # a sample as well
    assert {vector.dtype for vectors in spy.seen()[1:] for vector in vectors} == {seen}


class Reads(TorchDispatchMode):
    """Counts the values that this thread reads from tensors, but for those that the passes read themselves."""

    def __init__(self, spy: Spy) -> None:
        super().__init__()
        self.spy, self.values = spy, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        name = func.overloadpacket.__name__
        if name in ("_local_scalar_dense", "equal", "nonzero", "is_nonzero") and not self.spy.at_work:
            self.values += 1
        return func(*args, **(kwargs or {}))


@SOLVERS
def test_a_point_is_read_back_at_once(spy: Spy, monkeypatch: pytest.MonkeyPatch, solver: Any) -> None:
    """L-BFGS waits once for an evaluation and the driver not at all; Newton's method once more for its direction, and
    twice where that needs another Hessian, and CG once more for each product."""
    waits = 0
    read_back = method.read_back

    def counted(tensors: list[Tensor]) -> list[float]:
        nonlocal waits
        waits += 1
        return read_back(tensors)

    for module in (method, newton):
        monkeypatch.setattr(module, "read_back", counted)
    X, y = data(2_000, 20)
    X = X * torch.logspace(0, 2, 20)
    counts: list[tuple[int, int, int, int]] = []
    for limit in (2, 5):
        waits = 0
        spy.calls.clear()
        with Reads(spy) as reads:
            result = fit(X, y, l2=1e-7, solver=solver, tolerance=1e-14, max_iterations=limit)
        assert result.ending == "limit"
        assert len(result.history) > 1
        others = spy.count("bce_hessian", len(X)), spy.count("hessian_product", len(X))
        counts.append((waits + reads.values, result.iterations, *others))
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
        if row["iteration"] == 0:
            clock.now += 40.0
            clock.compiled += 40.0

    monkeypatch.setattr("flashlogit.fitting.task.compile_seconds", lambda: clock.compiled)
    monkeypatch.setattr("flashlogit.fitting.task.time", SimpleNamespace(perf_counter=tick))
    monkeypatch.setattr("flashlogit.solvers.driver.time", SimpleNamespace(perf_counter=tick))
    X, y = data()
    result = fitted(X, (y + (classes - 2.0) * (X[:, 0] > 1)).long(), classes, l2=0.01, on_point=compiling)
    assert result.compile_seconds == 40.0
    assert result.seconds == 0.25 * (len(result.history) + 1)
    seconds = [row["seconds"] for row in result.history]
    assert seconds[:2] == [0.25, 40.5]
    assert seconds == sorted(seconds)  # type: ignore[type-var]
