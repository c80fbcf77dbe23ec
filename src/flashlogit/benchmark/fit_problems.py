"""Data to fit, the same on every device: made on the CPU from a seed, or scikit-learn's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

SEED = 20260
_BLOCK_NUMBERS = 1 << 20
"""Numbers of X made at a time: they stay in a cache."""

_NEIGHBOURS = 0.5
"""Correlation of a column with the next one, before the common factor."""
_COMMON = 0.3
"""Share of every column's variance that is one factor, common to all."""
_LOGIT_SCALE = 0.75
"""Standard deviation of the logits for which the best possible AUC is about 0.7."""
_BIAS = -0.4

_SMALLEST_SINGULAR_VALUE = 1e-3
_HARD_LOGIT_SCALE = 6.0


@dataclass(frozen=True, eq=False)
class FitProblem:
    """X [N, D] float32 on the CPU, rows contiguous, and y [N] uint8 of 0 and 1."""

    name: str
    X: Tensor
    y: Tensor

    @property
    def n(self) -> int:
        return self.X.shape[0]

    @property
    def d(self) -> int:
        return self.X.shape[1]


@dataclass(frozen=True)
class Recipe:
    """What to make: (rows, columns) in full and with --quick, and on which devices it is measured unless asked for."""

    make: Callable[[str, int, int], FitProblem]
    full: tuple[int, int]
    quick: tuple[int, int]
    default_on: tuple[str, ...]

    def problem(self, name: str, *, quick: bool) -> FitProblem:
        rows, columns = self.quick if quick else self.full
        return self.make(name, rows, columns)


def correlated(name: str, N: int, D: int) -> FitProblem:
    """Columns that are alike, and a signal with an AUC of about 0.7.

    x_j = sqrt(1 - f) a_j + sqrt(f) g,    a an AR(1) sequence over the columns, g of the whole row
    """
    generator = torch.Generator().manual_seed(SEED)
    weight = torch.randn(D, dtype=torch.float64, generator=generator)
    weight *= _LOGIT_SCALE / float(weight @ _covariance(D) @ weight) ** 0.5
    X = torch.empty((N, D))
    for rows in _blocks(N, D):
        block = X[rows]
        block.normal_(generator=generator)
        for j in range(1, D):
            block[:, j].mul_((1 - _NEIGHBOURS**2) ** 0.5).add_(block[:, j - 1], alpha=_NEIGHBOURS)
        common = torch.randn((len(block), 1), generator=generator)
        block.mul_((1 - _COMMON) ** 0.5).add_(common, alpha=_COMMON**0.5)
    return FitProblem(name, X, _labels(X, weight, _BIAS, generator))


def hard(name: str, N: int, D: int) -> FitProblem:
    """Singular values over three decades, and logits so large that most rows are sure."""
    generator = torch.Generator().manual_seed(SEED + 1)
    basis = torch.linalg.qr(torch.randn((D, D), dtype=torch.float64, generator=generator))[0]
    sizes = torch.logspace(0, float(np.log10(_SMALLEST_SINGULAR_VALUE)), D, dtype=torch.float64)
    signal = torch.randn(D, dtype=torch.float64, generator=generator)
    signal *= _HARD_LOGIT_SCALE / signal.norm()
    mixing = sizes[:, None] * basis.T
    X = torch.empty((N, D))
    for rows in _blocks(N, D):
        independent = torch.randn((len(X[rows]), D), generator=generator)
        X[rows] = (independent.double() @ mixing).float()
    return FitProblem(name, X, _labels(X, basis @ (signal / sizes), 0.0, generator))


def breast_cancer(name: str, N: int, D: int) -> FitProblem:
    """scikit-learn's breast-cancer set, its columns standardised in float64; 1 is malignant."""
    from sklearn.datasets import load_breast_cancer

    bunch = load_breast_cancer()
    data = (bunch.data - bunch.data.mean(axis=0)) / bunch.data.std(axis=0)
    y = torch.from_numpy((bunch.target == 0).astype(np.uint8))
    return FitProblem(name, torch.from_numpy(data.astype(np.float32)), y)


RECIPES = {
    "1M x 28": Recipe(correlated, (1_000_000, 28), (50_000, 28), ("cuda", "cpu")),
    "20k x 1024": Recipe(correlated, (20_000, 1024), (2_000, 256), ("cuda", "cpu")),
    "569 x 30": Recipe(breast_cancer, (569, 30), (569, 30), ("cuda", "cpu")),
    "2M x 64 hard": Recipe(hard, (2_000_000, 64), (50_000, 64), ("cuda",)),
    "200k x 1024": Recipe(correlated, (200_000, 1024), (5_000, 256), ("cuda",)),
    "11M x 28": Recipe(correlated, (11_000_000, 28), (100_000, 28), ("cuda",)),
}


def make_problem(name: str, *, quick: bool = False) -> FitProblem:
    """The problem of this name in `RECIPES`; with `quick` a smaller one of its kind."""
    return RECIPES[name].problem(name, quick=quick)


def _covariance(D: int) -> Tensor:
    """Of the columns of `correlated`, [D, D] float64."""
    order = torch.arange(D, dtype=torch.float64)
    return (1 - _COMMON) * _NEIGHBOURS ** (order[:, None] - order).abs() + _COMMON


def _blocks(N: int, D: int) -> Iterator[slice]:
    height = max(1, _BLOCK_NUMBERS // D)
    return (slice(start, start + height) for start in range(0, N, height))


def _labels(X: Tensor, weight: Tensor, bias: float, generator: torch.Generator) -> Tensor:
    """1 with probability sigmoid(X w + b), [N] uint8."""
    y = torch.empty(len(X), dtype=torch.uint8)
    for rows in _blocks(*X.shape):
        probability = torch.sigmoid(X[rows].double() @ weight + bias)
        draws = torch.rand(len(probability), dtype=torch.float64, generator=generator)
        y[rows] = (draws < probability).to(torch.uint8)
    return y
