"""The command `device`: the most that some minutes of a GPU can tell, in one JSON file.

Checks every pass against float64, times every row of the launch table, whole fits and their launches, and tries other
launches. Each stage has a deadline of its own and can fail without the others; the file is rewritten after each.
Part 1, five minutes at most, asks whether all is right and how fast the passes are; part 2, six minutes at most, what
whole fits take and which launches would be better.
"""

import argparse
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence

import torch

from flashlogit_kernels.gpu import table

from . import stages
from .bench import Bench, OutOfTimeError
from .compare import read, records
from .device_fits import fits
from .report import HEAD, Record, between, device_of, new_file, reason, save, say, trouble
from .tune import TUNED_COLUMNS, take_over, tuning

STAGES: dict[str, tuple[Callable[[Bench, Record], None], int, int]] = {
    "machine": (stages.machine, 1, 20),
    "compile": (stages.compiling, 1, 90),
    "correctness": (stages.correctness, 1, 60),
    "capture": (stages.capturing, 1, 20),
    "host": (stages.host, 1, 20),
    "passes": (stages.passes_stage, 1, 90),
    "fits": (fits, 2, 130),
    "tuning": (tuning, 2, 160),
    "tests": (stages.gpu_tests, 2, 70),
}
"""Of each stage what runs it, its part, and the seconds that it may take: five and six minutes in all."""


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns 1 where something was wrong, 2 for what the user can mend, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="benchmark.py device", description=__doc__)
    option = parser.add_argument
    option("--out", type=new_file, required=True, help="the JSON file to write")
    option("--part", type=int, choices=(1, 2), help="only the stages of this part")
    option("--stages", nargs="+", choices=STAGES, default=list(STAGES), help="only these")
    option("--tuning-seconds", type=between(1, 3600, int), default=160, help="default: 160")
    option("--columns", type=int, nargs="+", default=(), metavar="D", help="tune only these column counts")
    option("--update-table", action="store_true", help="put the launches found into the launch table")
    option("--add", action="store_true", help="keep the other stages of a file that is there already")
    options = parser.parse_args(arguments)
    parts = (1, 2) if options.part is None else (options.part,)
    asked = [name for name, (_, part, _) in STAGES.items() if name in options.stages and part in parts]
    on_gpu, record = torch.cuda.is_available(), Record()
    device = torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")
    if not asked:
        parser.error("--stages and --part name no stage in common; leave one of them out")
    if not on_gpu and os.environ.get("TRITON_INTERPRET") != "1":
        parser.error("torch sees no CUDA device; TRITON_INTERPRET=1 rehearses it on tiny data")
    if not TUNED_COLUMNS.issuperset(options.columns):
        parser.error(f"--columns is {options.columns}; must be some of {sorted(TUNED_COLUMNS)}")
    if options.update_table and ("tuning" not in asked or not on_gpu):
        parser.error("--update-table needs a GPU and the stage tuning; leave it out")
    if options.add and options.out.exists():
        record = read(parser, options.out)
        name, own = record["machine"]["device"]["name"], device_of(device)["name"]
        if record.get("kind") != "device" or name != own:
            what = f"holds a run of {record.get('kind')} on {name}, and this is device on {own}"
            parser.error(f"--out is {options.out}, which {what}; name another file")
    limits = {name: limit for name, (_, _, limit) in STAGES.items()} | {"tuning": options.tuning_seconds}
    bench = Bench(device, lambda: save(record, options.out))
    bench.record, bench.columns = record, options.columns
    run(bench, asked, limits)
    if options.update_table:
        take_over(record["tuning"], table.TABLE)
    wrong = failures(record)
    for line in wrong:
        print(f"wrong: {line}", file=sys.stderr)
    return int(bool(wrong))


def run(bench: Bench, asked: Sequence[str], limits: Mapping[str, int]) -> None:
    """Run the stages one after the other, whatever becomes of each; what they find is in the record and the file.

    Ctrl-C ends it, with what there is in the file.
    """
    record = bench.record
    record["kind"] = "device"
    for name in asked:
        say(f"{f'{name} ...':<60}{HEAD[60:]}")
        earlier = record.get(name)
        record[name] = stage = {}
        began = time.monotonic()
        bench.deadline = began + limits[name] * (100 if bench.tiny else 1)  # the interpreter is slow
        try:
            STAGES[name][0](bench, stage)
            stage["status"] = "done"
        except OutOfTimeError:
            stage["status"] = "out of time"
        except KeyboardInterrupt:
            stage["status"] = "interrupted"
            record[name] = earlier or stage
            raise
        except Exception as error:
            stage |= {"status": "failed", "reason": reason(error), "traceback": _traceback(error)}
        finally:
            stage["took_s"] = round(time.monotonic() - began, 1)
            bench.save()
        say(f"  {stage['status']} in {stage['took_s']} s {stage.get('reason', '')}")
        if not bench.tiny:
            torch.cuda.empty_cache()


def _traceback(error: BaseException) -> list[str]:
    """Return its last frames, files by their names only."""
    frames = traceback.extract_tb(error.__traceback__)[-6:]
    return [f"{each.filename.rpartition('/')[2]}:{each.lineno} {each.name}: {each.line}" for each in frames]


def failures(record: Record) -> list[str]:
    """Return what is wrong: stages and calls that failed, answers, gaps, captures, programs and tests."""
    found = []
    for name, stage in record.items():
        if isinstance(stage, dict) and stage.get("status") == "failed":
            found.append(f"{name}: {stage['reason']}")
        for path, entry in records(stage, name):
            # What other libraries' fits come to is their matter.
            if trouble(entry) and (name != "fits" or "flashlogit" in path or "fits" in entry):
                found.append(f"{path}: {trouble(entry)}")
    checked = record.get("correctness", {})
    if record.get("compile", {}).get("disagreeing_with_the_driver"):
        found.append("compile: some numbers of programs are not the driver's")
    if len(checked.get("calls", ())) < checked.get("asked", 0):
        found.append(f"correctness: {len(checked['calls'])} of {checked['asked']} calls were checked")
    after = record.get("capture", {}).get("failing capture", {})
    found += [f"failing capture: not {name}" for name, good in after.items() if good is False]
    if record.get("tests", {}).get("exit_code", 0) not in (0, 5):
        found.append(f"tests: {record['tests'].get('summary')}")
    return found
