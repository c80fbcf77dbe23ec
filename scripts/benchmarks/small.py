"""The command `small`: what small tables take by flashlogit and by scikit-learn, in turn; the speed-up is the ratio.

569 x 30 is fitted to a relative gap of 1e-8, with C = 1, by the quickest of scikit-learn's solvers at the loosest
tolerance that reaches it. 400 x 5, and 150 x 4 with three classes, are fitted as both estimators are by default, NumPy
arrays in float64. BLAS has one thread.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from flashlogit import LogisticRegression, fit

from .clock import clock_of
from .contenders import Contender, Data, contenders
from .problems import GAP, TABLES, Objective
from .report import Record, Report, between, parser_of, times

Work = Callable[[], object]
SOLVERS = [f"scikit-learn {name}" for name in ("lbfgs", "newton-cg", "newton-cholesky", "liblinear")]
"""Those that are quick for so few numbers."""


def fits() -> Iterator[tuple[str, dict[str, Work]]]:
    """Yield `fit` beside every solver of scikit-learn that reaches the gap, at its loosest setting that does."""
    X, y = TABLES["569 x 30"].make(torch.device("cpu"))
    objective, data = Objective(X, y, 1 / len(X)), Data(X, y)
    objective.minimize()
    calls: dict[str, Work] = {"flashlogit.fit": partial(fit, X, y, l2=1 / len(X), tolerance=GAP)}
    for other in contenders(data, "cpu", GAP, SOLVERS):
        if isinstance(other, Contender):
            for variant, setting in ((v, s) for v in other.variants for s in other.ladder):
                found = other.run(variant, setting)
                if objective.gap(objective(found.weight, found.bias)) <= GAP:
                    calls[f"{other.name}, {variant}, {setting:g}"] = partial(other.run, variant, setting)
                    break
    yield f"fit 569 x 30 to {GAP:g}", calls


def estimators() -> Iterator[tuple[str, dict[str, Work]]]:
    """Yield what is asked of both estimators: a fit, bootstraps, a grid and a prediction of one row."""
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression as Theirs
    from sklearn.model_selection import GridSearchCV

    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 5))
    y = (rng.random(400) < 1 / (1 + np.exp(-X @ rng.normal(size=5)))).astype(np.int64)
    samples = [rng.integers(400, size=400) for _ in range(100)]
    grid = {"C": [0.01, 0.1, 1.0, 10.0, 100.0]}
    kinds = {"flashlogit": LogisticRegression, "scikit-learn": Theirs}

    def bootstraps(kind: type) -> None:
        for rows in samples:
            kind().fit(X[rows], y[rows])

    yield "fit 400 x 5", {name: lambda kind=kind: kind().fit(X, y) for name, kind in kinds.items()}
    yield "100 bootstraps of it", {name: partial(bootstraps, kind) for name, kind in kinds.items()}
    yield "GridSearchCV over it", {name: partial(GridSearchCV(kind(), grid).fit, X, y) for name, kind in kinds.items()}
    yield (
        "predict_proba of a row",
        {name: partial(kind().fit(X, y).predict_proba, X[:1]) for name, kind in kinds.items()},
    )
    iris = load_iris(return_X_y=True)
    yield "fit 150 x 4, 3 classes", {name: partial(kind().fit, *iris) for name, kind in kinds.items()}


def measured(what: str, calls: Mapping[str, Work], rounds: int) -> Iterator[Record]:
    """Yield a record for each call; the speed-up of the first is over the quickest of the others."""
    for call in calls.values():
        call()  # compiles
    found = clock_of(torch.device("cpu"))(calls, rounds)
    ours, *others = found.values()
    for name, each in found.items():
        record: Record = {"name": f"{what}: {name}", "line": f"{what}: {name}", **times(each)}
        if each is ours:
            record["speedup"] = min((other.ms for other in others), default=math.nan) / ours.ms
        yield record | {"panel": "cpu", "x": what, "y": "ms"}


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    parser = parser_of("small", __doc__)
    parser.add_argument("--repeats", type=between(1, 100_000, int), help="rounds; default: 3 with --quick, else 21")
    options = parser.parse_args(arguments)
    options.devices = ["cpu"]
    report = Report("small", __doc__, options)
    # One thread is quicker for such matrices, and several wait for each other's cores.
    with warnings.catch_warnings(action="ignore"), threadpool_limits(1, "blas"):
        for part in (fits, estimators):
            for what, calls in part():
                report.add(what, measured(what, calls, options.repeats or (3 if options.quick else 21)))
    report.finish()
    return 0
