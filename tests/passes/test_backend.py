"""Which backend is chosen, and why."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from flashlogit import reference
from flashlogit.passes import Backend, choose_backend
from flashlogit.system.errors import UserError
from flashlogit_kernels.cpu import passes as loops

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


class Machine:
    """A pretended machine with a recent GPU, Triton and gcc, where kernels are compiled and not interpreted."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.patch, self.capability, self.triton, self.programs = patch, (9, 0), object(), {"gcc"}
        find = importlib.util.find_spec
        self.numba: object = object()
        of_machine = {"triton": lambda: self.triton, "numba": lambda: self.numba}
        patch.setattr(importlib.util, "find_spec", lambda name: of_machine.get(name, lambda: find(name))())
        patch.setattr(torch.cuda, "get_device_capability", lambda device: self.capability)
        patch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
        patch.setattr(shutil, "which", lambda name: f"/bin/{name}" if name in self.programs else None)
        patch.delenv("CC", raising=False)
        patch.setenv("TRITON_INTERPRET", "0")

    def chosen(self, requested: Any, device: torch.device = CUDA, **options: bool) -> Backend:
        choose_backend.cache_clear()
        return choose_backend(requested, device, **options)

    def refused(self, device: torch.device = CUDA) -> UserError:
        """The error where the kernels are asked for by name."""
        with pytest.raises(UserError) as caught:
            self.chosen("triton", device)
        assert (caught.value.setting, caught.value.value) == ("backend", "triton")
        return caught.value


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    yield Machine(monkeypatch)
    choose_backend.cache_clear()


def test_auto_takes_the_kernels_on_a_gpu_and_compiled_loops_on_a_cpu(machine):
    assert machine.chosen("auto") == machine.chosen("auto", few=True) == Backend("triton", "the data are on cuda:0")
    machine.patch.setenv("TRITON_INTERPRET", "1")
    assert machine.chosen("auto", CPU) == Backend("numba", "the data are on cpu")
    assert machine.chosen("auto", CPU).passes is loops
    assert machine.chosen("numba", CPU, few=True) == Backend("numba", "asked for")
    few = machine.chosen("auto", CPU, few=True)
    assert (few.name, few.passes) == ("torch", reference)


def test_without_numba_torch_computes(machine):
    machine.numba = None
    assert machine.chosen("auto", CPU) == Backend("torch", "the package numba is not installed")
    with pytest.raises(UserError) as caught:
        machine.chosen("numba", CPU)
    assert (caught.value.setting, caught.value.value) == ("backend", "numba")
    assert caught.value.remedy == "set it to auto or torch"


def test_a_numba_that_does_not_import_is_none(machine):
    def broken(name: str) -> Any:
        raise ImportError("Numba needs NumPy 2.4 or less. Got NumPy 2.5.\nMore.")

    machine.patch.setattr(importlib, "import_module", broken)
    reason = "the package numba cannot be imported (Numba needs NumPy 2.4 or less. Got NumPy 2.5.)"
    assert machine.chosen("auto", CPU) == Backend("torch", reason)
    with pytest.raises(UserError) as caught:
        machine.chosen("numba", CPU)
    assert caught.value.problem == reason


def test_compiled_loops_need_data_on_the_cpu(machine):
    with pytest.raises(UserError) as caught:
        machine.chosen("numba", CUDA)
    assert caught.value.problem == "the data are on cuda"


def test_an_explicit_choice_is_kept(machine):
    assert machine.chosen("torch") == Backend("torch", "asked for")
    assert machine.chosen("triton") == Backend("triton", "asked for")
    with pytest.raises(ValueError, match="backend is 'cuda'; must be auto, triton, numba, torch"):
        machine.chosen("cuda")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"capability": (6, 1)}, "a GPU has compute capability 6.1, below 7.0"),
        ({"triton": None}, "the package triton is not installed"),
        ({"programs": set()}, "Triton needs a C compiler and there is none: install gcc or set CC"),
    ],
)
def test_what_is_missing_is_said(change, reason, machine):
    vars(machine).update(change)
    assert machine.chosen("auto") == Backend("torch", reason)
    error = machine.refused()
    assert error.problem == reason
    assert error.remedy == "set it to auto or torch"


def test_the_c_compiler_that_cc_names_is_the_one_that_counts(machine):
    """As for Triton, which then looks for no other."""
    machine.patch.setenv("CC", "/opt/none/cc")
    assert "CC is '/opt/none/cc', which is no program here" in machine.chosen("auto").reason
    assert "/opt/none/cc" in machine.refused().problem
    machine.programs = {"/opt/none/cc"}
    assert machine.chosen("auto").name == "triton"
    machine.patch.delenv("CC")
    machine.programs = {"clang"}
    assert machine.chosen("auto").name == "triton"
    machine.programs = set()
    machine.patch.setenv("TRITON_INTERPRET", "1")
    assert machine.chosen("triton").name == "triton"  # the interpreter needs no compiler


def test_triton_on_the_cpu_needs_the_interpreter(machine):
    assert "CUDA device" in machine.refused(CPU).remedy
    machine.patch.setenv("TRITON_INTERPRET", "1")
    assert "interpreter" in machine.chosen("triton", CPU).reason
