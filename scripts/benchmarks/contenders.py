"""Who competes in `fit`: a function for each library, which gives its solvers with their ladders of settings.

A function imports its library itself: where that fails the library is skipped with a note. Every solver gets the same
penalty l2 = 1 / N, which is scikit-learn's
default of C = 1, and leaves the intercept free; what is particular about one is said beside it.
"""

import fnmatch
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from flashlogit.fitting.fit import fit

from .problems import dtype_of
from .report import Record, reason

_BOTH = ("float64", "float32")
_MEMORY, _MOST = 20, 1000
"""Pairs that an L-BFGS keeps, and most iterations of a setting: with more, one that diverges would run for hours."""


class Data:
    """A table as contenders want it: any dtype, memory order and device, made once each and never timed."""

    def __init__(self, X: Tensor, y: Tensor, l2: float | None = None) -> None:
        self.X, self.y, self.l2 = X, y, l2 or 1.0 / len(X)
        self.numpy, self.torch = cache(self._numpy), cache(self._torch)

    def _numpy(self, variant: str, labels: str = "int64") -> tuple[Any, Any]:
        """Return X and y in NumPy; a variant is a dtype, which ", column-major" may follow."""
        dtype, _, order = variant.partition(", ")
        X = np.asarray(self.X.cpu(), dtype=dtype, order="F" if order else "C")
        return X, np.asarray(self.y.cpu(), dtype=labels)

    def _torch(self, device: str, dtype: str, labels: str | None = None) -> tuple[Tensor, Tensor]:
        """Return X and y in torch, y in the dtype of X unless another one is asked for."""
        return self.X.to(device, dtype_of(dtype)), self.y.to(device, dtype_of(labels or dtype))


class Solution(NamedTuple):
    """Weights and bias, as any array; iterations of the solver and passes over X, where the library tells them."""

    weight: Any
    bias: Any
    iterations: int | None = None
    passes: float | None = None


@dataclass(frozen=True, eq=False)
class Contender:
    """Somebody's solver on a device.

    run: takes a variant and a value of the ladder. ladder: values from loose to tight; knob: what they are. variants:
    each has the ladder to itself. blas: whether its BLAS may be better off with one thread.
    """

    name: str
    device: str
    run: Callable[[str, float], Solution]
    ladder: Sequence[float]
    variants: Sequence[str] = _BOTH
    knob: str = "tol"
    blas: bool = False


def _tolerances(first: int, last: int) -> list[float]:
    return [float(f"1e-{k}") for k in range(first, last + 1)]


def _fitted(model: Any, X: Any, y: Any) -> Solution:
    """Fit what has scikit-learn's interface, which may count iterations for each class, on the device of X."""
    model.fit(X, y)
    iterations = getattr(model, "n_iter_", None)
    return Solution(
        model.coef_, model.intercept_, None if iterations is None else int(torch.as_tensor(iterations).max())
    )


def _models(library: str, data: Data, make: Any, solvers: str, *variants: str) -> Iterator[Contender]:
    """Yield solvers on the CPU with scikit-learn's interface: `make` takes solver and tolerance."""

    def run(solver: str, variant: str, tolerance: float) -> Solution:
        # glum wants labels in the dtype of X.
        labels = variant.partition(",")[0] if library == "glum" else "int64"
        return _fitted(make(solver, tolerance), *data.numpy(variant, labels))

    for solver in solvers.split():
        name, some = f"{library} {solver}", variants or _BOTH
        yield Contender(name, "cpu", partial(run, solver), _tolerances(1, 12), some, blas=True)


def flashlogit(data: Data, device: str, gap: float) -> Iterator[Contender]:
    """Judged by `auto` with the gap as the tolerance that it proves itself; its other solvers at their best."""

    def run(solver: Any, variant: str, tolerance: float) -> Solution:
        found = fit(*data.torch(device, variant, "uint8"), l2=data.l2, tolerance=tolerance, solver=solver)
        return Solution(found.weight, found.bias, found.iterations, found.passes)

    for solver in ("auto", "lbfgs", "newton", "newton-cg"):
        name = f"flashlogit {solver}".removesuffix(" auto")
        ladder = [gap] if solver == "auto" else _tolerances(3, 12)
        yield Contender(name, device, partial(run, solver), ladder, ("float32",))


