"""Fused Triton kernels for logistic regression: loss and gradient for one read of X.

Importing the package needs torch only; Triton is imported with the first kernel that is asked for. It never imports
flashlogit.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .columns import column_sums as column_sums
    from .onepass import bce_onepass as bce_onepass
    from .rows import bce_rows as bce_rows

_HOMES = {"bce_onepass": "onepass", "bce_rows": "rows", "column_sums": "columns"}
__all__ = ["bce_onepass", "bce_rows", "column_sums"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value
