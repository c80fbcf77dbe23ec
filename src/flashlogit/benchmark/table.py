"""A benchmark's results as text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from statistics import median

from .machine import name_of
from .report import Ceiling, Record, Report

WIDTH = 110
BUSY = 0.15
"""Median of the spreads above which a run is called disturbed; idle machines show 0.01 to 0.05."""

_PASS_TITLES = {
    "onepass": "loss and gradient",
    "hessian_product": "Hessian product",
    "hessian": "Hessian",
    "product": "one product",
    "two_products": "two products",
    "step": "one step",
}


def title_of(record: Record) -> str:
    """The pass and the contender, and the arithmetic where it is not the usual one for the dtype."""
    title = f"{_PASS_TITLES.get(record.pass_name, record.pass_name)}: {record.contender}"
    return f"{title}, float64" if record.arithmetic == "float64" != record.dtype else title


def tables(report: Report) -> str:
    """A table for every device and dtype, one below the other, and what came of the captured step."""
    groups = dict.fromkeys((r.device, r.dtype) for r in report.results)
    return "\n\n".join([*(_table(report, device, dtype) for device, dtype in groups), *_sentences(report)])


def _table(report: Report, device: str, dtype: str) -> str:
    records = [r for r in report.results if (r.device, r.dtype) == (device, dtype)]
    ceilings = {(c.n, c.d): c for c in report.ceilings if (c.device, c.dtype) == (device, dtype)}
    products = any(r.product_ratio for r in records)
    unit, per_tb = ("GB/s", 1e3) if device == "cpu" else ("TB/s", 1.0)
    against = "vs autograd" if device == "cpu" else "vs eager"
    heading = ["D", "N", "contender", "median ms", "spread", unit, "of ceiling", against]
    heading += ["of X @ w's time"] * products + ["gradient error"]
    lines: list[list[str]] = [heading]
    for shape in dict.fromkeys((r.n, r.d) for r in records):
        lines += [_line(record, per_tb, products) for record in records if (record.n, record.d) == shape]
        if shape in ceilings:
            lines += _ceiling_lines(ceilings[shape], per_tb, len(heading))
    title = f"{name_of(report.machine, device)}, {dtype}"
    return "\n".join([title, "-" * len(title), *aligned(lines, flush_left=(2,))])


def _line(record: Record, per_tb: float, products: bool) -> list[str]:
    shape = [str(record.d), f"{record.n:,}", title_of(record)]
    if record.ms is None:
        return [*shape, f"{record.status}: {record.reason}"]
    cells = [
        *shape,
        number(record.ms),
        percent(record.spread),
        number(record.tb_per_s and record.tb_per_s * per_tb, 3),
        number(record.fraction, 3),
        "INCORRECT" if record.correct is False else times(record.speedup),
    ]
    cells += [times(record.product_ratio)] * products
    return [*cells, "not finite" if record.error is None else f"{record.error:.1e}"]


def _ceiling_lines(ceiling: Ceiling, per_tb: float, columns: int) -> list[list[str]]:
    found = []
    for title, rate in (
        ("(ceiling: sum, read)", ceiling.read_tb_per_s),
        ("(device copy, read and written)", ceiling.copy_tb_per_s),
    ):
        cells = [str(ceiling.d), f"{ceiling.n:,}", title, "", "", number(rate and rate * per_tb, 3)]
        found.append(cells + [""] * (columns - len(cells)))
    return found


def _sentences(report: Report) -> list[str]:
    """What no column says: the step in microseconds, why answers are wrong, and whether the machine was busy."""
    found = []
    steps = [r for r in report.results if r.pass_name == "step" and r.ms is not None]
    if steps:
        said = "; ".join(f"{r.contender}: {r.ms * 1e3:.1f} microseconds" for r in steps if r.ms)
        found.append(wrapped(f"One step of gradient descent on {steps[0].n} x {steps[0].d}: {said}."))
    wrong = [r for r in report.results if r.correct is False]
    if wrong:
        found.append(
            "Incorrect, and therefore not ranked:\n"
            + "\n".join(
                f"  {r.device}, {r.dtype}, D = {r.d}: {title_of(r)}: {r.reason or 'see its error'}"
                for r in wrong
            )
        )
    for device in dict.fromkeys(r.device for r in report.results):
        spreads = [r.spread for r in report.results if r.device == device and r.spread is not None]
        if spreads and median(spreads) > BUSY:
            found.append(
                wrapped(
                    f"Half of the spreads on {device} are above {percent(median(spreads))}: something else kept the"
                    " machine busy, and these times say little; measure again when it is idle, or with more --repeats."
                )
            )
    if not report.complete:
        found.append("The run was interrupted: shapes that were not finished are missing.")
    return found


def wrapped(text: str) -> str:
    """The text in lines of at most `WIDTH` characters."""
    return textwrap.fill(text, WIDTH)


def aligned(lines: Sequence[Sequence[str]], flush_left: Iterable[int] = ()) -> list[str]:
    """Cells in columns, flush right but for those in `flush_left`; the last cell of a short line runs on."""
    left, columns = set(flush_left), len(lines[0])
    full = [line for line in lines if len(line) == columns]
    short = [line for line in lines if len(line) < columns]
    widths = [
        max(len(line[i]) for line in (*full, *(s for s in short if i < len(s) - 1))) for i in range(columns)
    ]
    found = []
    for line in lines:
        cells = [
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=False))
        ]
        if len(line) < columns:
            cells[-1] = line[-1]
        found.append("  ".join(cells).rstrip())
    return found


def number(value: float | None, digits: int = 4) -> str:
    """Significant digits without an exponent for what is neither huge nor tiny; "-" for None."""
    if value is None:
        return "-"
    return f"{value:#.{digits}g}".removesuffix(".")


def percent(share: float | None) -> str:
    return "-" if share is None else f"{share * 100:.1f} %"


def times(ratio: float | None) -> str:
    """2.05x; "-" for None."""
    return "-" if ratio is None else f"{number(ratio, 3)}x"
