"""Compare runs: python scripts/compare.py runs/bce runs/newton"""

from flashlogit.commands.main import run_command

if __name__ == "__main__":
    raise SystemExit(run_command("compare"))
