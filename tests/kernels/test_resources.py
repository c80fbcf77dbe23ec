"""Launches fitted to what a compiled kernel takes of a multiprocessor."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest import mock

import pytest
import torch

from flashlogit_kernels import compiling
from flashlogit_kernels.compiling import compile_seconds
from flashlogit_kernels.gpu import resources, run
from flashlogit_kernels.gpu.launch import LaunchConfig
from flashlogit_kernels.gpu.resources import DeviceLimits, Resources, resident_programs, settle

H100 = DeviceLimits(registers=65_536, warps=64, shared=233_472, shared_by_program=232_448)
RTX_4090 = DeviceLimits(registers=65_536, warps=48, shared=102_400, shared_by_program=101_376, programs=24)


@pytest.mark.parametrize(
    ("registers", "shared", "num_warps", "programs"),
    [
        (72, 8192, 8, 3),  # D = 1 as one version of the compiler has it
        (93, 8192, 8, 2),  # and as another
        (168, 0, 2, 6),
        (255, 131_072, 8, 1),  # the Hessian of 128 columns
        (32, 0, 4, 16),  # all warps
        (32, 57_344, 4, 4),  # 57,344 bytes and what is reserved: four times in 233,472
        (32, 57_400, 4, 3),  # and no longer
        (None, 57_344, 4, 4),  # a driver that does not tell registers
        (255, 232_448, 16, 1),  # never none
        (32, 0, 1, 32),  # programs of one warp are limited by their number
    ],
)
def test_programs_that_a_multiprocessor_of_an_h100_holds(registers, shared, num_warps, programs):
    assert resident_programs(Resources(registers, shared), num_warps, H100) == programs


@pytest.mark.parametrize(("asked", "given"), [(10, 8), (5, 5)])
def test_no_more_programs_than_fit_and_no_fewer_than_the_table_asks_for(asked, given):
    found = settle(LaunchConfig(256, 1, asked), lambda c: {"BLOCK_N": c.block_n}, lambda _: Resources(177, 0), H100)
    assert found == (LaunchConfig(256, 1, given), {"BLOCK_N": 256}, Resources(177, 0))


@pytest.mark.parametrize(
    ("takes", "least", "rows", "asked"),
    [
        ({64: (90_000, 0), 32: (240_000, 0)}, 1, 64, [64]),
        ({64: (240_000, 0), 32: (120_000, 32)}, 1, 32, [64, 32]),
        ({64: (0, 900), 32: (0, 180), 16: (0, 18)}, 1, 16, [64, 32, 16]),
        ({64: (0, 900), 32: (0, 180), 16: (0, 18)}, 32, 32, [64, 32]),  # no product has fewer
        ({64: (0, 900), 32: (0, 900)}, 1, 64, [64, 32]),  # which helps nothing
        ({64: (240_000, 0), 32: (0, 900), 16: (0, 950)}, 1, 32, [64, 32, 16]),
    ],
)
def test_tiles_are_halved_until_they_fit(takes, least, rows, asked):
    """The shared memory of a program, and then the registers of a thread."""
    seen: list[int] = []

    def load(arguments: Any) -> Resources:
        seen.append(arguments["BLOCK_N"])
        shared, spilled = takes[arguments["BLOCK_N"]]
        return Resources(255, shared, spilled)

    config, arguments, found = settle(
        LaunchConfig(64, 8, 1), lambda c: {"BLOCK_N": c.block_n}, load, H100, least_rows=least
    )
    assert (config.block_n, arguments["BLOCK_N"], seen) == (rows, rows, asked)
    assert (found.shared, found.spilled) == takes[rows]


def test_a_pass_is_launched_as_it_fits(kernels, monkeypatch):
    """With the interpreter's two multiprocessors taken for a GPU's, each of which holds two of the programs."""
    asked: list[int] = []
    kernel = mock.MagicMock()

    def launched_on() -> Any:
        return kernel.__getitem__.call_args.args[0]

    def load(kernel: Any, device: torch.device, arguments: Any) -> Resources:
        asked.append(arguments["BLOCK_N"])
        return Resources(255, 90_000 if arguments["BLOCK_N"] > 16 else 48_000)

    monkeypatch.setattr(run._bce, "onepass_kernel", kernel)
    monkeypatch.setattr(run, "reduction", lambda *partials, columns: lambda changed: None)
    monkeypatch.setattr(run, "loaded", load)
    small = DeviceLimits(registers=65_536, warps=64, shared=100_000, shared_by_program=65_536)
    monkeypatch.setattr(run, "device_limits", lambda device: small)
    X, y, w = torch.zeros(4096, 100), torch.zeros(4096), torch.zeros(100)
    config = LaunchConfig(64, 2, 9)
    for are_fitted in (False, True):  # but never the caller's own
        monkeypatch.setattr(run, "are_fitted", lambda device, are_fitted=are_fitted: are_fitted)
        kernels.bce_onepass(X, y, w, launch=config)
        assert (launched_on(), asked) == ((2 * 9, 1), [])
    monkeypatch.setattr(run, "launch_config", lambda *arguments: config)
    kernels.bce_onepass(X, y, w)
    assert (launched_on(), asked) == ((2 * 2, 1), [64, 32, 16])


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> mock.Mock:
    """What `loaded` asks of a jitted function, whose compiled kernel is loaded by asking for its property `run`."""
    monkeypatch.setattr(resources, "_loaded", {})
    monkeypatch.setattr(resources, "device_limits", lambda device: RTX_4090)
    kernel = mock.Mock(__name__="some_kernel", arg_names=("X", "N", "D", "OUT", "tiles", "programs"))
    compiled = kernel.warmup.return_value
    compiled.configure_mock(n_regs=40, n_spills=0, metadata=mock.Mock(shared=0))
    type(compiled).run = kernel.load = mock.PropertyMock()
    return kernel


CPU = torch.device("cpu")


def test_a_kernel_is_compiled_once_for_what_triton_tells_apart(kernel):
    X = torch.zeros(64)
    calls = [
        ({"X": X, "N": 32, "D": 4}, 1),
        ({"X": X[16:], "N": 4096, "D": 4}, 1),  # other rows, as many numbers of 16
        ({"X": X, "N": 33, "D": 4}, 2),
        ({"X": X[1:], "N": 33, "D": 4}, 3),  # another alignment
        ({"X": X.double(), "N": 33, "D": 4}, 4),
        ({"X": X, "N": 33, "D": 5}, 5),
        ({"X": None, "N": 33, "D": 5}, 6),
        ({"X": None, "N": 1, "D": 5}, 7),
        ({"X": None, "N": 1 << 31, "D": 5}, 8),
        ({"X": None, "N": 16, "D": 5}, 9),
        ({"X": X, "N": 32, "D": 4}, 9),
    ]
    for arguments, compilations in calls:
        found = resources.loaded(kernel, CPU, {**arguments, "OUT": torch.empty(0, dtype=torch.float64)})
        assert found == Resources(40, 0, 0)
        assert kernel.warmup.call_count == kernel.load.call_count == compilations
    first = kernel.warmup.call_args_list[0].kwargs
    assert first["OUT"].dtype == torch.float64
    assert (first["tiles"], first["programs"], first["grid"]) == (2, 2, (1,))
    assert len(resources.loaded_kernels()) == 9


def test_what_does_not_fit_is_not_loaded(kernel):
    kernel.warmup.return_value.metadata.shared = 131_072
    found = resources.loaded(kernel, CPU, {"X": None, "N": 3, "D": 5})
    assert found == Resources(None, 131_072, None)
    kernel.load.assert_not_called()


def test_compilation_is_timed(kernel, monkeypatch):
    before = compile_seconds()
    monkeypatch.setattr(compiling.time, "perf_counter", mock.Mock(side_effect=[100.0, 102.5]))
    for _ in range(2):
        resources.loaded(kernel, CPU, {"X": None, "N": 3, "D": 5})
    assert compile_seconds() - before == 2.5


def test_threads_compile_a_kernel_once_and_wait_for_it_each(kernel):
    """The second thread asks while the first one compiles; neither second is the calling thread's."""
    asked = threading.Event()

    def slow(**arguments: Any) -> Any:
        asked.wait(10)
        return mock.DEFAULT

    def work(first: bool) -> float:
        if not first:
            asked.set()
        resources.loaded(kernel, CPU, {"X": None, "N": 3, "D": 5})
        return compile_seconds()

    kernel.warmup.side_effect = slow
    before = compile_seconds()
    with ThreadPoolExecutor() as pool:
        waited = list(pool.map(work, (True, False)))
    kernel.warmup.assert_called_once()
    assert max(waited) > 0
    assert compile_seconds() == before
