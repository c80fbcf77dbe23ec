"""Train a model: python scripts/train.py --config configs/bce.yaml"""

import sys

from flashlogit.commands.main import run_command

if __name__ == "__main__":
    sys.exit(run_command("train"))
