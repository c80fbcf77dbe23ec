"""What a file holds, before training: python scripts/inspect_data.py data.csv --label churned"""

from flashlogit.commands.main import run_command

if __name__ == "__main__":
    raise SystemExit(run_command("inspect"))