def scikit_learn(data: Data, device: str, gap: float) -> Iterator[Contender]:
    """Every solver on the CPU, and L-BFGS on arrays of a GPU; liblinear's penalised intercept is scaled by 100."""
    import sklearn
    from sklearn.linear_model import LogisticRegression as Model

    def make(solver: str, tolerance: float) -> Any:
        scaling = 100.0 if solver == "liblinear" else 1.0
        # Epochs are cheap, and settings that end take up to 1,300; in float32 some never end.
        most = 3 * _MOST if solver in ("sag", "saga") else _MOST
        return Model(solver=solver, tol=tolerance, max_iter=most, intercept_scaling=scaling, random_state=0)

    def on_the_gpu(variant: str, tolerance: float) -> Solution:
        with sklearn.config_context(array_api_dispatch=True):
            return _fitted(make("lbfgs", tolerance), *data.torch(device, variant, "int64"))

    if device != "cpu":
        yield Contender("scikit-learn lbfgs, array API", device, on_the_gpu, _tolerances(2, 10))
        return
    yield from _models("scikit-learn", data, make, "lbfgs newton-cg newton-cholesky sag saga")
    yield from _models("scikit-learn", data, make, "liblinear", "float64")


def scikit_learn_intelex(data: Data, device: str, gap: float) -> Iterator[Contender]:
    """Intel's own LogisticRegression, which leaves scikit-learn's as it is."""
    from sklearnex.linear_model import LogisticRegression as Model

    def make(solver: str, tolerance: float) -> Any:
        return Model(solver=solver, tol=tolerance, max_iter=_MOST)

    yield from _models("scikit-learn-intelex", data, make, "lbfgs newton-cg")


def glum(data: Data, device: str, gap: float) -> Iterator[Contender]:
    """Its alpha is l2 itself; a column-major X may suit it better."""
    from glum import GeneralizedLinearRegressor as Model

    def make(solver: str, tolerance: float) -> Any:
        options: Any = {"solver": solver, "gradient_tol": tolerance, "max_iter": _MOST}
        return Model(family="binomial", alpha=data.l2, l1_ratio=0.0, **options)

    variants = [f"{dtype}{order}" for dtype in _BOTH for order in ("", ", column-major")]
    yield from _models("glum", data, make, "irls-ls lbfgs", *variants)


def cyanure(data: Data, device: str, gap: float) -> Iterator[Contender]:
    """Its lambda_1 is l2 itself. float32 is left out: there it stops at gaps of 1e-8 to 1e-6."""
    from cyanure.estimators import Classifier as Model

    def make(solver: str, tolerance: float) -> Any:
        options: Any = {"penalty": "l2", "fit_intercept": True, "solver": solver, "verbose": False}
        return Model(loss="logistic", lambda_1=data.l2, tol=tolerance, max_iter=_MOST, **options)

    yield from _models("cyanure", data, make, "acc-svrg qning-svrg catalyst-svrg qning-ista auto", "float64")


def skglm(data: Data, device: str, gap: float) -> Iterator[Contender]:
    """Its proximal Newton method, with an elastic net of which only the quadratic part is left."""
    from skglm import GeneralizedLinearEstimator, datafits, penalties, solvers

    def make(solver: str, tolerance: float) -> Any:
        method = solvers.ProxNewton(max_iter=_MOST, tol=tolerance, fit_intercept=True)
        return GeneralizedLinearEstimator(datafits.Logistic(), penalties.L1_plus_L2(data.l2, 0.0), method)

    yield from _models("skglm", data, make, "prox-newton", "float64, column-major")


def cuml(data: Data, device: str, gap: float) -> Iterator[Contender]:
    """RAPIDS, on arrays that are on the GPU already, with labels in the dtype of X, as its solver wants them."""
    import cupy
    from cuml.linear_model import LogisticRegression as Model

    def run(variant: str, tolerance: float) -> Solution:
        model = Model(tol=tolerance, max_iter=_MOST, output_type="numpy")
        return _fitted(model, *(cupy.asarray(value) for value in data.torch(device, variant)))

    yield Contender("cuML qn", device, run, _tolerances(2, 12))


