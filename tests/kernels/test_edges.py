"""Values known by hand, at the edges of the formulas, in both implementations."""

from __future__ import annotations

import math

import pytest
import torch
from budget import SMALL, launched

# The interpreter computes with NumPy, which warns of 0 * inf in lanes whose result is then not taken.
pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")

DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
INF, NAN = math.inf, math.nan
BOUND = math.log((1 - 1e-8) / 1e-8)
TAIL = -math.log1p(-1e-8)
"""Loss of a right prediction at the clamp."""


def of_logits(passes, z, y, device, dtype=torch.float64, **options):
    """Losses and residuals of rows with these logits: x = z, w = 1."""
    X = torch.tensor(z, dtype=dtype, device=device)[:, None]
    labels = torch.tensor(y, dtype=dtype, device=device)
    rows = passes.bce_rows(X, labels, torch.ones(1, dtype=dtype, device=device), **options)
    return rows.loss.cpu().double(), rows.residual.cpu().double()


def of_both_labels(*of_label_0: tuple[float, float, float]) -> list[tuple[float, int, float, float]]:
    """(logit, label, loss, residual) of rows of label 0, given without it, and of their mirror images of label 1."""
    return [row for z, loss, r in of_label_0 for row in ((z, 0, loss, r), (-z, 1, loss, -r))]


HARD = of_both_labels(
    (0.0, math.log(2), 0.5),
    (37.0, 37.0, 1.0),
    (-37.0, math.exp(-37), math.exp(-37)),
    *((1e3, 1e3, 1.0), (-1e3, 0.0, 0.0)),
    *((1e20, 1e20, 1.0), (-1e20, 0.0, 0.0)),
    *((INF, INF, 1.0), (-INF, 0.0, 0.0)),
)
SOFT = [
    *((0.0, 0.25, math.log(2), 0.25), (1e3, 0.25, 750.0, 0.75), (-1e3, 0.25, 250.0, -0.25)),
    *((INF, 1, 0.0, 0.0), (-INF, 0, 0.0, 0.0), (37.0, 1, math.exp(-37), -math.exp(-37))),
]


CLAMPED = of_both_labels(
    (20.0, BOUND + TAIL, 1.0),
    (-20.0, TAIL, math.exp(-20)),
    *((1e20, BOUND + TAIL, 1.0), (-1e20, TAIL, 0.0)),
    *((INF, BOUND + TAIL, 1.0), (-INF, TAIL, 0.0)),
)
SOFT_CLAMPED = [(1e3, 0.25, 0.75 * BOUND + TAIL, 0.75), (-1e3, 0.25, 0.25 * BOUND + TAIL, -0.25)]


def test_float64_rows_are_right_to_a_few_roundings(passes, device):
    z = [-700.0, -123.4, -37.0, -9.1, -3.0, -0.7, -0.3, -1e-3, 0.0, 1e-9, 0.2, 0.34, 0.35, 1.5, 2.2, 5.0, 11.0, 30.0]
    losses, residuals = of_logits(passes, z, [0.0] * len(z), device, eps=0)
    for value, loss, residual in zip(z, losses.tolist(), residuals.tolist(), strict=True):
        e = math.exp(-abs(value))
        exact = e / (1 + e) if value < 0 else 1 / (1 + e)
        assert loss == pytest.approx(max(value, 0.0) + math.log1p(e), rel=1e-15, abs=0)
        assert residual == pytest.approx(exact, rel=1e-15, abs=0)


@DTYPES
@pytest.mark.parametrize(("table", "eps"), [(HARD, 0), (SOFT, 0), (CLAMPED, 1e-8), (SOFT_CLAMPED, 1e-8)])
def test_loss_and_residual(table, eps, dtype, passes, device):
    """Beyond the clamp the loss is bounded, and the gradient 0 by one convention and that of the logit by the other."""
    z, y, loss, residual = map(list, zip(*table, strict=True))
    rel = 3e-7 if dtype == torch.float32 else 1e-8 if eps else 1e-14  # 1e-8: e^-20 for the sigmoid of -20
    through = of_logits(passes, z, y, device, dtype, eps=eps)
    assert through[0].tolist() == pytest.approx(loss, rel=rel, abs=0)
    assert through[1].tolist() == pytest.approx(residual, rel=rel, abs=0)
    if eps:
        assert through[0].max() <= -math.log(eps) * (1 + 1e-7)
        zeroed = of_logits(passes, z, y, device, dtype, eps=eps, clamp_gradient="exact")
        assert torch.equal(zeroed[0], through[0])
        assert zeroed[1].tolist() == [0.0] * len(z)


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


@DTYPES
@pytest.mark.parametrize("y", [[0.0, 1.0], [0.5, 0.5]])
@pytest.mark.parametrize(("eps", "clamp_gradient"), [(0, "exact"), (1e-8, "through"), (1e-8, "exact")])
def test_nan_stays_nan(eps, clamp_gradient, y, dtype, passes, device):
    loss, residual = of_logits(passes, [NAN, NAN], y, device, dtype, eps=eps, clamp_gradient=clamp_gradient)
    assert loss.isnan().all()
    assert residual.isnan().all()


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
    sums = passes.bce_onepass(X, X[:, 1], torch.ones(3, device=device), **launched(passes, SMALL))
    assert sums.nonfinite.item() == nonfinite
    assert sums.max_abs_logit.item() == pytest.approx(largest)
    assert math.isnan(sums.loss.item()) == any(math.isnan(z) for z in logits)
