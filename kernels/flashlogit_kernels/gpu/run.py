"""Plans of passes: over rows in one kernel or, where a row does not fit the registers, two, then the second stage."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..contract import SCALARS, RowPass, RowValues
from . import _bce, _columns, _hessian
from .arguments import (
    data_arguments,
    has_clusters,
    launch_options,
    on_device,
    row_arguments,
    row_repeats,
    value_arguments,
)
from .launch import (
    REDUCE,
    REDUCE_BLOCK_D,
    TILES_A_PROGRAM,
    WIDE,
    WIDE_BLOCK_D,
    KernelName,
    LaunchConfig,
    block_width,
    cluster_config,
    fits_registers,
    fitted,
    grid_size,
    has_tf32,
    launch_config,
    piece_widths,
    pipeline_stages,
    row_group,
    with_room,
)
from .plan import Launch, Plan
from .resources import Arguments, Build, Resources, are_fitted, device_limits, loaded, settle, stand_in

_NARROWEST = 16
"""Smallest numbers of rows and of columns that tl.dot multiplies."""
_WIDEST_IEEE = 64
"""Columns up to which a product of tiles is taken in float32; above it is three TF32 products, which are as accurate.
After an H100's times with a kernel of the same structure: 11 M x 28 and 2 M x 62 the one way, 4 M x 128 the other."""


def pass_plan(
    row_pass: RowPass,
    values: RowValues,
    launch: LaunchConfig | None = None,
    *,
    border: bool = False,
    guard: Tensor | None = None,
) -> Plan:
    """Return the plan whose runs give the packed sums of a pass, [D + 5] or with `border` [2 D + 6], and the wanted
    values.

    Runs take a guard if one is given here; rows too wide for the registers are read whatever it says.
    """
    X, D = row_pass.X, row_pass.X.shape[1]

    def build(config: LaunchConfig) -> dict[str, Any]:
        width, rest = piece_widths(D, config)
        group, run = row_group(width, config, X, chosen_rows=row_pass.rows is not None)
        return {
            **row_arguments(row_pass, config, repeat=row_repeats(row_pass, config)),
            **value_arguments(values),
            "BLOCK_D": width,
            "REST_D": rest,
            "GROUP": group,
            "GROUP_RUN": run,
            "GROUP_REST": row_group(rest, config, X)[0],
            "STAGES": pipeline_stages(config, X),
            "GUARD": guard,
            "BORDER": border,
        }

    width = 2 * D + 6 if border else D + SCALARS
    with on_device(X):
        config = _of_one_read(row_pass, launch, border=border)
        if config is None:
            return Plan(
                row_pass, _wide_launches(row_pass, values, launch, border), width=width, values=values, guard=guard
            )
        partials = {"GRADIENTS": (2 * D + 1 if border else D, row_pass.compute), "TOTALS": (SCALARS, torch.float64)}
        first, made = _arranged(_bce.onepass_kernel, row_pass, config, build, partials, given=launch is not None)
        return Plan(row_pass, [first, reduction(*made, columns=D)], width=width, values=values, guard=guard)


def rows_plan(row_pass: RowPass, values: RowValues, launch: LaunchConfig | None = None) -> Plan:
    """Return the plan whose runs only write the wanted values, of rows of any width; there is no second stage."""
    with on_device(row_pass.X):
        return Plan(row_pass, [_rows_launch(row_pass, values, launch)[0]], width=0, values=values)


def columns_plan(row_pass: RowPass) -> Plan:
    """Return the plan whose runs give (X - center)^T v for the rows' numbers v at the front, [D] or longer."""
    X, D = row_pass.X, row_pass.X.shape[1]
    if _of_one_read(row_pass) is not None:
        return pass_plan(row_pass, RowValues())
    with on_device(X):
        first, sums = _columns_launch(row_pass, row_pass.sample_weight, None)
        return Plan(row_pass, [first, reduction(sums)], width=D)


def hessian_plan(row_pass: RowPass, launch: LaunchConfig | None = None) -> Plan:
    """Return the plan whose runs give [2 D + 6 + D D], for float32 arithmetic: the packed sums with their border, then
    X^T diag(h) X row by row, h = s dr/dz."""
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

    partials = {"PARTIALS": (D * D + 2 * D + 1, row_pass.compute), "TOTALS": (SCALARS, torch.float64)}
    with on_device(X):
        config, kernel, given = launch or _from_table("hessian", row_pass), _hessian.hessian_kernel, launch is not None
        first, made = _arranged(kernel, row_pass, config, build, partials, given=given, least_rows=_NARROWEST)
        return Plan(row_pass, [first, reduction(*made, columns=D)], width=D * D + 2 * D + 6)


