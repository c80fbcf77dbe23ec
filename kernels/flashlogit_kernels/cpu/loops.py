"""What makes a compiled loop of a function: Numba, with a cache on disk that may fail and is never stale."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from numba import njit
from numba.core.caching import FunctionCache
from numba.core.compiler_lock import global_compiler_lock

from ..compiling import counted

_FAST = {"contract", "reassoc", "nsz", "arcp"}
"""Not `nnan` and `ninf`: rows that are not finite have to be seen."""


def helper(function: Callable[..., Any]) -> Any:
    """Return a function that loops call. Its sums may be reordered, and it divides as NumPy does: a check for 0 would
    keep a loop from being vectorised. It becomes a part of the loop: a call would meet another machine code of it, with
    other last digits, where the loop has just been compiled than where it comes from a cache."""
    return njit(nogil=True, error_model="numpy", forceinline=True, fastmath=_FAST)(function)


def exact(function: Callable[..., Any]) -> Any:
    """Return a function that loops call, in which nothing is reordered: what is taken off and put back is not
    nothing."""
    return njit(nogil=True, error_model="numpy", forceinline=True, fastmath={"contract"})(function)


def loop(function: Callable[..., Any]) -> Any:
    """Return the compiled loop of a function. It is compiled at its first call with arguments of some types, for
    seconds, and loaded from a cache in later processes; other threads run meanwhile."""
    dispatcher: Any = helper(function)
    with contextlib.suppress(RuntimeError):  # there is no folder in which a cache could be written
        dispatcher._cache = _Cache(function)
    compiled = dispatcher.compile

    @functools.wraps(compiled)
    def timed(signature: Any) -> Any:
        with counted():
            if global_compiler_lock.is_locked():
                return compiled(signature)
            # In a thread of its own: what Numba raises and catches meanwhile would keep the caller's frames, and with
            # them X, until Python's collector runs.
            try:
                with ThreadPoolExecutor(1) as alone:
                    done = alone.submit(compiled, signature)
            except RuntimeError:  # the interpreter is shutting down, and begins no threads
                return compiled(signature)
            return done.result()

    dispatcher.compile = timed
    return dispatcher


class _Cache(FunctionCache):
    """A cache that also sees changes in helpers of other files, and without which everything works."""

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        return (*super()._index_key(sig, codegen), _sources())

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except (OSError, EOFError, pickle.UnpicklingError, AttributeError, ValueError):
            return None  # damaged, or not ours to read: compiled anew

    def save_overload(self, sig: Any, data: Any) -> None:
        with contextlib.suppress(OSError, EOFError, pickle.UnpicklingError):  # a full disk, or one now read-only
            super().save_overload(sig, data)


@functools.cache
def _sources() -> str:
    """Return a hash of all files that hold compiled functions, and of the numbers that they know."""
    here = Path(__file__).parent
    text = b"".join(path.read_bytes() for path in [*sorted(here.glob("**/_*.py")), here.parent / "fits.py"])
    return hashlib.sha256(text).hexdigest()
