"""Measure a model on a file: python scripts/evaluate.py --model runs/bce --data labelled.csv"""

import sys

from flashlogit.commands.evaluate import evaluate_main

if __name__ == "__main__":
    sys.exit(evaluate_main())
