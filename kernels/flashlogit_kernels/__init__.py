"""Fused Triton kernels for logistic regression: loss and gradient for one read of X.

Importing the package needs torch only; Triton and NumPy come with the first kernel that is asked for. It never imports
flashlogit.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .contract import pad_rows as pad_rows
    from .gpu.measure import column_moments as column_moments
    from .gpu.measure import label_sums as label_sums
    from .gpu.models import models_onepass as models_onepass
    from .gpu.passes import Plans as Plans
    from .gpu.passes import bce_hessian as bce_hessian
    from .gpu.passes import bce_onepass as bce_onepass
    from .gpu.passes import bce_rows as bce_rows
    from .gpu.passes import column_sums as column_sums
    from .gpu.passes import hessian_product as hessian_product
    from .gpu.steps.many_step import ModelsStep as ModelsStep
    from .gpu.steps.step import Step as Step
    from .gpu.steps.step import fits_step as fits_step

__all__ = [
    "ModelsStep",
    "Plans",
    "Step",
    "bce_hessian",
    "bce_onepass",
    "bce_rows",
    "column_moments",
    "column_sums",
    "fits_step",
    "hessian_product",
    "label_sums",
    "models_onepass",
    "pad_rows",
]


def attribute_loader(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a module-level `__getattr__` (PEP 562) for `package`, which imports a name at its first use, from the
    submodule that `homes` gives."""

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{package}.{homes[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return load


_HOMES = {
    **dict.fromkeys(("column_moments", "label_sums"), "gpu.measure"),
    **dict.fromkeys(("Step", "fits_step"), "gpu.steps.step"),
    "ModelsStep": "gpu.steps.many_step",
    "models_onepass": "gpu.models",
    "pad_rows": "contract",
}
__getattr__ = attribute_loader(__name__, {**dict.fromkeys(__all__, "gpu.passes"), **_HOMES})
