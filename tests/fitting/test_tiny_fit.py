"""Fits at once: which ones are made so, that they are as good as any, and that others go on as they did."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
import torch
from launches import counted_launches
from problems import objective_of
from torch import Tensor

from flashlogit import Fit, LogisticRegression, fit
from flashlogit.fitting import tiny
from flashlogit.fitting.task import FitOptions, theta_of

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
        pytest.skip("a GPU's kernel takes an l2 penalty only")
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
