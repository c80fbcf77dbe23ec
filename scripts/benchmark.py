"""How fast are passes and fits on this machine, and are they right?

  kernel   time flashlogit's passes and torch's ways to the same numbers side by side
  fit      time flashlogit and other libraries to the same objective
  spectra  time flashlogit's methods on sixty tables with all kinds of spectra
  l1       the same with an l1 term, few rows and many columns too
  small    time small tables by flashlogit and by scikit-learn
  many     time grids of targets, penalties and folds, and many small fits
  start    time small runs beside `import torch`, and a large file beside pandas and scikit-learn
  tune     find better launches on a GPU, and put them into the launch table with --update-table
  device   check and time everything on a GPU, in five to ten minutes
  compare  say which numbers of a second JSON file are slower than those of a first one

`benchmark.py COMMAND --help` lists the options of each.
"""

import argparse
import importlib
import os
import sys

TUNE = ["device", "--stages", "machine", "tuning"]
COMMANDS = {name: [name] for name in ("kernel", "fit", "spectra", "l1", "small", "many", "start", "device")}
COMMANDS |= {"tune": TUNE, "compare": ["report"]}
"""By name: the module whose `main` it is, and options of its own."""


def main(arguments: list[str]) -> int:
    """Run a command; returns 1 for a regression or what is wrong, 2 for what the user can mend, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("options", nargs=argparse.REMAINDER)
    options = parser.parse_args(arguments)
    module, *own = COMMANDS[options.command]
    return importlib.import_module(f"benchmarks.{module}").main([*own, *options.options])


if __name__ == "__main__":
    # SciPy reads it when it is first imported; without it scikit-learn takes no arrays of a GPU.
    os.environ.setdefault("SCIPY_ARRAY_API", "1")
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        print("interrupted; what was measured until then is kept", file=sys.stderr)
        sys.exit(130)
