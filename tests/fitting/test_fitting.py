"""`flashlogit.fit` as its users call it: what it takes, what it refuses, and what it leaves alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import flashlogit
from flashlogit import fit

PENALTIES = [(0.0, 0.01), (0.005, 0.0), (0.003, 0.003), (0.0, 0.0)]


def data(N: int = 400, D: int = 6, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    X = torch.randn(N, D, generator=generator)
    z = X @ torch.linspace(-1, 1, D) - 0.3
    y = torch.rand(N, generator=generator) < torch.sigmoid(z)
    return X.to(dtype), y.float()


@pytest.mark.parametrize(
    ("dtype", "solver"), [(torch.float64, "newton"), (torch.bfloat16, "newton-cg"), (torch.float16, "lbfgs")]
)
def test_the_users_tensors_stay_as_they_are(dtype: torch.dtype, solver: Any) -> None:
    X, y = data(dtype=dtype)
    s = torch.rand(len(y))
    kept = X.clone(), y.clone(), s.clone()
    result = fit(X, y, sample_weight=s, l2=0.01, solver=solver, tolerance=1e-9)
    assert result.converged
    assert all(torch.equal(now, before) for now, before in zip((X, y, s), kept, strict=True))


@pytest.mark.parametrize(("l1", "l2"), PENALTIES)
def test_what_a_fit_says_of_itself(l1: float, l2: float) -> None:
    X, y = data()
    heard = []
    result = fit(X, y, l1=l1, l2=l2, on_point=lambda row, parameters: heard.append((row, parameters())))
    assert isinstance(result, flashlogit.Fit)
    assert (result.weight.shape, result.weight.dtype) == ((6,), torch.float64)
    assert (result.bias.shape, result.bias.dtype) == ((1,), torch.float64)
    z = X.double() @ result.weight + result.bias
    loss = torch.nn.functional.binary_cross_entropy_with_logits(z, y.double())
    penalty = l1 * result.weight.abs().sum() + 0.5 * l2 * result.weight.square().sum()
    assert result.objective == pytest.approx(float(loss + penalty), rel=1e-12)
    assert result.converged
    assert 0 <= result.relative_gap <= result.tolerance == 1e-6
    assert result.certificate.kind == ("gap" if l1 or l2 else "decrement")
    assert result.bytes_read == result.passes * 400 * 6 * 4
    assert result.notes == ()
    assert [row for row, _ in heard] == result.history
    # Without a penalty a last step goes further than what was heard of.
    assert torch.allclose(heard[-1][1][0], result.weight, rtol=0 if l1 + l2 else 0.01, atol=0)


@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
def test_a_penalty_that_leaves_nothing(solver: Any) -> None:
    X, y = data()
    result = fit(X, y, l1=10.0, solver=solver)
    assert (result.weight == 0).all()
    assert result.relative_gap <= 1e-12
    assert result.objective == pytest.approx(result.certificate.null_objective)


@pytest.mark.parametrize("shape", [(2, 1), (40, 120)])
@pytest.mark.parametrize(("l1", "l2"), PENALTIES[:3])
def test_small_and_wide(shape: tuple[int, int], l1: float, l2: float) -> None:
    X, y = data(*shape)
    y[0], y[1] = 0, 1
    result = fit(X, y, l1=l1, l2=l2, tolerance=1e-8)
    assert result.converged, result.notes


@pytest.mark.parametrize(("l1", "l2"), PENALTIES)
def test_rare_classes(l1: float, l2: float) -> None:
    X = torch.randn(20_000, 5)
    y = torch.rand(20_000) < 1e-3
    X[y] += 0.5
    result = fit(X, y, l1=l1 * 1e-3, l2=l2 * 1e-3, tolerance=1e-9)
    assert result.converged, result.notes


def test_the_kernels_fit_too() -> None:
    """In Triton's interpreter, where there is no GPU."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    X, y = (tensor.to(device) for tensor in data(20, 2))
    expected = fit(X, y, l2=0.01, tolerance=1e-12, backend="torch")
    for solver in ("newton", "lbfgs", "newton-cg"):
        result = fit(X, y, l2=0.01, tolerance=1e-12, backend="triton", solver=solver)
        assert result.converged
        torch.testing.assert_close(result.weight, expected.weight, rtol=1e-5, atol=1e-8)


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"X": np.zeros((4, 2))}, TypeError, "X"),
    ({"X": torch.zeros(4)}, ValueError, "X"),
    ({"X": torch.zeros(4, 2, dtype=torch.int64)}, TypeError, "X"),
    ({"X": torch.zeros(0, 6), "y": torch.zeros(0)}, ValueError, "no rows"),
    ({"y": torch.zeros(3)}, ValueError, "y"),
    ({"y": torch.full((400,), 2.0)}, ValueError, r"y holds a label outside \[0, 1\]"),
    ({"y": torch.full((400,), torch.nan)}, ValueError, r"y holds a label outside \[0, 1\]"),
    ({"y": torch.zeros(400)}, ValueError, "both classes"),
    ({"y": torch.ones(400)}, ValueError, "both classes"),
    ({"sample_weight": torch.full((400,), -1.0)}, ValueError, "sample_weight holds a negative"),
    ({"sample_weight": torch.zeros(400)}, ValueError, "only zeros"),
    ({"l2": -1.0}, ValueError, "l2 is -1.0; must be at least 0"),
    ({"l1": float("inf")}, ValueError, "l1 is inf"),
    ({"tolerance": 0.0}, ValueError, "tolerance is 0.0; must lie between 0 and 1"),
    ({"max_iterations": 0}, ValueError, "max_iterations is 0; must be at least 1"),
    ({"start": (torch.zeros(5), torch.zeros(1))}, ValueError, "start has 5 weights"),
    ({"start": (torch.full((6,), torch.nan), torch.zeros(1))}, ValueError, "must be finite"),
    ({"backend": "cuda"}, ValueError, "backend is 'cuda'"),
    ({"solver": "newton-cg", "l1": 0.1}, flashlogit.UserError, "it takes no l1"),
]


@pytest.mark.parametrize(("changed", "error", "message"), BAD)
def test_what_is_refused(changed: dict[str, Any], error: type[Exception], message: str) -> None:
    X, y = data()
    with pytest.raises(error, match=message):
        fit(**{"X": X, "y": y, "l2": 0.01, **changed})


@pytest.mark.parametrize(("value", "N"), [(float("nan"), 400), (float("inf"), 200_000)])
def test_values_that_are_not_finite(value: float, N: int) -> None:
    X, y = data(N)
    X[N // 2 + 1, 3] = value
    with pytest.raises(ValueError, match="must be finite"):
        fit(X, y, l2=0.01)
