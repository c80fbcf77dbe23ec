"""How fast are passes and fits on this machine, and are they right?"""

import importlib
import os
import sys

COMMANDS = {
    "kernel": "time flashlogit's passes and torch's ways to the same numbers side by side",
    "fit": "time flashlogit and other libraries to the same objective",
    "tune": "find better launches on a GPU, and put them into the launch table with --update-table",
    "device": "check and time everything on a GPU, in five to ten minutes",
    "compare": "say which numbers of a second JSON file are slower than those of a first one",
}


def main(arguments: list[str]) -> int:
    """Run a command; returns 1 for a regression or what is wrong, 2 for what the user can mend, 130 after Ctrl-C."""
    if arguments[:1] and arguments[0] in COMMANDS:
        code: int = importlib.import_module(f"benchmarks.{arguments[0]}").main(arguments[1:])
        return code
    if arguments[:1] not in ([], ["-h"], ["--help"]):
        print(f"error: there is no command {arguments[0]}; give one of {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    listed = "\n".join(f"  {name:8} {text}" for name, text in COMMANDS.items())
    print(f"usage: benchmark.py COMMAND ...\n\n{__doc__}\n\n{listed}")
    return 0


if __name__ == "__main__":
    # SciPy reads it when it is first imported; without it scikit-learn takes no arrays of a GPU.
    os.environ.setdefault("SCIPY_ARRAY_API", "1")
    try:
        code = main(sys.argv[1:])
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("interrupted; what was measured until then is kept", file=sys.stderr)
        code = 130
    except BrokenPipeError:  # as by `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)
