"""The command `device`: the most that some minutes of a GPU can tell, in one JSON file.

Each stage has a deadline of its own and can fail without the others; the file is rewritten after each. Part 1 asks
whether all is right and how fast the passes are, part 2 what whole fits take and which launches would be better.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from flashlogit_kernels.gpu import table

from .bench import Bench, OutOfTimeError, Record, reason
from .clock import DeviceClock, WallClock
from .fits import GAP
from .machine import device_of
from .summary import is_device_record, summary
from .tuning import TUNED_COLUMNS, take_over

Stage = Callable[[Bench, Record], None]

PARTS: dict[int, dict[str, int]] = {
    1: {"machine": 20, "compile": 90, "correctness": 60, "capture": 20, "host": 20, "passes": 90},
    2: {"fits": 130, "tuning": 160, "tests": 70},
}
"""Seconds that each stage may take: five and six minutes in all."""

_DESCRIPTION = """\
What does this GPU make of the kernels and the fits? Checks every pass against float64, times every row of the launch
table, whole fits and their launches, and tries other launches. The file is rewritten after every stage.

  part 1   machine, compile, correctness, capture, host, passes   (five minutes at most)
  part 2   fits, tuning, tests                                     (six minutes at most)"""


def main(argv: Sequence[str]) -> int:
    """Run the command; returns 1 where something was wrong, 2 for what the user can mend, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="benchmark.py device",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [name for part in PARTS.values() for name in part]
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--part", type=int, choices=sorted(PARTS), help="only the stages of this part")
    parser.add_argument(
        "--stages", nargs="+", choices=names, metavar="STAGE", help=f"only these of {', '.join(names)}"
    )
    parser.add_argument("--tuning-seconds", type=int, metavar="S", help="for the stage tuning; default: 160")
    parser.add_argument(
        "--columns",
        type=int,
        nargs="+",
        default=(),
        metavar="D",
        help="tune only shapes of these column counts",
    )
    parser.add_argument(
        "--update-table",
        action="store_true",
        help="put the launches that were found into the kernels' launch table",
    )
    parser.add_argument(
        "--add", action="store_true", help="keep the other stages of a file that is there already"
    )
    options = parser.parse_args(argv)
    asked = [name for name in names if _is_asked(name, options)]
    problem = _problem(options, asked)
    if problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    # Read when SciPy is first imported; without it scikit-learn takes no arrays of a GPU.
    os.environ.setdefault("SCIPY_ARRAY_API", "1")
    record = _earlier(options.out) if options.add else {}
    if isinstance(record, str):
        print(f"error: {record}", file=sys.stderr)
        return 2
    seconds = {name: limit for part in PARTS.values() for name, limit in part.items()}
    if options.tuning_seconds:
        seconds["tuning"] = options.tuning_seconds
    try:
        run(asked, options.out, _device(), record, seconds, tuple(options.columns))
    except KeyboardInterrupt:
        return 130
    if options.update_table:
        take_over(record.get("tuning", {}), table.TABLE)
    wrong = failures(record)
    for line in wrong:
        print(f"wrong: {line}", file=sys.stderr)
    return int(bool(wrong))


def _is_asked(name: str, options: argparse.Namespace) -> bool:
    return (options.part is None or name in PARTS[options.part]) and name in (options.stages or [name])


def _problem(options: argparse.Namespace, asked: Sequence[str]) -> str | None:
    """What the user can mend, in a sentence."""
    out = options.out
    if not asked:
        return "--stages and --part name no stage in common; leave one of them out"
    if not out.parent.is_dir():
        return f"--out is {out}, but {out.parent} is not a folder; make it, or name another file"
    if out.is_dir():
        return f"--out is {out}, which is a folder; name a file in it"
    if not torch.cuda.is_available() and os.environ.get("TRITON_INTERPRET") != "1":
        return (
            "torch sees no CUDA device; run it on a machine with one, or set TRITON_INTERPRET=1 to rehearse it on tiny"
            " data in Triton's interpreter"
        )
    if options.tuning_seconds is not None and options.tuning_seconds < 1:
        return f"--tuning-seconds is {options.tuning_seconds}; must be at least 1: 160 are the default"
    unknown = set(options.columns) - TUNED_COLUMNS
    if unknown:
        return f"--columns is {min(unknown)}; must be some of {', '.join(map(str, sorted(TUNED_COLUMNS)))}"
    if options.update_table and ("tuning" not in asked or not torch.cuda.is_available()):
        return "--update-table needs a GPU and the stage tuning, whose launches it takes over; leave it out"
    return None


def _earlier(out: Path) -> Record | str:
    """What the file holds of this device, or a sentence that it cannot be added to."""
    if not out.exists():
        return {}
    if not is_device_record(out):
        return f"--out is {out}, which is not a file that this command wrote; leave --add out to replace it"
    record: Record = json.loads(out.read_text(encoding="utf-8"))
    name, own = (
        found.get("device", {}).get("name")
        for found in (record.get("machine", {}), {"device": device_of(_device())})
    )
    if name not in (None, own):
        return f"--out is {out}, whose results are of {name}, and this is {own}; name another file"
    return record


