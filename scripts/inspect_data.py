"""What a file holds, before training: python scripts/inspect_data.py data.csv --label churned"""

import sys

from flashlogit.commands.main import run_command

if __name__ == "__main__":
    sys.exit(run_command("inspect"))
