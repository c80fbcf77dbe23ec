"""Logistic regression whose loss and gradient cost one read of the data.

examples:
  flashlogit inspect flights.csv --label arr_delay
  flashlogit init flights.csv --label arr_delay
  flashlogit train --config configs/bce.yaml
  flashlogit train --config configs/own_file.yaml data.path=flights.csv name=flights
  flashlogit evaluate --model runs/flights --data december.csv
  flashlogit compare runs/flights runs/flights_with_weather
  flashlogit predict --model runs/flights --data tomorrow.csv --out probabilities.csv
  flashlogit export --model runs/flights --out flights.onnx

exit codes:
  0    done
  1    the answer is no: gradients disagree
  2    a setting, option or file that you can mend; one sentence says which
  130  interrupted (Ctrl-C); 143 and 129 where SIGTERM or SIGHUP ended it

`flashlogit COMMAND --help` has the options of a command.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import sys
from collections.abc import Sequence

from ..system.console import Output, Parser, complain
from .shell import EXIT_USER_ERROR, command_parser, ending, few_searches

COMMANDS = {
    "init": "write a config for a file, ready to train",
    "train": "train a model from a YAML config",
    "predict": "write a model's probabilities for a file",
    "evaluate": "measure a model on a file with labels",
    "compare": "say which of several runs is better",
    "inspect": "say what a file holds, before training",
    "export": "write a model for other programs: ONNX, scikit-learn",
    "check-gradients": "compare the gradient by hand, autograd and kernel",
}
"""What each command does. The module of its name is imported when the command runs."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the command line says; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    first = arguments[0] if arguments else ""
    if first in COMMANDS:
        return run_command(first, arguments[1:], f"flashlogit {first}")
    if first == "benchmark":
        complain("error: the benchmarks are in the source tree; run python scripts/benchmark.py there")
        return EXIT_USER_ERROR
    parser = _parser()
    if wrong := _wrong_command(arguments):
        parser.error(wrong)
    parser.parse_args(arguments)
    parser.print_help()
    return 0


def run_command(name: str, argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run a command and return its exit code.

    Args:
        name: one of `COMMANDS`.
        argv: its arguments; None for those of the process.
        prog: the command's name in its help; None for the name of the process's script.
    """
    with few_searches():
        command = importlib.import_module(f".{name.replace('-', '_')}", __package__)
        # Settings, files and options may stand in any order.
        parser = command_parser(prog, command)
        options = parser.parse_intermixed_args(argv)
        options.command_line = [*parser.prog.split(), *(sys.argv[1:] if argv is None else argv)]
        with ending(debug=options.debug) as end:
            end.code = command.run(options, Output(options.quiet, options.json)) or 0
    return end.code


def _wrong_command(arguments: Sequence[str]) -> str | None:
    """Return what is wrong with arguments of which the first is no command; None for options of the program itself."""
    if not arguments:
        return None
    first = arguments[0]
    if first.startswith("-"):
        late = next((each for each in arguments if each in COMMANDS), None)
        rest = " ".join(each for each in arguments if each != late)
        return late and f"{first} stands before the command; write flashlogit {late} {rest}"
    near = difflib.get_close_matches(first, COMMANDS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"give one of {', '.join(COMMANDS)}"
    return f"there is no command {first}; {hint}"


def _parser() -> argparse.ArgumentParser:
    from .. import __version__

    width = max(map(len, COMMANDS))
    listed = "\n".join(f"  {name:{width}}  {text}" for name, text in COMMANDS.items())
    about, _, examples = (__doc__ or "").partition("\n\n")
    parser = Parser(
        prog="flashlogit",
        usage="flashlogit COMMAND ...",
        description=f"{about}\n\ncommands:\n{listed}",
        epilog=examples.rstrip(),
    )
    parser.add_argument("--version", action="version", version=f"flashlogit {__version__}")
    parser.add_argument("command", nargs="?", metavar="COMMAND", help=argparse.SUPPRESS)
    return parser
