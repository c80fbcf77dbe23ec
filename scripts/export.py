"""A model for other programs: python scripts/export.py --model runs/bce --out model.onnx"""

from flashlogit.commands.main import run_command

if __name__ == "__main__":
    raise SystemExit(run_command("export"))
