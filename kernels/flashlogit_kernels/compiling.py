"""How long a thread has waited for kernels and loops to be compiled, or loaded from a cache."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_of_thread = threading.local()


def compile_seconds() -> float:
    """Return the seconds that this thread has waited so far; 0 in Triton's interpreter."""
    seconds: float = getattr(_of_thread, "seconds", 0.0)
    return seconds


@contextmanager
def counted() -> Iterator[None]:
    """Count the time that the block takes."""
    began = time.perf_counter()
    try:
        yield
    finally:
        _of_thread.seconds = compile_seconds() + time.perf_counter() - began