def reduction(partials: Tensor, totals: Tensor | None = None, *, columns: int | None = None) -> Launch:
    """Return the second stage: sum partials [P, W] in float64, and totals [T, 5] if given; P and T may differ.

    It writes `OUT` [W] float64, or with totals [W + 5], which follow the first `columns` sums, by default all of them.
    """
    count, width = partials.shape
    arguments = {
        "PARTIALS": partials,
        "TOTALS": totals,
        "OUT": stand_in(torch.float64, partials.device),
        "D": width if columns is None else columns,
        "WIDTH": width,
        "BLOCK_P": REDUCE.block_n,
        "BLOCK_D": REDUCE_BLOCK_D,
        "partial_count": count,
        "total_count": 0 if totals is None else totals.shape[0],
        **launch_options(REDUCE),
    }
    blocks = -(-width // REDUCE_BLOCK_D)
    return Launch(_columns.reduce_kernel, (blocks + (totals is not None),), arguments, changing=("OUT",))


def _wide_launches(
    row_pass: RowPass, values: RowValues, launch: LaunchConfig | None, border: bool
) -> list[Callable[[Mapping[str, Tensor]], None]]:
    """Return what a pass launches over rows that do not fit the registers, which it reads twice, with a border three
    times."""
    D = row_pass.X.shape[1]
    missing = row_pass.empty(residual=values.residual is None, curvature=border and values.curvature is None)
    values = dataclasses.replace(values, **{name: v for name, v in vars(missing).items() if v is not None})
    rows, totals = _rows_launch(row_pass, values, launch)
    columns, sums = _columns_launch(row_pass, values.residual, launch)
    second_stage = reduction(sums, totals, columns=D)
    if not border:
        return [rows, columns, second_stage]
    h = values.curvature
    assert h is not None
    h_columns, h_partials = _columns_launch(row_pass, h, launch)
    h_second_stage = reduction(h_partials)

    def h_sums(changed: Mapping[str, Tensor]) -> None:
        out = changed["OUT"][D + SCALARS :]
        h_second_stage({"OUT": out})
        torch.sum(h, dim=0, keepdim=True, dtype=torch.float64, out=out[D:])

    return [rows, columns, second_stage, h_columns, h_sums]


def _rows_launch(row_pass: RowPass, values: RowValues, launch: LaunchConfig | None) -> tuple[Launch, Tensor]:
    """Return what writes the wanted values, and where it writes the programs' totals [programs, 5]."""

    def build(config: LaunchConfig) -> dict[str, Any]:
        width = min(block_width(row_pass.X.shape[1]), WIDE_BLOCK_D)
        return {**row_arguments(row_pass, config), **value_arguments(values), "BLOCK_D": width}

    partials = {"TOTALS": (SCALARS, torch.float64)}
    first, made = _arranged(_bce.rows_kernel, row_pass, launch or WIDE, build, partials, given=launch is not None)
    return first, made[0]


def _columns_launch(row_pass: RowPass, v: Tensor | None, launch: LaunchConfig | None) -> tuple[Launch, Tensor]:
    """Return what sums (X - center)^T v over each program's own row tiles, and where: [programs, D] in the
    arithmetic's dtype."""
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

    kernel, partials, blocks = _columns.column_sums_kernel, {"SUMS": (D, row_pass.compute)}, -(-D // width)
    given = launch is not None
    first, made = _arranged(kernel, row_pass, launch or WIDE, build, partials, given=given, column_blocks=blocks)
    return first, made[0]


def _arranged(
    kernel: Any,
    row_pass: RowPass,
    config: LaunchConfig,
    build: Build,
    widths: Mapping[str, tuple[int, torch.dtype]],
    *,
    given: bool,
    column_blocks: int = 1,
    least_rows: int = 1,
) -> tuple[Launch, list[Tensor]]:
    """Return a launch of the kernel, and what it writes for each program, [programs, width] each.

    A configuration that was given by the caller is taken as it is; another one is fitted to the device.
    """
    X, found = row_pass.X, None
    placeholders = {name: stand_in(dtype, X.device) for name, (_, dtype) in widths.items()}

    def load(arguments: Arguments) -> Resources:
        return loaded(kernel, X.device, {**arguments, **placeholders})

    if given or not are_fitted(X.device):
        arguments = build(config)
    else:
        config, arguments, found = settle(config, build, load, device_limits(X.device), least_rows=least_rows)
    tiles, resident = grid_size(row_pass.n, config, X.device)
    programs = max(1, resident // column_blocks, -(-tiles // TILES_A_PROGRAM))
    made = {name: X.new_empty((programs, width), dtype=dtype) for name, (width, dtype) in widths.items()}
    arguments = {**arguments, **made, "tiles": tiles, "programs": programs}
    changing = [name for name in ("WEIGHT", "BIAS", "GUARD") if arguments.get(name) is not None]
    return Launch(kernel, (programs, column_blocks), arguments, changing=changing, found=found), list(made.values())


def _of_one_read(row_pass: RowPass, launch: LaunchConfig | None = None, *, border: bool = False) -> LaunchConfig | None:
    """Return the launch by which rows stay in registers, of a multiprocessor or a cluster; None for two reads.

    At 32,768 columns two multiprocessors spilled 112 bytes a thread with a border.
    """
    (_, D), compute, centred = row_pass.X.shape, row_pass.compute, row_pass.center is not None
    if fits_registers(D, compute, centred=centred, border=border):
        return launch or _from_table("onepass", row_pass, border=border)
    device = row_pass.X.device
    config = launch or (cluster_config(D, row_pass.X.dtype, compute, device) if has_clusters(device) else None)
    if config is None or not fits_registers(D, compute, centred=centred, border=border, num_ctas=config.num_ctas):
        return None
    return config


def _from_table(kernel: KernelName, row_pass: RowPass, *, border: bool = False) -> LaunchConfig:
    X, D = row_pass.X, row_pass.X.shape[1]
    config = fitted(launch_config(kernel, D, X.dtype, row_pass.compute, X.device), row_pass.n, X.device)
    if kernel == "hessian":
        return config
    return with_room(config, D, row_pass.compute, centred=row_pass.center is not None, border=border)


def _precision(width: int, device: torch.device) -> str:
    """Return how float32 tiles are multiplied."""
    return "ieee" if width <= _WIDEST_IEEE or not has_tf32(device) else "tf32x3"
