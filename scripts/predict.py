"""Probabilities for a file: python scripts/predict.py --model runs/bce --data new.csv --out probabilities.csv"""

import sys

from flashlogit.commands.shell import predict_main

if __name__ == "__main__":
    sys.exit(predict_main())
