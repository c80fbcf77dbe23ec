"""Triton's interpreter, without what it computes for nothing: that took most of the time of interpreted kernels.

An operation of a kernel is one of NumPy with some twenty objects around it, most of them descriptions of shapes and
types that were described before. What a kernel computes, and what is refused, stays as it is.
"""

from __future__ import annotations

import builtins
import dataclasses
import functools
from typing import Any

import numpy as np
import triton
from triton.language import core
from triton.runtime import interpreter


def make_quick() -> None:
    """Put the quicker functions below in the place of the interpreter's own, for this process, where Triton is the
    version that they were written for."""
    if not triton.__version__.startswith("3.9."):
        return
    _patch_language_once_a_launch()
    builder = interpreter.interpreter_builder
    if not builder.options.debug:  # else an integer that overflows is an error, and not otherwise
        builder.options = dataclasses.replace(builder.options, sanitize_overflow=False)
    interpreter._get_np_dtype = _numpy_type
    core._unwrap_if_constexpr = _unwrapped
    core.block_type.__init__ = _describe_block
    core.tensor.__init__ = _describe_tensor
    interpreter.TritonSemantic.broadcast_impl_value = _broadcast
    core.tuple.__init__ = _describe_tuple
    core.tuple.type = property(_type_of_tuple, _set_type_of_tuple)


def _patch_language_once_a_launch() -> None:
    """The interpreter puts its own functions in the place of the language's once a launch, and not again for each
    function that the kernel calls, where it finds them in place."""
    launch, patch = interpreter.GridExecutor.__call__, interpreter._patch_lang
    known: dict[frozenset[int], Any] = {}
    """Since the launch began, by the modules of the language that a function knows."""

    @functools.cache
    def modules(function: Any) -> frozenset[int]:
        language = (interpreter.tl, interpreter.tl.core)
        return frozenset(id(each) for each in function.__globals__.values() if any(each is one for one in language))

    def launched(executor: Any, *args: Any, **kwargs: Any) -> None:
        known.clear()
        launch(executor, *args, **kwargs)

    def patched(function: Any) -> Any:
        if modules(function) not in known:
            known[modules(function)] = patch(function)
        return known[modules(function)]

    interpreter.GridExecutor.__call__, interpreter._patch_lang = launched, patched


_numpy_types: dict[str, np.dtype[Any]] = {}
_get_np_dtype = interpreter._get_np_dtype


def _numpy_type(type_: Any) -> np.dtype[Any]:
    """`_get_np_dtype`, which makes a dictionary of all types at each call."""
    name = type_.scalar.name
    if name not in _numpy_types:
        _numpy_types[name] = _get_np_dtype(type_)
    return _numpy_types[name]


_unwrap_if_constexpr = core._unwrap_if_constexpr


def _unwrapped(value: Any) -> Any:
    """`_unwrap_if_constexpr`, the commonest kinds first."""
    kind = type(value)
    if kind is core.constexpr:
        return value.value
    if kind is core.tensor or kind is int or kind is core.dtype:
        return value
    return _unwrap_if_constexpr(value)


@functools.cache
def _block(shape: builtins.tuple[int, ...]) -> builtins.tuple[Any, int, str]:
    """A block's shape as the language has it, the number of its elements, and the shape's name."""
    if not shape:
        raise TypeError("0d block_type is forbidden")
    numel = core.validate_block_shape(shape)
    found = core.tuple(shape)
    return found, numel, str(found)


def _describe_block(self: Any, element_ty: Any, shape: Any) -> None:
    self.element_ty = element_ty
    self.shape, self.numel, name = _block(builtins.tuple([_unwrapped(size) for size in shape]))
    self.name = f"<{name}, {element_ty}>"


@functools.cache
def _constants(shape: builtins.tuple[int, ...]) -> builtins.tuple[Any, Any]:
    """The shape of a tensor and the number of its elements, both as constants of the language."""
    return core.tuple([core.constexpr(size) for size in shape]), core.constexpr(int(np.prod(shape, dtype=np.int64)))


def _describe_tensor(self: Any, handle: Any, type: Any) -> None:
    self.handle, self.type, self.dtype = handle, type, type.scalar
    self.shape, self.numel = _constants(builtins.tuple(type.shape.values) if type.is_block() else ())


_broadcast_impl_value = interpreter.TritonSemantic.broadcast_impl_value


def _broadcast(self: Any, lhs: Any, rhs: Any) -> Any:
    """`broadcast_impl_value`, at once where both have one shape, which is then one object, or none."""
    ours, theirs = lhs.type, rhs.type
    if ours.is_block() == theirs.is_block() and (not ours.is_block() or ours.shape is theirs.shape):
        return lhs, rhs
    return _broadcast_impl_value(self, lhs, rhs)


def _describe_tuple(self: Any, args: Any, type: Any = None) -> None:
    self.values = list(args)
    self.type = type


def _type_of_tuple(self: Any) -> Any:
    """Found when it is asked for, which is next to never."""
    if self._type is None:
        self._type = core._type_for_tuple_values(self.values)
    return self._type


def _set_type_of_tuple(self: Any, type: Any) -> None:
    self._type = type if type is None or isinstance(type, core.tuple_type) else core.tuple_type(type)
