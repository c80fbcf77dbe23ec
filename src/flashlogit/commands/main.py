"""The program `flashlogit`: one command for everything, each of which is a program of its own in scripts/ too."""

from __future__ import annotations

import argparse
import difflib
import importlib
import sys
from collections.abc import Sequence

_COMMANDS = {
    "train": ("flashlogit.commands.shell", "train_main", "train a model from a YAML config"),
    "predict": ("flashlogit.commands.shell", "predict_main", "write a model's probabilities for a file"),
    "evaluate": ("flashlogit.commands.evaluate", "evaluate_main", "measure a model on a file with labels"),
    "inspect": ("flashlogit.commands.inspect", "inspect_main", "say what a file holds, before training"),
    "export": (
        "flashlogit.commands.export",
        "export_main",
        "write a model for other programs: ONNX, scikit-learn",
    ),
    "check-gradients": (
        "flashlogit.commands.check_gradients",
        "main",
        "compare the gradient by hand, autograd and kernel",
    ),
}
"""Of each command the module, its function and what it does."""

_EXAMPLES = """\
examples:
  flashlogit inspect flights.csv --label arr_delay
  flashlogit train --config configs/bce.yaml
  flashlogit train --config configs/own_file.yaml data.path=flights.csv name=flights
  flashlogit evaluate --model runs/flights --data december.csv
  flashlogit predict --model runs/flights --data tomorrow.csv --out probabilities.csv
  flashlogit export --model runs/flights --out flights.onnx

exit codes:
  0    done
  1    the answer is no: gradients disagree
  2    a setting, option or file that you can mend; one sentence says which
  130  interrupted (Ctrl-C); 143 and 129 where SIGTERM or SIGHUP ended it

`flashlogit COMMAND --help` has the options of a command."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command of the command line; returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["benchmark"]:
        print(
            "error: benchmarks are scripts/benchmark.py of the source tree, not part of this program",
            file=sys.stderr,
        )
        return 2
    if arguments and arguments[0] in _COMMANDS:
        module, function, _ = _COMMANDS[arguments[0]]
        code: int = getattr(importlib.import_module(module), function)(
            arguments[1:], prog=f"flashlogit {arguments[0]}"
        )
        return code
    parser = _parser()
    wrong = _wrong_command(arguments)
    if wrong:
        parser.error(wrong)
    parser.parse_args(arguments)
    parser.print_help()
    return 0


def _wrong_command(arguments: Sequence[str]) -> str | None:
    """What is wrong with arguments of which the first is no command; None for options of the program itself."""
    if not arguments:
        return None
    first = arguments[0]
    if first.startswith("-"):
        late = next((each for each in arguments if each in _COMMANDS), None)
        rest = " ".join(each for each in arguments if each != late)
        return late and f"{first} stands before the command; write flashlogit {late} {rest}"
    near = difflib.get_close_matches(first, _COMMANDS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"give one of {', '.join(_COMMANDS)}"
    return f"there is no command {first}; {hint}"


def _parser() -> argparse.ArgumentParser:
    from .. import __version__
    from ..system.console import Parser

    width = max(map(len, _COMMANDS))
    listed = "\n".join(f"  {name:{width}}  {text}" for name, (_, _, text) in _COMMANDS.items())
    parser = Parser(
        prog="flashlogit",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="flashlogit COMMAND ...",
        description=f"Logistic regression whose loss and gradient cost one read of the data.\n\ncommands:\n{listed}",
        epilog=_EXAMPLES,
    )
    parser.add_argument("--version", action="version", version=f"flashlogit {__version__}")
    parser.add_argument(
        "command", nargs="?", choices=list(_COMMANDS), metavar="COMMAND", help=argparse.SUPPRESS
    )
    return parser
