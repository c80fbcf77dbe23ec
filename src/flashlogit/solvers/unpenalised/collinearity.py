"""Columns that say nothing of their own, from the Gram matrix of X, and coefficients without their share.

With an intercept every column is centred first, by the Schur complement of the intercept's entry,

    G_c = G_xx - g_x1 g_1x / g_11,

since a constant can move between a column and b. Columns are then scaled to unit variance. The eigenvectors v of the
correlation matrix with eigenvalue 0 span the combinations of columns that are constant (0 without an intercept), and
the last columns that can be solved for from them are the dependent ones: each is a combination of independent columns
before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Tuning:
    """What is taken for rounding, and how much is said."""

    tolerance: float = 1e-12
    """Share of the largest eigenvalue of the correlation matrix below which one counts as 0. Exactly collinear columns
    leave up to 2e-15, also after rounding to float32 (measured for 10 to 500 columns); a pair correlated to 1 - 1e-6
    leaves 5e-7, rounding to bfloat16 as much."""
    pivot: float = 1e-3
    """Part of a column in the null space, in standard deviations, above which it can be solved for: later columns are
    to be the dependent ones, but not at the price of coefficients above a thousand where others will do."""
    negligible: float = 1e-6
    """Share of the largest coefficient in standard deviations below which one is the rounding of X."""
    named: int = 3
    """Most columns, and most columns that one of them depends on, that `describe` names."""


TUNING = Tuning()


@dataclass(frozen=True, eq=False)
class Collinear:
    """What `find_collinear` finds; false where all columns are independent.

    `constant` are the columns without variance beside an intercept, in order. `dependent` has for each other column to
    leave out, in order, the coefficients of the independent columns that it is a combination of, up to a constant where
    there is an intercept; none for a column of zeros without one. `null_space` [D, r] float64 is an orthonormal basis
    of the n with X_c n = 0 in the units of X, r = len(constant) + len(dependent), on the Gram matrix's device.
    """

    constant: tuple[int, ...]
    dependent: Mapping[int, Mapping[int, float]]
    null_space: Tensor

    def __bool__(self) -> bool:
        return self.null_space.shape[1] > 0

    def minimum_norm(self, weight: Tensor) -> Tensor:
        """Return the coefficients of least norm that give the same logits but for a constant, w - N N^T w, [D] or [D,
        K].

        The intercept of centred columns stays as it is; that of the raw columns changes by their means times the change
        of w. In the dtype of `weight`; the arithmetic is float64.
        """
        w = weight.to(torch.float64)
        return (w - self.null_space @ (self.null_space.t() @ w)).to(weight.dtype)

    def describe(self, names: Sequence[str]) -> str:
        """Return in one line without a full stop what was found, "" where nothing was; `names` [D] are the columns'."""
        phrases = [f'column "{names[j]}" is constant' for j in self.constant]
        phrases += [_phrase(names, j, others) for j, others in self.dependent.items()]
        return "; ".join(_first(phrases, "more"))


def find_collinear(gram: Tensor, *, intercept: bool) -> Collinear:
    """Return the constant and the linearly dependent columns of X.

    Args:
        gram: [D + 1, D + 1] float64, sum_i h_i (x_i, 1) (x_i, 1)^T with h_i >= 0, as `weighted_gram` returns it, all
            finite. The columns should be centred where an intercept is asked for: a mean of m standard deviations costs
            a factor of m^2 of precision, here and in X that was rounded to float32.
        intercept: whether the model has one; else the last row and column are not looked at.

    Raises:
        ValueError: a Gram matrix that is not square.
    """
    D = gram.shape[0] - 1
    if gram.shape != (D + 1, D + 1) or D < 1:
        raise ValueError(f"gram is {list(gram.shape)}; must be [D + 1, D + 1] with at least one column")
    gram = gram.detach().to(torch.float64)
    moments, covariance = gram[:D, :D].diagonal(), gram[:D, :D]
    if intercept:
        total = gram[D, D]
        means = torch.where(total > 0, gram[:D, D] / total, 0.0)
        covariance = covariance - torch.outer(gram[:D, D], means)
    variance = covariance.diagonal()
    flat = ~(variance > TUNING.tolerance * moments)  # a column that is 0 throughout too
    varying = torch.nonzero(~flat)[:, 0]
    deviation = variance[varying].sqrt()
    null = _null_space(covariance[varying][:, varying] / deviation / deviation[:, None])

    flat_columns = torch.nonzero(flat)[:, 0].tolist()
    dependent = _combinations(null, varying.tolist(), deviation)
    if not intercept:
        dependent = dict(sorted({**dependent, **{j: {} for j in flat_columns}}.items()))
    units = torch.eye(D, dtype=torch.float64, device=gram.device)[:, flat]
    within = units.new_zeros(D, null.shape[1])
    within[varying] = _orthonormal(null / deviation[:, None])
    return Collinear(tuple(flat_columns) if intercept else (), dependent, torch.cat([units, within], dim=1))


