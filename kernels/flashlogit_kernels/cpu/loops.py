"""What makes a compiled loop of a function: Numba, with a cache on disk that may fail and is never stale."""

from __future__ import annotations

import contextlib
import functools
import gc
import hashlib
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from numba import njit
from numba.core.caching import FunctionCache
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.core.compiler_lock import global_compiler_lock
from numba.extending import overload

from ..compiling import counted

_FAST = {"contract", "reassoc", "nsz", "arcp"}
"""Not `nnan` and `ninf`: rows that are not finite have to be seen."""


class _Part(JITCodeLibrary):
    """The code of a helper. It is optimised, and becomes machine code, as a part of loops only: doing so for each
    helper too took a third of a loop's compilation."""

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True

    @property
    def codegen(self) -> Any:
        return self

    def set_env(self, name: str, environment: Any) -> None:
        """Do nothing: there is no machine code that could raise an error."""


class _PartCompiler(Compiler):
    def __init__(self, typing: Any, target: Any, library: Any, args: Any, result: Any, flags: Any, types: Any) -> None:
        library = library or _Part(target.codegen(), "part")
        super().__init__(typing, target, library, args, result, flags, types)


_LOOP: Any = {"nogil": True, "error_model": "numpy", "fastmath": _FAST, "no_cfunc_wrapper": True}
"""A check for a division by 0 would keep a loop from being vectorised: NumPy has none."""
_OPTIMISED: Any = _LOOP | {"forceinline": True, "no_cpython_wrapper": True}
_HELPER: Any = _OPTIMISED | {"pipeline_class": _PartCompiler}


def helper(function: Callable[..., Any]) -> Any:
    """Return a function that loops call. Its sums may be reordered. It becomes a part of the loop: a call would meet
    another machine code of it, with other last digits, where the loop has just been compiled than where it comes from a
    cache."""
    return njit(**_HELPER)(function)


def optimised(function: Callable[..., Any]) -> Any:
    """Return a helper that is optimised by itself before it becomes a part of loops: one of many loops over many arrays
    is quicker so, by half a nanosecond a row, and takes a fifth of a second more to compile."""
    return njit(**_OPTIMISED)(function)


def by_types(*, exact: bool = False) -> Callable[[Callable[..., Any]], Any]:
    """Return what makes a function that loops call of `choose`, which returns the function to compile for the Numba
    types of its arguments: code for other types is not. Where it is exact, nothing is reordered: what is taken off and
    put back is not nothing."""
    options = _HELPER | ({"fastmath": {"contract"}} if exact else {})
    return lambda choose: overload(choose, jit_options=options, strict=False)(choose)


def loop(function: Callable[..., Any]) -> Any:
    """Return the compiled loop of a function. It is compiled at its first call with arguments of some types, for
    seconds, and loaded from a cache in later processes; other threads run meanwhile."""
    dispatcher: Any = njit(**_LOOP)(function)
    with contextlib.suppress(RuntimeError):  # there is no folder in which a cache could be written
        dispatcher._cache = _Cache(function)
    compiled = dispatcher.compile

    @functools.wraps(compiled)
    def timed(signature: Any) -> Any:
        with counted(), _no_collections():
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


@contextlib.contextmanager
def _no_collections() -> Iterator[None]:
    """Keep Python's collector from going through all that is loaded again and again, for a quarter of the time: Numba
    makes millions of objects."""
    collected = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collected:
            gc.enable()


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
