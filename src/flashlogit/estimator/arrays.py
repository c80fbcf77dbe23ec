"""Between a user's arrays and torch: tensors are used where they are, and results go back in the kind they came in.

A "device array" is a torch tensor or anything else that offers DLPack (CuPy, JAX, array_api_strict ...) and is no NumPy
array: it stays on its device. All else is host data, which scikit-learn's own validation turns into NumPy arrays.

scikit-learn's helpers for the array API (`move_to`, `get_namespace`) do not serve here: unless SCIPY_ARRAY_API was set
before the first import they take every array for NumPy's, and tensors are accepted without that.
"""

from __future__ import annotations

import dataclasses
import sys
import warnings
from types import ModuleType
from typing import Any

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray
from sklearn.exceptions import EfficiencyWarning
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from ..system.memory import device_free_bytes

_FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
_REFUSALS = (BufferError, RuntimeError, TypeError, ValueError)
"""What libraries raise where an array cannot be exported."""
_BLOCK_BYTES = 64 << 20
"""Size of the dense rows that are made of a sparse matrix at a time."""
_SHARE = 0.5
"""Largest share of the free memory that a dense copy may take."""


def is_device_array(value: Any) -> bool:
    """Return whether `value` is a torch tensor or another library's array that offers DLPack."""
    if isinstance(value, Tensor):
        return True
    host = isinstance(value, np.ndarray | np.generic) or _library(value) in ("pandas", "polars", "pyarrow")
    return not host and hasattr(value, "__dlpack__") and hasattr(value, "shape")


def as_tensor(value: Any) -> Tensor:
    """Return the same memory as a tensor without a gradient.

    A sparse matrix is copied; a NumPy array only where strides are negative or the byte order is foreign. It may be of
    ml_dtypes' bfloat16, which torch does not know as a dtype of NumPy.

    Raises:
        ValueError: a device array that cannot be shared, such as one on a device that torch does not know.
        TypeError: host data of a dtype that torch does not have, such as text.
    """
    if isinstance(value, Tensor):
        return value.detach()
    if is_device_array(value):
        try:
            tensor: Tensor = from_dlpack(value)
        except _REFUSALS:
            try:  # a library may refuse to export, and still convert
                tensor = as_tensor(_host_copy(value))
            except _REFUSALS as error:
                raise ValueError(
                    f"a {type(value).__module__}.{type(value).__qualname__} cannot be read through DLPack ({error});"
                    " convert it to a torch tensor or a NumPy array first"
                ) from error
        return tensor
    value = numpy_of(value)
    if any(stride < 0 for stride in value.strides):
        value = np.ascontiguousarray(value)
    if not value.dtype.isnative:
        value = value.astype(value.dtype.newbyteorder("="))
    if is_bfloat16(value):
        return as_tensor(value.view(np.uint16)).view(torch.bfloat16)
    if value.flags.writeable:
        return torch.from_numpy(value)
    with warnings.catch_warnings():
        # Nothing here writes into a user's array.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.from_numpy(value)


def is_bfloat16(value: Any) -> bool:
    """Return whether `value` is a NumPy array of ml_dtypes' bfloat16."""
    # The name of a dtype takes longer than its kind.
    return isinstance(value, np.ndarray) and value.dtype.kind == "V" and value.dtype.name == "bfloat16"


def kind_of(value: Any) -> str:
    """Return the dtype of host data, that of the first date or duration among Python objects."""
    array = value if isinstance(value, np.ndarray) else np.asarray(value)
    if array.dtype == object:
        return next((str(each.dtype) for each in array.flat if isinstance(each, np.datetime64 | np.timedelta64)), "")
    return str(array.dtype)


def float_tensor(tensor: Tensor) -> Tensor:
    """Return the tensor as it is if it is of a floating dtype that a fit takes, else as float64."""
    return tensor if tensor.dtype in _FLOATS else tensor.to(torch.float64)


