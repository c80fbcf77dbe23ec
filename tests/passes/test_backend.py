"""Which backend is chosen, and why."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from flashlogit import reference
from flashlogit.passes.backend import Backend, choose_backend
from flashlogit.system.errors import UserError

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    choose_backend.cache_clear()
    yield
    choose_backend.cache_clear()


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that there is a recent GPU, Triton, and gcc; kernels are compiled and not interpreted."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    pretend_triton(monkeypatch, installed=True)
    pretend_programs(monkeypatch, "gcc")
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("TRITON_INTERPRET", "0")


def pretend_programs(monkeypatch: pytest.MonkeyPatch, *programs: str) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}" if name in programs else None)


def pretend_triton(monkeypatch: pytest.MonkeyPatch, *, installed: bool) -> None:
    find = importlib.util.find_spec

    def find_spec(name: str, *rest: Any) -> Any:
        return (object() if installed else None) if name == "triton" else find(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)


def test_auto_on_the_cpu_is_torch_even_in_the_interpreter() -> None:
    backend = choose_backend("auto", CPU)
    assert backend == Backend("torch", "the data are on cpu")
    assert backend.passes is reference


@pytest.mark.usefixtures("gpu")
def test_auto_on_a_gpu_is_triton() -> None:
    assert choose_backend("auto", CUDA) == Backend("triton", "the data are on cuda:0")


@pytest.mark.usefixtures("gpu")
def test_an_explicit_choice_is_kept() -> None:
    assert choose_backend("torch", CUDA).name == "torch"
    assert choose_backend("triton", CUDA).name == "triton"


@pytest.mark.usefixtures("gpu")
def test_an_old_gpu_falls_back_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (6, 1))
    assert choose_backend("auto", CUDA) == Backend("torch", "a GPU has compute capability 6.1, below 7.0")
    with pytest.raises(UserError, match=r"below 7\.0; set backend to 'auto' or 'torch'"):
        choose_backend("triton", CUDA)


@pytest.mark.usefixtures("gpu")
def test_a_missing_triton_falls_back_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_triton(monkeypatch, installed=False)
    assert choose_backend("auto", CUDA) == Backend("torch", "the package triton is not installed")
    with pytest.raises(UserError, match="the package triton is not installed; set backend"):
        choose_backend("triton", CUDA)


@pytest.mark.usefixtures("gpu")
def test_without_a_c_compiler_it_falls_back_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_programs(monkeypatch)
    reason = "Triton needs a C compiler and there is none: install gcc or set CC"
    assert choose_backend("auto", CUDA) == Backend("torch", reason)
    with pytest.raises(
        UserError, match=f"backend is 'triton', but {reason}; set backend to 'auto' or 'torch'$"
    ):
        choose_backend("triton", CUDA)


@pytest.mark.usefixtures("gpu")
def test_the_c_compiler_that_cc_names_is_the_one_that_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for Triton, which then looks for no other."""
    monkeypatch.setenv("CC", "/opt/none/cc")
    backend = choose_backend("auto", CUDA)
    assert backend.name == "torch"
    assert "CC is '/opt/none/cc', which is no program here" in backend.reason
    with pytest.raises(UserError, match="needs a C compiler and CC is '/opt/none/cc'"):
        choose_backend("triton", CUDA)
    choose_backend.cache_clear()
    pretend_programs(monkeypatch, "/opt/none/cc")
    assert choose_backend("auto", CUDA).name == "triton"


@pytest.mark.usefixtures("gpu")
def test_clang_will_do_and_the_interpreter_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_programs(monkeypatch, "clang")
    assert choose_backend("auto", CUDA).name == "triton"
    choose_backend.cache_clear()
    pretend_programs(monkeypatch)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert choose_backend("triton", CUDA).name == "triton"


def test_triton_on_the_cpu_needs_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_triton(monkeypatch, installed=True)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert "interpreter" in choose_backend("triton", CPU).reason
    choose_backend.cache_clear()
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    with pytest.raises(UserError, match="backend is 'triton', but the data are on cpu"):
        choose_backend("triton", CPU)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match="backend is 'cuda'; must be 'auto', 'triton' or 'torch'"):
        choose_backend("cuda", CPU)  # type: ignore[arg-type]
