"""How fast are passes and fits on this machine? kernel or fit; device on a GPU; compare A.json B.json."""

import os
import sys


def main(arguments: list[str]) -> int:
    """Dispatch to the command."""
    if arguments[:1] == ["device"]:
        from benchmarks import device

        return device.main(arguments[1:])
    if arguments[:1] == ["compare"]:
        from benchmarks import comparing

        if comparing.takes(arguments[1:]):
            return comparing.main(arguments[1:])
    from flashlogit.benchmark.cli import main as installed

    if arguments[:1] in (["-h"], ["--help"]):
        print("A GPU has a command of its own, benchmark.py device; see benchmark.py device --help.\n")

    return installed(arguments)


if __name__ == "__main__":
    try:
        code = main(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # as by `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)
