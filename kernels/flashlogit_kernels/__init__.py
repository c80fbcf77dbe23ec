"""Fused Triton kernels for logistic regression: loss and gradient for one read of X.

Importing the package needs torch only; Triton is imported with the first kernel that is asked for. It never imports
flashlogit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lazy import attribute_loader

if TYPE_CHECKING:
    from .gpu.hessian import bce_hessian as bce_hessian
    from .gpu.onepass import bce_onepass as bce_onepass
    from .gpu.product import column_sums as column_sums
    from .gpu.product import hessian_product as hessian_product
    from .gpu.rows import bce_rows as bce_rows
    from .padding import pad_rows as pad_rows

_HOMES = {
    "bce_hessian": "gpu.hessian",
    "bce_onepass": "gpu.onepass",
    "bce_rows": "gpu.rows",
    "column_sums": "gpu.product",
    "hessian_product": "gpu.product",
    "pad_rows": "padding",
}
__all__ = ["bce_hessian", "bce_onepass", "bce_rows", "column_sums", "hessian_product", "pad_rows"]

__getattr__ = attribute_loader(__name__, _HOMES)
