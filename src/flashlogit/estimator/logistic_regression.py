"""scikit-learn's interface over the same objective and solvers, callbacks (`sklearn.callback`) included."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, Self

import torch
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from torch import Tensor

from ..fitting.fit import Fit, FitPoint, fit, fit_softmax
from ..fitting.inference import MAX_COLUMNS, Inference, infer, not_identified
from ..fitting.many import fit_many
from ..passes import BackendName
from ..system.errors import UserError
from ..training.partial_fit import MiniBatches
from .arrays import moved, numpy_of
from .fitted import BELOW, FittedModel
from .inputs import TrainingRows, training_rows
from .labels import class_labels, label_count
from .parameters import CONSTRAINTS, check_parameters, fit_options, penalties, shortfall

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn before 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Without callbacks there is no `set_callbacks`."""

    def with_callbacks(method: Callable[..., Any]) -> Callable[..., Any]:
        """Return the method as it is."""
        return method


class LogisticRegression(CallbackSupportMixin, FittedModel):  # type: ignore[misc]
    """Logistic regression with scikit-learn's interface and a certificate of how near the optimum is.

    Minimises C sum_i s_i loss_i + l1_ratio ||w||_1 + (1 - l1_ratio) / 2 ||w||_2^2 over the raw columns' weights and a
    free, unpenalised intercept, s being class and sample weights; more than two classes by softmax.

    X may be NumPy, pandas, Polars, a list, a torch tensor, CuPy or another array that offers DLPack, or scipy.sparse
    (copied into a dense matrix, with a warning). Tensors are used in place on their device, and what is fitted and
    predicted is in their namespace on that device. NumPy arrays of float64, float32, float16 and ml_dtypes' bfloat16
    are used in place too, and columns of other floats and of frames become no wider than they are.

    Args:
        C: inverse strength of the penalty, above 0; infinity for none, which also gives `inference_`.
        l1_ratio: share of the l1 term, from 0 to 1.
        penalty: "elasticnet" goes by l1_ratio; "l2" and "l1" set it to 0 and 1, and None sets C to infinity.
        dual: must be False; for compatibility.
        tol: on the duality gap as a share of the intercept-only model's objective (without a penalty on half the
            squared Newton decrement): `gap_` is at most this. Not scikit-learn's, which bounds a gradient.
        fit_intercept: whether there is an intercept.
        intercept_scaling: for compatibility; only scikit-learn's liblinear, which penalises the intercept, has a use
            for it.
        class_weight: None, "balanced" (S / (K S_k) for the sum of weights S_k of class k) or a dict by label.
        random_state: of the order of rows in `partial_fit`.
        solver: "auto", "lbfgs", "newton" or "newton-cg". scikit-learn's other names, "newton-cholesky",
            "liblinear", "sag" and "saga", are taken for "auto".
        max_iter: most evaluations of the objective; 0 leaves the coefficients at 0, or at those of a warm start.
        verbose: above 0 prints a line for each accepted point.
        warm_start: whether `fit` starts at the last solution, if its shape fits.
        n_jobs: for compatibility; a fit uses torch's threads.
        device: where host data are trained on: "auto" for the GPU if there is one, or a torch device. Tensors stay.
        backend: "auto", "triton" or "torch".
        learning_rate: of `partial_fit`, in standard deviations of a column's contribution.
        batch_size: rows of a mini-batch of `partial_fit`.

    Attributes:
        coef_: [1, D], or [K, D] for K > 2 classes, or [T, D] for T labels (see `fit`), in the units of X and its dtype
            (float32 at least).
        intercept_: [1], [K] or [T].
        classes_: [K] labels, or the numbers of T labels from 0 on. A class whose rows all have weight 0, of three or
            more, keeps coefficients of 0 and a probability of 0; the others' are as if its rows were not there.
        n_iter_: [1] evaluations of the objective, the most of T labels.
        gap_: float, proven bound on the distance from the optimum as a share of the intercept-only model's objective,
            of the float64 solution, which `coef_` is rounded from where X is narrower; infinite where `max_iter` is 0;
            not after `partial_fit`.
        inference_: for two classes without a penalty, `flashlogit.fitting.inference.Inference` with standard errors,
            z and p values and confidence intervals, which are NaN for coefficients that collinear columns leave free;
            None where there are none (separated data, or a fit that did not converge).
        n_features_in_, feature_names_in_: as in scikit-learn.
    """

    __module__ = "flashlogit.estimator"  # where pickles look for the class, whatever file it is in

    gap_: float
    inference_: Inference | None
    _batches: MiniBatches | None = None
    _parameter_constraints = CONSTRAINTS

    def __init__(
        self,
        penalty: str | None = "elasticnet",
        *,
        C: float = 1.0,
        l1_ratio: float = 0.0,
        dual: bool = False,
        tol: float = 1e-10,
        fit_intercept: bool = True,
        intercept_scaling: float = 1,
        class_weight: dict[Any, float] | str | None = None,
        random_state: Any = None,
        solver: str = "auto",
        max_iter: int = 1000,
        verbose: int = 0,
        warm_start: bool = False,
        n_jobs: int | None = None,
        device: str = "auto",
        backend: BackendName = "auto",
        learning_rate: float = 0.01,
        batch_size: int = 256,
    ) -> None:
        self.penalty = penalty
        self.C = C
        self.l1_ratio = l1_ratio
        self.dual = dual
        self.tol = tol
        self.fit_intercept = fit_intercept
        self.intercept_scaling = intercept_scaling
        self.class_weight = class_weight
        self.random_state = random_state
        self.solver = solver
        self.max_iter = max_iter
        self.verbose = verbose
        self.warm_start = warm_start
        self.n_jobs = n_jobs
        self.device = device
        self.backend = backend
        self.learning_rate = learning_rate
        self.batch_size = batch_size

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Go to the optimum over all rows.

        Args:
            X: [N, D] finite numbers.
            y: [N] labels of at least two classes; or [N, T] of 0 and 1, T >= 2 labels that do not exclude each other:
                then a model for each, fitted side by side.
            sample_weight: [N], at least 0.

        Raises:
            ValueError: a parameter or array that cannot be used.
            UserError: a solver that cannot take this problem, or a backend or device that cannot be had.
            MemoryError: a sparse X too large for a dense copy.
        """
        check_parameters(self)
        rows = training_rows(self, X, y, sample_weight, many_labels=True)
        options = fit_options(self, float(rows.mass.sum()))
        if rows.y.ndim == 2:
            self._optimise_labels(rows, options, (X, y, sample_weight))
            self._batches = None
            if not self.gap_ <= options["tolerance"]:
                message = f"a label's model has a gap of {self.gap_:.1e}, above tol: increase max_iter or tol"
                warnings.warn(message, ConvergenceWarning, stacklevel=2)
            return self
        result = self._optimise(rows, options, (X, y, sample_weight))
        self._batches = None
        self._infer(result, rows, options)
        if result is None or not result.converged:
            warnings.warn(shortfall(result), ConvergenceWarning, stacklevel=2)
        return self

    @with_callbacks  # type: ignore[untyped-decorator]
    def _optimise(self, rows: TrainingRows, options: dict[str, Any], given: tuple[Any, Any, Any]) -> Fit | None:
        """Set the attributes of the optimum, and return the fit, None where `max_iter` is 0.

        Args:
            rows: what to fit.
            options: keywords of `flashlogit.fit`.
            given: X, y and sample_weight as `fit` got them, for callbacks.
        """
        tasks = FitTasks(self, *given, max_tasks=max(self.max_iter, 1))
        present = rows.mass > 0
        K, C = len(present), int(present.sum())
        start = self._start(rows)

        def on_point(row: dict[str, float | int | None], point: FitPoint) -> None:
            tasks.point(int(row["iteration"] or 0), lambda: self._attributes(*point(), rows))
            if self.verbose > 0:
                print(f"iteration {row['iteration']}: objective {row['objective']:.6g}, gap {row['relative_gap']:.1e}")

        listener = on_point if tasks.followed or self.verbose > 0 else None
        options = {**options, "sample_weight": rows.weight, "start": start, "on_point": listener}
        result: Fit | None = None
        if self.max_iter == 0:
            weight, bias = start or _zeros(rows, C if K > 2 else 1)
            iterations, self.gap_ = 0, math.inf
        else:
            if K == 2:
                result = fit(rows.X, rows.y, backend=self.backend, **options)
            else:
                # Rows of the other classes have no weight, so that it does not matter where they are counted.
                number = (present.cumsum(0) - 1).clamp(min=0)[rows.y]
                result = fit_softmax(rows.X, number, classes=C, **options)
            weight, bias, iterations = result.weight, result.bias, max(1, result.iterations)
            self.gap_ = result.relative_gap
        self._keep(weight, bias, rows, iterations)
        tasks.end(iterations)
        return result

    @with_callbacks  # type: ignore[untyped-decorator]
    def _optimise_labels(self, rows: TrainingRows, options: dict[str, Any], given: tuple[Any, Any, Any]) -> None:
        """Set the attributes of the optima for T labels, as `_optimise` does for one."""
        tasks = FitTasks(self, *given, max_tasks=1)
        start, T = self._start(rows), rows.y.shape[1]
        total = options["l1"] + options["l2"]
        same = {name: options[name] for name in ("intercept", "tolerance", "max_iterations")}
        same |= {"sample_weight": rows.weight, "backend": self.backend}
        weight, bias = start or _zeros(rows, T)
        if self.max_iter == 0:
            found = [(weight[t], bias[t : t + 1], 0, math.inf) for t in range(T)]
        elif start is None:
            on_done = (lambda done, total: print(f"{done} of {total} labels")) if self.verbose > 0 else None
            l1_ratio = options["l1"] / total if total > 0 else 0.0
            fits = fit_many(
                rows.X, rows.y, l2=total, l1_ratio=l1_ratio, classes=2, refit=False, on_done=on_done, **same
            ).targets.values()
            found = [(of.weight[0, 0], of.bias[0], of.iterations.item(), of.relative_gap.item()) for of in fits]
        else:
            # fit_many takes no start; from the last solutions each label needs a few evaluations of its own.
            alone = [fit(rows.X, rows.y[:, t], **{**options, **same, "start": (weight[t], bias[t])}) for t in range(T)]
            found = [(of.weight, of.bias, of.iterations, of.relative_gap) for of in alone]
        weights, biases, iterations, gaps = zip(*found, strict=True)
        self.gap_ = max(gaps)
        self.__dict__.pop("inference_", None)
        self._keep(torch.stack(weights), torch.cat(biases), rows, max(*iterations, min(self.max_iter, 1)))
        tasks.end(1)

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Run one epoch of mini-batches by Adam over these rows, from the current weights (0 at first).

        The penalty is that of these rows: the objective is that of `fit` with their sum of weights. Its l1 term is
        followed by its subgradient, so that no weight becomes exactly 0. There is no certificate: `gap_` goes away.

        Args:
            X: [n, D] finite numbers.
            y: [n] labels.
            classes: [K] all labels that will occur, needed in the first call if y lacks some.
            sample_weight: [n], at least 0.

        Raises:
            ValueError: as `fit`, or a label that is not among the classes, or y [n, T] or a model of T labels.
        """
        check_parameters(self)
        if self._many_labels or label_count(y) > 1:
            raise ValueError("partial_fit trains a model of y [n]; y [n, T] of 0 and 1 is for fit")
        first = not hasattr(self, "coef_")
        if classes is not None:
            classes = class_labels(classes)
            if not first and classes.tolist() != numpy_of(self.classes_).tolist():
                raise ValueError(
                    f"classes is {classes.tolist()}, and earlier calls had {numpy_of(self.classes_).tolist()}"
                )
        classes = classes if first else self.classes_
        rows = training_rows(self, X, y, sample_weight, fewest=1, reset=first, classes=classes)
        options: dict[str, Any] = penalties(self, float(rows.mass.sum()))
        options |= {"learning_rate": self.learning_rate, "batch_size": int(self.batch_size)}
        # A copy: an epoch that fails leaves this estimator as it was, and copies of it are trained apart.
        batches = moved(self._batches or self._first_batches(rows), rows.X.device)
        self._orders += 1
        options["generator"] = torch.Generator().manual_seed(self._orders)
        batches.epoch(rows.X, rows.y, rows.weight, **options)
        self._batches = batches
        self._keep(batches.weight, batches.bias, rows, 0 if first else None)
        for name in ("gap_", "inference_"):
            self.__dict__.pop(name, None)
        return self

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def _first_batches(self, rows: TrainingRows) -> MiniBatches:
        """Return what `partial_fit` trains, at an earlier fit's coefficients or at 0, and draw the order of rows."""
        self._orders = check_random_state(self.random_state).randint(2**31 - 1)
        if not hasattr(self, "coef_"):
            weight, bias = _zeros(rows, len(rows.mass) if len(rows.mass) > 2 else 1)
        else:
            weight, bias = self._parameters(rows.X.device)
            if self._lacking is not None:  # or it would take ages to come back
                bias = bias + BELOW * torch.from_numpy(self._lacking).to(bias)
        return MiniBatches(weight, bias, intercept=self.fit_intercept)

    def _start(self, rows: TrainingRows) -> tuple[Tensor, Tensor] | None:
        """Return the last solution if this is a warm start and it is one of the same features and classes."""
        K, present = len(rows.mass), rows.mass > 0
        many = rows.y.ndim == 2
        shape = (rows.y.shape[1] if many else 1 if K == 2 else K, rows.X.shape[1])
        if (
            self._many_labels != many
            or not (self.warm_start and hasattr(self, "coef_"))
            or tuple(self.coef_.shape) != shape
        ):
            return None
        weight, bias = self._parameters(rows.X.device)
        if K > 2:
            if self._lacking is not None and bool(self._lacking[numpy_of(present)].any()):
                return None
            weight, bias = weight[present], bias[present]
        return (weight, bias) if bool(weight.isfinite().all() and bias.isfinite().all()) else None

    def _infer(self, result: Fit | None, rows: TrainingRows, options: dict[str, Any]) -> None:
        """Set `inference_` of an unpenalised fit of two classes, and remove that of an earlier fit."""
        self.__dict__.pop("inference_", None)
        if result is None or options["l1"] > 0 or options["l2"] > 0 or len(rows.mass) > 2:
            return
        self.inference_ = None
        if result.converged and rows.X.shape[1] <= MAX_COLUMNS:
            how = {"sample_weight": rows.weight, "intercept": options["intercept"], "backend": self.backend}
            try:
                self.inference_ = infer(rows.X, rows.y, result.weight, result.bias, **how)
            except UserError as error:
                warnings.warn(f"inference_ is None: {error}", UserWarning, stacklevel=3)
                return
            names = [*getattr(self, "feature_names_in_", [f"x{j}" for j in range(rows.X.shape[1])]), "intercept"]
            if lacking := self.inference_.unidentified(names):
                problem = f"columns are collinear: {not_identified(lacking)} in inference_"
                warnings.warn(f"{problem}; leave out dependent columns", UserWarning, stacklevel=3)


