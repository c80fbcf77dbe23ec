"""What the passes refuse, in both implementations alike, and how they say it."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch

from flashlogit_kernels.contract import HESSIAN_COLUMNS, Clamp
from flashlogit_kernels.gpu.launch import (
    TILES_A_PROGRAM,
    KernelName,
    LaunchConfig,
    block_width,
    fitted,
    grid_size,
    launch_config,
    piece_widths,
)

GOOD: dict[str, Any] = {
    "X": torch.ones(4, 3),
    "y": torch.ones(4),
    "weight": torch.ones(3),
    "bias": torch.ones(1),
}
BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"X": torch.ones(4)}, ValueError, r"X is \[4\]; must be \[rows, columns\]"),
    ({"X": torch.ones(4, 0)}, ValueError, "at least one column"),
    ({"X": torch.ones(4, 3, dtype=torch.int64)}, TypeError, r"X is torch.int64; must be .* X\.float\(\)"),
    ({"X": torch.ones(0, 3), "y": torch.ones(0)}, ValueError, "there are no rows"),
    ({"rows": torch.ones(0, dtype=torch.int64)}, ValueError, "there are no rows"),
    ({"y": torch.ones(5)}, ValueError, "y has 5 entries; must have 4"),
    ({"y": torch.ones(4, 1)}, ValueError, r"y is \[4, 1\]; .*y\.reshape\(-1\)"),
    ({"y": torch.ones(4, dtype=torch.complex64)}, TypeError, "y is torch.complex64; must be a real dtype"),
    ({"weight": torch.ones(4)}, ValueError, "weight has 4 entries; must have 3"),
    ({"weight": torch.ones(1, 3)}, ValueError, r"weight is \[1, 3\]"),
    ({"bias": torch.ones(2)}, ValueError, r"bias is \[2\]; must hold one number"),
    ({"pos_weight": torch.ones(2)}, ValueError, r"pos_weight is \[2\]; must hold one number"),
    ({"sample_weight": torch.ones(3)}, ValueError, "sample_weight has 3 entries; must have 4"),
    ({"rows": torch.ones(2)}, TypeError, "rows is torch.float32; must be int64 or int32"),
    ({"rows": torch.ones(2, 2, dtype=torch.int64)}, ValueError, r"rows is \[2, 2\]"),
    ({"eps": 0.5}, ValueError, r"eps is 0\.5; must be at least 0 and less than 0\.5"),
    ({"eps": -1e-9}, ValueError, "eps is -1e-09"),
    ({"eps": float("nan")}, ValueError, "eps is nan"),
    ({"clamp_gradient": "none"}, ValueError, "clamp_gradient is 'none'; must be 'through' or 'exact'"),
    ({"compute_dtype": torch.float16}, TypeError, "compute_dtype is torch.float16; must be"),
    (
        {"y": torch.ones(4, device="meta")},
        ValueError,
        r"y is on meta and X on cpu; move it with y\.to\(X\.device\)",
    ),
]


@pytest.mark.parametrize("function", ["bce_onepass", "bce_rows"])
@pytest.mark.parametrize(("change", "error", "message"), BAD)
def test_refused(
    change: dict[str, Any], error: type[Exception], message: str, function: str, passes: ModuleType
) -> None:
    with pytest.raises(error, match=message):
        getattr(passes, function)(**{**GOOD, **change})


def test_column_sums_refuses_complex_numbers(passes: ModuleType) -> None:
    with pytest.raises(TypeError, match=r"v is torch\.complex64"):
        passes.column_sums(torch.ones(4, 3), torch.ones(4, dtype=torch.complex64))


def test_column_sums_refuses_another_length(passes: ModuleType) -> None:
    with pytest.raises(ValueError, match="v has 5 entries; must have 4"):
        passes.column_sums(torch.ones(4, 3), torch.ones(5))


def test_the_clamps_numbers() -> None:
    clamp = Clamp(1e-8, "through")
    assert clamp.bound == pytest.approx(18.420680733952367, rel=1e-15)
    assert clamp.tail == pytest.approx(1.00000001e-08, rel=1e-15)
    assert Clamp(0, "exact").bound == float("inf")
    assert not Clamp(0, "exact").zeroes_gradient
    assert Clamp(1e-3, "exact").zeroes_gradient


CPU = torch.device("cpu")


@pytest.mark.parametrize("compute", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("kernel", ["onepass", "hessian_product"])
def test_every_width_that_fits_has_a_configuration(kernel: KernelName, compute: torch.dtype) -> None:
    widest = 16384 if compute == torch.float32 else 8192
    for D in [1, 2, 3, 5, 8, 16, 33, 65, 129, 257, 513, 1025, 2049, 4097, widest - 1, widest]:
        for storage in (torch.float32, torch.bfloat16):
            config = launch_config(kernel, D, storage, compute, CPU)
            assert config.block_n & (config.block_n - 1) == 0
            width, rest = piece_widths(D, config)
            assert width < D <= width + rest if rest else width == block_width(D)


def test_every_hessian_has_a_configuration() -> None:
    for D in range(1, HESSIAN_COLUMNS + 1):
        for storage in (torch.float32, torch.float16):
            assert launch_config("hessian", D, storage, torch.float32, CPU).block_n >= 16
    with pytest.raises(
        ValueError, match="129 columns in float32 arithmetic are more than the launch table lists"
    ):
        launch_config("hessian", 129, torch.float32, torch.float32, CPU)


def test_few_rows_take_few_programs() -> None:
    assert grid_size(1, LaunchConfig(8, 4, 4), CPU) == (1, 1)
    assert grid_size(17, LaunchConfig(8, 4, 4), CPU) == (3, 3)
    assert grid_size(1000, LaunchConfig(8, 4, 4), CPU) == (125, 8)


def test_a_small_problem_is_spread_over_the_multiprocessors() -> None:
    config = LaunchConfig(512, 4, 2)
    for n, block_n in ((100, 128), (256, 128), (257, 256), (512, 256), (513, 512), (10**6, 512)):
        assert fitted(config, n, CPU).block_n == block_n
    assert fitted(LaunchConfig(8, 1, 8), 3, CPU).block_n == 8


def test_no_program_walks_too_many_tiles() -> None:
    tiles, programs = grid_size(10**6, LaunchConfig(8, 4, 4), CPU)
    assert tiles == 125_000
    assert programs % 8 == 0
    assert tiles / programs <= TILES_A_PROGRAM < tiles / (programs - 8)
