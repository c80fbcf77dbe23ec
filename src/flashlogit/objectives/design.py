"""The table that passes read, and how often they have read it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from flashlogit_kernels.gram import weighted_gram

from ..reference.blocks import block_rows, over_parts, row_blocks
from ..system.memory import cast_rows
from .coordinates import Coordinates, Moments, measure_coordinates
from .sampled_hessian import half_dtype, second_moments

_MEASURED_ROWS, _MEASURED_VALUES = 1024, 1 << 19
"""Coordinates are measured from so many rows, or so many values of X, whichever are more rows."""
_GRAM_BYTES = {"cpu": 8 << 20, "cuda": 256 << 20}
"""A wide Gram matrix takes rows of so many bytes at once: large enough for a matrix product to be quick."""
_SUPPORT = 8
"""A column must rest on so many rows of a sample. With 20 or 50, heavy-tailed columns are left out as well:
400,000 x 28 of them took up to 45 passes over X instead of 22."""


@dataclass
class PassCounter:
    """Passes over X; a pass over a part of its rows counts as that part."""

    passes: float = 0.0


@dataclass(frozen=True)
class Design:
    """X [N, D] and the coordinates of its columns.

    counter: counts every pass, also those over samples of the rows. share: the share of the user's rows that these are.
    """

    X: Tensor
    coordinates: Coordinates
    counter: PassCounter = field(default_factory=PassCounter)
    share: float = 1.0

    @classmethod
    def measured(cls, X: Tensor, *, curvature: float, l2: float, intercept: bool) -> Design:
        """Return X with coordinates in which a loss of this curvature and this penalty have about unit curvature."""
        rows = max(_MEASURED_ROWS, _MEASURED_VALUES // X.shape[1])
        chosen = sample_rows(len(X), rows, X.device)
        coordinates = measure_coordinates(X, chosen, curvature=curvature, l2=l2, intercept=intercept)
        return cls(X, coordinates, PassCounter(min(1.0, rows / len(X))))

    @property
    def center(self) -> Tensor | None:
        """The centre [D] that a pass subtracts from X, or None where it is folded into the intercept."""
        return self.coordinates.subtracted

    def count(self, part: float = 1.0) -> None:
        """Count a pass over a part of these rows."""
        self.counter.passes += self.share * part

    def sample(self, chosen: Tensor) -> tuple[Design, Tensor]:
        """Return the rows numbered `chosen` [n] as a copy, and which columns rest on enough of them, [D] bool.

        The other columns are constant in the copy.
        """
        share = len(chosen) / len(self.X)
        self.count(share)
        X, coordinates = self.X.index_select(0, chosen), self.coordinates
        known = _supported(X, intercept=coordinates.intercept)
        X[:, ~known] = coordinates.center[~known].to(X.dtype)
        return Design(X, coordinates, self.counter, self.share * share), known

    def gram(self, h: Tensor, dtype: torch.dtype) -> Tensor:
        """Return sum_i h_i (x_i - c, 1) (x_i - c, 1)^T [D + 1, D + 1] float64 by sums in `dtype`; one pass over X."""
        bytes_at_once = _GRAM_BYTES.get(self.X.device.type, _GRAM_BYTES["cuda"])
        height = max(1, bytes_at_once // (self.X.shape[1] * dtype.itemsize))

        def of_part(part: slice) -> Tensor:
            return weighted_gram(
                self.X[part],
                h[part].to(dtype),
                None,
                block_rows=height,
                compute_dtype=dtype,
                center=self.center,
            )

        self.count()
        total = over_parts(self.X, len(self.X), of_part, lambda parts: torch.stack(parts).sum(dim=0))
        return self.about_center(total)

    def about_center(self, matrix: Tensor) -> Tensor:
        """Return sums over (x, 1) (x, 1)^T as a pass gives them as those over (x - c, 1) (x - c, 1)^T."""
        return matrix if self.center is not None else self.coordinates.about_center(matrix)

    def in_coordinates(self, matrix: Tensor) -> Tensor:
        """Return sums over (x - c, 1) (x - c, 1)^T [D + 1, D + 1] as those in the coordinates, [P, P]."""
        scale = self.coordinates.scale
        P = len(scale)
        return (matrix[:P, :P] * scale[:, None]).mul_(scale)

    def sampled_moments(self, h: Tensor, rows: int, *, dtype: torch.dtype, rough: bool) -> tuple[Tensor, float]:
        """Return the sums [P, P] with weights h [N] in the coordinates over about `rows` rows, and their share.

        dtype: of the sums. rough: whether products may be in half precision, where the device is quicker in it.
        """
        half = half_dtype(self.X) if rough else None
        matrix, share = second_moments(self.X, h, self.coordinates, rows, compute_dtype=dtype, product_dtype=half)
        self.count(share)
        return matrix, share

    def blocks(self, part: slice, dtype: torch.dtype, *, copies: int = 1) -> Iterator[tuple[slice, Tensor]]:
        """Yield row blocks of a part in `dtype`, less the centre if that is subtracted, with their row numbers.

        copies: how many times as much as a block is made of it; a block is the smaller for it.
        """
        center = None if self.center is None else self.center.to(dtype)
        height = max(1, block_rows(self.X, dtype) // copies)
        for start in range(part.start, part.stop, height):
            piece = slice(start, min(start + height, part.stop))
            for rows, X in row_blocks(self.X, None, piece, dtype, center):
                yield slice(start + rows.start, start + rows.stop), X


def sample_rows(N: int, n: int, device: torch.device) -> Tensor | None:
    """Return n random rows of N in ascending order, [n] int64, some of them twice; None where there are no more."""
    if n >= N:
        return None
    generator = torch.Generator(device).manual_seed(0)
    return torch.randint(N, (n,), generator=generator, device=device).sort().values


def _supported(X: Tensor, *, intercept: bool) -> Tensor:
    """Return whether a column of a sample X rests on enough rows, [D] bool.

    It rests on as many as rows of one size have its second and fourth moments: (sum x^2)^2 / sum x^4, about the
    sample's mean where there is an intercept. A column that is constant rests on none.
    """
    moments = Moments.of(X)
    second = moments.count * moments.variance
    middle = moments.mean
    if not intercept:
        second = second + moments.count * middle.square()
        middle = torch.zeros_like(middle)
    fourth = torch.zeros_like(middle)
    for block in torch.split(X, cast_rows(X)):
        fourth += (block.double() - middle).square_().square_().sum(dim=0)
    return (second > 0) & (second.square() >= _SUPPORT * fourth)
