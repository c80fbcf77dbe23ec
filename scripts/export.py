"""A model for other programs: python scripts/export.py --model runs/bce --out model.onnx"""

import sys

from flashlogit.commands.main import run_command

if __name__ == "__main__":
    sys.exit(run_command("export"))
