"""The kernels compiled for an H100: they do compile, their tiles fit the registers, and loads are wide."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

triton = pytest.importorskip("triton")

Call = dict[str, Any]
SPILL_WITH_EVERYTHING = 64
"""Bytes a thread that a call with every option may spill; a plain call spills nothing."""


def call(function: str, D: int, storage: str = "float32", compute: str = "float32", **more: Any) -> Call:
    N = 8192 if D <= 1024 else 160
    return {"function": function, "D": D, "storage": storage, "compute": compute, "N": N} | more


TABLE = [
    *(call("bce_onepass", D) for D in (1, 28, 300)),
    call("bce_onepass", 50, "bfloat16", padded=True),
    call("bce_onepass", 2000, "bfloat16", "float64"),
    call("bce_onepass", 28, column_major=True),
    call("hessian_product", 300, "bfloat16"),
]
"""Launches of the one-pass kernel from the table, at listed column counts and between them."""
FLOAT64 = {1: 3.8, 4: 1.4, 28: 0.75, 100: 0.75, 1024: 0.75, 8192: 0.75}
"""Columns, and the most time that float64 passes over float32 rows take, in that of reading them.

A row's own numbers take 120 instructions, 53 of them float64, which is more than the time to read a few columns.
"""
BORDERS = [call("bce_onepass", D, "float32", "float64", border=D <= 4096) for D in FLOAT64]
OTHER_BORDERS = [call("bce_onepass", 100, "bfloat16", "float64", border=True)]
HESSIANS = [call("bce_hessian", D) for D in (28, 128)]
STEPS = [
    *(call("step", D, method="newton") for D in (30, 64)),
    *(call("step", D, method="lbfgs") for D in (30, 1024, 16_383)),
]
"""What happens between two passes, with as many warps as there are kinds of launches."""
MODELS_STEPS = [call("models_step", D, C=C) for D, C in ((28, 1), (28, 10), (2048, 1))]
SPILL_BESIDE_DIVISIONS = 32
"""Bytes a thread of a step may spill where it calls the routine for a float64 division."""
OTHERS = [
    call("bce_onepass", 28, "bfloat16", column_major=True, everything=True, center=True, N=1),
    call("bce_onepass", 20000, everything=True, center=True),
    call("bce_hessian", 28, "bfloat16", everything=True, center=True),
    call("bce_onepass", 8192, center=True),
    call("column_sums", 28, "float64", "float64"),
    call("bce_onepass", 28, "float32", "float64", eps=0.1),
]
"""What else is launched: every option, rows too wide for the registers, float64. `scripts/benchmark.py device`
compiles the rest of the table."""

MEASURES = [
    call("label_sums", 1),
    call("label_sums", 1, "float64", everything=True),
    call("column_moments", 28, everything=True),
    call("column_moments", 300, "bfloat16", column_major=True),
]
"""What a fit asks of its data before its first pass."""


CLUSTERS = [
    *(call("bce_onepass", D, launch=[1, 16, 1, 1, 0, ctas]) for D, ctas in ((20_000, 2), (131_072, 8))),
    call("bce_onepass", 65_536, "bfloat16", launch=[1, 16, 1, 1, 0, 4]),
    call("bce_onepass", 16_384, compute="float64", launch=[1, 8, 1, 1, 0, 2]),
]
"""Rows that the registers of 2, 4 or 8 multiprocessors hold, which Triton compiles from 3.9 on."""
if tuple(map(int, triton.__version__.split(".")[:2])) < (3, 9):
    CLUSTERS = []


TINY = [call("fit_tiny", 10, "float64"), call("fit_tiny", 31, everything=True), call("fit_tiny", 63)]
TINY += [call("mean_optimum", 31), *(call("fit_tiny", D, unpenalised=True) for D in (10, 31, 63))]


MODELS = [
    call("models_onepass", 28, K=100),
    call("models_onepass", 64, "bfloat16", K=100),
    call("models_onepass", 28, K=5, C=10),
    call("models_onepass", 28, K=5),
    *(call("models_onepass", D, compute="float64", K=100, along=along) for D in (28, 64) for along in (False, True)),
    call("models_onepass", 300, "bfloat16", K=100),
]
"""Many models, 16 or 32 columns of W a program, and what is launched between the products of wider rows."""
SPILL_BESIDE_TILES = 96
"""Bytes a thread of these that may be spilled outside the loop over tiles, such as addresses of the gradient."""


OTHER_GPUS = [
    call(function, D, *dtypes, target=target, **more)
    for target, rows in ((86, 16), (100, 32))
    for function, D, dtypes, more in (
        ("bce_onepass", 1024, ("bfloat16",), {}),
        ("bce_hessian", 128, (), {"launch": [rows, 8, 1]}),  # as `resources.settle` finds it
        ("step", 30, (), {"method": "newton"}),
        ("fit_tiny", 30, (), {}),
    )
]
"""By compute capability: workstations' GPUs of 2020 (8.6), and servers' of 2024 (10.0)."""


def describe(call: Call) -> str:
    return "-".join(f"{key}={value}" if value is True else str(value) for key, value in call.items())


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """What was compiled for each call, in as many processes as there are cores."""
    calls = (
        TABLE
        + BORDERS
        + OTHER_BORDERS
        + HESSIANS
        + STEPS
        + OTHERS
        + MEASURES
        + CLUSTERS
        + TINY
        + MODELS
        + OTHER_GPUS
        + MODELS_STEPS
    )
    shares = [calls[k :: os.cpu_count() or 1] for k in range(os.cpu_count() or 1)]
    with ThreadPoolExecutor() as pool:
        found = pool.map(lambda share: compiled(share, tmp_path_factory.mktemp("triton")), shares)
        return {name: report for reports in found for name, report in reports.items()}


def compiled(calls: list[Call], cache: Path) -> dict[str, list[dict[str, Any]]]:
    """The same for some calls, in a process of their own: outside the interpreter."""
    program = [sys.executable, Path(__file__).with_name("gpu_target.py")]
    env = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(cache)}
    result = subprocess.run(program, input="\n".join(map(json.dumps, calls)), env=env, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    return {describe(call): reports for call, reports in zip(calls, lines, strict=True)}


@pytest.mark.parametrize("call", TINY, ids=describe)
def test_a_tiny_fit_fits_the_registers(call, reports):
    """With 31 and 63 columns some addresses are spilled, which are read once for each Hessian, outside all loops over
    rows."""
    (kernel,) = reports[describe(call)]
    assert kernel["kernel"] == ("mean_kernel" if call["function"] == "mean_optimum" else "tiny_kernel")
    assert kernel["spilled"] <= (0 if call["D"] < 31 else 24)


@pytest.mark.parametrize("call", TABLE + BORDERS + OTHER_BORDERS + HESSIANS, ids=describe)
def test_the_tables_tiles_fit_the_registers(call, reports):
    kernel, second_stage = reports[describe(call)]
    assert kernel["kernel"] == ("hessian_kernel" if call in HESSIANS else "onepass_kernel")
    assert second_stage["kernel"] == "reduce_kernel"
    assert kernel["spilled"] == second_stage["spilled"] == 0


@pytest.mark.parametrize("call", MODELS, ids=describe)
def test_many_models_fit_the_registers(call, reports):
    (kernel,) = reports[describe(call)]
    assert kernel["kernel"] == ("models_kernel" if call["D"] <= 256 else "logits_kernel")
    assert kernel["fits"]
    assert kernel["spilled"] <= SPILL_BESIDE_TILES
    assert kernel["programs"] * kernel["num_warps"] >= 8


BYTES_A_CYCLE = 13.2
"""What a multiprocessor of an H100 reads: 3.06 TB/s over 132 of them at 1.755 GHz."""


@pytest.mark.parametrize("call", BORDERS, ids=describe)
def test_instructions_in_float64_take_less_time_than_reading(call, reports):
    """A multiprocessor issues four instructions a cycle, half as many of float64, and moves one between threads."""
    kernel = reports[describe(call)][0]
    ((instructions, float64, moves),) = kernel["issued"]
    assert float64 > 50  # the loop over tiles was found
    reading = kernel["block_n"] * (4 * call["D"] + 1) / BYTES_A_CYCLE
    issue, shuffle = kernel["num_warps"] * (instructions + float64) / 4, kernel["num_warps"] * moves
    assert issue / reading <= FLOAT64[call["D"]]
    assert shuffle / reading <= 0.6


@pytest.mark.parametrize("call", CLUSTERS, ids=describe)
def test_wide_rows_fit_the_registers_of_a_cluster(call, reports):
    """Its sums are of all its threads, so that the blocks wait for each other before and after they tell their own."""
    kernel, second_stage = reports[describe(call)]
    assert (kernel["kernel"], second_stage["kernel"]) == ("onepass_kernel", "reduce_kernel")
    assert (kernel["spilled"], kernel["widest_load"]) == (0, 16)
    assert kernel["cluster_barriers"] >= 3
    assert second_stage["cluster_barriers"] == 0


BYTES = {"float64": 8, "float32": 4, "bfloat16": 2}
ALIGNED = [call for call in TABLE if call.get("padded") or call["D"] * BYTES[call["storage"]] % 16 == 0]


@pytest.mark.parametrize("call", ALIGNED, ids=describe)
def test_rows_of_whole_16_bytes_are_loaded_16_bytes_at_once(call, reports):
    assert reports[describe(call)][0]["widest_load"] == 16


@pytest.mark.parametrize("call", OTHER_GPUS, ids=describe)
def test_other_gpus_have_room(call, reports):
    """All tiles of the table were compiled for them once, with up to 72 bytes spilled a thread."""
    for kernel in reports[describe(call)]:
        assert kernel["fits"]
        assert kernel["spilled"] <= SPILL_WITH_EVERYTHING
        assert kernel["programs"] * kernel["num_warps"] >= 4


def test_the_clamp_is_exact_in_float64(reports):
    """Triton 3.6 rounded the bound and its tail to float32, which moved the loss of a clamped row by 5e-8 of it."""
    kernel = reports[describe(call("bce_onepass", 28, "float32", "float64", eps=0.1))][0]
    constants = [float(text) for text in kernel["float64"] if not text.startswith("0x")]
    assert any(math.isclose(value, math.log(9), rel_tol=1e-15) for value in constants)
    assert any(math.isclose(value, 1 / 9, rel_tol=1e-15) for value in constants)


def test_counts_that_change_compile_nothing_anew(reports):
    """N does, except for tiny fits, of which there may be many sizes: a column of X is loaded in wider pieces where the
    next one begins at a multiple of 16 numbers."""
    launched = [
        report for call, found in reports.items() if not call.startswith(("step", "models_step")) for report in found
    ]
    names = ("onepass", "rows", "column_sums", "hessian", "reduce", "label_sums", "column_moments", "tiny", "mean")
    names += ("models", "logits")
    assert {report["kernel"] for report in launched} == {f"{name}_kernel" for name in names}
    for report in launched:
        assert not {"tiles", "programs", "columns", "partial_count", "total_count"}.intersection(report["specialised"])
        assert "N" in report["specialised"] or report["kernel"] in ("reduce_kernel", "tiny_kernel", "mean_kernel")


@pytest.mark.parametrize("call", STEPS, ids=describe)
def test_a_step_fits_the_registers(call, reports):
    """It has tiles of pairs or of a matrix in registers, and its loads of them are wide."""
    found = reports[describe(call)]
    assert [each["kernel"] for each in found] == ["step_kernel", "newton_hessian_kernel"][: len(found)]
    assert (len(found) == 2) == (call["method"] == "newton")
    assert max(each["spilled"] for each in found) <= SPILL_BESIDE_DIVISIONS
    assert found[0]["widest_load"] == 16


@pytest.mark.parametrize("call", MODELS_STEPS, ids=describe)
def test_a_step_of_many_models_fits_the_registers(call, reports):
    """Tiles of 2,048 numbers leave 128 registers a thread."""
    judge, try_ = reports[describe(call)]
    assert (judge["kernel"], try_["kernel"]) == ("judge_kernel", "try_kernel")
    assert try_["spilled"] == 0
    assert judge["spilled"] <= (0 if call["D"] < 2048 else SPILL_WITH_EVERYTHING)


@pytest.mark.parametrize("call", OTHERS, ids=describe)
def test_every_other_path_compiles(call, reports):
    assert max(report["spilled"] for report in reports[describe(call)]) <= SPILL_WITH_EVERYTHING


@pytest.mark.parametrize("call", MEASURES, ids=describe)
def test_looks_at_the_data_fit_the_registers(call, reports):
    (kernel,) = reports[describe(call)]
    assert kernel["kernel"] == f"{call['function']}_kernel"
    assert kernel["spilled"] == 0
    # Of a sample, which may lie anywhere in a table whose rows are of any length, numbers are loaded one by one.
    assert kernel["widest_load"] == (8 if call.get("everything") and call["function"] == "column_moments" else 16)
