"""Seeds faults in copies of the tree, one at a time, and says which of them the tests do not notice.

    python tests/seeded_faults.py            all of tests/seeded_faults.yaml, in half an hour on two cores
    python tests/seeded_faults.py softmax    those whose description contains a word
    python tests/seeded_faults.py --check    only whether each fault's text is still in its file

Exit code 1 where a fault was not noticed, or its text is no longer there.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]


def seeded(fault: dict[str, str], tree: Path) -> bool:
    """Return whether the fault's tests fail in a copy of the project that has it."""
    shutil.rmtree(tree, ignore_errors=True)
    left_out = shutil.ignore_patterns(".git", "runs", "__pycache__", ".*_cache")
    shutil.copytree(ROOT, tree, ignore=lambda folder, names: left_out(folder, names) if folder == str(ROOT) else [])
    file = tree / fault["file"]
    file.write_text(file.read_text(encoding="utf-8").replace(fault["old"], fault["new"], 1), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": f"{tree / 'src'}{os.pathsep}{tree / 'kernels'}"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *fault["tests"].split()]
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, check=False).returncode == 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="only faults whose description contains one of these")
    parser.add_argument("--check", action="store_true", help="seed nothing")
    options = parser.parse_args()
    faults = yaml.safe_load((ROOT / "tests/seeded_faults.yaml").read_text(encoding="utf-8"))
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        for fault in faults:
            if options.words and not any(word in fault["what"] for word in options.words):
                continue
            there = fault["old"] in (ROOT / fault["file"]).read_text(encoding="utf-8")
            there = there and all((ROOT / test).exists() for test in fault["tests"].split())
            noticed = there and (options.check or seeded(fault, Path(folder, "tree")))
            missed += not noticed
            outcome = "GONE" if not there else "there" if options.check else "noticed" if noticed else "NOT NOTICED"
            print(f"{outcome:12}{fault['what']}", flush=True)
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
