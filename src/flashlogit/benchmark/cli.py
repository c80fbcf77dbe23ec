"""The program scripts/benchmark.py: its commands and their options."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..commands.shell import program, run_guarded
from ..system.console import Output, add_output

_DESCRIPTION = """\
How fast are the passes over X on this machine, as a share of what it can read, and how fast are whole fits?

  kernel   time flashlogit and torch side by side, and check every answer
  fit      time flashlogit and other libraries to the same objective
  compare  hold two runs' results against each other"""
_EXAMPLES = """\
kernel --quick
kernel --columns 28 300 --out results.json --picture roofline.png
fit --quick
fit --problems "1M x 28" --contenders "flashlogit*" "scikit-learn*" --out fit.json --picture fit.png
compare before.json after.json"""


def main(argv: Sequence[str] | None = None, *, prog: str = "benchmark.py") -> int:
    """Run a command; returns the exit code: 1 for a regression, 2 for what the user can mend, 130 after Ctrl-C."""
    options = _parser(prog).parse_args(argv)
    commands = {"kernel": _kernel, "fit": _fit, "compare": _compare}
    return run_guarded(lambda: commands[options.command](options), debug=options.debug)


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = program(prog, _DESCRIPTION, _EXAMPLES)
    commands = parser.add_subparsers(dest="command", required=True, metavar="{kernel,fit,compare}")
    kernel = commands.add_parser("kernel", description="Time flashlogit and torch side by side.")
    kernel.add_argument(
        "--quick", action="store_true", help="few shapes, small data, few repeats: a minute on a CPU"
    )
    kernel.add_argument("--devices", nargs="+", help="cuda, cpu or both; default: what there is")
    kernel.add_argument(
        "--columns", nargs="+", type=int, metavar="D", help="column counts; default: 1 to 32768"
    )
    kernel.add_argument("--dtypes", nargs="+", help="float32, bfloat16, float16, float64: how X is stored")
    kernel.add_argument("--gigabytes", type=float, help="size of X; default: 2 on a GPU, 0.2 on a CPU")
    kernel.add_argument("--repeats", type=int, help="timed calls of each contender; default: 30 and 11")
    kernel.add_argument("--out", type=Path, help="the JSON file to write")
    kernel.add_argument("--picture", type=Path, help="the PNG file to write")
    add_output(kernel)
    _add_fit(commands)
    compare = commands.add_parser("compare", description="Hold the results of B against those of A.")
    compare.add_argument("before", type=Path, metavar="A.json")
    compare.add_argument("after", type=Path, metavar="B.json")
    compare.add_argument(
        "--threshold", type=float, default=0.05, help="relative slow-down that counts as one; default: 0.05"
    )
    add_output(compare)
    return parser


def _add_fit(commands: Any) -> None:
    fit = commands.add_parser(
        "fit", description="Time flashlogit and what else is installed to the same objective."
    )
    fit.add_argument("--quick", action="store_true", help="small problems, few repeats: two minutes on a CPU")
    fit.add_argument(
        "--problems", nargs="+", metavar="NAME", help="such as '1M x 28'; default: what suits the device"
    )
    fit.add_argument(
        "--contenders", nargs="+", metavar="NAME", help="names or patterns, such as 'scikit-learn*'"
    )
    fit.add_argument("--devices", nargs="+", help="cuda, cpu or both; default: what there is")
    fit.add_argument("--gap", type=float, default=1e-8, help="relative gap to reach; default: 1e-8")
    fit.add_argument("--C", type=float, default=1.0, help="scikit-learn's inverse penalty; default: 1")
    fit.add_argument("--repeats", type=int, help="timed runs of each setting; default: 5, with --quick 3")
    fit.add_argument(
        "--limit",
        type=float,
        help="seconds for one setting, beyond which tighter ones are left out; default: 60, with --quick 1",
    )
    fit.add_argument("--out", type=Path, help="the JSON file to write")
    fit.add_argument("--picture", type=Path, help="the PNG file to write")
    add_output(fit)


def _kernel(options: argparse.Namespace) -> int:
    from .kernel import run_kernel
    from .options import kernel_options

    settings = kernel_options(
        devices=options.devices,
        columns=options.columns,
        dtypes=options.dtypes,
        gigabytes=options.gigabytes,
        repeats=options.repeats,
        quick=options.quick,
        out=options.out,
        picture=options.picture,
    )
    output = Output.of(options)
    report = run_kernel(settings, say=output.say, note=_silent if options.quiet else None)
    output.answer("", report.to_json())
    return 0


def _fit(options: argparse.Namespace) -> int:
    import torch

    if torch.cuda.is_available():
        # SciPy reads it when it is first imported; without it scikit-learn takes no arrays of a GPU.
        os.environ.setdefault("SCIPY_ARRAY_API", "1")
    from .fit import run_fit
    from .fit_options import fit_options

    settings = fit_options(
        problems=options.problems,
        devices=options.devices,
        quick=options.quick,
        gap=options.gap,
        C=options.C,
        repeats=options.repeats,
        limit=options.limit,
        contenders=options.contenders,
        out=options.out,
        picture=options.picture,
    )
    output = Output.of(options)
    report = run_fit(settings, say=output.say, note=_silent if options.quiet else None)
    output.answer("", report.to_json())
    return 0


def _compare(options: argparse.Namespace) -> int:
    from .compare import run_compare

    return run_compare(options.before, options.after, options.threshold, Output.of(options))


def _silent(line: str) -> None:
    """Say nothing."""
