"""Signals that ask a program to end: each interrupts it, as Ctrl-C does, and lets it save."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""Ctrl-C; a job's time limit, or `docker stop`; a terminal that is closed."""

_REPEAT_SECONDS = 2.0
"""Seconds after a signal within which a further one is ignored."""
_saving = 0
_delayed = False


@dataclass
class Stop:
    """Which signal asked for the end, if one did, and when."""

    signal: int | None = None
    at: float = -math.inf

    @property
    def exit_code(self) -> int:
        """128 and the signal's number, as shells have it; Ctrl-C's where no signal came through here."""
        return 128 + (self.signal or signal.SIGINT)


@contextmanager
def saving() -> Iterator[None]:
    """Delay what the signals of `stopped_by_signals` interrupt until the block ends, unless it ends in an exception."""
    global _saving, _delayed
    _saving += 1
    _delayed = False
    try:
        yield
    finally:
        _saving -= 1
    if _delayed:
        raise KeyboardInterrupt


@contextmanager
def stopped_by_signals() -> Iterator[Stop]:
    """Let each of `SIGNALS` raise KeyboardInterrupt in the main thread, but not while `saving`.

    A further signal interrupts again, as an exception in a finaliser is lost, but no sooner than two seconds later,
    for the saving has to begin. Signals that the process ignores, such as those of `nohup`, stay ignored.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def interrupt(number: int, _: object) -> None:
        global _delayed
        now = time.monotonic()
        if now - stop.at <= _REPEAT_SECONDS:
            return
        if _saving:
            stop.signal, _delayed = stop.signal or number, True
        else:
            stop.signal, stop.at = number, now
            raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in SIGNALS}
    handled = [number for number, handler in before.items() if handler not in (signal.SIG_IGN, None)]
    for number in handled:
        signal.signal(number, interrupt)
    try:
        yield stop
    finally:
        for number in handled:
            signal.signal(number, before[number])
