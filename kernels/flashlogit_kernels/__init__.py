"""Fused Triton kernels for logistic regression: loss and gradient for one read of X.

Importing the package needs torch only; Triton is imported with the first kernel that is asked for. It never imports
flashlogit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lazy import attribute_loader

if TYPE_CHECKING:
    from .columns import column_sums as column_sums
    from .onepass import bce_onepass as bce_onepass
    from .rows import bce_rows as bce_rows

_HOMES = {"bce_onepass": "onepass", "bce_rows": "rows", "column_sums": "columns"}
__all__ = ["bce_onepass", "bce_rows", "column_sums"]

__getattr__ = attribute_loader(__name__, _HOMES)