def _device() -> torch.device:
    return (
        torch.device("cuda", torch.cuda.current_device())
        if torch.cuda.is_available()
        else torch.device("cpu")
    )


def stages() -> dict[str, Stage]:
    """By name, in order."""
    from .capturing import capturing
    from .compiling import compile_stage
    from .correctness import correctness
    from .fits import fits
    from .gpu_tests import gpu_tests
    from .host import host
    from .machine import machine
    from .passes import passes
    from .tuning import tuning

    return {
        "machine": machine,
        "compile": compile_stage,
        "correctness": correctness,
        "capture": capturing,
        "host": host,
        "passes": passes,
        "fits": fits,
        "tuning": tuning,
        "tests": gpu_tests,
    }


def run(
    asked: Sequence[str],
    out: Path,
    device: torch.device,
    record: Record,
    seconds: Mapping[str, int],
    tuned: tuple[int, ...] = (),
) -> Record:
    """Run the stages one after the other, whatever becomes of each; the record, which is in the file too.

    Ctrl-C ends it, with what there is in the file.
    """

    def save() -> None:
        draft = out.with_suffix(".draft")
        draft.write_text(json.dumps(record, indent=1, default=str) + "\n", encoding="utf-8")
        draft.replace(out)

    def say(line: object) -> None:
        print(line, flush=True)

    record["kind"] = "device"
    clock = WallClock() if device.type == "cpu" else DeviceClock(device)
    bench = Bench(device, clock, save, say, record, tuned)
    for name in asked:
        say(f"{name} ...")
        earlier = record.get(name)
        record[name] = stage = {}
        began = time.monotonic()
        bench.deadline = began + seconds[name]
        try:
            stages()[name](bench, stage)
            stage["status"] = "done"
        except OutOfTimeError:
            stage["status"] = "out of time"
        except KeyboardInterrupt:
            stage["status"] = "interrupted"
        except Exception as error:
            stage |= {"status": "failed", "reason": reason(error), "traceback": _traceback(error)}
        stage["took_s"] = round(time.monotonic() - began, 1)
        say(
            f"  {stage['status']} in {stage['took_s']} s{': ' + stage['reason'] if 'reason' in stage else ''}"
        )
        save()
        if stage["status"] == "interrupted":
            if earlier is not None:
                record[name] = earlier
                save()
            raise KeyboardInterrupt
        if device.type == "cuda":
            torch.cuda.empty_cache()
    say(summary(record))
    return record


def _traceback(error: BaseException) -> list[str]:
    """Its last frames, files by their names only."""
    frames = traceback.extract_tb(error.__traceback__)[-6:]
    return [
        f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}: {frame.line}" for frame in frames
    ]


def failures(record: Record) -> list[str]:
    """What is wrong: stages and calls that failed, answers, gaps, captures, programs that do not fit, and tests."""
    found = [
        f"{name}: {stage['reason']}"
        for name, stage in record.items()
        if isinstance(stage, dict) and stage.get("status") == "failed"
    ]
    compiled, checked, captured = (record.get(name, {}) for name in ("compile", "correctness", "capture"))
    entries = [("compile", call) for call in compiled.get("calls", ())]
    entries += [("passes", call) for call in record.get("passes", {}).get("calls", ())]
    entries += [("tuning", shape) for shape in record.get("tuning", {}).get("shapes", ())]
    entries += [
        ("fits", fit | {"name": f"{problem['name']}, {fit['name']}"})
        for problem in record.get("fits", {}).get("problems", ())
        for fit in problem["fits"]
        if fit["name"].startswith("flashlogit")
    ]
    found += [f"{stage}: {entry['name']}: {entry['error']}" for stage, entry in entries if "error" in entry]
    if compiled.get("disagreeing_with_the_driver"):
        found.append(
            f"compile: {compiled['disagreeing_with_the_driver']} numbers of programs are not the driver's"
        )
    found += [f"correctness: {name}" for name in checked.get("failed", ())]
    if len(checked.get("calls", ())) < checked.get("asked", 0):
        found.append(f"correctness: {len(checked['calls'])} of {checked['asked']} calls were checked")
    found += [
        f"capture: {body['name']}: {body.get('reason', 'replayed wrongly')}"
        for body in captured.get("bodies", ())
        if not body.get("same")
    ]
    after = captured.get("failing capture", {})
    found += [f"failing capture: not {name}" for name, good in after.items() if good is False]
    found += [
        f"fits: {entry['name']}: the gap is {entry['true_gap']:.1e}"
        for stage, entry in entries
        if stage == "fits" and not entry.get("true_gap", 0.0) <= GAP
    ]
    if record.get("tests", {}).get("exit_code", 0) not in (0, 5):
        found.append(f"tests: {record['tests'].get('summary')}")
    return found
