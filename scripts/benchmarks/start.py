"""The command `start`: what small runs cost beside their work, and a large file beside pandas and scikit-learn.

Whole processes are timed by the CPU time of all their threads, in turn. `ratio` is to the first line of each table:
`import torch` for the small ones, of which `beyond_ms` is the rest, and for the large one pandas.read_csv, the same
split and standardisation, scikit-learn's LogisticRegression, and of each split the metrics and curves of a report.
Commands seldom search for garbage, which spares half a second of the import of torch too: `beyond_ms` is less than
what is done beyond it.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer

from .clock import timing
from .report import Record, Report, new_file, times

_PEER = """
import sys
import pandas as pd
from sklearn import calibration, linear_model, metrics, model_selection, preprocessing
X = pd.read_csv(sys.argv[1])
y, X = X.pop("y").to_numpy(), X.to_numpy()
def split(X, y, share): return model_selection.train_test_split(X, y, test_size=share, stratify=y, random_state=0)
X, test, y, y_test = split(X, y, 0.15)
X, validation, y, y_validation = split(X, y, 0.15 / 0.85)
scaler = preprocessing.StandardScaler().fit(X)
model = linear_model.LogisticRegression(C=1e3 / len(y), tol=1e-6).fit(scaler.transform(X), y)
names = "accuracy precision recall f1".split()
for X, y in ((X, y), (validation, y_validation), (test, y_test)):
    p = model.predict_proba(scaler.transform(X))[:, 1]
    found = [getattr(metrics, f"{name}_score")(y, p >= 0.5) for name in names]
    found += [of(y, p) for of in (metrics.log_loss, metrics.roc_auc_score, metrics.average_precision_score)]
    found += [metrics.brier_score_loss(y, p), calibration.calibration_curve(y, p, n_bins=10)]
    found += [metrics.roc_curve(y, p), metrics.precision_recall_curve(y, p), metrics.confusion_matrix(y, p >= 0.5)]
"""
_TRAIN = "-m flashlogit train --overwrite output=. --config"
_FILE = "data.source=file data.path=table.csv data.label.column=y data.split.validation=0.15 data.split.test=0.15"
_SMALL = {
    "train": f"{_TRAIN} bce.yaml",
    "predict of one row": "-m flashlogit predict --overwrite --model bce --data patient.csv --out p.csv",
    "inspect": "-m flashlogit inspect patients.csv",
}


def cpu_ms(arguments: Sequence[str], folder: str) -> float:
    """Return the milliseconds of CPU time that Python takes to run to its end."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1e3 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def records(commands: Mapping[str, Sequence[str]], rounds: int, folder: str) -> Iterable[Record]:
    """Yield the record of each command, whose first is the unit of the others."""
    found: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, arguments in commands.items():
            found[name].append(cpu_ms(arguments, folder))
    of_first = timing(next(iter(found.values())), "").ms
    for name, ms in found.items():
        known = times(timing(ms, "CPU time"))
        yield {"name": name, **known, "beyond_ms": known["ms"] - of_first, "ratio": known["ms"] / of_first}


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="benchmark.py start", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a table of 20,000 rows, and each process once")
    parser.add_argument("--out", type=new_file, help="the JSON file to write")
    parser.set_defaults(devices=["cpu"], picture=None)
    options = parser.parse_args(arguments)
    report, rounds = Report("start", __doc__, options), 1 if options.quick else 5
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        (where / "bce.yaml").write_bytes((Path(__file__).parents[2] / "configs/bce.yaml").read_bytes())
        patients = load_breast_cancer(as_frame=True).frame
        patients.to_csv(where / "patients.csv", index=False)
        patients[:1].to_csv(where / "patient.csv", index=False)
        small = {"import torch": ["-c", "import torch"], **{name: text.split() for name, text in _SMALL.items()}}
        report.add("a small run, and what its model and table are good for", records(small, rounds, folder))
        N, D, random = 20_000 if options.quick else 300_000, 40, np.random.default_rng(0)
        X = random.normal(size=(N, D)).round(6)
        y = random.random(N) < 1 / (1 + np.exp(-X @ random.normal(size=D) / 3))
        pd.DataFrame(X).add_prefix("x").assign(y=y.astype(int)).to_csv(where / "table.csv", index=False)
        (where / "table.yaml").write_text("name: table\nsolver: {name: auto}\nloss: {l2: 1.0e-3}\n")
        ours = f"{_TRAIN} table.yaml {_FILE}".split()
        large = {"pandas and scikit-learn": ["-c", _PEER, "table.csv"], "train from CSV": ours}
        report.add(f"{N:,} rows x {D} columns from CSV to a report", records(large, rounds, folder))
    report.finish()
    return 0
