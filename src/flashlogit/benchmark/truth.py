"""What each pass should give: in float64 for the truth, in float32 for the error that plain torch makes.

Both walk X in row blocks: there is never a float64 copy of the whole X. A part's magnitude is the sum of the absolute
terms that were added up for it (the largest over the columns), to which errors are relative.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from .problem import Problem

PassName = Literal["onepass", "hessian_product", "hessian", "product", "two_products"]

_CPU_BLOCK_NUMBERS = 1 << 22
_GPU_BLOCK_NUMBERS = 1 << 26
_PLAIN_NUMBERS = 1 << 30
"""Numbers in a block of plain torch, which stands for a user's whole-matrix products: all of X up to 4 GiB."""


@dataclass(frozen=True, eq=False)
class Truth:
    """Parts of an answer by name, float64, and the magnitude of each."""

    parts: dict[str, Tensor]
    magnitudes: dict[str, float]


@dataclass(frozen=True, eq=False)
class _Block:
    """Some rows of a problem, all in one dtype."""

    X: Tensor
    y: Tensor
    curvature: Tensor
    weight: Tensor
    bias: Tensor
    v: Tensor

    def logits(self) -> Tensor:
        return self.X @ self.weight + self.bias

    def residual(self, z: Tensor) -> Tensor:
        return torch.sigmoid(z) - self.y


@dataclass
class _Terms:
    """Parts of one block, and per part the absolute terms, to be added up (or, for `rows`, put side by side)."""

    parts: dict[str, Tensor]
    absolute: dict[str, Tensor] = field(default_factory=dict)


def truth_of(name: PassName, problem: Problem) -> Truth:
    """The answer in float64."""
    numbers = _CPU_BLOCK_NUMBERS if problem.X.device.type == "cpu" else _GPU_BLOCK_NUMBERS
    terms = _total(name, problem, torch.float64, numbers)
    return Truth(terms.parts, {part: float(value.max()) for part, value in terms.absolute.items()})


def plain_float32(name: PassName, problem: Problem) -> dict[str, Tensor]:
    """The answer of plain float32 torch, whose own error a contender of ours is allowed."""
    return _total(name, problem, torch.float32, _PLAIN_NUMBERS).parts


def _total(name: PassName, problem: Problem, dtype: torch.dtype, numbers: int) -> _Terms:
    total: _Terms | None = None
    for block in _blocks(problem, dtype, max(1, numbers // problem.d)):
        terms = _PASSES[name](block)
        # Sums over blocks are kept in float64 whatever a block was computed in.
        terms = _Terms(
            {part: value.double() for part, value in terms.parts.items()},
            {part: value.double() for part, value in terms.absolute.items()},
        )
        total = terms if total is None else _add(total, terms)
    assert total is not None  # a problem has rows
    return total


def _add(a: _Terms, b: _Terms) -> _Terms:
    parts = {
        name: torch.cat([value, b.parts[name]]) if name == "rows" else value + b.parts[name]
        for name, value in a.parts.items()
    }
    absolute = {
        name: torch.cat([value, b.absolute[name]]) if name == "rows" else value + b.absolute[name]
        for name, value in a.absolute.items()
    }
    return _Terms(parts, absolute)


def _blocks(problem: Problem, dtype: torch.dtype, height: int) -> Iterator[_Block]:
    vectors = [t.to(dtype) for t in (problem.weight, problem.bias, problem.v)]
    for start in range(0, problem.n, height):
        rows = slice(start, start + height)
        yield _Block(
            problem.X[rows].to(dtype), problem.y[rows].to(dtype), problem.curvature[rows].to(dtype), *vectors
        )


def _onepass(block: _Block) -> _Terms:
    """X^T r, sum r and the loss, with r = sigmoid(z) - y."""
    z = block.logits()
    r = block.residual(z)
    loss = binary_cross_entropy_with_logits(z, block.y, reduction="sum")
    parts = {"gradient": block.X.t() @ r, "intercept": r.sum(), "loss": loss}
    absolute = {"gradient": block.X.abs().t() @ r.abs(), "intercept": r.abs().sum(), "loss": loss}
    return _Terms(parts, absolute)


def _hessian_product(block: _Block) -> _Terms:
    """X^T u and sum u, with u = s (X v)."""
    u = block.curvature * (block.X @ block.v)
    return _Terms(
        {"gradient": block.X.t() @ u, "intercept": u.sum()},
        {"gradient": block.X.abs().t() @ u.abs(), "intercept": u.abs().sum()},
    )


def _hessian(block: _Block) -> _Terms:
    """X^T diag(h) X with h = p (1 - p), its border for the intercept (X^T h and behind it sum h), and `_onepass`."""
    p = torch.sigmoid(block.logits())
    h = p * (1 - p)
    matrix, border = block.X.t() @ (h[:, None] * block.X), torch.cat([block.X.t() @ h, h.sum()[None]])
    # As h >= 0, no entry's absolute terms sum up to more than the largest diagonal entry.
    diagonal = matrix.diagonal()
    first = _onepass(block)
    return _Terms(
        {"hessian": matrix, "border": border} | first.parts,
        {"hessian": diagonal, "border": torch.cat([block.X.abs().t() @ h, border[-1:]])} | first.absolute,
    )


def _product(block: _Block) -> _Terms:
    """X w, row by row."""
    return _Terms({"rows": block.X @ block.weight}, {"rows": block.X.abs() @ block.weight.abs()})


def _two_products(block: _Block) -> _Terms:
    """X w, and X^T s for a vector s that is there already."""
    product = _product(block)
    return _Terms(
        {"gradient": block.X.t() @ block.curvature} | product.parts,
        {"gradient": block.X.abs().t() @ block.curvature} | product.absolute,
    )


_PASSES: dict[PassName, Callable[[_Block], _Terms]] = {
    "onepass": _onepass,
    "hessian_product": _hessian_product,
    "hessian": _hessian,
    "product": _product,
    "two_products": _two_products,
}
