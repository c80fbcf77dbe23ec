"""What an estimator does once it is fitted: its attributes from a fit's tensors, predictions, copies and exports."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Self

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils.validation import check_is_fitted
from torch import Tensor
from torch.nn.functional import logsigmoid

from ..models.export import write_onnx
from ..models.model import raw_coefficients
from ..system.errors import UserError
from ..system.memory import cast_rows
from .arrays import as_tensor, is_device_array, like, numpy_of, on_host
from .inputs import TrainingRows, feature_matrix
from .parameters import sklearn_options

try:
    from sklearn.utils._array_api import check_same_namespace as check_same_namespace
except ImportError:  # an older scikit-learn, whose own estimators check nothing either

    def check_same_namespace(*args: Any, **kwargs: Any) -> None:
        """Accept any mixture."""


BELOW = 1000.0
"""Distance of the logit of a class without weight below the others', where at least two have some. The optimum is at
minus infinity, which would be no number to go on from, and exp(-1000) is 0 in float64."""
_SAMPLE = 1024
"""Rows, at least, whose logits decide on the intercept of such a class."""


class FittedModel(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Coefficients and classes of a logistic regression, in the kind of array that X was."""

    coef_: Any
    intercept_: Any
    classes_: Any
    n_iter_: Any
    _many_labels = False
    """Whether there is a model for each of T labels, none of which excludes another."""
    _encoded = False
    """Whether the columns were made of a file's, by a run whose encoding the estimator does not have."""
    _lacking: NDArray[np.bool_] | None = None
    """[K] whether a class had no row of a weight above 0, if any of three or more had none."""

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Return the model of a run directory, or of its model.safetensors, as a fitted estimator.

        Its coefficients are those of the raw columns, whatever standardisation the run had; its classes are the run's
        label names, as numbers where all of them are whole numbers. It predicts the likelier class, whatever threshold
        the run had. Of a run with categories, dates or imputed values the columns are those that were made of
        them, as `feature_names_in_` names them; `flashlogit.Predictor` makes them of records and data frames as the
        file has them, `flashlogit predict` of a file.

        Raises:
            UserError: no such model.
            TypeError: a path that is none.
        """
        saved = raw_coefficients(Path(path))
        estimator = cls(fit_intercept=bool(np.any(saved.intercept != 0)))
        estimator.coef_, estimator.intercept_, estimator.classes_ = saved.coef, saved.intercept, saved.classes
        estimator._encoded = saved.encoded
        estimator.n_features_in_ = saved.coef.shape[1]
        estimator.feature_names_in_ = np.array(saved.feature_names, dtype=object)
        estimator.n_iter_ = np.array([max(1, saved.iterations)], dtype=np.int32)
        if saved.gap is not None:
            estimator.gap_ = saved.gap
        return estimator

    def decision_function(self, X: Any) -> Any:
        """Return logits in X's namespace, device and dtype (float32 at least).

        They are [n] of the second class, or [n, K], or [n, T] of T labels.
        """
        return like(X, self._logits(X, "decision_function"))

    def predict(self, X: Any) -> Any:
        """Return [n] labels of the largest probability, in X's namespace where labels are numbers, else NumPy's.

        For T labels it is [n, T] of 0 and 1, in X's namespace.
        """
        z = self._logits(X, "predict")
        if self._many_labels:
            return like(X, (z > 0).to(torch.int64))
        number = (z > 0).to(torch.int64) if z.ndim == 1 else z.argmax(dim=1)
        classes = self.classes_
        if is_device_array(X) and (is_device_array(classes) or classes.dtype.kind in "biuf"):
            return like(X, as_tensor(classes).to(z.device)[number])
        return numpy_of(classes)[number.cpu().numpy()]

    def predict_proba(self, X: Any) -> Any:
        """Return [n, K] probabilities, in X's namespace, device and dtype; for T labels [n, T], that each is 1."""
        z = self._logits(X, "predict_proba")
        if self._many_labels:
            return like(X, torch.sigmoid(z))
        return like(X, torch.sigmoid(torch.stack([-z, z], 1)) if z.ndim == 1 else torch.softmax(z, 1))

    def predict_log_proba(self, X: Any) -> Any:
        """Return [n, K] logarithms of the probabilities, accurate in both tails: finite wherever the logits are."""
        z = self._logits(X, "predict_log_proba")
        if self._many_labels:
            return like(X, logsigmoid(z))
        return like(X, logsigmoid(torch.stack([-z, z], 1)) if z.ndim == 1 else torch.log_softmax(z, 1))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy, weighted if weights are given; T labels have to be right together."""
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

    def to_onnx(self, path: str | Path) -> None:
        """Write an ONNX model: input X [n, D], outputs label [n] and probabilities [n, K] (`flashlogit[onnx]`).

        Raises:
            NotFittedError: before `fit`.
            UserError: the package onnx is not installed, labels that are neither whole numbers nor strings, or a model
                of many labels.
        """
        check_is_fitted(self)
        self._refuse_many_labels("to_onnx")
        coef, intercept, classes = (numpy_of(each) for each in (self.coef_, self.intercept_, self.classes_))
        write_onnx(Path(path), coef, intercept, classes, getattr(self, "feature_names_in_", None))

    def to_sklearn(self) -> Any:
        """Return a fitted `sklearn.linear_model.LogisticRegression` with the same coefficients, as NumPy arrays.

        Raises:
            NotFittedError: before `fit`.
            UserError: a model of many labels, which scikit-learn's class has not.
        """
        from sklearn.linear_model import LogisticRegression as SklearnLogisticRegression

        check_is_fitted(self)
        self._refuse_many_labels("to_sklearn")
        result = SklearnLogisticRegression(**sklearn_options(self))
        for name in ("coef_", "intercept_", "classes_", "n_iter_"):
            setattr(result, name, numpy_of(getattr(self, name)).copy())
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(self, name):
                setattr(result, name, getattr(self, name))
        return result

    def _refuse_many_labels(self, method: str) -> None:
        if self._many_labels:
            problem = f"{method} writes a model of one label, and this one was fitted to {len(self.classes_)} of them"
            raise UserError(problem, remedy="fit a model to each column of y")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.array_api_support = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for pickle: tensors on the CPU, so that a model made on a GPU loads where there is none."""
        state: dict[str, Any] = {name: on_host(value) for name, value in super().__getstate__().items()}
        return state

    def __copy__(self) -> Self:
        """Copy without `__getstate__`, which would move tensors to the CPU."""
        result = type(self).__new__(type(self))
        result.__dict__.update(vars(self))
        return result

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Copy without `__getstate__`, too."""
        result = memo[id(self)] = type(self).__new__(type(self))
        result.__dict__.update(copy.deepcopy(vars(self), memo))
        return result

    def _attributes(self, weight: Tensor, bias: Tensor, rows: TrainingRows) -> dict[str, Any]:
        """Return the attributes that predictions need.

        Args:
            weight: [D] or [1, D] of two classes, or [C, D] of the C classes with weight among K > 2.
            bias: [1], or [C]; or those of T labels.
            rows: what they were trained on.
        """
        dtype = rows.X.dtype if rows.X.dtype in (torch.float32, torch.float64) else torch.float32
        weight, bias, lacking = weight.reshape(-1, rows.X.shape[1]).to(dtype), bias.to(dtype), None
        if 1 < len(weight) < len(rows.mass):
            sample = rows.X[:: max(1, len(rows.X) // _SAMPLE)].double()
            logits = torch.addmm(bias.double(), sample, weight.double().t())
            weights = weight.new_zeros((len(rows.mass), weight.shape[1]))
            biases = torch.full_like(weights[:, 0], float(logits.amax(dim=1).min()) - BELOW)
            weights[rows.mass > 0], biases[rows.mass > 0] = weight, bias
            weight, bias, lacking = weights, biases, numpy_of(rows.mass <= 0)
        return {
            "classes_": rows.classes,
            "coef_": like(rows.reference, weight),
            "intercept_": like(rows.reference, bias),
            "_encoded": False,
            "_lacking": lacking,
            "_many_labels": rows.y.ndim == 2,
        }

    def _keep(self, weight: Tensor, bias: Tensor, rows: TrainingRows, evaluations: int | None) -> None:
        """Set the fitted attributes, and `n_iter_` where evaluations are given."""
        self.__dict__.update(self._attributes(weight, bias, rows))
        if evaluations is not None:
            self.n_iter_ = like(rows.reference, torch.tensor([evaluations], dtype=torch.int32))

    def _parameters(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the weights [1 or K, D] and intercepts as float64 tensors."""
        weight, bias = (as_tensor(value).to(device, torch.float64) for value in (self.coef_, self.intercept_))
        return weight, bias

    @torch.no_grad()
    def _logits(self, X: Any, method: str) -> Tensor:
        """Return z [n] or [n, K] on the device of X, in its dtype, float32 at least.

        Computed in float64: products of a column far from 0 cancel, and float32 would keep what is left of its digits.
        """
        check_is_fitted(self)
        check_same_namespace(X, self, attribute="coef_", method=method)
        matrix = feature_matrix(self, X, reset=False)
        if isinstance(matrix, Tensor):
            dtype = matrix.dtype if matrix.dtype == torch.float64 else torch.float32
            weight, bias = self._parameters(matrix.device)
            blocks = (matrix,) if dtype == torch.float64 else torch.split(matrix, cast_rows(matrix))
            bound = torch.finfo(dtype).max  # of an overflowing sum there would be no probability
            parts = [torch.addmm(bias, b.double(), weight.t()).clamp_(-bound, bound).to(dtype) for b in blocks]
            z = torch.cat(parts) if parts[1:] else parts[0]
        else:
            coef, intercept = numpy_of(self.coef_), numpy_of(self.intercept_)
            z = torch.from_numpy((matrix @ coef.T + intercept).astype(matrix.dtype, copy=False))
        if self._lacking is not None and z.shape[1] > 1:
            # Whatever the row is: far from those that were trained on the others' logits may all be low.
            absent = torch.from_numpy(self._lacking).to(z.device)
            z[:, absent] = z[:, ~absent].amax(dim=1, keepdim=True) - BELOW
        return z[:, 0] if z.shape[1] == 1 else z
