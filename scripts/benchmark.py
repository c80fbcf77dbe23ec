"""How fast are the passes on this machine? python scripts/benchmark.py kernel --quick, or tune, or compare A B"""

import sys

from flashlogit.benchmark.cli import main

if __name__ == "__main__":
    sys.exit(main())
