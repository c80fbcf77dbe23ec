"""Data of any shape for a benchmark, all cut from one buffer of random numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

CPU_ROWS = 10_000_000
"""Rows at most on a CPU, where narrow tables would otherwise spend their time on the vectors beside X."""
_LOGIT_SCALE = 1.5
"""Standard deviation of the logits: a billion rows stay far below the clamp at 18.4."""
_POSITIVE_SHARE = 0.4


@dataclass(frozen=True, eq=False)
class Problem:
    """Arguments of every pass.

    X [N, D] in its storage dtype, rows contiguous; float32 on the same device: y [N] of 0 and 1, weight [D], bias [1],
    curvature [N] in [0, 1/4], and direction v [D].
    """

    X: Tensor
    y: Tensor
    weight: Tensor
    bias: Tensor
    curvature: Tensor
    v: Tensor

    @property
    def n(self) -> int:
        return self.X.shape[0]

    @property
    def d(self) -> int:
        return self.X.shape[1]

    @property
    def dtype(self) -> str:
        """Name of the storage dtype, such as float32."""
        return dtype_name(self.X.dtype)

    @property
    def bytes(self) -> int:
        """What a pass has to read: X once, and one float32 number a row (its label or its curvature)."""
        return self.X.numel() * self.X.element_size() + 4 * self.n


def rows_for(D: int, dtype: torch.dtype, gigabytes: float, device: torch.device) -> int:
    """Rows with which X takes at least `gigabytes` (10^9 bytes), on a CPU at most `CPU_ROWS`."""
    rows = math.ceil(gigabytes * 1e9 / (D * dtype.itemsize))
    return min(rows, CPU_ROWS) if device.type == "cpu" else rows


class Numbers:
    """Independent N(0, 1) numbers in one flat buffer; every X is a view of it, so that making one costs nothing."""

    def __init__(self, shapes: Iterable[tuple[int, int]], dtype: torch.dtype, device: torch.device) -> None:
        """Room for each of the shapes (N, D)."""
        self._generator = torch.Generator(device).manual_seed(0)
        size = max(N * D for N, D in shapes)
        self._flat = torch.randn(size, dtype=dtype, device=device, generator=self._generator)

    def problem(self, N: int, D: int) -> Problem:
        """A problem of this shape; the same one whenever it is asked for in the same order."""
        weight, v = self._normal(D), self._normal(D)
        return Problem(
            X=self._flat[: N * D].view(N, D),
            y=(self._uniform(N) < _POSITIVE_SHARE).float(),
            weight=weight * (_LOGIT_SCALE / weight.norm()),
            bias=torch.full((1,), 0.3, device=self._flat.device),
            curvature=self._uniform(N) * 0.25,
            v=v / v.norm(),
        )

    def _normal(self, size: int) -> Tensor:
        return torch.randn(size, device=self._flat.device, generator=self._generator)

    def _uniform(self, size: int) -> Tensor:
        return torch.rand(size, device=self._flat.device, generator=self._generator)


def dtype_name(dtype: torch.dtype) -> str:
    """float32 for torch.float32."""
    return str(dtype).removeprefix("torch.")
