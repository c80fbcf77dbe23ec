"""Fused Triton kernels for logistic regression: loss and gradient for one read of X.

Importing the package needs torch only; Triton is imported with the first kernel that is asked for. It never imports
flashlogit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lazy import attribute_loader

if TYPE_CHECKING:
    from .hessian import bce_hessian as bce_hessian
    from .onepass import bce_onepass as bce_onepass
    from .padding import pad_rows as pad_rows
    from .product import column_sums as column_sums
    from .product import hessian_product as hessian_product
    from .rows import bce_rows as bce_rows

_HOMES = {
    "bce_hessian": "hessian",
    "bce_onepass": "onepass",
    "bce_rows": "rows",
    "column_sums": "product",
    "hessian_product": "product",
    "pad_rows": "padding",
}
__all__ = ["bce_hessian", "bce_onepass", "bce_rows", "column_sums", "hessian_product", "pad_rows"]

__getattr__ = attribute_loader(__name__, _HOMES)
