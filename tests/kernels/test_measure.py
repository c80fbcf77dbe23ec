"""What a fit asks of its labels, weights and columns, in the kernels and in the reference."""

from __future__ import annotations

import pytest
import torch

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float16, torch.float32, torch.float64])
def test_labels_of_0_and_1_become_bytes(dtype, passes, device):
    y = torch.tensor([0, 1, 1, 0, 1], device=device)
    found = passes.label_sums(y.to(dtype), torch.tensor([1.0, 2.0, 3.0, 4.0, 0.5], device=device))
    assert found.labels.dtype == torch.uint8
    assert found.labels.tolist() == y.tolist()
    assert (found.outside, found.negative, found.weight_sum, found.label_sum) == (False, False, 10.5, 5.5)
    assert found.weights.dtype == torch.float32


@pytest.mark.parametrize("N", [1, 1024, 1025, 9001])
def test_every_row_is_looked_at_once(N, passes, device):
    """9,001 labels are more tiles than programs."""
    y, s = torch.rand(N, device=device) < 0.3, torch.rand(N, device=device)
    for given in (y, y.float(), y.double()):
        found = passes.label_sums(given)
        assert found.weights is None
        assert (found.weight_sum, found.label_sum) == (N, y.sum())
        assert torch.equal(found.labels, y.to(torch.uint8))
        found = passes.label_sums(given, s)
        assert found.weight_sum == pytest.approx(float(s.double().sum()), rel=1e-13)
        assert found.label_sum == pytest.approx(float(s[y].double().sum()), rel=1e-13)


@pytest.mark.parametrize(
    ("dtype", "kept"), [(torch.float32,) * 2, (torch.float64,) * 2, (torch.bfloat16, torch.float64)]
)
def test_soft_labels_stay_as_they_are(dtype, kept, passes, device):
    y = torch.tensor([0.0, 1.0] * 600 + [0.25], dtype=dtype, device=device)
    found = passes.label_sums(y)
    assert found.labels.dtype == kept
    assert torch.equal(found.labels, y.to(kept))
    assert not found.outside
    assert found.label_sum == 600.25


OUTSIDE = [(torch.float32, value) for value in (-1e-9, NAN, INF, -INF, 1.0000001)]


@pytest.mark.parametrize("place", [0, 1500])
@pytest.mark.parametrize(("dtype", "value"), [*OUTSIDE, (torch.int32, -1), (torch.int64, 1 << 32), (torch.uint8, 2)])
def test_a_label_outside_is_found(value, place, dtype, passes, device):
    y = torch.ones(1501, dtype=dtype, device=device)
    assert not passes.label_sums(y).outside
    y[place] = value
    found = passes.label_sums(y, torch.ones(1501, device=device))
    assert found.outside
    assert not found.negative


def test_infinite_labels_of_both_signs_are_no_reason_for_a_warning(passes, device):
    y = torch.ones(9001, device=device)
    y[0], y[-1] = INF, -INF
    assert passes.label_sums(y, torch.ones(9001, device=device)).outside


@pytest.mark.parametrize("place", [0, 1500])
@pytest.mark.parametrize(("value", "negative"), [(-1e-30, True), (NAN, True), (0.0, False), (INF, False)])
def test_a_negative_weight_is_found(value, negative, place, passes, device):
    y, s = torch.ones(1501, device=device), torch.ones(1501, device=device)
    s[place] = value
    found = passes.label_sums(y, s)
    assert (found.negative, found.outside) == (negative, False)
    if not negative:
        assert found.weight_sum == 1500 + value


@pytest.mark.parametrize(
    ("y", "s", "error", "message"),
    [
        (torch.ones(3, 1), None, ValueError, r"y is \[3, 1\]"),
        (torch.ones(0), None, ValueError, "there are no labels"),
        (torch.ones(3, dtype=torch.complex64), None, TypeError, "y is torch.complex64"),
        (torch.ones(3), torch.ones(2), ValueError, "sample_weight has 2 entries"),
        (torch.ones(3), torch.ones(3, device="meta"), ValueError, "sample_weight is on meta and y on cpu"),
    ],
)
def test_refused_labels(y, s, error, message, passes):
    with pytest.raises(error, match=message):
        passes.label_sums(y, s)


def moments(found):
    """The first row, and the sums of all partial sums."""
    sums = torch.from_numpy(found)
    return sums[0], *sums[1:].view(2, -1, sums.shape[1]).sum(dim=1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", ["rows", "columns", "padded"])
@pytest.mark.parametrize(("N", "D"), [(1, 1), (3000, 1), (700, 3), (30, 130)])
def test_moments_are_sums_of_differences_from_a_row(N, D, layout, dtype, passes, device):
    """The mean is a thousand standard deviations from 0: sums of the squares themselves would lose six digits."""
    X = (torch.randn(N, D, device=device) + 1000).to(dtype)
    if layout == "columns":
        X = X.t().contiguous().t()
    if layout == "padded":
        X = torch.cat([X, X.new_full((N, 5), NAN)], dim=1)[:, :D]
    rows = torch.randint(N, (N // 2 + 1,), device=device)
    for chosen in (None, rows):
        visited = (X if chosen is None else X[chosen]).double()
        first, total, squares = moments(passes.column_moments(X, chosen))
        apart = (visited - visited[0]).cpu()
        assert torch.equal(first, visited[0].cpu())
        torch.testing.assert_close(total, apart.sum(dim=0), rtol=0, atol=1e-13 * float(apart.abs().sum()))
        torch.testing.assert_close(squares, apart.square().sum(dim=0), rtol=1e-12, atol=0)


def test_a_constant_column_has_no_moments(passes, device):
    X = torch.full((2000, 3), 0.1, device=device)
    X[-1, 1] = 0.5
    _, total, squares = moments(passes.column_moments(X))
    assert (total != 0).tolist() == (squares != 0).tolist() == [False, True, False]
