"""Train a model: python scripts/train.py --config configs/bce.yaml"""

import sys

from flashlogit.commands.shell import train_main

if __name__ == "__main__":
    sys.exit(train_main())
