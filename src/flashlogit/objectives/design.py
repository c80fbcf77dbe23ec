"""The table that passes read, how often they have read it, and matrices of it: of all rows, or of a sample."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flashlogit_kernels.cpu.pool import share
from flashlogit_kernels.gram import add_upper_half, mirrored, weighted_gram

from ..passes import Passes
from ..reference import block_rows, row_blocks
from ..system.memory import cast_rows
from .coordinates import Coordinates, Moments, measure_coordinates, uploaded

_MEASURED_ROWS, _MEASURED_VALUES = 1024, 1 << 19
"""Coordinates are measured from so many rows, or so many values of X, whichever are more rows."""
_KEPT_ROWS = 1 << 17
"""Samples of up to so many rows, of 1 MB, are not drawn again for the next fit of as many rows."""
_GRAM_BYTES = {"cpu": 8 << 20, "cuda": 256 << 20}
"""A wide Gram matrix takes rows of so many bytes at once: large enough for a matrix product to be quick."""
_SUPPORT = 8
"""A column must rest on so many rows of a sample. With 20 or 50, heavy-tailed columns are left out as well:
400,000 x 28 of them took up to 45 passes over X instead of 22."""
_PIECES = 32
"""Places of X, evenly spread, from which rows come: to gather single rows takes longer than to multiply them."""
_PIECE_BYTES, _BLOCK_BYTES = 1 << 19, 32 << 20
"""A thread of a CPU fills so many bytes at a time, which stay in its second cache; so many are multiplied at once."""
_SERIAL_VALUES = 1 << 15
"""Torch goes over so many values in one thread, and waits for no other."""
_PAIRS = 64
"""Pairs of rows by which `what_is_lost` measures how far apart most values of a column are."""
_LOST = 2.0**-48
"""Differences of less than this share of a column's standard deviation have a few bits left once they are centred."""
_HALF_COLUMNS = 256
"""Fewer columns are multiplied as fast in float32."""


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
    def measured(
        cls,
        X: Tensor,
        passes: Passes,
        *,
        curvature: float,
        l2: float,
        intercept: bool,
        sample_weight: Tensor | None = None,
    ) -> Design:
        """Return X with coordinates in which a loss of this curvature and this penalty have about unit curvature."""
        rows = max(_MEASURED_ROWS, _MEASURED_VALUES // X.shape[1])
        if sample_weight is None:
            chosen = sample_rows(len(X), rows, X.device)
        else:
            chosen = rows_by_weight(sample_weight, rows)
        options: Any = {"l2": l2, "intercept": intercept, "sample_weight": sample_weight}
        coordinates = measure_coordinates(X, chosen, passes, curvature=curvature, **options)
        return cls(X, coordinates, PassCounter(min(1.0, rows / len(X))))

    @property
    def center(self) -> Tensor | None:
        """The centre [D] that a pass subtracts from X, or None where it is folded into the intercept."""
        return self.coordinates.center if self.coordinates.subtract else None

    def count(self, part: float = 1.0) -> None:
        """Count a pass over a part of these rows."""
        self.counter.passes += self.share * part

    def sample(self, chosen: Tensor, passes: Passes) -> tuple[Design, Tensor]:
        """Return the rows numbered `chosen` [n] as a copy, and which columns rest on enough of them, [D] bool.

        The other columns are constant in the copy.
        """
        share = len(chosen) / len(self.X)
        self.count(share)
        X, coordinates = self.X.index_select(0, chosen), self.coordinates
        known = _supported(X, passes, intercept=coordinates.intercept)
        X[:, ~known] = coordinates.center[~known].to(X.dtype)
        return Design(X, coordinates, self.counter, self.share * share), known

    def gram(self, h: Tensor, dtype: torch.dtype) -> Tensor:
        """Return sum_i h_i (x_i - c, 1) (x_i - c, 1)^T [D + 1, D + 1] float64 by sums in `dtype`; one pass over X."""
        bytes_at_once = _GRAM_BYTES.get(self.X.device.type, _GRAM_BYTES["cuda"])
        height = max(1, bytes_at_once // (self.X.shape[1] * dtype.itemsize))

        self.count()
        h = h.to(dtype)
        return self.about_center(
            weighted_gram(self.X, h, None, block_rows=height, compute_dtype=dtype, center=self.center)
        )

    def about_center(self, matrix: Tensor) -> Tensor:
        """Return sums over (x, 1) (x, 1)^T as a pass gives them as those over (x - c, 1) (x - c, 1)^T."""
        return matrix if self.center is not None else self.coordinates.about_center(matrix)

    def in_coordinates(self, matrix: Tensor) -> Tensor:
        """Return sums over (x - c, 1) (x - c, 1)^T [D + 1, D + 1] as those in the coordinates, [P, P]."""
        scale = self.coordinates.scale
        P = len(scale)
        return (matrix[:P, :P] * scale[:, None]).mul_(scale)

    def sampled_moments(self, h: Tensor, rows: int, *, dtype: torch.dtype, rough: bool) -> tuple[Tensor, float]:
        """Return sums over about `rows` rows with weights h [N], [P, P], and the share of those rows.

            sum_i h_i v_i v_i^T,      v_i = (d (x_i - c), d_b)

        The columns are centred and scaled before they are multiplied, so that products in half precision lose digits of
        nothing but the result. dtype: of the sums and of the scaled columns. rough: whether products may be in half
        precision, where the device is quicker in it.
        """
        half = half_dtype(self.X) if rough else None
        X, coordinates = self.X, self.coordinates
        D = X.shape[1]
        upper, border, corner = (X.new_zeros(s, dtype=dtype) for s in ((D, D), (D,), (1,)))
        blocks, visited = (_strided_blocks if X.is_cuda else _shared_blocks)(X, h, rows, coordinates, dtype)
        for block, root in blocks:
            border += block.t() @ root
            corner += root.square().sum()
            block = block if half is None else block.to(half)
            add_upper_half(upper, block, block)
        matrix = _whole(upper, border, corner, coordinates)
        share = visited / len(X)
        self.count(share)
        return matrix, share

    def blocks(self, dtype: torch.dtype, *, copies: int = 1) -> Iterator[tuple[slice, Tensor]]:
        """Yield row blocks in `dtype`, less the centre if that is subtracted, with their places.

        copies: how many times as much as a block is made of it; a block is the smaller for it.
        """
        center = None if self.center is None else self.center.to(dtype)
        return row_blocks(self.X, dtype, center=center, height=max(1, block_rows(self.X) // copies))


def sample_rows(N: int, n: int, device: torch.device, *, ascending: bool = True) -> Tensor | None:
    """Return n random rows of N, [n] int64, some of them twice; None where there are no more.

    On a CPU they may ascend. A GPU reads rows in any order about as fast, and would sort for longer than that.
    """
    if n >= N:
        return None
    draw = _sampled if n <= _KEPT_ROWS else _sampled.__wrapped__
    # What another stream writes may not have been written yet.
    stream = torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0
    return draw(N, n, device, stream, ascending and device.type == "cpu")


@functools.lru_cache(maxsize=4)
def _sampled(N: int, n: int, device: torch.device, stream: int, ascending: bool) -> Tensor:
    """Return the same rows again for the next fit of a table of this size: of the last few ones."""
    generator = torch.Generator(device).manual_seed(0)
    chosen = torch.randint(N, (n,), generator=generator, device=device)
    return chosen.sort().values if ascending else chosen


def rows_by_weight(sample_weight: Tensor, n: int) -> Tensor:
    """Return row numbers [min(n, N)], each as often as its weight asks for (systematic resampling); of N rows of equal
    weights all, once. What rows of weight 0 hold must not count: with values of 1e12 there a fit ended where it began.
    """
    N, device = len(sample_weight), sample_weight.device
    reached = sample_weight.double().cumsum(dim=0)
    within = (
        0.5 if n >= N else torch.rand(n, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).to(device)
    )
    evenly = (torch.arange(min(n, N), dtype=torch.float64, device=device) + within) * (reached[-1] / min(n, N))
    return torch.searchsorted(reached, evenly, right=True).clamp(max=N - 1)


def what_is_not_finite(X: Tensor, names: Sequence[str] | None = None, rows: Tensor | None = None) -> str:
    """Return a sentence for the user on the first value of X [N, D] that is not finite, or if all are, on sums over
    its rows; names: [D] of the columns; rows: [n] int64, the rows to look at, by default all.
    """
    begin = 0
    for block in torch.split(X if rows is None else X[rows], cast_rows(X)):
        found = (~block.isfinite()).nonzero()
        if len(found):
            row, column = found[0].tolist()
            name = "" if names is None else f" ({names[column]})"
            number = begin + row if rows is None else int(rows[begin + row])
            place = f"row {number}, column {column}{name}"
            remedy = "values must be finite: leave out such rows, or put numbers in their place"
            return f"X holds {float(block[row, column])} in {place}; {remedy}"
        begin += len(block)
    return "sums over the rows are not finite: values of X, or weights, are too large or too small; rescale them"


def what_is_lost(X: Tensor, coordinates: Coordinates, names: Sequence[str] | None = None) -> str | None:
    """Return a sentence for the user on the first column of X [N, D] whose values float64 cannot tell apart in these
    coordinates, or None; names: [D] of the columns.

    Next to a value of 1e100 those of an ordinary size are all the same, and the squares of values of 1e-200 are 0.
    What such sums say of an optimum is no proof of anything. Where `_SUPPORT` rows make a column's spread, as in one of
    differences that are rounding errors but for some rows, these decide on its weight, and nothing is lost.
    """
    rows = torch.linspace(0, len(X) - 1, _PAIRS + 1, dtype=torch.float64, device=X.device).long()
    apart = X[rows].double().diff(dim=0).abs()
    unequal = (apart > 0).sum(dim=0)
    at = (unequal[None] - 1).clamp(min=0) // 2
    middle = torch.where(apart > 0, apart, torch.inf).sort(dim=0).values.gather(0, at)[0]
    found = (middle * coordinates.scale[: X.shape[1]] < _LOST).nonzero()
    for column in found[:, 0].tolist():
        moved = (X[:, column].double() - coordinates.center[column]).abs()
        shares = (moved / moved.max()).square()
        few = shares.sum().square() < _SUPPORT * shares.square().sum()
        if bool(few | (moved.max() * coordinates.scale[column] < _LOST)):
            name = "" if names is None else f" ({names[column]})"
            return (
                f"most values of column {column} of X{name} are {float(middle[column]):.1g} apart: float64 cannot hold"
                " the squares of so little, or not beside the column's largest values, and no optimum can be proven;"
                " rescale the column, or clip what is far off"
            )
    return None


_Blocks = Iterator[tuple[Tensor, Tensor]]


def _shared_blocks(
    X: Tensor, h: Tensor, rows: int, coordinates: Coordinates, dtype: torch.dtype
) -> tuple[_Blocks, int]:
    """Return blocks of sqrt(h_i) d (x_i - c) [m, D] and sqrt(h_i) [m] for about `rows` rows of X [N, D] and their h
    [N], and how many rows they are. A block is overwritten by the next one.

    NumPy fills them in the threads of the passes. An operation of torch's waits for all threads of OpenMP: with eight
    of them for each of 32 pieces, a Hessian took seconds where the cores were busy.
    """
    N, D = X.shape
    few = _PIECES <= rows <= N // 2
    starts = [k * N // _PIECES for k in range(_PIECES + 1)]
    pieces = [(start, min(start + rows // _PIECES, end) if few else end) for start, end in pairwise(starts)]
    height = max(1, _PIECE_BYTES // (D * dtype.itemsize))
    slices = [slice(at, min(at + height, end)) for start, end in pieces for at in range(start, end, height)]
    at_once = max(1, _BLOCK_BYTES // _PIECE_BYTES)

    def blocks() -> _Blocks:
        numbers = np.dtype(str(dtype).removeprefix("torch."))
        center, scale = (each.numpy().astype(numbers) for each in (coordinates.center, coordinates.scale[:D]))
        block, root = np.empty((at_once * height, D), numbers), np.empty(at_once * height, numbers)
        for begin in range(0, len(slices), at_once):
            some = slices[begin : begin + at_once]
            ends = [0, *accumulate(piece.stop - piece.start for piece in some)]
            places = [(block[start:end], root[start:end]) for start, end in pairwise(ends)]
            read = [(X[piece], h[piece].numpy(), *place) for piece, place in zip(some, places, strict=True)]
            share(partial(_fill, read, center, scale), len(some))
            yield torch.from_numpy(block[: ends[-1]]), torch.from_numpy(root[: ends[-1]])

    return blocks(), sum(end - start for start, end in pieces)


def _fill(read: Sequence[Any], center: NDArray[Any], scale: NDArray[Any], k: int) -> None:
    """Write sqrt(h_i) d (x_i - c) and sqrt(h_i) of the k-th piece to its places."""
    x, h, block, root = read[k]
    np.sqrt(h, out=root, casting="same_kind")
    np.subtract(_widened(x), center, out=block)
    block *= scale
    block *= root[:, None]


def _widened(x: Tensor) -> NDArray[Any]:
    """Return x as an array, bfloat16 as float32, by shifting its bits: NumPy has no such numbers."""
    if x.dtype != torch.bfloat16:
        return x.numpy()
    widened: NDArray[np.uint32] = np.left_shift(x.view(torch.uint16).numpy(), 16, dtype=np.uint32)
    return widened.view(np.float32)


def _strided_blocks(
    X: Tensor, h: Tensor, rows: int, coordinates: Coordinates, dtype: torch.dtype
) -> tuple[_Blocks, int]:
    """Return the same for a GPU: from all places of X side by side, for few operations, each a large one.

    There is more than one block where `_GRAM_BYTES` of float32 do not hold all rows.
    """
    N, D = X.shape
    places = _PIECES if _PIECES <= rows <= N // 2 else 1
    apart = N // places
    each = rows // places if places > 1 else N
    at_places, h_at_places = (t[: places * apart].view(places, apart, *t.shape[1:])[:, :each] for t in (X, h))
    height = max(1, _GRAM_BYTES["cuda"] // (4 * places * D))
    center, scale = coordinates.center.to(dtype), coordinates.scale[:D].to(dtype)

    def blocks() -> _Blocks:
        for x, weights in zip(torch.split(at_places, height, 1), torch.split(h_at_places, height, 1), strict=True):
            root = weights.to(dtype).sqrt()
            yield (x.to(dtype) - center).mul_(scale).mul_(root[..., None]).reshape(-1, D), root.reshape(-1)

    return blocks(), places * each


def _supported(X: Tensor, passes: Passes, *, intercept: bool) -> Tensor:
    """Return whether a column of a sample X rests on enough rows, [D] bool.

    It rests on as many as rows of one size have its second and fourth moments: (sum x^2)^2 / sum x^4, about the
    sample's mean where there is an intercept. A column that is constant rests on none.
    """
    moments = Moments.of(X, None, passes)
    middle, variance = uploaded(X.device, moments.mean, moments.variance)
    second = moments.count * variance
    if not intercept:
        second = second + moments.count * middle.square()
        middle = torch.zeros_like(middle)
    fourth = torch.zeros_like(middle)
    for block in torch.split(X, cast_rows(X) if X.is_cuda else max(1, _SERIAL_VALUES // X.shape[1])):
        fourth += (block.double() - middle).square_().square_().sum(dim=0)
    return (second > 0) & (second.square() >= _SUPPORT * fourth)


def half_dtype(X: Tensor) -> torch.dtype | None:
    """Return bfloat16 where the device multiplies matrices of it several times as fast as float32, else None."""
    if X.shape[1] < _HALF_COLUMNS:
        return None
    if X.is_cuda:
        return torch.bfloat16 if torch.cuda.get_device_capability(X.device) >= (8, 0) else None
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return torch.bfloat16 if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else None


def _whole(upper: Tensor, border: Tensor, corner: Tensor, coordinates: Coordinates) -> Tensor:
    """Return [P, P] from its upper half, without what has to do with an intercept that there is not."""
    D, P = len(coordinates.center), len(coordinates.scale)
    matrix = upper.new_empty((P, P))
    matrix[:D, :D] = mirrored(upper)
    if P > D:
        scale = coordinates.scale[D].to(upper.dtype)
        matrix[D, :D] = matrix[:D, D] = border * scale
        matrix[D, D] = corner[0] * scale.square()
    return matrix
