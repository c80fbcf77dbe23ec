"""Values known by hand, at the edges of the formulas, in both implementations."""

from __future__ import annotations

import math
from types import ModuleType

import pytest
import torch

from flashlogit_kernels.gpu.launch import LaunchConfig

# The interpreter computes with NumPy, which warns of 0 * inf in lanes whose result is then not taken.
pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")

INF, NAN = math.inf, math.nan
BOUND = math.log((1 - 1e-8) / 1e-8)
TAIL = -math.log1p(-1e-8)
"""Loss of a right prediction at the clamp."""


def one_row(
    passes: ModuleType,
    z: float,
    y: float,
    device: torch.device,
    *,
    dtype: torch.dtype = torch.float64,
    **options: object,
) -> tuple[float, float]:
    """(loss, residual) of a row whose logit is z: x = z, w = 1."""
    X = torch.tensor([[z]], dtype=dtype, device=device)
    weight = torch.ones(1, dtype=dtype, device=device)
    rows = passes.bce_rows(X, torch.tensor([y], dtype=dtype, device=device), weight, **options)
    return rows.loss.item(), rows.residual.item()


UNCLAMPED = [
    (0.0, 0, math.log(2), 0.5),
    (0.0, 1, math.log(2), -0.5),
    (37.0, 0, 37.0, 1.0),
    (37.0, 1, math.exp(-37), -math.exp(-37)),
    (-37.0, 1, 37.0, -1.0),
    (-37.0, 0, math.exp(-37), math.exp(-37)),
    (1e3, 0, 1e3, 1.0),
    (1e3, 1, 0.0, 0.0),
    (-1e3, 1, 1e3, -1.0),
    (-1e3, 0, 0.0, 0.0),
    (1e20, 0, 1e20, 1.0),
    (1e20, 1, 0.0, 0.0),
    (INF, 0, INF, 1.0),
    (INF, 1, 0.0, 0.0),
    (-INF, 1, INF, -1.0),
    (-INF, 0, 0.0, 0.0),
    (0.0, 0.25, math.log(2), 0.25),
    (1e3, 0.25, 750.0, 0.75),
    (-1e3, 0.25, 250.0, -0.25),
]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(("z", "y", "loss", "residual"), UNCLAMPED)
def test_exact_loss(
    z: float,
    y: float,
    loss: float,
    residual: float,
    dtype: torch.dtype,
    passes: ModuleType,
    device: torch.device,
) -> None:
    ours = one_row(passes, z, y, device, dtype=dtype, eps=0)
    rel = 1e-14 if dtype == torch.float64 else 3e-7
    assert ours == (pytest.approx(loss, rel=rel, abs=0), pytest.approx(residual, rel=rel, abs=0))


CLAMPED = [
    (20.0, 0, BOUND + TAIL, 1.0),
    (20.0, 1, TAIL, -math.exp(-20)),
    (-20.0, 1, BOUND + TAIL, -1.0),
    (1e20, 0, BOUND + TAIL, 1.0),
    (1e20, 1, TAIL, 0.0),
    (INF, 0, BOUND + TAIL, 1.0),
    (-INF, 1, BOUND + TAIL, -1.0),
    (INF, 1, TAIL, 0.0),
    (1e3, 0.25, 0.75 * BOUND + TAIL, 0.75),
]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(("z", "y", "loss", "residual"), CLAMPED)
def test_clamped_loss_is_bounded_and_its_gradient_by_convention(
    z: float,
    y: float,
    loss: float,
    residual: float,
    dtype: torch.dtype,
    passes: ModuleType,
    device: torch.device,
) -> None:
    rel = 1e-8 if dtype == torch.float64 else 3e-7  # residual: e^-20 for sigmoid(-20)
    through = one_row(passes, z, y, device, dtype=dtype)
    assert through == (pytest.approx(loss, rel=rel, abs=0), pytest.approx(residual, rel=rel, abs=0))
    exact = one_row(passes, z, y, device, dtype=dtype, clamp_gradient="exact")
    assert exact == (through[0], 0.0)
    assert through[0] <= -math.log(1e-8) * (1 + 1e-7)