def _zeros(rows: TrainingRows, models: int) -> tuple[Tensor, Tensor]:
    """Return weights [models, D] and intercepts [models] of 0."""
    weight = torch.zeros(models, rows.X.shape[1], dtype=torch.float64, device=rows.X.device)
    return weight, weight.new_zeros(models)


Attributes = Callable[[], dict[str, Any]]
"""What turns a copy of the estimator into one that is fitted to here."""


class FitTasks:
    """The tasks of one fit: the whole, and in it one for each evaluation of the objective.

    As in scikit-learn's estimator there is one at least, one more begins at the last point and does nothing, and the
    wish of a callback to stop is not followed.
    """

    def __init__(self, estimator: BaseEstimator, X: Any, y: Any, sample_weight: Any, max_tasks: int) -> None:
        self._whole: Any = None
        self._step: Any = None
        self._begun = 0
        self._latest: Attributes = dict
        self._data: dict[str, Any] = {"estimator": estimator, "X": X, "y": y}
        if sample_weight is not None:
            self._data["metadata"] = {"sample_weight": sample_weight}
        if hasattr(estimator, "_skl_callbacks"):
            self._whole = estimator._init_callback_context(max_subtasks=max_tasks + 1)
            self._whole.call_on_fit_task_begin(**self._data)

    @property
    def followed(self) -> bool:
        """Whether there are callbacks."""
        return self._whole is not None

    def point(self, evaluation: int, attributes: Attributes) -> None:
        """Begin the tasks up to this accepted evaluation (0 is the start); those in between were not accepted."""
        if self._whole is not None:
            while self._begun < evaluation:
                self._advance()
            self._latest = attributes
            self._advance()

    def end(self, evaluations: int) -> None:
        """End all tasks of a fit, whose attributes the estimator has by now."""
        if self._whole is not None:
            self._latest = dict
            while self._begun <= max(1, evaluations):
                self._advance()
            self._step.call_on_fit_task_end(estimator=self._data["estimator"])
            self._whole.call_on_fit_task_end(**self._data, reconstruction_attributes=dict)

    def _advance(self) -> None:
        if self._step is not None:
            self._step.call_on_fit_task_end(**self._data, reconstruction_attributes=self._latest)
        self._step = self._whole.subcontext(task_name="iteration")
        self._step.call_on_fit_task_begin(**self._data, reconstruction_attributes=self._latest)
        self._begun += 1
