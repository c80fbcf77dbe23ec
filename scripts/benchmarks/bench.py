"""What every stage gets: where it runs, how large its data are, how long it has, and where its findings go."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from .clock import DeviceClock, WallClock

Record = dict[str, Any]


class OutOfTimeError(Exception):
    """A stage's deadline has passed; what it has found so far counts."""


@dataclass
class Bench:
    """One run of the benchmark.

    device: a GPU, or the CPU, where Triton's interpreter stands in for one and everything is tiny. record: what has
    been found, by stage. save: writes it to the file; called after what was expensive to find. say: prints a line.
    tuned: column counts to find launches for; all where there are none.
    """

    device: torch.device
    clock: DeviceClock | WallClock
    save: Callable[[], object]
    say: Callable[[str], object]
    record: Record = field(default_factory=dict)
    tuned: tuple[int, ...] = ()
    deadline: float = float("inf")
    buffers: dict[torch.dtype, torch.Tensor] = field(default_factory=dict)

    @property
    def tiny(self) -> bool:
        """Whether this is a rehearsal in Triton's interpreter."""
        return self.device.type == "cpu"

    @property
    def bytes(self) -> int:
        """The size of X where the bandwidth is measured."""
        return 1 << 13 if self.tiny else 2_000_000_000

    @property
    def rounds(self) -> int:
        """Timed calls."""
        return 2 if self.tiny else 20

    def left(self) -> float:
        """Seconds of the stage that are left."""
        return self.deadline - time.monotonic()

    def check_time(self, needed: float = 0.0) -> None:
        """Raise OutOfTimeError unless so many seconds are left."""
        if self.left() < needed:
            raise OutOfTimeError

    def numbers(self, dtype: torch.dtype) -> torch.Tensor:
        """`bytes` of standard normal numbers, made once."""
        if dtype not in self.buffers:
            count = self.bytes // dtype.itemsize
            buffer = torch.empty(count, dtype=dtype, device=self.device)
            for part in torch.split(buffer, 1 << 26):
                part.copy_(torch.randn(len(part), device=self.device))
            self.buffers[dtype] = buffer
        return self.buffers[dtype]

    def matrix(self, dtype: torch.dtype, N: int, D: int) -> torch.Tensor:
        """X [N, D] of these numbers."""
        return self.numbers(dtype)[: N * D].view(N, D)

    def ceiling(self, nbytes: float, ms: float) -> float | None:
        """Bytes over time as a share of what the device reads at most, or None where that was not measured."""
        read = self.record.get("machine", {}).get("ceilings", {}).get("read_tb_s")
        return nbytes / (ms * 1e9) / read if read else None


def reason(error: BaseException) -> str:
    """An error in a line, with the place in our code that it came from."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    place = traceback.extract_tb(error.__traceback__)[-1:]
    where = f" ({place[0].filename.rpartition('/')[2]}:{place[0].lineno})" if place else ""
    return f"{type(error).__name__}: {lines[0][:300] if lines else ''}{where}"
