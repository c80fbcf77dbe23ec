"""Which implementation computes a pass: Triton kernels on a GPU, compiled loops on a CPU, or the torch reference."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, Unpack, get_args

import torch
from torch import Tensor

from flashlogit_kernels.contract import BCEHessian, BCERows, BCESums, LabelSums, PassOptions, ProductOptions
from flashlogit_kernels.cpu import pool as pool  # which prepares torch for a forked child, with any backend
from flashlogit_kernels.models import ModelSums

from ..system.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BackendName = Literal["auto", "triton", "numba", "torch"]

_OLDEST_CAPABILITY = (7, 0)
"""Lowest compute capability for which Triton compiles."""
_FEW_VALUES = 1 << 24
"""Values of X from which a command, which makes one fit, takes compiled loops: to import Numba and load them takes
0.7 s, in which torch goes over so many values twenty times."""
_FEW_COLUMNS = 64
"""Most columns for which this holds with an l1 term, whose sweeps over the weights are then plain Python: 10,000 x 10
took 0.03 s in place of 0.55, 2,000 x 60 with heavy tails 0.15 s, but 100 x 3,000 with such 18 s."""


class Passes(Protocol):
    """What a backend offers; `flashlogit_kernels` documents it."""

    def bce_onepass(
        self,
        X: Tensor,
        y: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        *,
        residual: bool = False,
        curvature: bool = False,
        logits: bool = False,
        border: bool = False,
        **options: Unpack[PassOptions],
    ) -> BCESums: ...

    def bce_hessian(
        self, X: Tensor, y: Tensor, weight: Tensor, bias: Tensor | None = None, **options: Unpack[PassOptions]
    ) -> BCEHessian: ...

    def bce_rows(
        self, X: Tensor, y: Tensor, weight: Tensor, bias: Tensor | None = None, **options: Unpack[PassOptions]
    ) -> BCERows: ...

    def hessian_product(
        self, X: Tensor, curvature: Tensor, v: Tensor, v_bias: Tensor | None = None, **options: Unpack[ProductOptions]
    ) -> Tensor: ...

    def column_sums(self, X: Tensor, v: Tensor, **options: Unpack[ProductOptions]) -> Tensor: ...

    def label_sums(self, y: Tensor, sample_weight: Tensor | None = None) -> LabelSums: ...

    def column_moments(self, X: Tensor, rows: Tensor | None = None) -> NDArray[np.float64]: ...


@dataclass(frozen=True)
class ModelsProgram:
    """The pass for many models; what makes Hessians of a sample's rows; whether its arrays are NumPy's, or tensors; and
    where kernels make the step between two passes, its class `flashlogit_kernels.ModelsStep`."""

    onepass: Callable[..., ModelSums]
    sample_rows: Callable[..., Any]
    on_host: bool
    step: Any = None


@dataclass(frozen=True)
class Backend:
    """A chosen implementation, and in half a sentence why."""

    name: Literal["triton", "numba", "torch"]
    reason: str

    @property
    def passes(self) -> Passes:
        """The implementation; an import error of Triton or Numba comes through as it is."""
        if self.name == "triton":
            import flashlogit_kernels

            return flashlogit_kernels
        if self.name == "numba":
            from flashlogit_kernels.cpu import passes

            return passes
        from .. import reference

        return reference

    @property
    def class_loops(self) -> Any:
        """Compiled loops for the classes of a softmax, or None: elsewhere torch's products do."""
        if self.name != "numba":
            return None
        from flashlogit_kernels.cpu import classes

        return classes

    @property
    def models_program(self) -> ModelsProgram:
        """What many models are fitted with, side by side."""
        if self.name == "numba":
            from flashlogit_kernels.cpu import factors, models

            return ModelsProgram(models.models_onepass, factors.SampleRows, on_host=True)
        from ..reference import factors as plain
        from ..reference.models import models_onepass

        if self.name == "triton":
            import flashlogit_kernels as kernels

            return ModelsProgram(kernels.models_onepass, plain.SampleRows, on_host=False, step=kernels.ModelsStep)
        return ModelsProgram(models_onepass, plain.SampleRows, on_host=False)


@functools.cache
def choose_backend(requested: BackendName, device: torch.device, *, few: bool = False) -> Backend:
    """Return the backend for tensors on `device`.

    `auto` takes the kernels or the compiled loops where they can run, and else the reference; a backend asked for by
    name is never replaced.

    Args:
        requested: the setting.
        device: of the data.
        few: whether `auto` is to load no compiled loops, see `are_few`.

    Raises:
        UserError: `triton` or `numba` was asked for and cannot be had on this device.
        ValueError: a name that is none of the four.
    """
    if requested not in get_args(BackendName):
        raise ValueError(f"backend is {requested!r}; must be {', '.join(get_args(BackendName))}")
    if requested == "torch":
        return Backend("torch", "asked for")
    if requested == "auto" and device.type == "cpu":
        if few:
            return Backend("torch", "the data are too few for compiled loops to pay")
        obstacle = _obstacle_to_numba(device)
        return Backend("numba", "the data are on cpu") if obstacle is None else Backend("torch", obstacle)
    obstacle = _obstacle_to_numba(device) if requested == "numba" else _obstacle_to_triton(device)
    if requested == "auto":
        return Backend("triton", f"the data are on {device}") if obstacle is None else Backend("torch", obstacle)
    if obstacle is None:
        return Backend(requested, "asked for")
    if requested == "triton" and device.type == "cpu" and _interpreting() and _installed("triton"):
        return Backend("triton", "asked for; Triton's interpreter runs it on the CPU, slowly")
    elsewhere = "" if requested == "numba" or device.type == "cuda" else ", or use a CUDA device"
    raise UserError(obstacle, setting="backend", value=requested, remedy=f"set it to auto or torch{elsewhere}")


def are_few(X: Tensor, *, l1: bool = False) -> bool:
    """Return whether a single fit of X [N, D] takes less time than loading compiled loops does; l1: with an l1 term."""
    return X.numel() < _FEW_VALUES and (not l1 or X.shape[1] <= _FEW_COLUMNS)


def _obstacle_to_numba(device: torch.device) -> str | None:
    if device.type != "cpu":
        return f"the data are on {device.type}"
    if not _installed("numba"):
        return "the package numba is not installed"
    try:
        importlib.import_module("numba")
    except ImportError as error:  # such as of a version that this NumPy is too new for
        return f"the package numba cannot be imported ({str(error).splitlines()[0]})"
    return None


def _obstacle_to_triton(device: torch.device) -> str | None:
    if device.type != "cuda":
        return f"the data are on {device.type}"
    if not _installed("triton"):
        return "the package triton is not installed"
    major, minor = torch.cuda.get_device_capability(device)
    if torch.version.hip is None and (major, minor) < _OLDEST_CAPABILITY:
        return f"{torch.cuda.get_device_name(device)} has compute capability {major}.{minor}, below 7.0"
    return None if _interpreting() else _obstacle_to_compiling()


def _obstacle_to_compiling() -> str | None:
    """Triton compiles a kernel's launcher with the C compiler that CC names, else with gcc or clang."""
    named = os.environ.get("CC")
    if named is not None and shutil.which(named) is None:
        return f"Triton needs a C compiler and CC is {named!r}, which is no program here: install it or set CC"
    if named is None and not (shutil.which("gcc") or shutil.which("clang")):
        return "Triton needs a C compiler and there is none: install gcc or set CC"
    return None


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _interpreting() -> bool:
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "yes")
