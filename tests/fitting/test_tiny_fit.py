"""Fits at once: which ones are made so, that they are as good as any, and that others go on as they did."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from launches import counted_launches
from problems import objective_of, several
from torch import Tensor

from flashlogit import Fit, LogisticRegression, fit, fit_softmax
from flashlogit.fitting import tiny
from flashlogit.fitting.fit import fit_at_once
from flashlogit.fitting.task import FitOptions, theta_of
from flashlogit.objectives.objective import Objective
from flashlogit.objectives.softmax import Softmax
from flashlogit.reference.tiny import _gap

BACKENDS = {"triton": "triton", "numba": "auto", "torch": "torch"}
"""By what makes a fit at once: the backend that is asked for."""
MODULES = {
    "triton": "flashlogit_kernels.gpu.fits.tiny",
    "numba": "flashlogit_kernels.cpu.fits.tiny",
    "torch": "flashlogit.reference.tiny",
}


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """What makes the fits, each in turn."""
    if request.param == "triton":
        request.getfixturevalue("kernels")
    if request.param == "numba":
        pytest.importorskip("numba")
    return str(request.param)


@pytest.fixture
def device(backend: str, device: torch.device) -> torch.device:
    return device if backend == "triton" else torch.device("cpu")


def in_steps(X: Tensor, y: Tensor, **options: Any) -> Fit:
    """The fit as larger tables are fitted: the caller hears of every point."""
    return fit(X, y, backend="torch", on_point=lambda row, point: None, **options)


def random(N: int, D: int) -> tuple[Tensor, Tensor]:
    X = torch.randn(N, D)
    return X, torch.rand(N) < torch.sigmoid(X[:, 0])


@contextmanager
def tried() -> Iterator[list[Fit | None]]:
    """What the attempts within the block gave."""
    made: list[Fit | None] = []

    def attempt(*arguments: Any, **options: Any) -> Fit | None:
        made.append(tiny.tiny_fit(*arguments, **options))
        return made[-1]

    with mock.patch("flashlogit.fitting.fit.tiny_fit", attempt):
        yield made


def at_once(device: torch.device, backend: str, *data: Tensor, **options: Any) -> Fit:
    """The fit, which must have been made at once."""
    placed = {name: v.to(device) if isinstance(v, Tensor) else v for name, v in options.items()}
    with tried() as made:
        result = fit(*(each.to(device) for each in data), backend=BACKENDS[backend], **placed)
    assert made[0] is result
    return result


def shapes() -> dict[str, tuple[Tensor, Tensor, dict[str, Any]]]:
    """Tables that are hard for one reason each."""
    torch.manual_seed(1)
    X, y = random(80, 4)
    s = torch.rand(80)
    s[::3] = 0
    far, constant, alike = X.double(), X.clone(), X.clone()
    far[:, 0] *= 1e6
    far[:, 1] += 700
    constant[:, 2] = 3.3
    alike[:, 1] = alike[:, 0] + 1e-3 * alike[:, 1]
    rare = torch.zeros(500, dtype=torch.int64)
    rare[:2] = 1
    many = torch.randn(500, 2)
    many[:2] += 1
    return {
        "one column": (X[:, :1], y, {}),
        "63 columns": (*random(70, 63), {}),
        "two rows": (X[:2], torch.tensor([0, 1]), {"l2": 0.1}),
        "no intercept": (X, y, {"intercept": False}),
        "far and large": (far, y, {}),
        "constant": (constant, y, {}),
        "alike": (alike, y, {}),
        "soft labels": (X, torch.rand(80), {}),
        "weights of 0": (X, y, {"sample_weight": s}),
        "rare": (many, rare, {}),
        "separable": (X, X[:, 0] > 0, {"l2": 1e-6}),
        "little l2": (X, y, {"l2": 1 / 80e6}),
        "much l2": (X, y, {"l2": 1e4}),
        "units": (X.double() * torch.logspace(-4, 4, 4, dtype=torch.float64), y, {}),
        "doubled": (torch.cat([X, X], dim=1), y, {}),
        "bfloat16": (X.bfloat16(), y, {}),
        "float16": (X.half(), y, {}),
        "columns": (X.t().contiguous().t(), y, {}),
        "a part of a table": (torch.randn(80, 8)[:, 1:5], y, {}),
    }


@pytest.mark.parametrize("name", list(shapes()))
def test_the_same_optimum(name: str, device: torch.device, backend: str) -> None:
    X, y, options = shapes()[name]
    options = {"l2": 1e-2, "tolerance": 1e-13} | options
    found, expected = at_once(device, backend, X, y, **options), in_steps(X, y, **options)
    assert found.converged
    assert found.certificate.kind == "gap"
    assert found.certificate.null_objective == pytest.approx(expected.certificate.null_objective, rel=1e-12)
    assert found.objective == pytest.approx(expected.objective, abs=1e-13)
    scale = expected.weight.abs().max()
    torch.testing.assert_close(found.weight.cpu() / scale, expected.weight / scale, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.bias.cpu(), expected.bias, rtol=1e-6, atol=1e-6)


def test_without_a_penalty(backend: str) -> None:
    """Half the squared Newton decrement stands in for the gap, and what has no optimum, or many, is fitted in steps."""
    if backend == "triton":
        pytest.skip("a single fit without a penalty is not made by a GPU's kernel")
    X, y = random(80, 4)
    device, cpu = torch.device("cpu"), {"l2": 0.0, "tolerance": 1e-12}
    for options in ({}, {"intercept": False}, {"sample_weight": torch.rand(80)}):
        found, expected = at_once(device, backend, X, y, **cpu, **options), in_steps(X, y, **cpu, **options)
        assert (found.certificate.kind, found.ending, found.notes) == ("decrement", "tolerance", ())
        assert found.objective == pytest.approx(expected.objective, abs=1e-15)
        torch.testing.assert_close(found.weight, expected.weight, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(found.bias, expected.bias, rtol=1e-9, atol=1e-9)
    half = X[:, 0] > 0
    quasi = torch.cat([X[:, 1:], half[:, None]], dim=1), half | (X[:, 1] > 0.3)
    for data in ((X, half), quasi):
        assert fit(*data, **cpu, backend=BACKENDS[backend]).separation is not None
    assert "determined" in fit(torch.cat([X, X[:, :1]], dim=1), y, **cpu, backend=BACKENDS[backend]).notes[0]
    assert fit(torch.cat([X, torch.ones(80, 1)], dim=1), y, **cpu, backend=BACKENDS[backend]).notes


def test_same_bits_twice(device: torch.device, backend: str) -> None:
    X, y = random(60, 3)
    first, second = (at_once(device, backend, X, y, l2=1e-2) for _ in range(2))
    assert torch.equal(first.weight, second.weight)
    assert torch.equal(first.bias, second.bias)
    assert first.certificate == second.certificate


@pytest.mark.parametrize("tolerance", [0.3, 1e-3, 1e-9])
@pytest.mark.parametrize("intercept", [True, False])
def test_the_certificate_is_that_of_the_objective(
    tolerance: float, intercept: bool, device: torch.device, backend: str
) -> None:
    X, y = random(60, 3)
    s = torch.rand(60)
    result = at_once(device, backend, X + 5, y, l2=1e-2, tolerance=tolerance, sample_weight=s, intercept=intercept)
    objective = objective_of(X + 5, y, s, intercept=intercept, l2=1e-2)
    point = objective.evaluate(theta_of(objective, (result.weight, result.bias)), certified=True)
    certificate = objective.certify(point)
    assert result.gap == pytest.approx(certificate.gap, rel=1e-6, abs=1e-15)
    assert result.gap <= tolerance * certificate.null_objective
    assert result.objective == pytest.approx(certificate.objective, rel=1e-13)


def test_an_estimator_is_fitted_so(device: torch.device, backend: str) -> None:
    X, y = random(60, 3)
    with tried() as made:
        model = LogisticRegression(backend=BACKENDS[backend]).fit(X.to(device), y.to(device))
    assert made[0] is not None
    expected = LogisticRegression(backend="torch").fit(X, y)
    torch.testing.assert_close(
        torch.as_tensor(model.coef_).cpu(), torch.as_tensor(expected.coef_), rtol=1e-4, atol=1e-5
    )


def test_history(device: torch.device, backend: str) -> None:
    """It has the same columns as any, from the null model to the certificate."""
    X, y = random(60, 3)
    result, ordinary = at_once(device, backend, X, y, l2=1e-3), in_steps(X, y, l2=1e-3)
    assert [list(row) for row in result.history] == [list(ordinary.history[0])] * len(result.history)
    first, last = result.history[0], result.history[-1]
    assert first["objective"] == pytest.approx(result.certificate.null_objective, rel=1e-14)
    assert (last["objective"], last["gap"]) == (result.objective, result.gap)
    assert (last["iteration"], last["passes"]) == (result.iterations, result.passes)
    gradient = ordinary.history[0]["gradient_norm"]
    assert first["gradient_norm"] == pytest.approx(gradient, rel=1e-9)
    assert (result.solver, result.ending, result.notes) == ("newton", "tolerance", ())


@pytest.mark.skipif(torch.cuda.is_available(), reason="launches are counted in Triton's interpreter")
@pytest.mark.parametrize("labels", [torch.uint8, torch.float32, torch.int64, torch.bool])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.usefixtures("kernels")
def test_launches(labels: torch.dtype, weighted: bool, backend: str) -> None:
    X, y = random(569, 30)
    y, s = y.to(labels), torch.rand(569) if weighted else None
    tolerance = 1e-3 if backend == "triton" else 1e-8
    with counted_launches() as found:
        result = fit(X, y, sample_weight=s, l2=1 / 569, tolerance=tolerance, backend=BACKENDS[backend])
    assert result.converged
    if backend == "triton":
        assert found.kernels == {"tiny_kernel": 1}
        assert found.reads == 1 + weighted  # whether a weight is 0
    assert found.total <= {"triton": 2, "numba": 5, "torch": 100}[backend], found


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"y": torch.full((20,), 2.0)}, r"y holds a label outside \[0, 1\]"),
        ({"y": torch.full((20,), torch.nan)}, r"y holds a label outside \[0, 1\]"),
        ({"y": torch.ones(20)}, "both classes"),
        ({"sample_weight": torch.full((20,), -1.0)}, "sample_weight holds a negative"),
        ({"sample_weight": torch.zeros(20)}, "only zeros"),
        ({"X": torch.full((20, 2), torch.nan)}, "must be finite"),
        ({"names": ["a"]}, "names has 1 entries"),
    ],
)
def test_errors_are_those_of_any_fit(changed: dict[str, Any], message: str, device: torch.device, backend: str) -> None:
    X, y = random(20, 2)
    given = {"X": X, "y": y.float(), "l2": 0.1} | changed
    placed = {name: v.to(device) if isinstance(v, Tensor) else v for name, v in given.items()}
    with pytest.raises(ValueError, match=message):
        fit(**placed, backend=BACKENDS[backend])


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_what_the_program_cannot_finish_goes_on_as_any_fit(device: torch.device, backend: str) -> None:
    """With an l2 below rounding, which proves no gap, and at a limit of iterations."""
    X, y = (each.to(device) for each in random(60, 2))
    assert fit(X, y, l2=1e-28, backend=BACKENDS[backend]).certificate.kind == "decrement"
    few = fit(X, y, l2=1e-2, max_iterations=1, backend=BACKENDS[backend])
    assert (few.ending, few.iterations) == ("limit", 1)
    assert few.notes


@pytest.mark.parametrize(
    ("shape", "options", "by"),
    [
        ((20, 64), {}, "triton"),
        ((60_000, 1), {}, "triton"),
        ((20, 2), {"l2": 0.0}, "triton"),
        ((20, 129), {}, "numba torch"),
        ((140_000, 1), {}, "numba torch"),
        ((20, 2), {"l1": 0.1}, "triton numba torch"),
        ((20, 2), {"solver": "lbfgs"}, "triton numba torch"),
        ((20, 2), {"start": (torch.zeros(2), torch.zeros(1))}, "triton numba torch"),
        ((20, 2), {"on_point": lambda row, point: None}, "triton numba torch"),
        ((20, 2), {"names": ["a"]}, "triton numba torch"),
    ],
)
def test_what_is_not_tried(
    shape: tuple[int, int], options: dict[str, Any], by: str, backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tried(*_: object, **__: object) -> None:
        raise AssertionError("a fit at once")

    monkeypatch.setattr(f"{MODULES[backend]}.fit_tiny", tried)
    plain = {"l1": 0.0, "l2": 0.1, "solver": "auto", "tolerance": 1e-6, "max_iterations": 9}
    plain |= {"start": None, "names": None, "on_point": None}
    given = {"intercept": True, "backend": backend}
    if backend in by.split():
        X, y = torch.zeros(shape), torch.zeros(shape[0])
        assert tiny.tiny_fit(X, y, None, FitOptions(**plain | options), **given) is None
    with pytest.raises(AssertionError, match="a fit at once"):
        tiny.tiny_fit(torch.zeros(20, 2), torch.zeros(20), None, FitOptions(**plain), **given)


def softmax_at_once(X: Tensor, y: Tensor, **options: Any) -> Fit:
    """The fit of several classes, which must have been made at once."""
    with tried() as made:
        result = fit_softmax(X, y, **options)
    assert made[0] is result
    return result


def softmaxes() -> dict[str, tuple[Tensor, Tensor, dict[str, Any]]]:
    """Tables of several classes that are hard for one reason each."""
    X, y, s = several(3)
    constant, alike = X.clone(), X.clone()
    constant[:, 2] = 3.3
    alike[:, 1] = alike[:, 0] + 1e-3 * alike[:, 1]
    rare = y.clone()
    rare[rare == 2] = 0
    rare[:2] = 2
    near = X - torch.tensor([0, 500.0, 0, 0, 0])
    return {
        "three": (X, y, {}),
        "two": (X, y.clamp(max=1), {}),
        "seven": (*several(7)[:2], {}),
        "weights": (X, y, {"sample_weight": s}),
        "float32 weights": (X, y.int(), {"sample_weight": s.float()}),
        "no intercept": (near, y, {"intercept": False}),
        "no intercept, a class without rows": (near, y, {"intercept": False, "classes": 4}),
        "constant": (constant, y, {}),
        "constant, no intercept": (constant, y, {"intercept": False}),
        "alike": (alike, y, {}),
        "doubled": (torch.cat([X, X], dim=1), y, {}),
        "rare": (X, rare, {}),
        "separated": (torch.eye(5).double()[y] + 0.1 * torch.tanh(near), y, {"l2": 1e-6}),
        "little l2": (X, y, {"l2": 1e-9}),
        "much l2": (X, y, {"l2": 1e4}),
        "units": (near * torch.logspace(-4, 4, 5, dtype=torch.float64), y, {}),
        "float32": (near.float(), y, {}),
        "bfloat16": (near.bfloat16(), y, {}),
        "float16": (near.half(), y, {}),
        "columns": (X.t().contiguous().t(), y, {}),
        "a part of a table": (torch.cat([X, X], dim=1)[::2, 3:7], y[::2], {}),
        "two rows": (X[:2], torch.tensor([1, 0]), {}),
    }


@pytest.mark.parametrize("name", list(softmaxes()))
def test_the_same_optimum_of_a_softmax(name: str) -> None:
    X, y, options = softmaxes()[name]
    options = {"l2": 1e-2, "tolerance": 1e-22} | options
    found = softmax_at_once(X, y, **options)
    expected = fit_softmax(X.double(), y, **options, on_point=lambda *_: None)
    assert found.converged
    assert found.certificate.kind == expected.certificate.kind == "gap"
    assert found.certificate.null_objective == pytest.approx(expected.certificate.null_objective, rel=1e-14)
    assert found.history[0]["objective"] == pytest.approx(found.certificate.null_objective, rel=1e-14)
    assert found.objective == pytest.approx(expected.objective, abs=1e-12)
    # In the sizes of each column: what a weight does to the logits.
    sizes = X.double().std(dim=0) + 1e-9
    torch.testing.assert_close(found.weight * sizes, expected.weight * sizes, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.bias, expected.bias, rtol=1e-9, atol=1e-9)
    assert found.weight.sum(dim=0).abs().max() <= 1e-14 * found.weight.abs().max()
    assert abs(found.bias.sum()) <= 1e-14 * (1 + found.bias.abs().max())


def exact_objective(result: Fit, X: Tensor, y: Tensor, s: Tensor, l2: float) -> Any:
    """P of a softmax in 80 bits."""
    wide = [np.asarray(each, dtype=np.longdouble) for each in (result.weight, result.bias, X, s)]
    weight, bias, rows, weights = wide
    z = rows @ weight.T + bias
    z = z - z[np.arange(len(z)), y.numpy()][:, None]
    top = z.max(axis=1)
    losses = top + np.log(np.exp(z - top[:, None]).sum(axis=1))
    return (weights @ losses) / weights.sum() + np.longdouble(l2) / 2 * np.square(weight).sum()


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize(("l2", "classes"), [(1e-1, 3), (1e-4, 3), (1e-2, 2), (1e-3, 6)])
def test_a_softmaxs_gap_is_never_below_the_true_one(l2: float, classes: int, intercept: bool) -> None:
    """It is that of the objective, and what the optimum is known to leave at least, in 80 bits, is within it."""
    X, y, s = several(classes, far=intercept)
    options: dict[str, Any] = {"l2": l2, "sample_weight": s, "intercept": intercept}
    least = exact_objective(softmax_at_once(X, y, tolerance=1e-15, **options), X, y, s, l2)
    loss = Softmax.of(y, classes, s, intercept=intercept)
    objective = Objective.of(X, loss, l1=0.0, l2=l2)
    found = [softmax_at_once(X, y, tolerance=10.0**-k, **options) for k in range(1, 13)]
    assert len({each.iterations for each in found}) > 2
    for result in found:
        value = exact_objective(result, X, y, s, l2)
        assert float(value - least) <= result.gap * (1 + 1e-9) + 1e-18
        assert result.objective == pytest.approx(float(value), rel=4e-15)
        point = objective.evaluate(theta_of(objective, (result.weight, result.bias)), certified=True)
        assert result.gap == pytest.approx(objective.certify(point).gap, rel=1e-6, abs=1e-15)
        assert result.gap <= result.tolerance * objective.null_value


@pytest.mark.parametrize("half", [0.49, 0.51])
def test_intercepts_of_a_softmax_are_not_shifted_beyond_the_bound(half: float) -> None:
    """With a Hessian of 1 by hand: the divergence is |shift|^2, and a residual r of a weight adds r^2 / (2 l2)."""
    basis = np.array([[1.0, 1.0], [-1.0, 1.0], [0.0, -2.0]]) / np.sqrt([2.0, 6.0])
    gradient = np.r_[0.3, 0.0, half * np.sqrt(2.0), 0.0]  # logits apart by half, -half and 0
    gap = _gap(gradient, np.eye(4), np.array([0.1, 0.1, 0.0, 0.0]), 9.0, basis)
    assert gap == pytest.approx(2 * half**2 + 0.3**2 / 0.2 if half < 0.5 else 9.0, rel=1e-14)
    assert _gap(gradient, np.eye(4), np.array([0.1, 0.1, 0.0, 0.0]), 0.2, basis) == 0.2


def test_weights_of_a_softmax_are_repeated_rows() -> None:
    X, y, _ = several(4)
    times = torch.arange(400) % 4
    weighted = softmax_at_once(X, y, sample_weight=times, l2=1e-3, tolerance=1e-14)
    repeated = softmax_at_once(X.repeat_interleave(times, dim=0), y.repeat_interleave(times), l2=1e-3, tolerance=1e-14)
    torch.testing.assert_close(weighted.weight, repeated.weight, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(weighted.bias, repeated.bias, rtol=1e-11, atol=1e-11)
    assert weighted.objective == pytest.approx(repeated.objective, rel=1e-14)


def test_a_softmaxs_record() -> None:
    """The history is that of any fit, names are kept, few operations are asked of torch, and bits repeat."""
    load_iris = pytest.importorskip("sklearn.datasets").load_iris
    X, y = map(torch.from_numpy, load_iris(return_X_y=True))
    names = ["a", "b", "c", "d"]
    with counted_launches() as launches:
        result = softmax_at_once(X, y, l2=1 / 150, tolerance=1e-10, names=names)
    assert launches.total <= 100
    steps = fit_softmax(X, y, l2=1 / 150, tolerance=1e-10, on_point=lambda *_: None)
    assert [list(row) for row in result.history] == [list(steps.history[0])] * len(result.history)
    first, last = result.history[0], result.history[-1]
    assert first["objective"] == pytest.approx(np.log(3), rel=1e-14)
    assert (last["objective"], last["gap"]) == (result.objective, result.gap)
    assert (last["iteration"], last["passes"]) == (result.iterations, result.passes)
    assert result.bytes_read == result.passes * 150 * 4 * 8
    assert (result.solver, result.ending, result.notes, result.names) == ("newton", "tolerance", (), names)
    assert (result.weight.shape, result.bias.shape) == ((3, 4), (3,))
    assert torch.equal(result.weight, softmax_at_once(X, y, l2=1 / 150, tolerance=1e-10).weight)
    options = {"l1": 0.0, "l2": 1 / 150, "solver": "auto", "tolerance": 1e-10, "max_iterations": 1000, "start": None}
    at_once = fit_at_once(X, y, classes=3, names=names, on_point=None, **options)
    assert at_once is not None
    assert torch.equal(at_once.weight, result.weight)
    with pytest.raises(ValueError, match="class number 2"):
        fit_at_once(X, y, classes=2, names=names, on_point=None, **options)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"X": torch.full((20, 2), torch.nan)}, "must be finite"),
        ({"X": 1e200 * torch.arange(40.0, dtype=torch.float64).view(20, 2)}, "beyond 1e150"),
        ({"sample_weight": torch.full((20,), -1.0)}, "sample_weight holds a negative"),
        ({"sample_weight": torch.full((20,), torch.nan)}, "sample_weight holds a negative"),
        ({"sample_weight": torch.zeros(20)}, "only zeros"),
        ({"sample_weight": (torch.arange(20) % 3 > 0).float()}, "class 0 of y has no row"),
        ({"classes": 4}, "class 3 of y has no row"),
        ({"classes": 2}, "class number 2"),
        ({"names": ["a"]}, "names has 1 entries"),
    ],
)
def test_errors_of_a_softmax_are_those_of_any_fit(changed: dict[str, Any], message: str) -> None:
    X = torch.randn(20, 2, dtype=changed["X"].dtype if "X" in changed else torch.float32)
    given: dict[str, Any] = {"X": X, "y": torch.arange(20) % 3, "l2": 0.1} | changed
    with pytest.raises(ValueError, match=message):
        fit_softmax(**given)


def test_a_softmax_that_is_not_proven_goes_on_as_any_fit() -> None:
    X, y, _ = several(3)
    assert fit_softmax(X, y, l2=1e-28).certificate.kind == "decrement"
    few = fit_softmax(X, y, l2=1e-2, max_iterations=1)
    assert (few.ending, few.iterations) == ("limit", 1)


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((20, 106, 3), {}),
        ((70_000, 2, 2), {}),
        ((11_000, 1, 3), {}),
        ((3_000, 20, 5), {}),
        ((20, 2, 3), {"l1": 0.1}),
        ((20, 2, 3), {"l2": 0.0}),
        ((20, 2, 3), {"solver": "newton-cg"}),
        ((20, 2, 3), {"start": (torch.zeros(3, 2), torch.zeros(3))}),
        ((20, 2, 3), {"on_point": lambda row, point: None}),
    ],
)
def test_softmaxes_that_are_not_tried(
    shape: tuple[int, int, int], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def tried(*_: object, **__: object) -> None:
        raise AssertionError("a fit at once")

    monkeypatch.setattr("flashlogit.reference.tiny.fit_softmax_tiny", tried)
    N, D, K = shape
    plain = {"l1": 0.0, "l2": 0.1, "solver": "auto", "tolerance": 1e-6, "max_iterations": 9}
    plain |= {"start": None, "names": None, "on_point": None}
    given: dict[str, Any] = {"intercept": True, "backend": "numba"}
    assert (
        tiny.tiny_fit(torch.zeros(N, D), torch.arange(N) % K, None, FitOptions(**plain | options), **given, classes=K)
        is None
    )
    for solver in ("auto", "newton"):
        with pytest.raises(AssertionError, match="a fit at once"):
            tiny.tiny_fit(
                torch.zeros(20, 2),
                torch.arange(20) % 3,
                None,
                FitOptions(**plain | {"solver": solver}),
                **given,
                classes=3,
            )
