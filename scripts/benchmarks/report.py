"""What is kept of a run: one kind of record, printed as a row when it is known, in a JSON file and in a picture."""

import argparse
import contextlib
import datetime
import importlib.metadata
import json
import math
import os
import platform
import re
import shutil
import subprocess
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from .clock import Timing

PACKAGES = ("torch", "triton", "numpy", "scikit-learn", "scipy", "jax", "optax", "cupy-cuda13x", "pytest")
PACKAGES += ("scikit-learn-intelex", "glum", "cyanure", "cuml-cu12", "cuml-cu13", "skglm", "jaxlib")

Record = dict[str, Any]
"""What is known of one contender, call or fit, as it is in the files.

name: unlike that of others in the same list. ms, q25_ms, q75_ms: median and quartiles of `calls` measurements by
`method`; host times are `us`, those of whole fits on a GPU `wall_ms`. fraction: of the bandwidth that the same run
measured. speedup: over the baseline. error: relative to the terms of the sums, or a text; true_gap, gap: of a fit. What
is wrong or missing has no time, but a status other than "ok" and a reason.
"""

HEAD = f"{'':<60} {'ms':>9} {'spread':>9} {'of read':>9} {'speed-up':>9} {'error':>9}"
_WRONG = {"right": "off by ", "repeatable": "two calls differ, error ", "same": "replayed wrongly, error "}
_COUNTS = (
    "launches",
    "waits",
    "passes",
    "iterations",
    "device_ms",
    "table_ms",
    "gain",
    "setting",
    "beyond_ms",
    "ratio",
    "per_second",
    "peak_mb",
)
_COMPARED = ("ms", "us", "wall_ms", "launches", "waits")


def facts(device: torch.device) -> Record:
    """Return date (UTC), versions, whether there is a C compiler, cores, the device and what nvidia-smi says of it."""
    versions, smi = {}, ""
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    query = "--query-gpu=driver_version,clocks.sm,clocks.mem,power.draw,temperature.gpu"
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        command = ["nvidia-smi", query, "--format=csv,noheader"]
        smi = subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.partition("\n")[0]
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M")
    compiler = any(shutil.which(name) for name in (os.environ.get("CC") or "gcc", "clang"))
    found = {"date": date, "python": platform.python_version(), "versions": versions, "c_compiler": compiler}
    return found | {"cores": os.cpu_count(), "device": device_of(device), "smi": smi}


def device_of(device: torch.device) -> Record:
    """Describe a GPU as torch sees it, or a CPU, on which Triton's interpreter stands in for a GPU."""
    if device.type == "cpu":
        cpuinfo = Path("/proc/cpuinfo")
        model = re.search(r"(?m)^model name\s*:\s*(.+)$", cpuinfo.read_text() if cpuinfo.exists() else "")
        name = model.group(1) if model else platform.machine()
        return {"name": "interpreter" if os.environ.get("TRITON_INTERPRET") == "1" else name}
    gpu = torch.cuda.get_device_properties(device)
    found = {"name": gpu.name, "capability": f"{gpu.major}.{gpu.minor}", "multiprocessors": gpu.multi_processor_count}
    return found | {"l2_bytes": gpu.L2_cache_size, "memory_bytes": gpu.total_memory, "cuda": torch.version.cuda}


def trouble(record: Record) -> str:
    """Return what is wrong with a record; nothing where all is right."""
    if isinstance(record.get("error"), str):
        return str(record["error"])
    if record.get("status", "ok") != "ok" or record.get("captured") is False:
        return f"{record.get('status', 'not captured')}: {record.get('reason')}"
    if not record.get("true_gap", 0.0) <= 1e-8:
        return f"the gap is {record['true_gap']:.1e}"
    found = [text for key, text in _WRONG.items() if record.get(key) is False]
    return f"{found[0]}{record.get('relative_error', math.nan):.1e}" if found else ""


