"""A model for other programs: python scripts/export.py --model runs/bce --out model.onnx"""

import sys

from flashlogit.commands.export import export_main

if __name__ == "__main__":
    sys.exit(export_main())
