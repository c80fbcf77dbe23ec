"""Fused Triton kernels for logistic regression: loss and gradient for one read of X.

Importing the package needs torch only; Triton is imported with the first kernel that is asked for. It never imports
flashlogit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lazy import attribute_loader

if TYPE_CHECKING:
    from .gpu.passes import bce_hessian as bce_hessian
    from .gpu.passes import bce_onepass as bce_onepass
    from .gpu.passes import bce_rows as bce_rows
    from .gpu.passes import column_sums as column_sums
    from .gpu.passes import hessian_product as hessian_product
    from .padding import pad_rows as pad_rows

__all__ = ["bce_hessian", "bce_onepass", "bce_rows", "column_sums", "hessian_product", "pad_rows"]

__getattr__ = attribute_loader(__name__, {**dict.fromkeys(__all__, "gpu.passes"), "pad_rows": "padding"})
