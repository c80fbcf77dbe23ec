"""Train a model: python scripts/train.py --config configs/bce.yaml"""

from flashlogit.commands.main import run_command

if __name__ == "__main__":
    raise SystemExit(run_command("train"))
