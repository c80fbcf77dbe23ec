"""Values known by hand, at the edges of the formulas, in both implementations."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import pytest
import torch

from flashlogit_kernels.gpu.launch import LaunchConfig

# The interpreter computes with NumPy, which warns of 0 * inf in lanes whose result is then not taken.
pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")

INF, NAN = math.inf, math.nan
BOUND = math.log((1 - 1e-8) / 1e-8)
TAIL = -math.log1p(-1e-8)
"""Loss of a right prediction at the clamp."""
DTYPES = [torch.float64, torch.float32]


def of_logits(
    passes: ModuleType, z: list[float], y: list[float], device: torch.device, dtype: Any = torch.float64, **options: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses and residuals of rows with these logits: x = z, w = 1."""
    X = torch.tensor(z, dtype=dtype, device=device)[:, None]
    labels = torch.tensor(y, dtype=dtype, device=device)
    rows = passes.bce_rows(X, labels, torch.ones(1, dtype=dtype, device=device), **options)
    return rows.loss.cpu().double(), rows.residual.cpu().double()


HARD = [
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
]
SOFT = [
    *((0.0, 0.25, math.log(2), 0.25), (1e3, 0.25, 750.0, 0.75), (-1e3, 0.25, 250.0, -0.25)),
    *((INF, 1, 0.0, 0.0), (-INF, 0, 0.0, 0.0), (37.0, 1, math.exp(-37), -math.exp(-37))),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("table", [HARD, SOFT], ids=["hard", "soft"])
def test_exact_loss(table, dtype, passes, device):
    z, y, loss, residual = map(list, zip(*table, strict=True))
    ours = of_logits(passes, z, y, device, dtype, eps=0)
    rel = 1e-14 if dtype == torch.float64 else 3e-7
    assert ours[0].tolist() == pytest.approx(loss, rel=rel, abs=0)
    assert ours[1].tolist() == pytest.approx(residual, rel=rel, abs=0)


CLAMPED = [
    (20.0, 0, BOUND + TAIL, 1.0),
    (20.0, 1, TAIL, -math.exp(-20)),
    (-20.0, 1, BOUND + TAIL, -1.0),
    (1e20, 0, BOUND + TAIL, 1.0),
    (1e20, 1, TAIL, 0.0),
    (INF, 0, BOUND + TAIL, 1.0),
    (-INF, 1, BOUND + TAIL, -1.0),
    (INF, 1, TAIL, 0.0),
]
SOFT_CLAMPED = [(1e3, 0.25, 0.75 * BOUND + TAIL, 0.75), (-1e3, 0.25, 0.25 * BOUND + TAIL, -0.25)]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("table", [CLAMPED, SOFT_CLAMPED], ids=["hard", "soft"])
def test_clamped_loss_is_bounded_and_its_gradient_by_convention(table, dtype, passes, device):
    z, y, loss, residual = map(list, zip(*table, strict=True))
    rel = 1e-8 if dtype == torch.float64 else 3e-7  # residual: e^-20 for sigmoid(-20)
    through = of_logits(passes, z, y, device, dtype)
    assert through[0].tolist() == pytest.approx(loss, rel=rel, abs=0)
    assert through[1].tolist() == pytest.approx(residual, rel=rel, abs=0)
    assert through[0].max() <= -math.log(1e-8) * (1 + 1e-7)
    exact = of_logits(passes, z, y, device, dtype, clamp_gradient="exact")
    assert torch.equal(exact[0], through[0])
    assert exact[1].tolist() == [0.0] * len(z)


@pytest.mark.parametrize("eps", [1e-8, 1e-3])
@pytest.mark.parametrize("y", [0.0, 1.0, 0.3])
def test_both_sides_of_the_bound(eps, y, passes, device):
    bound = math.log((1 - eps) / eps)
    inside, outside = ([sign * bound * (1 + step) for sign in (-1, 1)] for step in (-1e-12, 1e-12))
    within = of_logits(passes, inside, [y, y], device, eps=eps, clamp_gradient="exact")
    beyond = of_logits(passes, outside, [y, y], device, eps=eps, clamp_gradient="exact")
    torch.testing.assert_close(within[0], beyond[0], rtol=1e-10, atol=0)
    assert within[1].abs().min() > 0
    assert beyond[1].tolist() == [0, 0]
    through = of_logits(passes, outside, [y, y], device, eps=eps)
    torch.testing.assert_close(through[1], within[1], rtol=1e-8, atol=0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("y", [[0.0, 1.0], [0.5, 0.5]])
@pytest.mark.parametrize(("eps", "clamp_gradient"), [(0, "exact"), (1e-8, "through"), (1e-8, "exact")])
def test_nan_stays_nan(eps, clamp_gradient, y, dtype, passes, device):
    loss, residual = of_logits(passes, [NAN, NAN], y, device, dtype, eps=eps, clamp_gradient=clamp_gradient)
    assert loss.isnan().all()
    assert residual.isnan().all()


def test_pos_weight_by_hand(passes, device):
    q = 3.0
    pos_weight = torch.tensor(q, dtype=torch.float64, device=device)
    z, y = torch.tensor([0.7, 0.7, -2.0]).double(), torch.tensor([1.0, 0.0, 0.25]).double()
    p = torch.sigmoid(z)
    for kept in (slice(2), slice(3)):  # hard labels alone, and with a soft one
        loss, residual = of_logits(passes, z[kept].tolist(), y[kept].tolist(), device, pos_weight=pos_weight, eps=0)
        exact = -(q * y * p.log() + (1 - y) * (1 - p).log())
        torch.testing.assert_close(loss, exact[kept], rtol=1e-13, atol=0)
        torch.testing.assert_close(residual, ((1 + (q - 1) * y) * p - q * y)[kept], rtol=1e-13, atol=0)


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
def test_nonfinite_logits_are_counted_in_the_same_pass(logits, nonfinite, largest, passes, device):
    X = torch.zeros(len(logits), 3, device=device)
    X[:, 0] = torch.tensor(logits, device=device)
    options = {"launch": LaunchConfig(8, 4, 1)} if passes.__name__ == "flashlogit_kernels" else {}
    y, weight = torch.zeros(len(logits), device=device), torch.ones(3, device=device)
    sums = passes.bce_onepass(X, y, weight, **options)
    assert sums.nonfinite.item() == nonfinite
    assert sums.max_abs_logit.item() == pytest.approx(largest)
    assert math.isnan(sums.loss.item()) == any(math.isnan(z) for z in logits)


def test_the_notebooks_example(passes, device):
    """6.7 is no float32: the gradient of what is stored in its place differs in the seventh digit."""
    for dtype, known, rel in ((torch.float32, 6.691762447357178, 1e-6), (torch.float64, 6.691763029237442, 1e-15)):
        X, y = torch.tensor([[6.7]], dtype=dtype, device=device), torch.tensor([0.0], device=device)
        sums = passes.bce_onepass(X, y, torch.ones(1, dtype=dtype, device=device), torch.zeros(1, device=device))
        assert sums.loss.item() == pytest.approx(6.7012, abs=5e-5)
        assert sums.weight_grad.item() == pytest.approx(known, rel=rel)
    assert sums.bias_grad.item() == pytest.approx(0.9987706013787226, rel=1e-15)
