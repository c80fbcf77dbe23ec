"""The stage "tests": those marked gpu that matter here, in a process of their own."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from .bench import Bench, Record

_ROOT = Path(__file__).parents[2]
_WHAT = ("tests/kernels", "tests/solvers", "tests/test_training.py", "tests/test_estimator_gpu.py")
_KEPT_LINES = 60


def gpu_tests(bench: Bench, record: Record) -> None:
    """Fill in pytest's exit code and the end of what it printed; in the interpreter the tests are collected only.

    Without pytest there is no exit code.
    """
    if importlib.util.find_spec("pytest") is None:
        record["summary"] = "not run, for pytest is not installed; pip install pytest"
        return
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x" if bench.tiny else "--maxfail=12",
        "-m",
        "gpu",
        *_WHAT,
    ]
    command += ["--collect-only"] if bench.tiny else ["--durations=5", "-p", "no:cacheprovider"]
    paths = [str(_ROOT / "src"), str(_ROOT / "kernels"), os.environ.get("PYTHONPATH", "")]
    try:
        done = subprocess.run(
            command,
            cwd=_ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=max(5.0, bench.left() - 2),
        )
        record["exit_code"], output = done.returncode, done.stdout
    except subprocess.TimeoutExpired as late:
        record["exit_code"] = None
        output = late.stdout.decode(errors="replace") if isinstance(late.stdout, bytes) else late.stdout or ""
    lines = output.splitlines()
    record["summary"] = lines[-1] if lines else ""
    record["output"] = lines[-_KEPT_LINES:]
