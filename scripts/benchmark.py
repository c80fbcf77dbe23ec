"""How fast are passes and fits on this machine, and are they right?"""

import argparse
import importlib
import os
import sys

COMMANDS = {
    "kernel": ("kernel.main", "time flashlogit's passes and torch's ways to the same numbers side by side"),
    "fit": ("fit.main", "time flashlogit and other libraries to the same objective"),
    "tune": ("tune.main", "find better launches on a GPU, and put them into the launch table with --update-table"),
    "device": ("device.main", "check and time everything on a GPU, in five to ten minutes"),
    "compare": ("report.compare", "say which numbers of a second JSON file are slower than those of a first one"),
}


def main(arguments: list[str]) -> int:
    """Run a command; returns 1 for a regression or what is wrong, 2 for what the user can mend, 130 after Ctrl-C."""
    listed = "\n".join(f"  {name:8} {text}" for name, (_, text) in COMMANDS.items())
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, epilog=listed, formatter_class=form)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("options", nargs=argparse.REMAINDER, help="its own options; -h behind the command lists them")
    options = parser.parse_args(arguments)
    module, _, function = COMMANDS[options.command][0].partition(".")
    code: int = getattr(importlib.import_module(f"benchmarks.{module}"), function)(options.options)
    return code


if __name__ == "__main__":
    # SciPy reads it when it is first imported; without it scikit-learn takes no arrays of a GPU.
    os.environ.setdefault("SCIPY_ARRAY_API", "1")
    try:
        code = main(sys.argv[1:])
    except KeyboardInterrupt:
        print("interrupted; what was measured until then is kept", file=sys.stderr)
        code = 130
    sys.exit(code)