def torch_lbfgs(data: Data, device: str, gap: float) -> Iterator[Contender]:
    """torch.optim.LBFGS with its strong Wolfe line search; an evaluation reads X twice."""
    plain: Any = torch.nn.functional.binary_cross_entropy_with_logits
    search: Any = {"tolerance_grad": 0.0, "tolerance_change": 0.0, "line_search_fn": "strong_wolfe"}

    def run(variant: str, iterations: float) -> Solution:
        X, y = data.torch(device, variant)
        w, b = (X.new_zeros(size, requires_grad=True) for size in (X.shape[1], 1))
        optimizer = torch.optim.LBFGS([w, b], max_iter=int(iterations), history_size=_MEMORY, **search)

        def closure() -> Tensor:
            optimizer.zero_grad()
            value: Tensor = plain(X @ w + b, y) + 0.5 * data.l2 * (w @ w)
            value.backward()
            return value

        optimizer.step(closure)
        known = optimizer.state[w]
        return Solution(w.detach(), b.detach(), known["n_iter"], 2.0 * known["func_evals"])

    ladder = (5, 10, 15, 20, 30, 40, 60, 100, 200, 400)
    yield Contender("torch.optim.LBFGS", device, run, ladder, knob="iterations")


def jax_lbfgs(data: Data, device: str, gap: float) -> Iterator[Contender]:
    """optax's L-BFGS in a loop that JAX compiles once for each dtype."""
    # JAX would take three quarters of a GPU's memory for itself.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax
    import optax

    jax.config.update("jax_enable_x64", True)  # without it JAX turns float64 into float32
    where, optimizer = jax.devices(device)[0], optax.lbfgs(memory_size=_MEMORY)
    np_of, get = jax.numpy, optax.tree_utils.tree_get

    @jax.jit
    def solve(X: Any, y: Any, tolerance: Any) -> Any:
        def objective(theta: Any) -> Any:
            z = X @ theta[:-1] + theta[-1]
            return np_of.mean(jax.nn.softplus(z) - y * z) + 0.5 * data.l2 * (theta[:-1] @ theta[:-1])

        def step(carry: Any) -> Any:
            theta, state = carry
            value, gradient = optax.value_and_grad_from_state(objective)(theta, state=state)
            known = {"value": value, "grad": gradient, "value_fn": objective}
            updates, state = optimizer.update(gradient, state, theta, **known)
            return optax.apply_updates(theta, updates), state

        def goes_on(carry: Any) -> Any:
            count, error = get(carry[1], "count"), np_of.max(np_of.abs(get(carry[1], "grad")))
            return (count == 0) | ((count < _MOST) & (error > tolerance))

        start = np_of.zeros(X.shape[1] + 1, dtype=X.dtype)
        theta, state = jax.lax.while_loop(goes_on, step, (start, optimizer.init(start)))
        return theta[:-1], theta[-1], get(state, "count")

    there = cache(lambda variant: jax.device_put(data.numpy(variant, variant), where))

    def run(variant: str, tolerance: float) -> Solution:
        X, y = there(variant)
        weight, bias, count = map(np.array, solve(X, y, np.asarray(tolerance, dtype=variant)))
        return Solution(weight, bias, int(count))

    yield Contender("JAX optax.lbfgs", device, run, _tolerances(2, 10))


LIBRARIES: dict[str, tuple[Callable[[Data, str, float], Iterator[Contender]], Sequence[str]]] = {
    "flashlogit": (flashlogit, ("cuda", "cpu")),
    "scikit-learn": (scikit_learn, ("cuda", "cpu")),
    "scikit-learn-intelex": (scikit_learn_intelex, ("cpu",)),
    "glum": (glum, ("cpu",)),
    "cyanure": (cyanure, ("cpu",)),
    "skglm": (skglm, ("cpu",)),
    "cuML": (cuml, ("cuda",)),
    "torch": (torch_lbfgs, ("cuda", "cpu")),
    "JAX": (jax_lbfgs, ("cuda", "cpu")),
}
"""By name: what gives its contenders, and the devices that it is for."""


def contenders(data: Data, device: str, gap: float, patterns: Sequence[str]) -> list[Contender | Record]:
    """Return all whose name or library matches a pattern, in any case; a record for each that cannot take part."""
    asked = re.compile("|".join(map(fnmatch.translate, patterns)) or "(?!)", re.IGNORECASE)
    found: list[Contender | Record] = []
    for library in (name for name, (_, devices) in LIBRARIES.items() if device in devices):
        try:
            with warnings.catch_warnings(action="ignore"):
                made = LIBRARIES[library][0](data, device, gap)
                found += [each for each in made if asked.match(each.name) or asked.match(library)]
        except Exception as error:
            status = "skipped" if isinstance(error, ImportError) else "failed"
            absent = {"name": library, "device": device, "status": status, "reason": reason(error)}
            found += [absent] if asked.match(library) else []
    return found