def row(record: Record) -> str:
    """Return the record as a row below `HEAD`."""
    name = record.get("line", record["name"])
    if trouble(record):
        return f"{name:<60} {trouble(record)}"
    us, spread = record.get("us"), spread_of(record)
    ms = record.get("ms", record.get("wall_ms", None if us is None else us / 1e3))
    error = [record[key] for key in ("relative_error", "true_gap", "gap", "error") if key in record]
    cells = [number(ms), "-" if spread is None else f"{spread:.1%}", number(record.get("fraction"))]
    cells += [number(record.get("speedup")), f"{error[0]:.1e}" if error else "-"]
    rest = ", ".join(f"{key} {number(record[key])}" for key in _COUNTS if record.get(key) is not None)
    return f"{name:<60} {' '.join(f'{cell:>9}' for cell in cells)}  {rest}".rstrip()


def spread_of(record: Record) -> float | None:
    """Return the interquartile range as a share of the median."""
    return (record["q75_ms"] - record["q25_ms"]) / record["ms"] if "q25_ms" in record else None


def number(value: Any) -> str:
    """Return four significant digits, without an exponent for what is neither huge nor tiny; "-" for None."""
    if not isinstance(value, float):
        return "-" if value is None else f"{value}"
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"


def times(found: Timing) -> Record:
    """Return a time as a record has it."""
    return {"ms": found.ms, "q25_ms": found.q25_ms, "q75_ms": found.q75_ms}


def reason(error: BaseException) -> str:
    """Return an error as a line, with the file and line that it came from, and without folders."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    place = traceback.extract_tb(error.__traceback__)[-1:]
    where = f" ({place[0].filename.rpartition('/')[2]}:{place[0].lineno})" if place else ""
    return f"{type(error).__name__}: {lines[0][:300] if lines else ''}{where}"


def say(line: object = "") -> None:
    """Print a line at once, also into a pipe."""
    print(line, flush=True)


def save(content: object, path: Path | None) -> None:
    """Write a JSON file, if one is asked for; an interruption leaves the old one."""
    if path is None:
        return
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")
    draft.replace(path)


class Report:
    """A run of `kernel` or `fit`, whose file is rewritten whenever something has been found."""

    def __init__(self, kind: str, doc: str | None, options: argparse.Namespace) -> None:
        self._options = options
        machine = facts(torch.device(options.devices[0]))
        settings = {name: value for name, value in vars(options).items() if name not in ("out", "picture")}
        self.content: Record = {"kind": kind, "method": doc, "machine": machine, "settings": settings}
        self.content |= {"complete": False, "results": []}
        versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
        say(f"{doc}\n{machine['device']['name']}, {machine['cores']} cores; {versions}; {machine['date']}")

    def add(self, title: str, records: Iterable[Record]) -> None:
        """Print records as a table and keep them."""
        say(f"\n{title}\n{HEAD}")
        for record in records:
            say(row(record))
            self.content["results"].append(record)
        save(self.content, self._options.out)

    def finish(self) -> None:
        """Mark the run as complete, draw the picture and say where things are."""
        self.content["complete"] = True
        save(self.content, self._options.out)
        if self._options.picture is not None:
            draw(self.content["results"], self._options.picture)
        files = [str(path) for path in (self._options.out, self._options.picture) if path is not None]
        say(f"\nresults: {' and '.join(files) or 'not kept, as neither --out nor --picture names a file'}")


def draw(records: Sequence[Record], path: Path) -> None:
    """Draw a panel for each device and dtype: shares of the bandwidth over columns, or times over problems."""
    from matplotlib.figure import Figure

    drawn = [record for record in records if record.get(record.get("y")) is not None]
    panels = list(dict.fromkeys(record["panel"] for record in drawn))
    figure = Figure(figsize=(9.5, 1 + 5.5 * len(panels)), dpi=120, layout="constrained")
    for place, panel in enumerate(panels, 1):
        there = [record for record in drawn if record["panel"] == panel]
        axes = figure.add_subplot(len(panels), 1, place, title=panel)
        for i, line in enumerate(dict.fromkeys(record["line"] for record in there)):
            points = [(record["x"], record[record["y"]]) for record in there if record["line"] == line]
            axes.plot(*zip(*points, strict=True), f"{'os^v'[i // 10 % 4]}-C{i % 10}", label=line)
        by_time = there[0]["y"] == "ms"
        axes.set_ylabel("milliseconds to the gap" if by_time else "share of the measured bandwidth")
        axes.set_yscale("log" if by_time else "linear")
        axes.legend(fontsize="x-small", ncols=2)
    figure.savefig(path)


def between(least: float, most: float, convert: Callable[[str], float] = float) -> Callable[[str], float]:
    """Return the type of an option that is a number in [least, most]."""

    def number_of(text: str) -> float:
        if not least <= convert(text) <= most:
            raise argparse.ArgumentTypeError(f"{text} is out of bounds; must be from {least:g} to {most:g}")
        return convert(text)

    return number_of


def new_file(text: str) -> Path:
    """Return the path of a file that can be written: the type of an option."""
    path = Path(text)
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{path} is no file that can be written; name one in a folder that exists")
    return path


def parser_of(command: str, description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that `kernel` and `fit` share."""
    parser = argparse.ArgumentParser(prog=f"benchmark.py {command}", description=description)
    there = ["cuda", "cpu"] if torch.cuda.is_available() else ["cpu"]
    parser.add_argument("--quick", action="store_true", help="small data, few repeats: two minutes")
    parser.add_argument("--devices", nargs="+", choices=there, default=there)
    parser.add_argument("--out", type=new_file, help="the JSON file to write")
    parser.add_argument("--picture", type=new_file, help="the PNG file to write")
    return parser


