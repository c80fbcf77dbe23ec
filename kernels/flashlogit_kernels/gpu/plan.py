"""What is settled once about a pass, so that running it again costs the host its launches and little else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from triton import knobs

from ..contract import RowPass, RowValues
from .arguments import on_device
from .resources import Resources, are_fitted, loaded

_BEFORE_ARGUMENTS = 9
"""Arguments of a compiled kernel's launcher before the kernel's own: three of the grid, the stream, the function, what
it was compiled for, and three for hooks."""


class Launch:
    """A kernel with its grid and its arguments, all settled but the tensors and numbers that are named as changing.

    On NVIDIA's GPUs the compiled kernel is called as Triton's own launcher calls it, with addresses in place of
    tensors. That leaves out what Triton does again for each launch: it binds the arguments' names, finds out what they
    would have to be compiled for, looks that up, and has the driver look at every address (on an H100's host 33 us with
    three arguments, and 6.5 without). Triton itself launches where nothing is compiled, where hooks hang on its
    launches, and where the address of a changing tensor is no multiple of 16 but was one when the kernel was compiled.

    The arguments keep the memory alive whose addresses are handed over. Not for several threads at a time.

    Args:
        kernel: a jitted function.
        grid: numbers of programs, one to three.
        arguments: by name, with the compiler's options. For a changing tensor any one of its dtype and device will do,
            an empty one too. A changing number is below 2^31, and the kernel is not specialised for it.
        changing: names of the tensors and whole numbers that come with each call.
        found: what `loaded` returned for these arguments, if that is known already.
    """

    def __init__(
        self,
        kernel: Any,
        grid: Sequence[int],
        arguments: Mapping[str, Any],
        *,
        changing: Sequence[str] = (),
        found: Resources | None = None,
    ) -> None:
        self._kernel, self._grid, self._arguments, self._changing = kernel, tuple(grid), arguments, changing
        device = next(value.device for value in arguments.values() if isinstance(value, Tensor))
        if found is None and are_fitted(device):
            found = loaded(kernel, device, arguments)
        self._run: Any = None
        if found is not None and found.compiled is not None:
            compiled, names = found.compiled, kernel.arg_names
            self._run, self._device_index = compiled.run, device.index
            values = [arguments[name] for name in names]
            values = [value.data_ptr() if isinstance(value, Tensor) else value for value in values]
            places = [_BEFORE_ARGUMENTS + names.index(name) for name in changing]
            grid_of_three = (*self._grid, 1, 1)[:3]
            self._call = [*grid_of_three, 0, compiled.function, compiled.packed_metadata, None, None, None, *values]
            self._places = [
                (name, at, isinstance(arguments[name], Tensor) and self._call[at] % 16 == 0)
                for name, at in zip(changing, places, strict=True)
            ]

    def __call__(self, changed: Mapping[str, Tensor | int] | None = None) -> None:
        """Launch on the current stream of the device, which must be the current device.

        Args:
            changed: what changes by name, tensors of the dtype and on the device that the kernel was compiled for,
                which is not checked; others are left aside.
        """
        changed = changed or {}
        if self._run is None or _hooked() or not self._placed(changed):
            self._kernel[self._grid](**{**self._arguments, **{name: changed[name] for name in self._changing}})
            return
        self._call[3] = torch._C._cuda_getCurrentRawStream(self._device_index)
        self._run(*self._call)

    def _placed(self, changed: Mapping[str, Tensor | int]) -> bool:
        """Put numbers and the addresses of tensors in their places; return whether the kernel may be given them."""
        for name, place, aligned in self._places:
            value = changed[name]
            address = value.data_ptr() if isinstance(value, Tensor) else value
            if aligned and address % 16:
                return False
            self._call[place] = address
        return True


def _hooked() -> bool:
    """Return whether a profiler, say, is to be called at each launch; a chain of hooks may be empty."""
    enter, leave = knobs.runtime.launch_enter_hook, knobs.runtime.launch_exit_hook
    return bool(getattr(enter, "calls", enter) or getattr(leave, "calls", leave))


class Plan:
    """A pass over given rows with all that does not depend on the weights settled, to be run for many of them.

    Checks, the geometry of the launches, compilation and the memory for the programs' partial sums belong to the making
    of a plan. Every run writes the same partial sums and row values anew, so a plan belongs to one thread and one
    stream at a time. It launches on the stream that is current when it is run, which may be one that is captured into a
    CUDA graph; the graph's replays use the plan's memory, so the plan must be kept as long as the graph, and likewise
    until the device has done what was launched on another stream than that on which the plan was made.

    Attributes:
        values: where each run writes the row values that the plan was made for, [n] in the arithmetic's dtype.
    """

    def __init__(
        self,
        row_pass: RowPass,
        launches: Sequence[Callable[[Mapping[str, Tensor]], None]],
        *,
        width: int,
        values: RowValues | None = None,
        guard: Tensor | None = None,
    ) -> None:
        self.values = values or RowValues()
        self._X, self._launches, self._width = row_pass.X, launches, width
        self._bias, self._guard = row_pass.bias, guard
        self._kinds = {"WEIGHT": _kind(row_pass.weight), "BIAS": _kind(row_pass.bias), "GUARD": _kind(guard)}
        self._kinds["OUT"] = torch.float64, width, self._X.device, True

    def run(
        self,
        weight: Tensor | None,
        bias: Tensor | None = None,
        *,
        guard: Tensor | None = None,
        out: Tensor | None = None,
    ) -> Tensor:
        """Launch the pass and return its sums.

        Args:
            weight: [D] contiguous, of the dtype that the plan was made for; None for sums over the columns alone.
            bias: one number likewise; by default that of the plan.
            guard: one int32 number. Where it is not 0 by the time the device comes to the pass, rows that fit the
                registers are not read, and what the pass writes means nothing. By default that of the plan.
            out: memory for the sums, contiguous float64.

        Returns:
            What the function that made the plan says, float64: a new tensor, or `out` where it is given.

        Raises:
            ValueError: a tensor is missing, not contiguous, or of another dtype, size or device than the plan was made
                for.
        """
        if out is None:
            out = self._X.new_empty(self._width, dtype=torch.float64)
        changed: dict[str, Any] = {
            "WEIGHT": weight,
            "BIAS": self._bias if bias is None else bias,
            "GUARD": self._guard if guard is None else guard,
            "OUT": out,
        }
        for name, kind in self._kinds.items():
            if _kind(changed[name]) != kind:
                raise ValueError(f"{name.lower()} is {_said(_kind(changed[name]))}; this plan takes {_said(kind)}")
        with on_device(self._X):
            for launch in self._launches:
                launch(changed)
        return out


_Kind = tuple[torch.dtype, int, torch.device, bool]


def _kind(tensor: Tensor | None) -> _Kind | None:
    """Return dtype, size, device and whether it is contiguous."""
    return None if tensor is None else (tensor.dtype, tensor.numel(), tensor.device, tensor.is_contiguous())


def _said(kind: _Kind | None) -> str:
    if kind is None:
        return "None"
    dtype, size, device, contiguous = kind
    return f"{size} {'contiguous' if contiguous else 'strided'} numbers of {dtype} on {device}"
