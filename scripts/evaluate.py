"""Measure a model on a file: python scripts/evaluate.py --model runs/bce --data labelled.csv"""

from flashlogit.commands.main import run_command

if __name__ == "__main__":
    raise SystemExit(run_command("evaluate"))
