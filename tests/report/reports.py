"""Reports of small made-up runs, for the tests of the page and the pictures."""

import numpy as np
import torch
from scipy.special import expit
from sklearn.metrics import confusion_matrix

from flashlogit.config.settings import RunSettings
from flashlogit.data.columns.encoding import Standardization
from flashlogit.fitting.inference import Inference
from flashlogit.metrics.evaluation import evaluate
from flashlogit.metrics.intervals import bootstrap
from flashlogit.metrics.null_model import class_shares, compare_with_null
from flashlogit.metrics.scores import SplitScores
from flashlogit.models.model import Model
from flashlogit.report.build import build_report
from flashlogit.report.content import EpochSummary, RunSummary, SolverSummary
from flashlogit.report.importance import contribution_deviation

HOSTILE = (
    '</script><script>window.hacked = 1</script>"\'&<img src=x onerror="window.hacked=1"> ümlaut 漢字 ' + "x" * 300
)
GAPS = [{"iteration": i, "relative_gap": 10.0**-i} for i in range(6)]
LOSSES = [{"epoch": e, "train_loss": 0.7 / e, "validation_loss": 0.8 / e} for e in range(1, 6)]
SOLVED = SolverSummary(
    solver="newton", ending="tolerance", converged=True, objective=0.4, null_objective=0.6, certificate="gap", gap=1e-9,
    relative_gap=2e-9, tolerance=1e-6, statement="the objective is within 1e-9 of the optimum", notes=(),
    separation=None, iterations=5, passes=7.0, terabytes_per_second=0.01, seconds=0.1, compile_seconds=0.0,
)  # fmt: skip
TRAINED = EpochSummary(epochs=5, kept_epoch=4)


def scores(n=500, K=2, seed=0, weighted=False):
    rng = np.random.default_rng(seed)
    weight = rng.random(n) if weighted else None
    if K == 2:
        z = rng.normal(scale=2.0, size=n)
        return SplitScores(z, (rng.random(n) < expit(z)).astype(np.uint8), weight)
    z = rng.normal(size=(n, K))
    return SplitScores(z, (z + rng.gumbel(size=z.shape)).argmax(axis=1), weight)


def one_class():
    return SplitScores(np.linspace(-1, 1, 9), np.zeros(9, np.uint8))


def counts(split, threshold):
    """True and false negatives, false and true positives of two classes at a threshold, by scikit-learn."""
    called = (expit(split.logits) >= threshold).astype(np.uint8)
    return confusion_matrix(split.y, called, sample_weight=split.sample_weight).T.ravel()


def model_of(K=2, *, columns=5, labels=None, names=None, threshold=0.5):
    """A model of K classes on columns that are standardised with scale 2 and mean 3."""
    rng = np.random.default_rng(7)
    weight, bias = rng.normal(size=columns if K == 2 else (K, columns)), rng.normal(size=1 if K == 2 else K)
    names = names or tuple(f"column {j}" for j in range(columns))
    labels = labels or tuple(f"class {k}" for k in range(K))
    units = Standardization(np.full(columns, 3.0), np.full(columns, 2.0))
    return Model(weight, bias, names, labels, units, eps=0.0, threshold=threshold)


def report(
    K=2, *, columns=5, splits=None, inferred=False, threshold=0.5, history=GAPS, learned=SOLVED, told=None, model=None,
    X=None, class_weight=None, **names,
):  # fmt: skip
    """A report of `model_of` K classes, or another model of rows X, with the scores of `splits`; `told` are further
    arguments of `build_report`."""
    given = {"name": "a-run", "data": {"source": "synthetic", "columns": columns}, "solver": {"name": "newton"}}
    loss = {"l2": 0.0 if inferred else 0.1, "class_weight": class_weight}
    given |= {"loss": loss, "report": {"threshold": threshold}}
    splits = splits or {name: scores(K=K, seed=i) for i, name in enumerate(("train", "validation", "test"))}
    model = model or model_of(K, columns=columns, threshold=threshold, **names)
    asked, deviation = {"eps": 0, "threshold": threshold, "bins": 10}, model.standardization.scale
    metrics = {name: evaluate(split, **asked) for name, split in splits.items()}
    shares = class_shares(splits["train"])
    X = torch.zeros(1, len(model.feature_names)) if X is None else X
    return build_report(
        RunSettings.model_validate(given),
        model,
        metrics,
        {name: bootstrap(split, eps=0, threshold=threshold, seed=0, replicates=50) for name, split in splits.items()},
        splits,
        references={name: compare_with_null(split, metrics[name], shares, **asked) for name, split in splits.items()},
        history=history,
        summary=RunSummary("cpu", "torch", learned, flashlogit="1.2.3", torch="2.0", gpu=None, threads=1),
        deviation=deviation,
        contribution=contribution_deviation(model, X, deviation),
        inference=Inference.of(np.arange(columns + 1.0), np.full(columns + 1, 0.5), 0.95) if inferred else None,
        why_no_inference="the fit is penalised (l2 = 0.1)",
        **told or {},
    )
