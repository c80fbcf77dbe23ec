"""Which backend is chosen, and why."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from flashlogit import reference
from flashlogit.backend import Backend, choose_backend
from flashlogit.errors import UserError

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    choose_backend.cache_clear()
    yield
    choose_backend.cache_clear()


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that there is a recent GPU, and Triton."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    pretend_triton(monkeypatch, installed=True)


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
