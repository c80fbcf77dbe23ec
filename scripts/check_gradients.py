"""Is the gradient right on this machine? python scripts/check_gradients.py, or with --config configs/bce.yaml"""

import sys

from flashlogit.commands.check_gradients import main

if __name__ == "__main__":
    sys.exit(main())
