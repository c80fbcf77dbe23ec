"""A record as a page of text, and two of them side by side."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

Record = dict[str, Any]
Row = Sequence[str]


def summary(record: Record) -> str:
    """What a reader wants to know first."""
    machine = record.get("machine", {})
    device, ceilings = machine.get("device", {}), machine.get("ceilings", {})
    lines = [f"{device.get('name', '?')}, reads {_number(ceilings.get('read_tb_s'))} TB/s"]
    compiled, checked = record.get("compile", {}), record.get("correctness", {})
    if compiled:
        failed = [call for call in compiled.get("calls", ()) if "error" in call]
        lines.append(
            f"compiled {compiled.get('kernels', 0)} kernels, {compiled.get('spilling', 0)} spill,"
            f" {compiled.get('clamped', 0)} had fewer programs than the table asks for,"
            f" {compiled.get('disagreeing_with_the_driver', 0)} not as the driver says; {len(failed)} calls failed"
        )
        lines += [f"  {call['name']}: {call['error']}" for call in failed[:10]]
    if checked:
        wrong = checked.get("failed", [])
        lines.append(f"correct: {len(checked.get('calls', ())) - len(wrong)} of {checked.get('asked', 0)}")
        lines += [f"  {_wrong(call)}" for call in checked.get("calls", ()) if call["name"] in wrong][:20]
    for body in record.get("capture", {}).get("bodies", ()):
        if not body.get("captured"):
            lines.append(f"not captured: {body['name']}: {body.get('reason')}")
        elif not body["same"]:
            lines.append(f"replayed wrongly: {body['name']}")
    if "failing capture" in record.get("capture", {}):
        lines.append(f"failing capture: {record['capture']['failing capture']}")
    lines += _table(["host", "us", "launches"], _host_rows(record))
    lines += _table(["pass", "ms", "as it is", "share"], _pass_rows(record))
    for problem in record.get("fits", {}).get("problems", ()):
        lines += _table(
            [problem["name"], "ms", "device ms", "launches", "waits", "passes", "true gap"],
            [_fit_row(fit) for fit in problem.get("fits", ())],
        )
    lines += _table(["tuned", "ms", "table's", "gain", "launch"], _tuned_rows(record))
    if "tests" in record:
        lines.append(f"tests: {record['tests'].get('summary', '')}")
    return "\n".join(lines)


def _wrong(call: Record) -> str:
    return (
        f"{call['name']}: {call.get('error') or 'off by {:.1e} of its terms'.format(call['relative_error'])}"
    )


def _host_rows(record: Record) -> list[Row]:
    return [
        (call["name"], _number(call["us"]), _number(call.get("launches")))
        for call in record.get("host", {}).get("calls", ())
    ]


def _pass_rows(record: Record) -> list[Row]:
    found = record.get("passes", {})
    rows: list[Row] = [
        (call["name"], _number(call["ms"]), _number(call["as_it_is_ms"]), _number(call["fraction"]))
        if "ms" in call
        else (call["name"], call["error"], "", "")
        for call in found.get("calls", ())
    ]
    rows += [
        (call["name"], _number(call["ms"]), "", _number(call["fraction"])) for call in found.get("torch", ())
    ]
    return rows + [(call["name"], _number(call["us"] / 1e3), "", "") for call in found.get("reduction", ())]


def _fit_row(fit: Record) -> Row:
    if "error" in fit:
        return (fit["name"], fit["error"], "", "", "", "", "")
    keys = ("wall_ms", "device_ms", "launches", "waits", "passes", "true_gap")
    return (fit["name"], *(_number(fit.get(key)) for key in keys))


def _tuned_rows(record: Record) -> list[Row]:
    rows: list[Row] = []
    for shape in record.get("tuning", {}).get("shapes", ()):
        if "error" in shape:
            rows.append((shape["name"], shape["error"], "", "", ""))
        elif "best" in shape:
            launch = " ".join(str(int(value)) for value in shape["best"].values())
            cells = (_number(shape[key]) for key in ("ms", "table_ms", "gain"))
            rows.append((shape["name"], *cells, launch))
    return rows


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if isinstance(value, float) else f"{value}"


def _table(head: Row, rows: Iterable[Row]) -> list[str]:
    """Aligned columns, the first to the left; nothing without rows."""
    cells = [tuple(head), *map(tuple, rows)]
    if len(cells) == 1:
        return []
    widths = [
        max(len(row[i]) for row in cells) if i else max(len(row[0]) for row in cells)
        for i in range(len(head))
    ]
    return [
        "",
        *(
            "  ".join(
                cell.ljust(width) if i == 0 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in cells
        ),
    ]


def is_device_record(path: Path) -> bool:
    """Whether the file is one that the command `device` wrote."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("kind") == "device"


def compare(before: Record, after: Record) -> str:
    """Two records side by side: passes, host times, fits, and what is wrong only in one of them."""
    names = [record.get("machine", {}).get("device", {}).get("name", "?") for record in (before, after)]
    lines = [f"before: {names[0]}, after: {names[1]}"]
    if names[0] != names[1]:
        lines.append("different devices: compare shares of the bandwidth, not times")
    wrong = [set(record.get("correctness", {}).get("failed", ())) for record in (before, after)]
    lines += [f"wrong now: {name}" for name in sorted(wrong[1] - wrong[0])]
    lines += [f"right now: {name}" for name in sorted(wrong[0] - wrong[1])]
    for head, values in (
        ("pass, ms", _times("passes", "ms")),
        ("pass, share of the bandwidth", _times("passes", "fraction")),
        ("host, us", _times("host", "us")),
        ("fit, ms", _fit_values("wall_ms")),
        ("fit, launches", _fit_values("launches")),
        ("fit, waits", _fit_values("waits")),
        ("fit, true gap", _fit_values("true_gap")),
    ):
        lines += _table(
            [head, "before", "after", "after / before"], _side_by_side(values(before), values(after))
        )
    return "\n".join(lines)


def _times(stage: str, key: str) -> Callable[[Record], dict[str, float]]:
    return lambda record: {
        call["name"]: call[key]
        for call in record.get(stage, {}).get("calls", ())
        if isinstance(call.get(key), int | float)
    }


def _fit_values(key: str) -> Callable[[Record], dict[str, float]]:
    return lambda record: {
        f"{problem['name']}: {fit['name']}": fit[key]
        for problem in record.get("fits", {}).get("problems", ())
        for fit in problem.get("fits", ())
        if isinstance(fit.get(key), int | float)
    }


def _side_by_side(before: dict[str, float], after: dict[str, float]) -> list[Row]:
    rows: list[Row] = []
    for name in dict.fromkeys([*before, *after]):
        old, new = before.get(name), after.get(name)
        ratio = new / old if old and new is not None else None
        rows.append((name, _number(old), _number(new), _number(ratio)))
    return rows
