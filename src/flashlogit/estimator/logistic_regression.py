"""scikit-learn's interface over the same objective and solvers."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import scipy.sparse
import torch
from sklearn import get_config
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score
from sklearn.utils import check_random_state
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from ..fitting.fit import Fit, FitPoint, Parameters, fit
from ..fitting.inference import MAX_COLUMNS, Inference, infer
from ..fitting.softmax import fit_softmax
from ..solvers.driver import HistoryRow
from ..system.device import resolve_device
from ..system.errors import UserError
from ..system.memory import cast_rows
from ..training.partial_fit import MiniBatches
from .arrays import as_tensor, is_device_array, like, namespace_of, numpy_of
from .callbacks import CallbackSupportMixin, FitTasks, with_callbacks
from .inputs import Rows, prediction_rows, training_rows
from .labels import class_labels
from .parameters import check_parameters, own_words, penalties, solver_name, tolerance
from .portable import moved, on_host

_BELOW = 1000.0
"""How far the logit of a class whose rows all have weight 0 lies below the others', where two or more have some. The
optimum is at minus infinity, which would be no number to go on from, and exp(-1000) is 0 in float64."""
_SAMPLE = 1024
"""Rows at least that are asked for the others' logits."""


class LogisticRegression(CallbackSupportMixin, ClassifierMixin, BaseEstimator):  # type: ignore[misc]
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
        solver: "auto", "lbfgs", "newton" or "newton-cg". scikit-learn's other names are taken too: "newton-cholesky"
            for "newton", "liblinear", "sag" and "saga" for "auto".
        max_iter: most evaluations of the objective; 0 leaves the coefficients at 0, or at those of a warm start.
        verbose: above 0 prints a line for each accepted point.
        warm_start: whether `fit` starts at the last solution, if its shape fits.
        n_jobs: for compatibility; a fit uses torch's threads.
        device: where host data are trained on: "auto" for the GPU if there is one, or a torch device. Tensors stay.
        backend: "auto", "triton" or "torch".
        learning_rate: of `partial_fit`, in standard deviations of a column's contribution.
        batch_size: rows of a mini-batch of `partial_fit`.

    Attributes:
        coef_: [1, D], or [K, D] for K > 2 classes, in the units of X and its dtype (float32 at least).
        intercept_: [1] or [K].
        classes_: [K] labels. A class whose rows all have weight 0, of three or more, keeps coefficients of 0 and a
            probability of 0; the others' are as if its rows were not there.
        n_iter_: [1] evaluations of the objective.
        gap_: float, proven bound on the distance from the optimum as a share of the intercept-only model's objective,
            of the float64 solution, which `coef_` is rounded from where X is narrower; infinite where `max_iter` is 0;
            not after `partial_fit`.
        inference_: for two classes without a penalty, `flashlogit.fitting.inference.Inference` with standard errors,
        z and p
            values and confidence intervals; None where they do not exist (separated or collinear data).
        n_features_in_, feature_names_in_: as in scikit-learn.
    """

    coef_: Any
    intercept_: Any
    classes_: Any
    n_iter_: Any
    gap_: float
    inference_: Inference | None

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
        backend: str = "auto",
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
            y: [N] labels of at least two classes.
            sample_weight: [N], at least 0.

        Raises:
            ValueError: a parameter or array that cannot be used.
            UserError: a solver that cannot take this problem, or a backend or device that cannot be had.
            MemoryError: a sparse X too large for a dense copy.
        """
        check_parameters(self)
        rows = training_rows(self, X, y, sample_weight, device=resolve_device(self.device))
        weight, mass = self._weights(rows)
        l1, l2 = penalties(self, float(mass.sum()))
        solver = solver_name(self, l1)
        problem = {"sample_weight": weight, "l1": l1, "l2": l2, "solver": solver}
        notes, result = self._optimise(rows, mass > 0, problem, (X, y, sample_weight))
        self.__dict__.pop("_batches", None)
        self.__dict__.pop("_lacking", None)
        if not bool((mass > 0).all()):
            self._lacking = numpy_of(mass <= 0)
        self._infer(result, rows, weight, penalised=l1 > 0 or l2 > 0)
        if notes:
            warnings.warn(own_words("; ".join(notes)), ConvergenceWarning, stacklevel=2)
        return self

    @with_callbacks  # type: ignore[untyped-decorator]
    def _optimise(
        self, rows: Rows, present: Tensor, problem: dict[str, Any], given: tuple[Any, Any, Any]
    ) -> tuple[Sequence[str], Fit | None]:
        """Set the attributes of the optimum over classes of which some rows have weights, `present` [K].

        Args:
            given: X, y and sample_weight as `fit` got them, for callbacks.

        Returns:
            What there is to warn of, and the fit, None where `max_iter` is 0.
        """
        D, K = rows.X.shape[1], len(present)
        tasks = FitTasks(self, *given, max_tasks=max(self.max_iter, 1))
        start = self._start(rows, present)
        if self.max_iter == 0:
            if start is None:
                models = int(present.sum()) if K > 2 else 1
                start = rows.X.new_zeros((models, D)), rows.X.new_zeros(models)
            self._keep(*start, rows, present)
            self.n_iter_ = like(rows.reference, torch.tensor([0], dtype=torch.int32))
            self.gap_ = math.inf
            tasks.end(0, dict)
            return [
                "max_iter is 0: the coefficients are where a fit starts, and nothing is known of their gap"
            ], None

        def on_point(row: HistoryRow, point: FitPoint) -> None:
            tasks.point(int(row["iteration"] or 0), lambda: self._attributes(*point(), rows, present))
            if self.verbose > 0:
                print(
                    f"iteration {row['iteration']}: objective {row['objective']:.6g}, gap {row['relative_gap']:.1e}"
                )

        names = getattr(self, "feature_names_in_", None)
        options: dict[str, Any] = {
            **problem,
            "intercept": self.fit_intercept,
            "tolerance": tolerance(self),
            "max_iterations": self.max_iter,
            "start": start,
            "names": None if names is None else names.tolist(),
            "on_point": on_point,
        }
        try:
            if K == 2:
                result = fit(rows.X, rows.y, backend=self.backend, **options)  # type: ignore[arg-type]
            else:
                # Rows of the other classes have no weight, so that it does not matter where they are counted.
                number = (present.cumsum(0) - 1).clamp(min=0)[rows.y]
                result = fit_softmax(rows.X, number, classes=int(present.sum()), **options)
        except UserError as error:
            raise UserError(own_words(str(error))) from error
        self._keep(result.weight, result.bias, rows, present)
        self.n_iter_ = like(rows.reference, torch.tensor([max(1, result.iterations)], dtype=torch.int32))
        self.gap_ = result.relative_gap
        tasks.end(result.iterations, dict)
        return () if result.converged else result.notes, result

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """One epoch of mini-batches by Adam over these rows, from the current weights (0 at first).

        The penalty is that of these rows: the objective is that of `fit` with their sum of weights. Its l1 term is
        followed by its subgradient, so that no weight becomes exactly 0. There is no certificate: `gap_` goes away.

        Args:
            X: [n, D] finite numbers.
            y: [n] labels.
            classes: [K] all labels that will occur, needed in the first call if y lacks some.
            sample_weight: [n], at least 0.

        Raises:
            ValueError: as `fit`, or a label that is not among the classes.
        """
        check_parameters(self)
        first = not hasattr(self, "coef_")
        if classes is not None:
            classes = class_labels(classes)
            if not first and classes.tolist() != numpy_of(self.classes_).tolist():
                raise ValueError(
                    f"classes is {classes.tolist()}, and earlier calls had {numpy_of(self.classes_).tolist()}"
                )
        rows = training_rows(
            self,
            X,
            y,
            sample_weight,
            device=resolve_device(self.device),
            reset=first,
            classes=classes if first else self.classes_,
        )
        weight, mass = self._weights(rows, fewest=1)
        l1, l2 = penalties(self, float(mass.sum()))
        D, K = rows.X.shape[1], _count(rows.classes)
        if first:
            models = 1 if K == 2 else K
            self._keep(rows.X.new_zeros((models, D)), rows.X.new_zeros(models), rows)
            self.n_iter_ = like(rows.reference, torch.tensor([0], dtype=torch.int32))
        batches = self.__dict__.get("_batches")
        if batches is None:
            weights, bias = self._parameters(rows.X.device, torch.float64)
            if (
                lacking := self.__dict__.pop("_lacking", None)
            ) is not None:  # or it would take ages to come back
                bias = bias + _BELOW * torch.from_numpy(lacking).to(bias)
            batches = MiniBatches(weights, bias, intercept=self.fit_intercept)
            self._orders = check_random_state(self.random_state).randint(2**31 - 1)
        batches = moved(batches, rows.X.device)
        self._orders += 1
        batches.epoch(
            rows.X,
            rows.y,
            weight,
            l1=l1,
            l2=l2,
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
            generator=torch.Generator().manual_seed(self._orders),
        )
        self._batches = batches
        self._keep(batches.weight, batches.bias, rows)
        for name in ("gap_", "inference_"):
            self.__dict__.pop(name, None)
        return self

    def decision_function(self, X: Any) -> Any:
        """Logits: [n] of the second class, or [n, K]; in X's namespace, device and dtype (float32 at least)."""
        z, reference = self._logits(X, "decision_function")
        return like(reference, z)

    def predict(self, X: Any) -> Any:
        """[n] labels: of the largest probability; in X's namespace where labels are numbers, else NumPy's."""
        z, reference = self._logits(X, "predict")
        number = (z > 0).to(torch.int64) if z.ndim == 1 else z.argmax(dim=1)
        classes = self.classes_
        if is_device_array(reference) and (is_device_array(classes) or classes.dtype.kind in "biuf"):
            return like(reference, as_tensor(classes).to(z.device)[number])
        return numpy_of(classes)[number.cpu().numpy()]

    def predict_proba(self, X: Any) -> Any:
        """[n, K] probabilities, in X's namespace, device and dtype."""
        z, reference = self._logits(X, "predict_proba")
        p = torch.sigmoid(torch.stack([-z, z], dim=1)) if z.ndim == 1 else torch.softmax(z, dim=1)
        return like(reference, p)

    def predict_log_proba(self, X: Any) -> Any:
        """[n, K] logarithms of the probabilities, accurate in both tails: finite wherever the logits are."""
        z, reference = self._logits(X, "predict_log_proba")
        if z.ndim == 1:
            p = torch.nn.functional.logsigmoid(torch.stack([-z, z], dim=1))
        else:
            p = torch.log_softmax(z, dim=1)
        return like(reference, p)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Accuracy of the predicted labels, weighted if weights are given."""
        weight = None if sample_weight is None else numpy_of(sample_weight)
        y = numpy_of(y) if is_device_array(y) else y
        return float(accuracy_score(y, numpy_of(self.predict(X)), sample_weight=weight))

    def sparsify(self) -> Self:
        """Make `coef_` a SciPy sparse matrix, which takes less memory where an l1 term left most of it 0.

        Predictions and fits go on as before; `densify` undoes it.

        Raises:
            NotFittedError: before `fit`.
        """
        check_is_fitted(self)
        self.coef_ = scipy.sparse.csr_matrix(numpy_of(self.coef_))
        return self

    def densify(self) -> Self:
        """Make `coef_` the array again that it was before `sparsify`, on its device.

        Raises:
            NotFittedError: before `fit`.
        """
        check_is_fitted(self)
        if scipy.sparse.issparse(self.coef_):
            self.coef_ = like(self.intercept_, torch.from_numpy(self.coef_.toarray()))
        return self

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The model of a run directory, or of its model.safetensors, as a fitted estimator.

        Its coefficients are those of the raw columns, whatever standardisation the run had; its classes are the run's
        label names, as numbers where all of them are whole numbers. It predicts the likelier class, whatever threshold
        the run had. Of a run with categories or imputed values the columns are those that were made of them, as
        `feature_names_in_` names them; `flashlogit predict` makes them of a raw file.

        Raises:
            UserError: no such model.
            TypeError: a path that is none.
        """
        from ..models.saved_model import raw_coefficients

        saved = raw_coefficients(Path(path))
        estimator = cls(fit_intercept=bool(np.any(saved.intercept != 0)))
        estimator.coef_, estimator.intercept_, estimator.classes_ = saved.coef, saved.intercept, saved.classes
        estimator.n_features_in_ = saved.coef.shape[1]
        estimator.feature_names_in_ = np.array(saved.feature_names, dtype=object)
        estimator.n_iter_ = np.array([max(1, saved.iterations)], dtype=np.int32)
        if saved.gap is not None:
            estimator.gap_ = saved.gap
        return estimator

    def to_onnx(self, path: str | Path) -> None:
        """Write an ONNX model: input X [n, D], outputs label [n] and probabilities [n, K] (`flashlogit[onnx]`).

        Raises:
            NotFittedError: before `fit`.
            UserError: the package onnx is not installed, or labels that are neither whole numbers nor strings.
        """
        from .export import write_onnx

        write_onnx(self, Path(path))

    def to_sklearn(self) -> Any:
        """A fitted `sklearn.linear_model.LogisticRegression` with the same coefficients, for those who have only that.

        Raises:
            NotFittedError: before `fit`.
        """
        from .export import to_sklearn

        return to_sklearn(self)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.array_api_support = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """For pickle: tensors on the CPU, so that a model made on a GPU loads where there is none."""
        state: dict[str, Any] = {name: on_host(value) for name, value in super().__getstate__().items()}
        return state

    def __copy__(self) -> Self:
        """Like `__deepcopy__`."""
        result = type(self).__new__(type(self))
        result.__dict__.update(vars(self))
        return result

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Not by way of `__getstate__`, which would move tensors to the CPU."""
        result = type(self).__new__(type(self))
        memo[id(self)] = result
        result.__dict__.update({name: copy.deepcopy(value, memo) for name, value in vars(self).items()})
        return result

    def _weights(self, rows: Rows, *, fewest: int = 2) -> tuple[Tensor | None, Tensor]:
        """Sample times class weights, or None for ones, and their sums by class [K], of which `fewest` are above 0."""
        K = _count(rows.classes)
        if K < 2:
            raise ValueError(
                f"This solver needs samples of at least 2 classes in the data, but the data contains only one class:"
                f" {numpy_of(rows.classes).tolist()[0]!r}"
            )
        weight = rows.sample_weight
        double = None if weight is None else weight.double()
        mass = torch.bincount(rows.y, weights=double, minlength=K).double()
        self._check_mass(mass, rows, "sample_weight", fewest)
        if self.class_weight is None:
            return weight, mass
        if self.class_weight == "balanced":
            # The definition of scikit-learn with sample weights counted, so that a weight of 2 is the row twice.
            factor = torch.where(mass > 0, mass.sum() / (int((mass > 0).sum()) * mass), 0.0)
        else:
            labels = numpy_of(rows.classes)
            factor = torch.from_numpy(
                compute_class_weight(self.class_weight, classes=labels, y=labels).astype(np.float64)
            ).to(mass.device)
            self._check_mass(factor * mass, rows, "class_weight", fewest)
        weight = factor[rows.y] if double is None else factor[rows.y] * double
        return weight, factor * mass

    def _check_mass(self, mass: Tensor, rows: Rows, by: str, fewest: int) -> None:
        """ValueError where classes of weights `mass` [K], which the parameter `by` made so, cannot be trained on."""
        if not bool(mass.sum().isfinite()):
            raise ValueError(
                f"the weights add up to more than a float64 holds; make the values of {by} smaller"
            )
        lacking = [numpy_of(rows.classes).tolist()[k] for k in torch.nonzero(mass <= 0).flatten().tolist()]
        if len(lacking) == len(mass):
            raise ValueError(f"{by} is zero for every row; give rows of at least two classes a weight")
        if len(mass) - len(lacking) < fewest:
            raise ValueError(
                f"class {lacking[0]!r} has no row with a weight above 0, by {by}; leave its rows out, or give it one"
            )

    def _start(self, rows: Rows, present: Tensor) -> Parameters | None:
        """The last solution, if this is a warm start and it is one of the same features and classes."""
        if not (self.warm_start and hasattr(self, "coef_")):
            return None
        K = _count(rows.classes)
        if tuple(self.coef_.shape) != (1 if K == 2 else K, rows.X.shape[1]):
            return None
        weight, bias = self._parameters(rows.X.device, torch.float64)
        if K > 2:
            weight, bias = weight[present], bias[present]
        lacking = self.__dict__.get("_lacking")
        if lacking is not None and bool(lacking[numpy_of(present)].any()):
            return None
        if not bool(weight.isfinite().all()) or not bool(bias.isfinite().all()):
            return None
        return (weight[0], bias) if K == 2 else (weight, bias)

    def _keep(self, weight: Tensor, bias: Tensor, rows: Rows, present: Tensor | None = None) -> None:
        self.__dict__.update(self._attributes(weight, bias, rows, present))

    def _attributes(
        self, weight: Tensor, bias: Tensor, rows: Rows, present: Tensor | None = None
    ) -> dict[str, Any]:
        """What predictions need, of the weights and intercepts of two classes, or of more of those that are present."""
        dtype = rows.X.dtype if rows.X.dtype in (torch.float32, torch.float64) else torch.float32
        weight, bias = weight.reshape(-1, rows.X.shape[1]).to(dtype), bias.to(dtype)
        if present is not None and len(present) > 2 and not bool(present.all()):
            sample = rows.X[:: max(1, len(rows.X) // _SAMPLE)].double()
            logits = torch.addmm(bias.double(), sample, weight.double().t())
            weights = weight.new_zeros((len(present), weight.shape[1]))
            biases = torch.full_like(weights[:, 0], float(logits.amax(dim=1).min()) - _BELOW)
            weights[present], biases[present] = weight, bias
            weight, bias = weights, biases
        return {
            "classes_": rows.classes,
            "coef_": like(rows.reference, weight),
            "intercept_": like(rows.reference, bias),
        }

    def _infer(self, result: Fit | None, rows: Rows, weight: Tensor | None, *, penalised: bool) -> None:
        """Standard errors of an unpenalised fit of two classes."""
        self.__dict__.pop("inference_", None)
        if result is None or penalised or _count(rows.classes) > 2:
            return
        self.inference_ = None
        if result.converged and rows.X.shape[1] <= MAX_COLUMNS:
            options: dict[str, Any] = {"intercept": self.fit_intercept, "backend": self.backend}
            try:
                self.inference_ = infer(
                    rows.X, rows.y, result.weight, result.bias, sample_weight=weight, **options
                )
            except UserError as error:
                warnings.warn(f"inference_ is None: {error}", UserWarning, stacklevel=3)

    def _parameters(self, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        weight, bias = (as_tensor(value).to(device, dtype) for value in (self.coef_, self.intercept_))
        return weight, bias

    def _logits(self, X: Any, method: str) -> tuple[Tensor, Any]:
        """z [n] or [n, K] on the device of X, and X as it was given."""
        check_is_fitted(self)
        self._check_same_namespace(X, method)
        matrix, reference = prediction_rows(self, X)
        if isinstance(matrix, Tensor):
            z = self._dense_logits(matrix)
        else:
            coef, intercept = (numpy_of(value) for value in (self.coef_, self.intercept_))
            z = torch.from_numpy((matrix @ coef.T + intercept).astype(matrix.dtype, copy=False))
        if (lacking := self.__dict__.get("_lacking")) is not None and z.shape[1] > 1:
            # Whatever the row is: far from those that were trained on the others' logits may all be low.
            absent = torch.from_numpy(lacking).to(z.device)
            z[:, absent] = z[:, ~absent].amax(dim=1, keepdim=True) - _BELOW
        return (z[:, 0] if z.shape[1] == 1 else z), reference

    @torch.no_grad()
    def _dense_logits(self, X: Tensor) -> Tensor:
        """[n, 1 or K] in X's dtype, float32 at least; by row blocks, without a copy of X.

        Computed in float64: products of a column far from 0 cancel, and float32 would keep what is left of its digits.
        """
        dtype = X.dtype if X.dtype == torch.float64 else torch.float32
        weight, bias = self._parameters(X.device, torch.float64)
        blocks = (X,) if X.dtype == torch.float64 else torch.split(X, cast_rows(X))
        bound = torch.finfo(dtype).max  # of an overflowing sum there would be no probability
        return torch.cat(
            [torch.addmm(bias, block.double(), weight.t()).clamp(-bound, bound).to(dtype) for block in blocks]
        )

    def _check_same_namespace(self, X: Any, method: str) -> None:
        """With scikit-learn's array API dispatch what was fitted and X have to be of one kind, as in its estimators."""
        if not get_config().get("array_api_dispatch"):
            return
        kinds = [
            (getattr(namespace_of(value), "__name__", None), str(getattr(value, "device", "cpu")))
            if is_device_array(value)
            else ("numpy", "cpu")
            for value in (self.coef_, X)
        ]
        if kinds[0] != kinds[1]:
            name = type(self).__name__
            raise ValueError(
                f"Inputs passed to {name}.{method}() must use the same namespace and the same device as those passed to"
                f" fit(): {kinds[0]} were fitted, and X is {kinds[1]}; convert X"
            )


def _count(classes: Any) -> int:
    return int(classes.shape[0])