def _null_space(correlation: Tensor) -> Tensor:
    """Return the eigenvectors [d, r] of eigenvalues that count as 0."""
    if correlation.shape[0] == 0:
        return correlation
    values, vectors = torch.linalg.eigh(correlation)
    null: Tensor = vectors[:, values <= TUNING.tolerance * values[-1]]
    return null


def _combinations(null: Tensor, columns: Sequence[int], deviation: Tensor) -> dict[int, dict[int, float]]:
    """Return each dependent column in the others' terms, from null vectors [d, r] of the standardised columns."""
    null = null.cpu()
    solved = _solved_for(null)
    if not solved:
        return {}
    coefficients = -torch.linalg.solve(null[solved], null, left=False)  # -1 for the column itself
    coefficients[solved] = 0.0
    result: dict[int, dict[int, float]] = {}
    for k, j in sorted(enumerate(solved), key=lambda pair: pair[1]):
        size = coefficients[:, k].abs()
        others = torch.nonzero(size > TUNING.negligible * size.max())[:, 0].tolist()
        scaled = (coefficients[:, k] * deviation[j].cpu() / deviation.cpu()).tolist()
        result[columns[j]] = {columns[i]: scaled[i] for i in others}
    return result


def _solved_for(null: Tensor) -> list[int]:
    """Return r rows of null [d, r], orthonormal columns, that are independent: the last that are clearly so.

    What is not taken has a residual below the bound; the squares of all residuals add up to at least 1 until r rows are
    taken, so that a bound below 1 / sqrt(d) always finds as many.
    """
    d, r = null.shape
    bound = min(TUNING.pivot, 0.5 / max(1, d) ** 0.5)
    basis = null.new_zeros(r, r)
    solved: list[int] = []
    for j in range(d - 1, -1, -1):
        if len(solved) == r:
            break
        row = null[j]
        for _ in range(2):  # a second time for what rounding left of the first
            row = row - basis.t() @ (basis @ row)
        norm = float(row.norm())
        if norm > bound:
            basis[len(solved)] = row / norm
            solved.append(j)
    return solved


def _orthonormal(vectors: Tensor) -> Tensor:
    """Return an orthonormal basis [d, r] of what vectors [d, r] of very different rows span.

    The triangular solve keeps each row's relative precision, which X n = 0 needs where columns have different units and
    an orthogonal factor would not keep; the second round makes it orthonormal to rounding.
    """
    if vectors.shape[1] == 0:
        return vectors
    for _ in range(2):
        vectors = vectors / vectors.norm(dim=0)
        triangle = torch.linalg.qr(vectors, mode="r").R
        vectors = torch.linalg.solve_triangular(triangle, vectors, upper=True, left=False)
    return vectors


def _phrase(names: Sequence[str], j: int, others: Mapping[int, float]) -> str:
    if not others:
        return f'column "{names[j]}" is 0 throughout'
    listed = _first([f'"{names[i]}"' for i in others], "others")
    if len(listed) == 1:
        return f'column "{names[j]}" is determined by {listed[0]}'
    return f'column "{names[j]}" is a combination of {", ".join(listed[:-1])} and {listed[-1]}'


def _first(words: list[str], rest: str) -> list[str]:
    """Return the first few, and "5 more" where there are more."""
    left = len(words) - TUNING.named
    return [*words[: TUNING.named], f"{left:,} {rest}"] if left > 0 else words
