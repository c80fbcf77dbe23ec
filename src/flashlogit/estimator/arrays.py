"""Between a user's arrays and torch: tensors are used where they are, and results go back in the kind they came in.

A "device array" is a torch tensor or anything else that offers DLPack (CuPy, JAX, array_api_strict ...) and is no NumPy
array: it stays on its device. All else is host data, which scikit-learn's own validation turns into NumPy arrays.
"""

from __future__ import annotations

import sys
import warnings
from types import ModuleType
from typing import Any

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.dlpack import from_dlpack

_FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def is_device_array(value: Any) -> bool:
    """Whether `value` is a torch tensor or another library's array that offers DLPack."""
    if isinstance(value, Tensor):
        return True
    host = isinstance(value, np.ndarray | np.generic) or _library(value) in ("pandas", "polars", "pyarrow")
    return not host and hasattr(value, "__dlpack__") and hasattr(value, "shape")


def as_tensor(value: Any) -> Tensor:
    """The same memory as a tensor, without a gradient.

    Raises:
        ValueError: an array that cannot be shared, such as one on a device that torch does not know.
    """
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, np.ndarray):
        return tensor_of_numpy(value)
    try:
        tensor: Tensor = from_dlpack(value)
    except (BufferError, RuntimeError, TypeError, ValueError):
        # A library of the CPU only may refuse to export, and still convert.
        try:
            tensor = tensor_of_numpy(np.array(numpy_of(value)))
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"a {type(value).__module__}.{type(value).__qualname__} cannot be read through DLPack ({error});"
                " convert it to a torch tensor or a NumPy array first"
            ) from error
    return tensor


def tensor_of_numpy(array: NDArray[Any]) -> Tensor:
    """The same memory as a tensor; a copy only where strides are negative or the byte order is foreign.

    bfloat16 of ml_dtypes, which torch does not know as a dtype of NumPy, too.
    """
    if any(stride < 0 for stride in array.strides):
        array = np.ascontiguousarray(array)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    with warnings.catch_warnings():
        # Nothing here writes into a user's array.
        warnings.filterwarnings(
            "ignore", message="The given NumPy array is not writable", category=UserWarning
        )
        if is_bfloat16(array):
            return torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)
        return torch.from_numpy(array)


def is_bfloat16(value: Any) -> bool:
    """Whether `value` is a NumPy array of ml_dtypes' bfloat16."""
    return isinstance(value, np.ndarray) and value.dtype.name == "bfloat16"


def float_tensor(tensor: Tensor) -> Tensor:
    """As it is if it is of a floating dtype that a fit takes, else as float64."""
    return tensor if tensor.dtype in _FLOATS else tensor.to(torch.float64)


def numpy_of(value: Any) -> NDArray[Any]:
    """Any array as a NumPy array on the host; a copy only from a device or of a sparse matrix."""
    if scipy.sparse.issparse(value):
        return np.asarray(value.toarray())
    if isinstance(value, Tensor):
        value = value.detach()
        value = value.float() if value.dtype == torch.bfloat16 else value
        return np.asarray(value.cpu().numpy())
    if isinstance(value, np.ndarray):
        return value
    if _library(value) == "cupy":
        return np.asarray(value.get())
    if is_device_array(value):
        try:
            return np.from_dlpack(value)
        except (BufferError, RuntimeError, TypeError, ValueError):
            try:
                return np.asarray(from_dlpack(value).cpu().numpy())
            except (BufferError, RuntimeError, TypeError, ValueError):
                pass
        namespace = namespace_of(value)
        if hasattr(
            namespace, "Device"
        ):  # array_api_strict's devices other than its CPU are only named otherwise
            value = value.to_device(namespace.Device("CPU_DEVICE"))
    return np.asarray(value)


def like(reference: Any, tensor: Tensor) -> Any:
    """`tensor` in the namespace and on the device of the array `reference`; NumPy for host data.

    A tensor as it is where the library of `reference` has no `asarray`.
    """
    if isinstance(reference, Tensor):
        return tensor.to(reference.device)
    if not is_device_array(reference):
        return tensor.cpu().numpy()
    namespace = namespace_of(reference)
    if _library(reference) == "cupy":
        with reference.device:
            return namespace.from_dlpack(tensor) if tensor.is_cuda else namespace.asarray(tensor.numpy())
    if not hasattr(namespace, "asarray"):
        return tensor  # only DLPack is known of it, by which it can take the tensor over
    return namespace.asarray(tensor.cpu().numpy(), device=getattr(reference, "device", None))


def namespace_of(value: Any) -> ModuleType | Any:
    """The module whose functions make arrays of this kind."""
    if hasattr(value, "__array_namespace__"):
        return value.__array_namespace__()
    return sys.modules[_library(value)]


def _library(value: Any) -> str:
    return type(value).__module__.partition(".")[0]
