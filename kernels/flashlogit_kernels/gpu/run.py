"""Launches: a pass over rows in one kernel or, where a row does not fit the registers, two, then the second stage."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from ..contract import SCALARS, BCESums, RowPass, RowValues
from ..gram import bordered
from . import _bce, _columns, _hessian
from .arguments import data_arguments, has_clusters, launch_options, on_device, row_arguments, value_arguments
from .launch import (
    REDUCE,
    REDUCE_BLOCK_D,
    TILES_A_PROGRAM,
    WIDE,
    WIDE_BLOCK_D,
    KernelName,
    LaunchConfig,
    beside_center,
    block_width,
    cluster_config,
    fits_registers,
    fitted,
    grid_size,
    launch_config,
    piece_widths,
    pipeline_stages,
    row_group,
)
from .resources import Build, are_fitted, device_limits, loaded, settle

_NARROWEST = 16
"""Smallest number of columns that tl.dot multiplies."""
_WIDEST_IEEE = 64
"""Columns up to which a product of tiles is taken in float32; above it is three TF32 products, which are as accurate.
After an H100's times with a kernel of the same structure: 11 M x 28 and 2 M x 62 the one way, 4 M x 128 the other."""


def run_pass(row_pass: RowPass, values: RowValues, launch: LaunchConfig | None = None) -> Tensor:
    """Return the packed sums of a pass, [D + 5] float64, and write the wanted values."""
    X, D = row_pass.X, row_pass.X.shape[1]

    def build(config: LaunchConfig) -> dict[str, Any]:
        width, rest = piece_widths(D, config)
        group, run = row_group(width, config, X, chosen_rows=row_pass.rows is not None)
        return {
            **row_arguments(row_pass, config),
            **value_arguments(values),
            "BLOCK_D": width,
            "REST_D": rest,
            "GROUP": group,
            "GROUP_RUN": run,
            "GROUP_REST": row_group(rest, config, X)[0],
            "STAGES": pipeline_stages(config, X),
        }

    with on_device(X):
        config = _of_one_read(row_pass, launch)
        if config is not None:
            widths = {"GRADIENTS": (D, row_pass.compute), "TOTALS": (SCALARS, torch.float64)}
            grid, arguments, made = _arranged(
                _bce.onepass_kernel, row_pass, config, build, widths, given=launch is not None
            )
            _bce.onepass_kernel[grid](**arguments)
            return reduce_partials(*made)
        if values.residual is None:
            values = dataclasses.replace(values, residual=row_pass.empty(residual=True).residual)
        totals = _launch_rows(row_pass, values, launch)
        return reduce_partials(_launch_columns(row_pass, values.residual, launch), totals)


def run_rows(row_pass: RowPass, values: RowValues, launch: LaunchConfig | None = None) -> None:
    """Write the wanted values of rows of any width, without a second stage."""
    with on_device(row_pass.X):
        _launch_rows(row_pass, values, launch)


def run_columns(row_pass: RowPass) -> Tensor:
    """Return (X - center)^T v for the rows' numbers v, [D] float64."""
    if _of_one_read(row_pass, None) is not None:
        return BCESums(run_pass(row_pass, RowValues())).weight_grad
    with on_device(row_pass.X):
        return reduce_partials(_launch_columns(row_pass, row_pass.sample_weight, None))


def run_hessian(row_pass: RowPass, launch: LaunchConfig | None) -> tuple[Tensor, Tensor]:
    """Return the packed sums [D + 5] and the bordered Hessian [D + 1, D + 1], float64, for float32 arithmetic."""
    X, D = row_pass.X, row_pass.X.shape[1]
    width = max(_NARROWEST, block_width(D))

    def build(config: LaunchConfig) -> dict[str, Any]:
        group, run = row_group(width, config, X, chosen_rows=row_pass.rows is not None)
        return {
            **row_arguments(row_pass, config),
            "BLOCK_D": width,
            "GROUP": group,
            "GROUP_RUN": run,
            "PRECISION": _precision(width, X.device),
            "STAGES": pipeline_stages(config, X),
        }

    parts = [D, D, 1, D * D]
    widths = {"PARTIALS": (sum(parts), row_pass.compute), "TOTALS": (SCALARS, torch.float64)}
    with on_device(X):
        config = launch or _from_table("hessian", row_pass)
        grid, arguments, made = _arranged(
            _hessian.hessian_kernel, row_pass, config, build, widths, given=launch is not None
        )
        _hessian.hessian_kernel[grid](**arguments)
        sums = reduce_partials(*made)
    gradient, border, corner, matrix, scalars = torch.split(sums, [*parts, SCALARS])
    return torch.cat([gradient, scalars]), bordered(matrix.view(D, D), border, corner)


