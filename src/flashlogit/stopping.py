"""Signals that ask a program to end: the first one interrupts it, as Ctrl-C does, and later ones let it save."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""Ctrl-C; a job's time limit, or `docker stop`; a terminal that is closed."""


@dataclass
class Stop:
    """Which signal asked for the end, if one did."""

    signal: int | None = None

    @property
    def exit_code(self) -> int:
        """128 and the signal's number, as shells have it; Ctrl-C's where no signal came through here."""
        return 128 + (self.signal or signal.SIGINT)


@contextmanager
def stopped_by_signals() -> Iterator[Stop]:
    """Within it the first of `SIGNALS` raises KeyboardInterrupt in the main thread, and no later one does.

    Signals that the process ignores, such as those of `nohup`, stay ignored.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def heard(number: int, _: object) -> None:
        if stop.signal is None:
            stop.signal = number
            raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in SIGNALS}
    mine = [number for number, handler in before.items() if handler not in (signal.SIG_IGN, None)]
    for number in mine:
        signal.signal(number, heard)
    try:
        yield stop
    finally:
        for number in mine:
            signal.signal(number, before[number])