@pytest.mark.parametrize("eps", [1e-8, 1e-3])
@pytest.mark.parametrize("y", [0.0, 1.0, 0.3])
def test_both_sides_of_the_bound(eps: float, y: float, passes: ModuleType, device: torch.device) -> None:
    bound = math.log((1 - eps) / eps)
    below, above = bound * (1 - 1e-12), bound * (1 + 1e-12)
    for sign in (-1, 1):
        inside = one_row(passes, sign * below, y, device, eps=eps, clamp_gradient="exact")
        outside = one_row(passes, sign * above, y, device, eps=eps, clamp_gradient="exact")
        assert inside[0] == pytest.approx(outside[0], rel=1e-10)
        assert inside[1] != 0.0
        assert outside[1] == 0.0
        assert one_row(passes, sign * above, y, device, eps=eps)[1] == pytest.approx(inside[1], rel=1e-8)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("y", [0.0, 1.0, 0.5])
@pytest.mark.parametrize("eps", [0, 1e-8])
@pytest.mark.parametrize("clamp_gradient", ["through", "exact"])
def test_nan_stays_nan(
    eps: float, y: float, clamp_gradient: str, dtype: torch.dtype, passes: ModuleType, device: torch.device
) -> None:
    loss, residual = one_row(passes, NAN, y, device, dtype=dtype, eps=eps, clamp_gradient=clamp_gradient)
    assert math.isnan(loss)
    assert math.isnan(residual)


def test_pos_weight_by_hand(passes: ModuleType, device: torch.device) -> None:
    q = 3.0
    pos_weight = torch.tensor(q, dtype=torch.float64, device=device)
    for z, y in ((0.7, 1.0), (0.7, 0.0), (-2.0, 0.25)):
        p = 1 / (1 + math.exp(-z))
        loss = -(q * y * math.log(p) + (1 - y) * math.log(1 - p))
        residual = (1 + (q - 1) * y) * p - q * y
        ours = one_row(passes, z, y, device, pos_weight=pos_weight, eps=0)
        assert ours == pytest.approx((loss, residual), rel=1e-13)


@pytest.mark.parametrize(
    ("logits", "nonfinite", "largest"),
    [
        ([1.0, -3.0, 2.0], 0, 3.0),
        ([1.0, NAN, -2.0], 1, 2.0),
        ([INF, -INF, NAN], 3, 0.0),
        ([0.0, 1e30, -INF, 5.0], 1, 1e30),
        ([1.0] * 20 + [NAN] + [-4.0] * 20, 1, 4.0),
    ],
)
@pytest.mark.parametrize("d", [1, 3])
def test_nonfinite_logits_are_counted_in_the_same_pass(
    d: int, logits: list[float], nonfinite: int, largest: float, passes: ModuleType, device: torch.device
) -> None:
    X = torch.zeros(len(logits), d, device=device)
    X[:, 0] = torch.tensor(logits, device=device)
    options = {"launch": LaunchConfig(8, 4, 1)} if passes.__name__ == "flashlogit_kernels" else {}
    sums = passes.bce_onepass(
        X, torch.zeros(len(logits), device=device), torch.ones(d, device=device), **options
    )
    assert sums.nonfinite.item() == nonfinite
    assert sums.max_abs_logit.item() == pytest.approx(largest)
    assert math.isnan(sums.loss.item()) == any(math.isnan(z) for z in logits)


def test_the_notebooks_example(passes: ModuleType, device: torch.device) -> None:
    X, y = torch.tensor([[6.7]], device=device), torch.tensor([0.0], device=device)
    weight, bias = torch.ones(1, device=device), torch.zeros(1, device=device)
    sums = passes.bce_onepass(X, y, weight, bias)
    assert sums.loss.item() == pytest.approx(6.7012, abs=5e-5)
    assert sums.weight_grad.item() == pytest.approx(6.691762447357178, rel=1e-6)
    assert sums.bias_grad.item() == pytest.approx(0.998770534992218, rel=1e-6)
    X, weight = torch.tensor([[6.7]], dtype=torch.float64, device=device), weight.double()
    sums = passes.bce_onepass(X, y, weight, bias)
    assert sums.weight_grad.item() == pytest.approx(6.691763029237442, rel=1e-15)
    assert sums.bias_grad.item() == pytest.approx(0.9987706013787226, rel=1e-15)