def reduce_partials(partials: Tensor, totals: Tensor | None = None) -> Tensor:
    """The second stage: sum partials [P, D] in float64, and totals [T, 5] behind them if given; P and T may differ.

    Returns:
        [D] or [D + 5] float64.
    """
    count, D = partials.shape
    out = partials.new_empty(D + (SCALARS if totals is not None else 0), dtype=torch.float64)
    blocks = -(-D // REDUCE_BLOCK_D)
    arguments = {
        "PARTIALS": partials,
        "TOTALS": totals,
        "OUT": out,
        "D": D,
        "BLOCK_P": REDUCE.block_n,
        "BLOCK_D": REDUCE_BLOCK_D,
        **launch_options(REDUCE),
    }
    if are_fitted(partials.device):  # so that the time to compile it is counted
        loaded(_columns.reduce_kernel, partials.device, arguments, {})
    _columns.reduce_kernel[(blocks + (totals is not None),)](
        **arguments, partial_count=count, total_count=0 if totals is None else totals.shape[0]
    )
    return out


def _launch_rows(row_pass: RowPass, values: RowValues, launch: LaunchConfig | None) -> Tensor:
    """Write the wanted values; the programs' totals [programs, 5]."""

    def build(config: LaunchConfig) -> dict[str, Any]:
        width = min(block_width(row_pass.X.shape[1]), WIDE_BLOCK_D)
        return {**row_arguments(row_pass, config), **value_arguments(values), "BLOCK_D": width}

    kernel, widths = _bce.rows_kernel, {"TOTALS": (SCALARS, torch.float64)}
    grid, arguments, made = _arranged(kernel, row_pass, launch or WIDE, build, widths, given=launch is not None)
    kernel[grid](**arguments)
    return made[0]


def _launch_columns(row_pass: RowPass, v: Tensor | None, launch: LaunchConfig | None) -> Tensor:
    """Return (X - center)^T v over each program's own row tiles, [programs, D] in the arithmetic's dtype."""
    D = row_pass.X.shape[1]
    width = min(block_width(D), WIDE_BLOCK_D)

    def build(config: LaunchConfig) -> dict[str, Any]:
        return {
            **data_arguments(row_pass),
            "V": v,
            "BLOCK_N": config.block_n,
            "BLOCK_D": width,
            **launch_options(config),
        }

    kernel, widths = _columns.column_sums_kernel, {"SUMS": (D, row_pass.compute)}
    given, blocks = launch is not None, -(-D // width)
    grid, arguments, made = _arranged(
        kernel, row_pass, launch or WIDE, build, widths, given=given, column_blocks=blocks
    )
    kernel[grid](**arguments)
    return made[0]


def _arranged(
    kernel: Any,
    row_pass: RowPass,
    config: LaunchConfig,
    build: Build,
    widths: dict[str, tuple[int, torch.dtype]],
    *,
    given: bool,
    column_blocks: int = 1,
) -> tuple[tuple[int, int], dict[str, Any], list[Tensor]]:
    """Return the grid and the arguments of a launch, and what the kernel writes for each program, [programs, width]
    each.

    A configuration that was given by the caller is taken as it is; another one is fitted to the device.
    """
    device = row_pass.X.device
    if not given and are_fitted(device):
        outputs = {name: dtype for name, (_, dtype) in widths.items()}
        config, arguments = settle(
            config, build, lambda arguments: loaded(kernel, device, arguments, outputs), device_limits(device)
        )
    else:
        arguments = build(config)
    tiles, resident = grid_size(row_pass.n, config, device)
    programs = max(1, resident // column_blocks, -(-tiles // TILES_A_PROGRAM))
    made = {name: row_pass.X.new_empty((programs, width), dtype=dtype) for name, (width, dtype) in widths.items()}
    return (programs, column_blocks), {**arguments, **made, "tiles": tiles, "programs": programs}, list(made.values())


def _of_one_read(row_pass: RowPass, launch: LaunchConfig | None) -> LaunchConfig | None:
    """Return the launch by which rows stay in registers, of a multiprocessor or a cluster; None for two reads."""
    (_, D), compute, centred = row_pass.X.shape, row_pass.compute, row_pass.center is not None
    if fits_registers(D, compute, centred=centred):
        return launch or _from_table("onepass", row_pass)
    device = row_pass.X.device
    config = launch or (cluster_config(D, row_pass.X.dtype, compute, device) if has_clusters(device) else None)
    fits = config is not None and fits_registers(D, compute, centred=centred, num_ctas=config.num_ctas)
    return config if fits else None


def _from_table(kernel: KernelName, row_pass: RowPass) -> LaunchConfig:
    X, D = row_pass.X, row_pass.X.shape[1]
    config = fitted(launch_config(kernel, D, X.dtype, row_pass.compute, X.device), row_pass.n, X.device)
    centred = kernel == "onepass" and row_pass.center is not None
    return beside_center(config, D, row_pass.compute) if centred else config


def _precision(width: int, device: torch.device) -> str:
    """Return how float32 tiles are multiplied: TF32 needs NVIDIA's units from compute capability 8.0 on."""
    if width <= _WIDEST_IEEE:
        return "ieee"
    if device.type == "cuda" and (torch.version.hip or torch.cuda.get_device_capability(device) < (8, 0)):
        return "ieee"
    return "tf32x3"
