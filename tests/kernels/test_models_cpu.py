"""The compiled pass for many models against the torch reference, and Hessians of samples against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from flashlogit.reference import factors as plain_factors
from flashlogit.reference.models import models_onepass as reference
from flashlogit_kernels.cpu import pool
from flashlogit_kernels.cpu.factors import SampleRows
from flashlogit_kernels.cpu.models import models_onepass
from flashlogit_kernels.models import NO_FOLD, Models, missing_code


def problem(
    N: int, D: int, K: int, C: int, *, weighted: bool = False, ordered: bool = False, dtype: torch.dtype = torch.float32
) -> tuple[torch.Tensor, Models, torch.Tensor, torch.Tensor, torch.Tensor]:
    """X, models over two targets, folds in two columns and one without a fold, weights, biases and a centre."""
    generator = torch.Generator().manual_seed(N + D + K)
    X = torch.randn(N, D, generator=generator, dtype=torch.float64).to(dtype)
    codes = torch.randint(0, max(2, C), (2, N), generator=generator).to(torch.int16 if C > 255 else torch.uint8)
    codes[0, : N // 9] = missing_code(codes)
    folds = torch.randint(0, 4, (2, N), generator=generator).to(torch.uint8)
    numbers = torch.arange(K)
    held = torch.where(numbers % 5 == 4, NO_FOLD, numbers % 4)
    s = torch.rand(N, generator=generator) if weighted else None
    of = [each.to(torch.int32) for each in (numbers % 2, numbers // 2 % 2, held)]
    W = torch.randn(D, K * C, generator=generator, dtype=torch.float64) / D**0.5
    b = torch.randn(K * C, generator=generator, dtype=torch.float64)
    center = torch.randn(D, generator=generator, dtype=torch.float64)
    return X, Models(codes, folds, *of, ordered=ordered, sample_weight=s, classes=C), W, b, center


SHAPES = [(203, 1, 1, 1), (150, 5, 2, 1), (301, 28, 15, 1), (97, 64, 16, 1), (130, 65, 17, 1), (60, 300, 100, 1)]
SHAPES += [(80, 28, 17, 3), (90, 130, 3, 10), (40, 6, 2, 70), (70, 5, 2, 300)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("options", [{}, {"weighted": True, "ordered": True}, {"dtype": torch.bfloat16}])
@pytest.mark.parametrize("compute", [torch.float64, torch.float32])
def test_sums(shape: tuple[int, int, int, int], options: dict, compute: torch.dtype) -> None:
    X, models, W, b, center = problem(*shape, **options)
    along = torch.linspace(0.5, 1.5, len(b), dtype=torch.float64)
    second = 1 < models.classes < 20
    exact = reference(X, models, W, b, center=center, along=along, second=second)
    narrow = [each.to(compute) for each in (W, b, center, along)]
    found = models_onepass(X, models, narrow[0], narrow[1], center=narrow[2], along=narrow[3], second=second)
    bound = 1e-13 if compute == torch.float64 else 5e-6
    for name, each, of in zip(found._fields, found, exact, strict=True):
        if of is None:
            assert each is None, name
            continue
        assert each.dtype == torch.float64
        assert (each - of).norm() <= bound * (1e-3 + of.norm()), name


def test_a_missing_value_shows_in_the_models_that_see_its_row_only() -> None:
    X, models, W, b, _ = problem(120, 9, 8, 1)
    X[50, 3] = torch.nan
    models.codes[:, 50] = 1
    models.folds[:, 50] = 2
    found = models_onepass(X, models, W, b)
    assert torch.equal(found.loss.isnan(), models.held != 2)
    assert torch.equal(found.held_loss.isnan(), models.held == 2)


def test_bits_do_not_depend_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    X, models, W, b, center = problem(40_000, 30, 6, 1)
    first = models_onepass(X, models, W, b, center=center)
    monkeypatch.setattr(pool.torch, "get_num_threads", lambda: 1)
    alone = models_onepass(X, models, W, b, center=center)
    assert torch.equal(first.weight_grad, alone.weight_grad)
    assert torch.equal(first.loss, alone.loss)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"weight": torch.zeros(9, 7)}, ValueError),
        ({"bias": torch.zeros(8)}, TypeError),
        ({"center": torch.zeros(4, dtype=torch.float64)}, ValueError),
        ({"weight": torch.zeros(9, 8, dtype=torch.float16)}, TypeError),
    ],
)
def test_what_no_pass_can_read_is_refused(change: dict, error: type[Exception]) -> None:
    X, models, W, b, center = problem(20, 9, 8, 1)
    arguments = {"weight": W, "bias": b, "center": center} | change
    with pytest.raises(error, match=next(iter(change))):
        models_onepass(X, models, **arguments)


@pytest.mark.parametrize(
    ("P", "C", "N", "joint"),
    [
        *[(3, 1, 50, False), (64, 1, 200, False), (65, 3, 300, False), (150, 1, 333, False)],
        *[(3, 4, 50, True), (64, 2, 200, True), (65, 3, 300, True), (131, 3, 900, True)],
    ],
)
def test_products_with_the_inverse_of_a_samples_hessian(P: int, C: int, N: int, joint: bool) -> None:
    generator = np.random.default_rng(P)
    Z = generator.normal(size=(N, P)).astype(np.float32)
    at, s = generator.normal(size=(P, C)) / P**0.5, (generator.random(N) / N).astype(np.float32)
    Q = P * C if joint else P
    R, penalty, v = 1 + generator.random(Q), 0.1 + generator.random(Q), generator.normal(size=(Q, 4))
    z = Z.astype(np.float64) @ at
    p = 1 / (1 + np.exp(-z)) if C == 1 else np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    if joint:
        J = np.eye(C) * p[:, None] - p[:, :, None] * p[:, None, :]
        A = np.einsum("n,ni,ncd,nj->icjd", s, Z, J, Z, optimize=True).reshape(Q, Q)
    else:
        A = (Z.T * ((p * (1 - p)).mean(axis=1) * s)) @ Z
    M = A * np.outer(R, R) + np.diag(penalty)
    rows = SampleRows(Z, joint=joint)
    arrays = [np.stack([each, each]) for each in (s, at, R, penalty, v)]
    found = rows.products(rows.inverse_factors(*arrays[:4]), arrays[4])
    plain = plain_factors.SampleRows(torch.from_numpy(Z), joint=joint)
    tensors = [torch.from_numpy(each) for each in arrays]
    other = plain.products(plain.inverse_factors(*tensors[:4]), tensors[4])
    expected = np.linalg.solve(M, v)
    np.testing.assert_allclose(plain.hessians(*tensors[:4])[1], M, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(other[1], expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    left_out = 1e-3 if joint else 1e-5  # rows of little curvature
    np.testing.assert_allclose(rows.hessians(*arrays[:4])[1], M, rtol=1e-5, atol=left_out * np.abs(M).max())
    np.testing.assert_allclose(found[1], expected, rtol=1e-4, atol=left_out * np.abs(expected).max())


def test_a_hessian_without_factors_gets_some() -> None:
    Z = np.zeros((70, 66), np.float32)
    rows = SampleRows(Z)
    ones, zeros = np.ones(66), np.zeros(66)
    factors = rows.inverse_factors(np.ones((1, 70), np.float32), zeros[None, :, None], ones[None], zeros[None])
    assert np.isfinite(rows.products(factors, ones[None, :, None])).all()
