"""The kernels compiled for an H100: they do compile, their tiles fit the registers, and loads are wide."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("triton")

Call = dict[str, Any]
Report = dict[str, Any]
SPILL_WITH_EVERYTHING = 64
"""Bytes a thread that a call with every option may spill; a plain call spills nothing."""


def call(function: str, D: int, storage: str = "float32", compute: str = "float32", **more: Any) -> Call:
    return {"function": function, "D": D, "storage": storage, "compute": compute, "N": 160, **more}


TABLE = [
    *(call("bce_onepass", D) for D in (1, 28, 100, 784, 2000, 16384)),
    *(call("bce_onepass", D, "bfloat16") for D in (10, 28, 784, 16384)),
    *(call("bce_onepass", D, "bfloat16", "float64") for D in (28, 2000, 8192)),
    call("bce_onepass", 256, "float64", "float64"),
]
OTHERS = [
    call("bce_onepass", 28, everything=True),
    call("bce_onepass", 2000, "bfloat16", everything=True),
    call("bce_onepass", 28, N=1),
    call("bce_onepass", 28, column_major=True),
    call("bce_onepass", 20000, everything=True),
    call("bce_rows", 28, "float16"),
    call("column_sums", 28, "float64", "float64"),
]


def describe(call: Call) -> str:
    return "-".join(str(value) for value in call.values())


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Report]]:
    """What was compiled for each call. In one process, since Triton takes a second to import."""
    calls = TABLE + OTHERS
    result = subprocess.run(
        [sys.executable, Path(__file__).with_name("gpu_target.py")],
        input="\n".join(map(json.dumps, calls)),
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "TRITON_INTERPRET": "0",
            "TRITON_CACHE_DIR": str(tmp_path_factory.mktemp("triton")),
        },
    )
    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    return {describe(call): reports for call, reports in zip(calls, lines, strict=True)}


@pytest.mark.parametrize("call", TABLE, ids=describe)
def test_the_tables_tiles_fit_the_registers(call: Call, reports: dict[str, list[Report]]) -> None:
    kernel, second_stage = reports[describe(call)]
    assert kernel["kernel"] == "onepass_kernel"
    assert second_stage["kernel"] == "reduce_kernel"
    assert kernel["spilled"] == second_stage["spilled"] == 0


ROW_UNIT = {"float64": 2, "float32": 4, "bfloat16": 8}
"""Numbers in 16 bytes, which a thread can load at once."""


@pytest.mark.parametrize("call", [c for c in TABLE if c["D"] % ROW_UNIT[c["storage"]] == 0], ids=describe)
def test_rows_of_whole_16_bytes_are_loaded_16_bytes_at_once(
    call: Call, reports: dict[str, list[Report]]
) -> None:
    assert reports[describe(call)][0]["widest_load"] == 16


@pytest.mark.parametrize("call", OTHERS, ids=describe)
def test_every_other_path_compiles(call: Call, reports: dict[str, list[Report]]) -> None:
    launched = reports[describe(call)]
    assert launched
    assert all(report["spilled"] <= SPILL_WITH_EVERYTHING for report in launched)
