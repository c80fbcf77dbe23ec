"""Is the gradient right on this machine? python scripts/check_gradients.py, or with --config configs/bce.yaml"""

from flashlogit.commands.main import run_command

if __name__ == "__main__":
    raise SystemExit(run_command("check-gradients"))
