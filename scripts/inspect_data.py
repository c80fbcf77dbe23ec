"""What a file holds, before training: python scripts/inspect_data.py data.csv --label churned"""

import sys

from flashlogit.commands.inspect import inspect_main

if __name__ == "__main__":
    sys.exit(inspect_main())