def named(content: Any, where: str = "") -> Iterator[tuple[str, Record]]:
    """Yield all that has a name, with the names that it is under."""
    if isinstance(content, dict):
        if "name" in content:
            where = f"{where}{': ' * bool(where)}{content['name']}"
            yield where, content
        content = list(content.values())
    for part in content if isinstance(content, list) else ():
        yield from named(part, where)


def main(arguments: Sequence[str]) -> int:
    """Run the command `compare`: say which numbers of a second file are slower than those of a first, or wrong now."""
    parser = argparse.ArgumentParser(prog="benchmark.py compare", description=main.__doc__)
    parser.add_argument("files", nargs=2, type=Path, metavar="A.json B.json")
    slack = "share by which a number has to be larger, and by more than the spread; default: 0.05"
    parser.add_argument("--threshold", type=between(0, 10), default=0.05, help=slack)
    options = parser.parse_args(arguments)
    files, kinds, devices = [], [], []
    for path in options.files:
        try:
            files.append(json.loads(path.read_text(encoding="utf-8")))
            kinds.append(files[-1]["kind"])
            devices.append(files[-1]["machine"]["device"]["name"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            parser.error(f"{path} is no file of this program ({type(error).__name__}); name one of --out")
    if kinds[0] != kinds[1]:
        parser.error(f"the files are of the commands {' and '.join(kinds)}; name two of a kind")
    say(f"before: {devices[0]}, after: {devices[1]}")
    before, after = (dict(found for key in each for found in named(each[key], key)) for each in files)
    bad = 0
    for name in [name for name in before if name in after]:
        now = trouble(after[name])
        if bool(now) != bool(trouble(before[name])):
            bad += bool(now)
            say(f"{name:<70} {f'wrong now: {now}' if now else 'right now'}")
        spread = max(options.threshold, *(spread_of(each[name]) or 0.0 for each in (before, after)))
        for key in _COMPARED:
            old, new = before[name].get(key), after[name].get(key)
            if old and new:
                mark = "slower" if new / old > 1 + spread else "faster" if old / new > 1 + spread else ""
                bad += mark == "slower"
                say(f"{name:<70} {key:8} {number(old):>9} {number(new):>9} {new / old:>7.3f}  {mark}")
    say(f"{bad} numbers became slower or wrong" if bad else "nothing became slower or wrong")
    return int(bad > 0)
