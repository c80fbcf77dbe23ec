"""The command `device`: the most that some minutes of a GPU can tell, in one JSON file.

Checks every pass against float64, times every row of the launch table, whole fits and their launches, and tries other
launches. Each stage has a deadline of its own and can fail without the others; the file is rewritten after each.
"""

import argparse
import os
import sys
import time

import torch

from flashlogit_kernels.gpu.launch import TABLE

from . import stages
from .bench import Bench, OutOfTime
from .fit import fits
from .many import on_gpu
from .report import HEAD, Record, between, named, new_file, reason, save, say, trouble
from .tune import TUNED_COLUMNS, take_over, tuning

STAGES = {
    "machine": (stages.machine, 20),
    "compile": (stages.compiling, 90),
    "correctness": (stages.correctness, 60),
    "capture": (stages.capturing, 20),
    "host": (stages.host, 20),
    "passes": (stages.passes_stage, 90),
    "fits": (fits, 130),
    "many": (on_gpu, 60),
    "tuning": (tuning, 160),
    "tests": (stages.gpu_tests, 100),
}
"""What runs each stage, and the seconds that it may take: thirteen minutes in all."""


def main(arguments: list[str]) -> int:
    """Run the command; returns 1 where something was wrong, 2 for what the user can mend, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="benchmark.py device", description=__doc__)
    parser.add_argument("--out", type=new_file, required=True, help="the JSON file to write")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES), help="only these")
    parser.add_argument("--tuning-seconds", type=between(1, 3600, int), default=160, help="default: 160")
    parser.add_argument("--columns", type=int, nargs="+", default=(), metavar="D", help="tune only these column counts")
    parser.add_argument("--update-table", action="store_true", help="put the launches found into the launch table")
    options = parser.parse_args(arguments)
    on_gpu = torch.cuda.is_available()
    if not on_gpu and os.environ.get("TRITON_INTERPRET") != "1":
        parser.error("torch sees no CUDA device; TRITON_INTERPRET=1 rehearses it on tiny data")
    if not TUNED_COLUMNS.issuperset(options.columns):
        parser.error(f"--columns is {options.columns}; must be some of {sorted(TUNED_COLUMNS)}")
    if options.update_table and ("tuning" not in options.stages or not on_gpu):
        parser.error("--update-table needs a GPU and the stage tuning; leave it out")
    device = torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")
    # A profiler that stays loaded made every later launch slower: a fit of 2,344 launches took 100 ms, not 53 (H200).
    os.environ.setdefault("TEARDOWN_CUPTI", "1")
    bench = Bench(device, lambda: save(bench.record, options.out))
    bench.columns = options.columns
    limits = {name: limit for name, (_, limit) in STAGES.items()} | {"tuning": options.tuning_seconds}
    run(bench, {name: limit for name, limit in limits.items() if name in options.stages})
    if options.update_table:
        take_over(bench.record["tuning"], TABLE)
    wrong = failures(bench.record)
    for line in wrong:
        print(f"wrong: {line}", file=sys.stderr)
    return int(bool(wrong))


def run(bench: Bench, limits: dict[str, int]) -> None:
    """Run the stages with so many seconds one after the other, whatever becomes of each; the record and file grow.

    Ctrl-C ends it, with what there is in the file.
    """
    bench.record["kind"] = "device"
    for name, limit in limits.items():
        say(f"{f'{name} ...':<60}{HEAD[60:]}")
        bench.record[name] = stage = {}
        began, status = time.monotonic(), "interrupted"
        bench.deadline = began + limit * (100 if bench.tiny else 1)  # the interpreter is slow
        try:
            STAGES[name][0](bench, stage)
            status = "done"
        except OutOfTime:
            status = "out of time"
        except Exception as error:
            status, stage["reason"] = "failed", reason(error)
        finally:
            stage |= {"status": status, "took_s": round(time.monotonic() - began, 1)}
            bench.save()
        say(f"  {stage['status']} in {stage['took_s']} s {stage.get('reason', '')}")
        if not bench.tiny:
            torch.cuda.empty_cache()


def failures(record: Record) -> list[str]:
    """Return what is wrong: stages and calls that failed, answers, gaps, captures, programs and tests."""
    found = [f"{name}: {each['reason']}" for name, each in record.items() if "reason" in each]
    for name, stage in record.items():
        for path, entry in named(stage, name):
            # What other libraries' fits come to is their matter.
            if trouble(entry) and (name != "fits" or "flashlogit" in path or "fits" in entry):
                found.append(f"{path}: {trouble(entry)}")
    checked, tests = record.get("correctness", {}), record.get("tests", {})
    if record.get("compile", {}).get("disagreeing_with_the_driver"):
        found.append("compile: some numbers of programs are not the driver's")
    if len(checked.get("calls", ())) < checked.get("asked", 0):
        found.append(f"correctness: {len(checked['calls'])} of {checked['asked']} calls were checked")
    after = record.get("capture", {}).get("failing capture", {})
    found += [f"failing capture: not {name}" for name, good in after.items() if good is False]
    if tests.get("exit_code", 0) not in (0, 5):
        found.append(f"tests: {tests.get('summary')}")
    return found
