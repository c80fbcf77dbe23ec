"""Counts what a call would launch on a GPU and how often it would wait for one, where Triton's kernels are interpreted.

A launch is an operation of torch that is neither a view nor an allocation, or a kernel of ours. A read-back is a value
that Python asks for: `.item()`, `bool(tensor)`, `.tolist()`, `.cpu()` or `.numpy()`.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_FREE = frozenset(
    [
        "view",
        "_unsafe_view",
        "slice",
        "select",
        "t",
        "transpose",
        "permute",
        "expand",
        "unsqueeze",
        "squeeze",
        "squeeze_",
        "detach",
        "alias",
        "as_strided",
        "split",
        "unbind",
        "split_with_sizes",
        "diagonal",
        "lift_fresh",
        "reshape",
        "_reshape_alias",
        "empty",
        "empty_like",
        "new_empty",
        "empty_strided",
        "new_empty_strided",
        "view_as_real",
        "is_pinned",
        "_pin_memory",
        "pin_memory",
    ]
)
_READS = frozenset({"_local_scalar_dense", "is_nonzero", "equal", "nonzero"})


@dataclass
class Launches:
    """What was counted: operations of torch and kernels by name, and read-backs."""

    by_name: Counter[str] = field(default_factory=Counter)
    kernels: Counter[str] = field(default_factory=Counter)
    reads: int = 0

    @property
    def total(self) -> int:
        """All launches."""
        return self.by_name.total() + self.kernels.total()


class _Operations(TorchDispatchMode):
    def __init__(self, found: Launches) -> None:
        super().__init__()
        self._found = found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.split("::")[1]
        if name in _READS:
            self._found.reads += 1
        elif name not in _FREE:
            self._found.by_name[name] += 1
        return func(*args, **(kwargs or {}))


@contextmanager
def counted_launches() -> Iterator[Launches]:
    """Count within the block; what an interpreted kernel itself asks of torch and numpy is not counted."""
    from triton.runtime.interpreter import GridExecutor

    found, patches = Launches(), []
    interpreted = GridExecutor.__call__

    def launch(self: Any, *args: Any, **kwargs: Any) -> Any:
        found.kernels[self.fn.__name__] += 1
        before = found.by_name.copy(), found.reads
        result = interpreted(self, *args, **kwargs)
        found.by_name, found.reads = before
        return result

    def reading(name: str) -> Any:
        plain = getattr(torch.Tensor, name)

        def read(self: Any, *args: Any, **kwargs: Any) -> Any:
            found.reads += 1
            return plain(self, *args, **kwargs)

        return mock.patch.object(torch.Tensor, name, read)

    patches = [mock.patch.object(GridExecutor, "__call__", launch), *map(reading, ("tolist", "numpy", "cpu"))]
    with _Operations(found):
        for patch in patches:
            patch.start()
        try:
            yield found
        finally:
            for patch in reversed(patches):
                patch.stop()
