"""The command `device`: the most that ten minutes of a GPU can tell, in one JSON file.

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
from typing import Any

import torch

from flashlogit_kernels import table

from .bench import Bench, OutOfTimeError, Record, reason
from .clock import DeviceClock, WallClock
from .summary import summary

Stage = Callable[[Bench, Record], None]

PARTS: dict[int, dict[str, int]] = {
    1: {"machine": 20, "compile": 90, "correctness": 60, "capture": 20, "host": 20, "passes": 90},
    2: {"fits": 130, "tuning": 160, "tests": 70},
}
"""Seconds that each stage may take: five and six minutes in all."""

_DESCRIPTION = """\
What does this GPU make of the kernels and the fits? Checks every pass against float64, times every row of the launch
table, whole fits and their launches, and tries other launches. Ten minutes; the file is rewritten after every stage.

  part 1   machine, compile, correctness, capture, host, passes   (five minutes at most)
  part 2   fits, tuning, tests                                     (six minutes at most)"""


def main(argv: Sequence[str]) -> int:
    """Run the command; returns 1 where something was wrong, 2 for what the user can mend."""
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
    problem = _problem(options.out, asked)
    if problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    # Read when SciPy is first imported; without it scikit-learn takes no arrays of a GPU.
    os.environ.setdefault("SCIPY_ARRAY_API", "1")
    record: Record = json.loads(options.out.read_text()) if options.add and options.out.exists() else {}
    seconds = {name: limit for part in PARTS.values() for name, limit in part.items()}
    seconds["tuning"] = options.tuning_seconds or seconds["tuning"]
    run(asked, options.out, _device(), record, seconds, tuple(options.columns))
    if options.update_table:
        from .tuning import take_over

        take_over(record.get("tuning", {}), table.TABLE)
    return 1 if failures(record) else 0


def _is_asked(name: str, options: argparse.Namespace) -> bool:
    if options.stages:
        return name in options.stages
    return options.part is None or name in PARTS[options.part]


def _problem(out: Path, asked: Sequence[str]) -> str | None:
    """What the user can mend, in a sentence."""
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
    return None


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
    """Run the stages one after the other, whatever becomes of each; the record, which is in the file too."""

    def save() -> None:
        draft = out.with_suffix(".draft")
        draft.write_text(json.dumps(record, indent=1, default=str) + "\n", encoding="utf-8")
        draft.replace(out)

    def say(line: object) -> None:
        print(line, flush=True)

    record["kind"] = "device"
    clock = WallClock() if device.type == "cpu" else DeviceClock(device)
    bench = Bench(device, clock, save, say, record, tuned)
    torch.backends.cuda.matmul.allow_tf32 = False
    for name in asked:
        say(f"{name} ...")
        record[name] = stage = {}
        began = time.monotonic()
        bench.deadline = began + seconds[name]
        try:
            stages()[name](bench, stage)
            stage["status"] = "done"
        except OutOfTimeError:
            stage["status"] = "out of time"
        except Exception as error:
            stage |= {"status": "failed", "reason": reason(error), "traceback": _traceback(error)}
        stage["took_s"] = round(time.monotonic() - began, 1)
        say(
            f"  {stage['status']} in {stage['took_s']} s{': ' + stage['reason'] if 'reason' in stage else ''}"
        )
        save()
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
    """What is wrong: stages that failed, wrong answers, captures, tests."""
    found = [
        f"{name}: {stage['reason']}"
        for name, stage in record.items()
        if isinstance(stage, dict) and stage.get("status") == "failed"
    ]
    found += [f"correctness: {name}" for name in record.get("correctness", {}).get("failed", ())]
    captured: list[Any] = record.get("capture", {}).get("bodies", [])
    found += [f"capture: {body['name']}" for body in captured if body.get("captured") and not body["same"]]
    if record.get("tests", {}).get("exit_code", 0) not in (0, 5):
        found.append(f"tests: {record['tests'].get('summary')}")
    return found
