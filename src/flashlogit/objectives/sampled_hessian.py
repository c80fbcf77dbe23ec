"""Second moments of a sample of the rows in a solver's coordinates, for matrices that need not be exact.

    sum_i h_i v_i v_i^T,      v_i = (d (x_i - c), d_b)

The columns are centred and scaled before they are multiplied, so that products in half precision lose digits of nothing
but the result.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from flashlogit_kernels.gram import add_upper_half

from ..system.threads import map_in_threads, thread_count
from .coordinates import Coordinates

_PIECES = 32
"""Places of X, evenly spread, from which rows come: to gather single rows takes longer than to multiply them."""
_PANEL = 256
_HALF_COLUMNS = 256
"""Fewer columns are multiplied as fast in float32."""


def half_dtype(X: Tensor) -> torch.dtype | None:
    """bfloat16 where the device multiplies matrices of it several times as fast as float32, else None."""
    if X.shape[1] < _HALF_COLUMNS:
        return None
    if X.is_cuda:
        return torch.bfloat16 if torch.cuda.get_device_capability(X.device) >= (8, 0) else None
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return torch.bfloat16 if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else None


def second_moments(
    X: Tensor,
    h: Tensor,
    coordinates: Coordinates,
    rows: int,
    *,
    compute_dtype: torch.dtype,
    product_dtype: torch.dtype | None,
) -> tuple[Tensor, float]:
    """The sums [P, P] over about `rows` rows of X [N, D] with the weights h [N], and their share of all rows.

    compute_dtype: of the sums and of the scaled columns; product_dtype: of those when they are multiplied, if another.
    """
    N, D = X.shape
    few = _PIECES <= rows <= N // 2
    starts = [k * N // _PIECES for k in range(_PIECES + 1)]
    pieces = [slice(start, min(start + rows // _PIECES, end) if few else end) for start, end in pairwise(starts)]
    center, scale = coordinates.center.to(compute_dtype), coordinates.scale[:D].to(compute_dtype)

    def of_pieces(some: slice) -> tuple[Tensor, Tensor, Tensor]:
        with torch.inference_mode():
            upper, border, corner = (X.new_zeros(s, dtype=compute_dtype) for s in ((D, D), (D,), (1,)))
            for piece in pieces[some]:
                root = h[piece].to(compute_dtype).sqrt()
                block = (X[piece].to(compute_dtype) - center).mul_(scale).mul_(root[:, None])
                border += block.t() @ root
                corner += root.square().sum()
                block = block if product_dtype is None else block.to(product_dtype)
                add_upper_half(upper, block, block)
            return upper, border, corner

    def merged(parts: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
        for other in parts[1:]:
            for mine, theirs in zip(parts[0], other, strict=True):
                mine += theirs
        return _whole(*parts[0], coordinates)

    # One matrix for each thread: it may be larger than a piece.
    threads = 1 if X.is_cuda else thread_count()
    with torch.inference_mode():
        matrix = map_in_threads(of_pieces, [slice(k, None, threads) for k in range(threads)], merged)
    return matrix, sum(piece.stop - piece.start for piece in pieces) / N


def _whole(upper: Tensor, border: Tensor, corner: Tensor, coordinates: Coordinates) -> Tensor:
    """[P, P] from its upper half, without what has to do with an intercept that there is not."""
    D, P = coordinates.columns, len(coordinates.scale)
    matrix = upper.new_empty((P, P))
    matrix[:D, :D] = upper
    for start in range(0, D, _PANEL):
        stop = min(start + _PANEL, D)
        square = matrix[start:stop, start:stop]
        square.copy_(square.triu() + square.triu(1).t())
        matrix[stop:D, start:stop] = matrix[start:stop, stop:D].t()
    if P > D:
        scale = coordinates.scale[D].to(upper.dtype)
        matrix[D, :D] = matrix[:D, D] = border * scale
        matrix[D, D] = corner[0] * scale.square()
    return matrix
