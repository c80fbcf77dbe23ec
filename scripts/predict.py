"""Probabilities for a file: python scripts/predict.py --model runs/bce --data new.csv --out probabilities.csv"""

from flashlogit.commands.main import run_command

if __name__ == "__main__":
    raise SystemExit(run_command("predict"))