def numpy_of(value: Any) -> NDArray[Any]:
    """Return any array as a NumPy array on the host; it is a copy only from a device or of a sparse matrix."""
    if scipy.sparse.issparse(value):
        return np.asarray(value.toarray())
    if is_device_array(value):
        tensor = as_tensor(value)
        return np.asarray((tensor.float() if tensor.dtype == torch.bfloat16 else tensor).cpu().numpy())
    return np.asarray(value)


def like(reference: Any, tensor: Tensor) -> Any:
    """Return `tensor` in the namespace and on the device of the array `reference`, as NumPy array for host data.

    It stays a tensor where the library of `reference` has no `asarray`: that library can take it over by DLPack.
    """
    if isinstance(reference, Tensor):
        return tensor.to(reference.device)
    if not is_device_array(reference):
        return tensor.cpu().numpy()
    namespace = _namespace(reference)
    if _library(reference) == "cupy":
        with reference.device:
            return namespace.from_dlpack(tensor) if tensor.is_cuda else namespace.asarray(tensor.numpy())
    if not hasattr(namespace, "asarray"):
        return tensor
    return namespace.asarray(tensor.cpu().numpy(), device=getattr(reference, "device", None))


def moved(value: Any, device: torch.device) -> Any:
    """Return a value with all tensors in it, also within dataclasses, dicts, lists and tuples, on that device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: moved(getattr(value, field.name), device) for field in dataclasses.fields(value)}
        return dataclasses.replace(value, **fields)
    if isinstance(value, dict):
        return {key: moved(item, device) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(moved(item, device) for item in value)
    return value


def on_host(value: Any) -> Any:
    """Return an attribute of an estimator as it can be loaded on a machine without a GPU."""
    if isinstance(value, dict):
        return {key: on_host(item) for key, item in value.items()}
    if isinstance(value, Tensor) or dataclasses.is_dataclass(value):
        return moved(value, torch.device("cpu"))
    return numpy_of(value) if _library(value) == "cupy" else value


def densify(X: Any, device: torch.device, *, limit: int | None = None) -> Tensor:
    """Return a dense copy [N, D] on `device` of a scipy.sparse CSR matrix, and warn of it.

    Args:
        X: of a dtype that torch knows.
        device: where the copy is made, by row blocks.
        limit: bytes that it may take; default half of the device's free memory.

    Raises:
        MemoryError: a copy above the limit.
    """
    N, D = X.shape
    size = N * D * X.dtype.itemsize
    limit = int(_SHARE * device_free_bytes(device)) if limit is None else limit
    if size > limit:
        raise MemoryError(
            f"X is sparse, {N:,} x {D:,}, and would take {size / 1e9:.1f} GB as a dense matrix, which is all that"
            f" flashlogit trains on; the bound is {limit / 1e9:.1f} GB, half of the free memory: reduce the columns"
            " (feature selection, hashing, TruncatedSVD), take fewer rows, or train in batches with partial_fit"
        )
    warnings.warn(
        f"X is sparse, {N:,} x {D:,}, and is copied into a dense matrix of {size / 1e6:,.1f} MB: flashlogit has no"
        " kernels for sparse matrices yet",
        EfficiencyWarning,
        stacklevel=4,
    )
    dense = torch.empty((N, D), dtype=as_tensor(np.empty(0, X.dtype)).dtype, device=device)
    height = max(1, _BLOCK_BYTES // (D * X.dtype.itemsize))
    for start in range(0, N, height):
        dense[start : start + height] = torch.from_numpy(X[start : start + height].toarray())
    return dense


def _host_copy(value: Any) -> NDArray[Any]:
    """Return a device array as NumPy array by what its library offers beside DLPack."""
    if _library(value) == "cupy":
        return np.asarray(value.get())
    namespace = _namespace(value)
    if hasattr(namespace, "Device"):  # array_api_strict's devices other than its CPU differ from it by name only
        value = value.to_device(namespace.Device("CPU_DEVICE"))
    return np.asarray(value)


def _namespace(value: Any) -> ModuleType | Any:
    """Return the module whose functions make arrays of this kind."""
    if hasattr(value, "__array_namespace__"):
        return value.__array_namespace__()
    return sys.modules[_library(value)]


def _library(value: Any) -> str:
    return type(value).__module__.partition(".")[0]
