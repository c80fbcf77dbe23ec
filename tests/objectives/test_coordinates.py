"""Coordinates as they follow from the moments of columns."""

from __future__ import annotations

import pytest
import torch

from flashlogit.objectives.coordinates import Moments, measure_coordinates, uploaded


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("chosen", [True, False])
def test_coordinates_give_columns_unit_curvature(chosen, intercept, passes, device):
    """Beside ordinary columns: one that is constant, one that is so in the sample only, and one far from 0."""
    X = torch.randn(300, 5, dtype=torch.float64, device=device) * torch.tensor([1.0, 0.1, 1.0, 1.0, 3.0], device=device)
    X[:, 1] = 7.0
    X[:250, 2] = -2.0
    X[:, 4] += 1e4
    rows = torch.arange(0, 250, 2, device=device) if chosen else None
    found = measure_coordinates(X, rows, passes, curvature=0.2, l2=0.01, intercept=intercept)
    seen = (X if rows is None else X[rows]).clone()
    variance, mean = seen.var(dim=0, correction=0), seen.mean(dim=0)
    variance[2], mean[2] = X[:, 2].var(correction=0), X[:, 2].mean()
    curvature = 0.2 * (variance if intercept else variance + mean.square())
    torch.testing.assert_close(found.center, mean if intercept else torch.zeros_like(mean), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.scale[:5], (curvature + 0.01).rsqrt(), rtol=1e-9, atol=0)
    assert found.scale[5:].tolist() == ([0.2**-0.5] if intercept else [])
    assert found.scales.tolist() == found.scale.tolist()
    assert found.subtract == intercept  # the last column's mean is 3,000 standard deviations from 0
    assert found.rounding == pytest.approx(float(curvature.sum()), rel=1e-9)
    sizes = found.scale[:5][curvature > 0]
    assert found.sizes == pytest.approx((float(sizes.sum()), float(sizes.square().sum())), rel=1e-9)


@pytest.mark.filterwarnings("ignore:overflow encountered")  # which the interpreter says
def test_values_whose_squares_are_too_large_are_named(passes, device):
    X = torch.ones(4, 3, dtype=torch.float64, device=device)
    X[2, 1] = 1e200
    with pytest.raises(ValueError, match="column 1 of X has values beyond 1e150"):
        Moments.of(X, None, passes)
    X[0, 0] = torch.nan
    assert Moments.of(X, None, passes).variance[2] == 0


def test_what_is_uploaded_together_begins_at_whole_16_bytes(device):
    arrays = [torch.arange(float(n)).double().reshape(-1, 1).numpy() for n in (3, 1, 4, 5)]
    found = uploaded(device, *arrays)
    assert [each.tolist() for each in found] == [each.tolist() for each in arrays]
    assert {each.data_ptr() % 16 for each in found} == {0}
